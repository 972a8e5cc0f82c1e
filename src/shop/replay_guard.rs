//! What must not be accepted a second time, nor after a restart, nor by another process: signed-out sessions and used
//! hand-offs.

mod file;
mod shared;

use std::{
    collections::{HashMap, hash_map::Entry},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::RwLock;
use uuid::Uuid;

use self::{file::SqliteUsedTokens, shared::PostgresUsedTokens};
use crate::shop::{OpenError, ShopError};
use crate::{
    kernel::{Clock, Entropy, Timestamp},
    platform::{group_commit::GroupCommit, shutdown::Lifecycle},
};

/// About 100 bytes each.
const USED_TOKENS_MAX: usize = 1_000_000;
const WRITE_QUEUE_MAX: usize = 4_096;
const GROUP_MAX: usize = 256;
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);
/// A session that was signed out at another process is refused here after this long at most, while the book can be read.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Where marks are kept.
#[derive(Clone)]
pub enum ReplayGuardLocation {
    /// For the processes of one directory.
    File(PathBuf),
    /// For all nodes.
    Postgres { url: String },
}

/// One token that is spent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum UsedToken {
    Session(Uuid),
    /// By its `jti`.
    Handoff(String),
}

const SESSION: i16 = 1;
const HANDOFF: i16 = 2;

impl UsedToken {
    fn kind(&self) -> i16 {
        match self {
            Self::Session(_) => SESSION,
            Self::Handoff(_) => HANDOFF,
        }
    }

    fn id(&self) -> &[u8] {
        match self {
            Self::Session(id) => id.as_bytes(),
            Self::Handoff(jti) => jti.as_bytes(),
        }
    }

    fn from_stored(kind: i16, id: Vec<u8>) -> Option<Self> {
        match kind {
            SESSION => Uuid::from_slice(&id).ok().map(Self::Session),
            HANDOFF => String::from_utf8(id).ok().map(Self::Handoff),
            _ => None,
        }
    }
}

/// Keeps marks, each until its token is refused for its age.
#[async_trait]
trait UsedTokenStore: Send + Sync + 'static {
    /// Writes all or none; says of each whether nobody had written it before.
    async fn use_once(&self, group: &[(UsedToken, Timestamp)]) -> Result<Vec<bool>, sqlx::Error>;
    /// What must be known without asking the book: signed-out sessions at least.
    async fn all(&self, now: Timestamp) -> Result<Vec<(UsedToken, Timestamp)>, sqlx::Error>;
    /// Of that, at least what other processes have written since it was read last, lately.
    async fn changes_since(&self, now: Timestamp) -> Result<Vec<(UsedToken, Timestamp)>, sqlx::Error>;
    async fn sweep(&self, now: Timestamp) -> Result<(), sqlx::Error>;
}

/// Answers from memory, keeps a book.
pub(crate) struct ReplayGuard {
    /// Each until its token is refused for its age.
    used: RwLock<HashMap<UsedToken, Timestamp>>,
    /// `None`: nothing is known to be written.
    writes: GroupCommit<(UsedToken, Timestamp), Option<bool>>,
    store: Arc<dyn UsedTokenStore>,
    /// The news could not be read: what has happened meanwhile may be older than news.
    must_reload: AtomicBool,
    clock: Arc<dyn Clock>,
}

impl ReplayGuard {
    pub(crate) async fn open(
        place: &ReplayGuardLocation,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        life: &Lifecycle,
    ) -> Result<Arc<Self>, OpenError> {
        let book: Arc<dyn UsedTokenStore> = match place {
            ReplayGuardLocation::File(file) => Arc::new(SqliteUsedTokens::open(file).await?),
            ReplayGuardLocation::Postgres { url } => Arc::new(PostgresUsedTokens::open(url, entropy).await?),
        };
        Self::open_with(book, clock, life).await
    }

    async fn open_with(
        book: Arc<dyn UsedTokenStore>,
        clock: Arc<dyn Clock>,
        life: &Lifecycle,
    ) -> Result<Arc<Self>, OpenError> {
        let marks = book
            .all(clock.now())
            .await
            .map_err(OpenError::UsedTokens)?
            .into_iter()
            .collect();
        let written = Arc::clone(&book);
        let writes = GroupCommit::start(life, WRITE_QUEUE_MAX, GROUP_MAX, move |group| {
            write(Arc::clone(&written), group)
        });
        let this = Arc::new(Self {
            used: RwLock::new(marks),
            writes,
            store: book,
            must_reload: AtomicBool::new(false),
            clock,
        });
        for (name, every) in [
            ("spent tokens", SWEEP_INTERVAL),
            ("tokens spent elsewhere", REFRESH_INTERVAL),
        ] {
            let (spent, ending) = (Arc::clone(&this), life.clone());
            life.supervise(name, Duration::from_secs(1), move || {
                let (spent, ending) = (Arc::clone(&spent), ending.clone());
                async move {
                    while ending.until_stopping(tokio::time::sleep(every)).await.is_some() {
                        if every == SWEEP_INTERVAL {
                            spent.sweep().await
                        } else {
                            spent.refresh().await
                        }
                    }
                }
            });
        }
        Ok(this)
    }

    pub(crate) fn contains(&self, mark: &UsedToken) -> bool {
        self.used.read().contains_key(mark)
    }

    /// Marks it, on the disk when this returns. `false` when it was marked before, here or elsewhere. After an error it
    /// is not marked and can be tried again.
    pub(crate) async fn spend(&self, mark: UsedToken, forget_at: Timestamp) -> Result<bool, ShopError> {
        {
            let mut marks = self.used.write();
            let full = marks.len() >= USED_TOKENS_MAX;
            match marks.entry(mark.clone()) {
                Entry::Occupied(_) => return Ok(false),
                // Forgetting another one instead would let it be used again.
                Entry::Vacant(_) if full => return Err(ShopError::TooManyUsedTokens),
                Entry::Vacant(slot) => slot.insert(forget_at),
            };
        }
        if let Ok(Some(is_first)) = self.writes.submit((mark.clone(), forget_at)).await {
            return Ok(is_first);
        }
        self.used.write().remove(&mark);
        Err(ShopError::Storage)
    }

    /// Takes over what other processes have written.
    async fn refresh(&self) {
        let now = self.clock.now();
        let read = if self.must_reload.load(Ordering::Relaxed) {
            self.store.all(now).await
        } else {
            self.store.changes_since(now).await
        };
        match read {
            Ok(news) => {
                if self.must_reload.swap(false, Ordering::Relaxed) {
                    tracing::info!("spent tokens are heard of again");
                }
                if !news.is_empty() {
                    self.used.write().extend(news);
                }
            }
            Err(error) => {
                if !self.must_reload.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "cannot hear of tokens that other processes have spent");
                }
            }
        }
    }

    async fn sweep(&self) {
        let now = self.clock.now();
        self.used.write().retain(|_, forget_at| *forget_at > now);
        if let Err(error) = self.store.sweep(now).await {
            tracing::warn!(%error, "cannot sweep spent tokens; trying again later");
        }
    }
}

async fn write(book: Arc<dyn UsedTokenStore>, group: Vec<(UsedToken, Timestamp)>) -> Vec<Option<bool>> {
    match book.use_once(&group).await {
        Ok(firsts) => firsts.into_iter().map(Some).collect(),
        Err(error) => {
            tracing::error!(%error, "cannot write spent tokens");
            vec![None; group.len()]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::{ManualClock, SeededEntropy},
        shop::test_dir::TestDir,
    };
    use testkit::Postgres;

    async fn open(place: &ReplayGuardLocation, clock: &Arc<ManualClock>, seed: u64, life: &Lifecycle) -> Arc<ReplayGuard> {
        ReplayGuard::open(place, clock.clone(), Arc::new(SeededEntropy::new(seed)), life)
            .await
            .unwrap()
    }

    fn jti(n: u32) -> UsedToken {
        UsedToken::Handoff(format!("jti-{n}"))
    }

    async fn marks_count_once_outlive_the_process_and_are_swept(place: ReplayGuardLocation) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let life = Lifecycle::new();
        let spent = open(&place, &clock, 1, &life).await;
        let session = UsedToken::Session(Uuid::from_u128(7));
        assert_eq!(
            spent.spend(session.clone(), Timestamp::from_secs(100)).await,
            Ok(true)
        );
        assert_eq!(
            spent.spend(session.clone(), Timestamp::from_secs(100)).await,
            Ok(false)
        );

        let tries: Vec<_> = (0..100).map(|n| (Arc::clone(&spent), jti(n % 50))).collect();
        let tries: Vec<_> = tries
            .into_iter()
            .map(|(s, m)| tokio::spawn(async move { s.spend(m, Timestamp::from_secs(10)).await }))
            .collect();
        let mut firsts = 0;
        for one in tries {
            firsts += u32::from(one.await.unwrap().unwrap());
        }
        assert_eq!(firsts, 50, "of two that come at once one counts");

        life.stop();
        assert!(life.wait_idle(Duration::from_secs(5)).await);
        drop(spent);
        let again = open(&place, &clock, 2, &Lifecycle::new()).await;
        assert!(again.contains(&session));
        for n in 0..50 {
            assert_eq!(again.spend(jti(n), Timestamp::from_secs(10)).await, Ok(false));
        }

        clock.advance(Duration::from_secs(10));
        again.sweep().await;
        assert!(again.contains(&session) && !again.contains(&jti(0)));
        assert_eq!(
            again.spend(jti(0), Timestamp::from_secs(20)).await,
            Ok(true),
            "its token is refused for its age by now"
        );
        assert_eq!(
            again.store.all(Timestamp::from_secs(20)).await.unwrap(),
            [(session, Timestamp::from_secs(100))]
        );
    }

    async fn what_one_process_spends_is_spent_for_another(place: ReplayGuardLocation) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let life = Lifecycle::new();
        let (one, other) = (
            open(&place, &clock, 1, &life).await,
            open(&place, &clock, 2, &life).await,
        );
        let mut firsts = [0; 2];
        for n in 0..50 {
            let at = Timestamp::from_secs(10);
            let (here, there) = tokio::join!(one.spend(jti(n), at), other.spend(jti(n), at));
            let (here, there) = (here.unwrap(), there.unwrap());
            assert!(here != there, "of two processes one is the first: {here} {there}");
            firsts[usize::from(there)] += 1;
        }
        let session = UsedToken::Session(Uuid::from_u128(7));
        assert_eq!(
            one.spend(session.clone(), Timestamp::from_secs(100)).await,
            Ok(true)
        );
        assert!(!other.contains(&session), "not heard of yet");
        other.refresh().await;
        assert!(other.contains(&session));
        // Whoever could not hear for a while asks for everything.
        other.used.write().clear();
        other.must_reload.store(true, Ordering::Relaxed);
        other.refresh().await;
        assert!(other.contains(&session) && !other.must_reload.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn in_a_file_marks_count_once() {
        let dir = TestDir::new();
        marks_count_once_outlive_the_process_and_are_swept(ReplayGuardLocation::File(dir.file("spent.db"))).await;
        what_one_process_spends_is_spent_for_another(ReplayGuardLocation::File(dir.file("both.db"))).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn in_postgresql_marks_count_once() {
        let server = Postgres::start().await.unwrap();
        let place = |url: String| ReplayGuardLocation::Postgres { url };
        marks_count_once_outlive_the_process_and_are_swept(place(
            server.create_database("alone").await.unwrap(),
        ))
        .await;
        what_one_process_spends_is_spent_for_another(place(server.create_database("pair").await.unwrap()))
            .await;
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_an_error_and_can_be_tried_again() {
        let dir = TestDir::new();
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let book = Arc::new(SqliteUsedTokens::open(&dir.file("spent.db")).await.unwrap());
        let spent = ReplayGuard::open_with(Arc::clone(&book) as _, clock, &Lifecycle::new())
            .await
            .unwrap();
        book.pool().close().await;
        let mark = UsedToken::Handoff("x".into());
        for _ in 0..2 {
            assert_eq!(
                spent.spend(mark.clone(), Timestamp::from_secs(1)).await,
                Err(ShopError::Storage)
            );
            assert!(!spent.contains(&mark));
        }
    }
}

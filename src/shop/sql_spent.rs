//! What must not be accepted a second time, nor after a restart: signed-out sessions and used hand-offs.

mod file;
mod shared;

use std::{
    collections::{HashMap, hash_map::Entry},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use uuid::Uuid;

use self::{file::SpentFile, shared::SharedSpent};
use super::{OpenError, ShopError};
use crate::{
    kernel::{Clock, Entropy, Timestamp},
    platform::{group_commit::GroupCommit, lifecycle::Lifecycle},
};

/// Where spent tokens are kept.
#[derive(Clone)]
pub enum SpentPlace {
    /// For one node.
    File(PathBuf),
    /// For nodes that share a database.
    Postgres { url: String },
}

/// About 100 bytes each.
const REMEMBERED_MAX: usize = 1_000_000;
const WRITES_WAITING_MAX: usize = 4_096;
const GROUP_MAX: usize = 256;
const SWEEP_EVERY: Duration = Duration::from_mins(1);
/// How soon a session that was signed out on one node is over on the others, as long as the database answers.
const NEWS_EVERY: Duration = Duration::from_millis(500);

/// One token that is spent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Mark {
    Session(Uuid),
    /// By its `jti`.
    Handoff(String),
}

impl Mark {
    fn kind(&self) -> i64 {
        match self {
            Self::Session(_) => 1,
            Self::Handoff(_) => 2,
        }
    }

    fn id(&self) -> &[u8] {
        match self {
            Self::Session(id) => id.as_bytes(),
            Self::Handoff(jti) => jti.as_bytes(),
        }
    }

    fn from_stored(kind: i64, id: Vec<u8>) -> Option<Self> {
        match kind {
            1 => Uuid::from_slice(&id).ok().map(Self::Session),
            2 => String::from_utf8(id).ok().map(Self::Handoff),
            _ => None,
        }
    }
}

/// What came of writing a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    First,
    /// It was there; perhaps another node wrote it.
    Before,
    Failed,
}

/// What has been spent lately, each until its token is refused for its age.
type Marks = Vec<(Mark, Timestamp)>;

#[derive(Clone)]
enum Store {
    File(SpentFile),
    Shared(SharedSpent),
}

impl Store {
    async fn write(&self, group: Marks) -> Vec<Written> {
        let count = group.len();
        let written = match self {
            Self::File(it) => it.write(&group).await.map_err(|e| e.to_string()),
            Self::Shared(it) => it.write(group).await.map_err(|e| e.to_string()),
        };
        written.unwrap_or_else(|error| {
            tracing::error!(error, "cannot write spent tokens");
            vec![Written::Failed; count]
        })
    }
}

/// Answers from memory, keeps a file or a table that nodes share.
///
/// Where nodes share it, a hand-off is decided by its row alone, and memory follows the others' sign-outs.
pub(super) struct Spent {
    /// Each until its token is refused for its age.
    marks: RwLock<HashMap<Mark, Timestamp>>,
    writes: GroupCommit<(Mark, Timestamp), Written>,
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Spent {
    pub(super) async fn open(
        place: &SpentPlace,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        life: &Lifecycle,
    ) -> Result<Arc<Self>, OpenError> {
        let (store, known) = match place {
            SpentPlace::File(file) => {
                let (store, known) = SpentFile::open(file, clock.now()).await?;
                (Store::File(store), known)
            }
            SpentPlace::Postgres { url } => {
                let (store, known) = SharedSpent::open(url, clock.now(), entropy).await?;
                (Store::Shared(store), known)
            }
        };
        let writer = store.clone();
        let writes = GroupCommit::start(life, WRITES_WAITING_MAX, GROUP_MAX, move |group| {
            let writer = writer.clone();
            async move { writer.write(group).await }
        });
        let this = Arc::new(Self { marks: RwLock::new(known.into_iter().collect()), writes, store, clock });
        let swept = Arc::clone(&this);
        every(life, "spent tokens", SWEEP_EVERY, move || Arc::clone(&swept).sweep());
        if matches!(this.store, Store::Shared(_)) {
            let told = Arc::clone(&this);
            every(life, "other nodes' sign-outs", NEWS_EVERY, move || Arc::clone(&told).hear_news());
        }
        Ok(this)
    }

    pub(super) fn contains(&self, mark: &Mark) -> bool {
        self.marks.read().contains_key(mark)
    }

    /// Marks it, on the disk when this returns. `false` when it was marked before. After an error it is not marked and
    /// can be tried again.
    pub(super) async fn spend(&self, mark: Mark, forget_at: Timestamp) -> Result<bool, ShopError> {
        {
            let mut marks = self.marks.write();
            let full = marks.len() >= REMEMBERED_MAX;
            match marks.entry(mark.clone()) {
                Entry::Occupied(_) => return Ok(false),
                // Forgetting another one instead would let it be used again.
                Entry::Vacant(_) if full => return Err(ShopError::Full),
                Entry::Vacant(slot) => slot.insert(forget_at),
            };
        }
        match self.writes.submit((mark.clone(), forget_at)).await {
            Ok(Written::First) => Ok(true),
            Ok(Written::Before) => Ok(false),
            Ok(Written::Failed) | Err(_) => {
                self.marks.write().remove(&mark);
                Err(ShopError::Storage)
            }
        }
    }

    async fn sweep(self: Arc<Self>) {
        let now = self.clock.now();
        self.marks.write().retain(|_, forget_at| *forget_at > now);
        let swept = match &self.store {
            Store::File(it) => it.forget(now).await.map_err(|e| e.to_string()),
            Store::Shared(it) => it.forget(now).await.map_err(|e| e.to_string()),
        };
        if let Err(error) = swept {
            tracing::warn!(error, "cannot sweep spent tokens; trying again later");
        }
    }

    /// Learns which sessions were signed out on other nodes. Sessions only: their number is that of sign-outs, and whoever
    /// brings a hand-off is decided by its row.
    async fn hear_news(self: Arc<Self>) {
        let Store::Shared(store) = &self.store else { return };
        match store.news(self.clock.now()).await {
            Ok(news) => self.marks.write().extend(news),
            Err(error) => tracing::warn!(%error, "cannot hear of other nodes' sign-outs; trying again"),
        }
    }
}

/// Does something again and again until the process ends.
fn every<F: Future<Output = ()> + Send + 'static>(
    life: &Lifecycle,
    name: &'static str,
    pause: Duration,
    work: impl Fn() -> F + Send + Sync + 'static,
) {
    let (ending, work) = (life.clone(), Arc::new(work));
    life.supervise(name, Duration::from_secs(1), move || {
        let (ending, work) = (ending.clone(), Arc::clone(&work));
        async move {
            loop {
                tokio::select! {
                    () = ending.stopping() => return,
                    () = tokio::time::sleep(pause) => work().await,
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::{ManualClock, OsEntropy},
        shop::test_dir::TestDir,
        simulation::servers::Postgres,
    };

    async fn open(place: &SpentPlace, clock: &Arc<ManualClock>, life: &Lifecycle) -> Arc<Spent> {
        Spent::open(place, Arc::clone(clock) as _, Arc::new(OsEntropy), life).await.unwrap()
    }

    fn jti(n: u32) -> Mark {
        Mark::Handoff(format!("jti-{n}"))
    }

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::at(Timestamp::from_millis(0)))
    }

    #[tokio::test]
    async fn marks_in_a_file_count_once_outlive_the_process_and_are_swept() {
        let dir = TestDir::new();
        marks_count_once_outlive_the_process_and_are_swept(&SpentPlace::File(dir.file("spent.db"))).await;
    }

    #[tokio::test]
    async fn marks_in_a_database_count_once_outlive_the_process_and_are_swept() {
        let server = Postgres::start().await.unwrap();
        let url = server.create_database("shared").await.unwrap();
        marks_count_once_outlive_the_process_and_are_swept(&SpentPlace::Postgres { url }).await;
    }

    async fn marks_count_once_outlive_the_process_and_are_swept(place: &SpentPlace) {
        let (clock, life) = (clock(), Lifecycle::new());
        let spent = open(place, &clock, &life).await;
        let session = Mark::Session(Uuid::from_u128(7));
        assert_eq!(spent.spend(session.clone(), Timestamp::from_secs(1_000)).await, Ok(true));
        assert_eq!(spent.spend(session.clone(), Timestamp::from_secs(1_000)).await, Ok(false));

        let tries: Vec<_> = (0..100).map(|n| (Arc::clone(&spent), jti(n % 50))).collect();
        let tries: Vec<_> =
            tries.into_iter().map(|(s, m)| tokio::spawn(async move { s.spend(m, Timestamp::from_secs(10)).await })).collect();
        let mut firsts = 0;
        for one in tries {
            firsts += u32::from(one.await.unwrap().unwrap());
        }
        assert_eq!(firsts, 50, "of two that come at once one counts");

        life.stop();
        assert!(life.drained(Duration::from_secs(5)).await);
        drop(spent);
        let again = open(place, &clock, &Lifecycle::new()).await;
        assert!(again.contains(&session));
        for n in 0..50 {
            assert_eq!(again.spend(jti(n), Timestamp::from_secs(10)).await, Ok(false), "used before the restart");
        }

        clock.advance(Duration::from_secs(500));
        Arc::clone(&again).sweep().await;
        assert!(again.contains(&session) && !again.contains(&jti(0)));
        let left = match &again.store {
            Store::File(it) => it.count().await,
            Store::Shared(it) => it.count().await,
        };
        assert_eq!((left, again.marks.read().len()), (1, 1));
    }

    #[tokio::test]
    async fn what_cannot_be_written_to_a_file_is_an_error_and_can_be_tried_again() {
        let dir = TestDir::new();
        let spent = open(&SpentPlace::File(dir.file("spent.db")), &clock(), &Lifecycle::new()).await;
        let Store::File(file) = &spent.store else { panic!("a file") };
        file.close().await;
        cannot_be_written(&spent).await;
    }

    #[tokio::test]
    async fn what_cannot_be_written_to_a_database_is_an_error_and_can_be_tried_again() {
        let mut server = Postgres::start().await.unwrap();
        let url = server.create_database("shared").await.unwrap();
        let spent = open(&SpentPlace::Postgres { url }, &clock(), &Lifecycle::new()).await;
        server.kill9().unwrap();
        cannot_be_written(&spent).await;
        server.restart().await.unwrap();
        assert_eq!(spent.spend(Mark::Handoff("x".into()), Timestamp::from_secs(1)).await, Ok(true));
    }

    async fn cannot_be_written(spent: &Spent) {
        let mark = Mark::Handoff("x".into());
        for _ in 0..2 {
            assert_eq!(spent.spend(mark.clone(), Timestamp::from_secs(1)).await, Err(ShopError::Storage));
            assert!(!spent.contains(&mark));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_handoff_counts_on_one_node_and_a_sign_out_on_all() {
        let server = Postgres::start().await.unwrap();
        let place = SpentPlace::Postgres { url: server.create_database("shared").await.unwrap() };
        let (clock, life) = (clock(), Lifecycle::new());
        let nodes = [open(&place, &clock, &life).await, open(&place, &clock, &life).await];
        let until = Timestamp::from_secs(1_000);
        let brought = (0..80).map(|n| {
            let node = Arc::clone(&nodes[n as usize % 2]);
            tokio::spawn(async move { node.spend(jti(n / 2), until).await })
        });
        let mut firsts = 0;
        for one in futures_util::future::join_all(brought).await {
            firsts += u32::from(one.unwrap().unwrap());
        }
        assert_eq!(firsts, 40, "each at one node, at once");
        let is_told = async |node: &Spent, mark: &Mark| {
            while !node.contains(mark) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        for n in 0..3 {
            let session = Mark::Session(Uuid::from_u128(n));
            assert_eq!(nodes[0].spend(session.clone(), until).await, Ok(true));
            tokio::time::timeout(Duration::from_secs(1), is_told(&nodes[1], &session)).await.expect("within a second");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn news_that_was_written_early_and_committed_late_is_heard() {
        let server = Postgres::start().await.unwrap();
        let url = server.create_database("shared").await.unwrap();
        // No rounds of its own: the test hears when it wants to.
        let life = Lifecycle::new();
        let spent = open(&SpentPlace::Postgres { url: url.clone() }, &clock(), &life).await;
        life.stop();
        assert!(life.drained(Duration::from_secs(5)).await);
        let pool = sqlx::PgPool::connect(&url).await.unwrap();
        let write = "INSERT INTO stagedoor_shop.spent (kind, id, forget_at) VALUES (1, $1, 1000000)";
        let (early, late) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut slow = pool.begin().await.unwrap();
        sqlx::query(write).bind(early.as_bytes().as_slice()).execute(&mut *slow).await.unwrap();
        sqlx::query(write).bind(late.as_bytes().as_slice()).execute(&pool).await.unwrap();
        Arc::clone(&spent).hear_news().await;
        assert!(spent.contains(&Mark::Session(late)) && !spent.contains(&Mark::Session(early)));
        slow.commit().await.unwrap();
        Arc::clone(&spent).hear_news().await;
        assert!(spent.contains(&Mark::Session(early)));
        let Store::Shared(store) = &spent.store else { panic!("shared") };
        assert_eq!(store.news(Timestamp::from_millis(0)).await.unwrap(), [], "and nothing is read for ever");
    }
}

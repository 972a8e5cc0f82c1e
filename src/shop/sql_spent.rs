//! What must not be accepted a second time, nor after a restart: signed-out sessions and used hand-offs.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::Path,
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use sqlx::{SqlitePool, migrate::Migrator};
use uuid::Uuid;

use super::{OpenError, ShopError};
use crate::{
    kernel::{Clock, Timestamp},
    platform::{group_commit::GroupCommit, lifecycle::Lifecycle, sql},
};

static MIGRATIONS: Migrator = sqlx::migrate!("src/shop/migrations");

/// About 100 bytes each.
const REMEMBERED_MAX: usize = 1_000_000;
const WRITES_WAITING_MAX: usize = 4_096;
const GROUP_MAX: usize = 256;
const SWEEP_EVERY: Duration = Duration::from_mins(1);

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

/// Answers from memory, keeps a file.
pub(super) struct Spent {
    /// Each until its token is refused for its age.
    marks: RwLock<HashMap<Mark, Timestamp>>,
    writes: GroupCommit<(Mark, Timestamp), bool>,
    writer: SqlitePool,
    clock: Arc<dyn Clock>,
}

impl Spent {
    pub(super) async fn open(file: &Path, clock: Arc<dyn Clock>, life: &Lifecycle) -> Result<Arc<Self>, OpenError> {
        let (writer, _) = sql::open(file, &MIGRATIONS, 1).await?;
        let rows: Vec<(i64, Vec<u8>, i64)> = sqlx::query_as("SELECT kind, id, forget_at FROM spent WHERE forget_at > ?")
            .bind(clock.now().as_millis())
            .fetch_all(&writer)
            .await
            .map_err(OpenError::Spent)?;
        let marks = rows
            .into_iter()
            .filter_map(|(kind, id, forget_at)| Some((Mark::from_stored(kind, id)?, Timestamp::from_millis(forget_at))))
            .collect();
        let pool = writer.clone();
        let writes = GroupCommit::start(life, WRITES_WAITING_MAX, GROUP_MAX, move |group| write(pool.clone(), group));
        let this = Arc::new(Self { marks: RwLock::new(marks), writes, writer, clock });
        let (swept, ending) = (Arc::clone(&this), life.clone());
        life.supervise("spent tokens", Duration::from_secs(1), move || {
            let (swept, ending) = (Arc::clone(&swept), ending.clone());
            async move {
                loop {
                    tokio::select! {
                        () = ending.stopping() => return,
                        () = tokio::time::sleep(SWEEP_EVERY) => swept.sweep().await,
                    }
                }
            }
        });
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
        if self.writes.submit((mark.clone(), forget_at)).await == Ok(true) {
            return Ok(true);
        }
        self.marks.write().remove(&mark);
        Err(ShopError::Storage)
    }

    async fn sweep(&self) {
        let now = self.clock.now();
        self.marks.write().retain(|_, forget_at| *forget_at > now);
        let swept = sqlx::query("DELETE FROM spent WHERE forget_at <= ?").bind(now.as_millis()).execute(&self.writer).await;
        if let Err(error) = swept {
            tracing::warn!(%error, "cannot sweep spent tokens; trying again later");
        }
    }
}

async fn write(pool: SqlitePool, group: Vec<(Mark, Timestamp)>) -> Vec<bool> {
    let written = match write_all(&pool, &group).await {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(%error, "cannot write spent tokens");
            false
        }
    };
    vec![written; group.len()]
}

async fn write_all(pool: &SqlitePool, group: &[(Mark, Timestamp)]) -> Result<(), sqlx::Error> {
    let mut change = pool.begin_with("BEGIN IMMEDIATE").await?;
    for (mark, forget_at) in group {
        sqlx::query("INSERT OR IGNORE INTO spent (kind, id, forget_at) VALUES (?, ?, ?)")
            .bind(mark.kind())
            .bind(mark.id())
            .bind(forget_at.as_millis())
            .execute(&mut *change)
            .await?;
    }
    change.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernel::ManualClock, shop::test_dir::TestDir};

    #[tokio::test]
    async fn marks_count_once_outlive_the_process_and_are_swept() {
        let dir = TestDir::new();
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let life = Lifecycle::new();
        let spent = Spent::open(&dir.file("spent.db"), clock.clone(), &life).await.unwrap();
        let session = Mark::Session(Uuid::from_u128(7));
        let jti = |n: u32| Mark::Handoff(format!("jti-{n}"));
        assert_eq!(spent.spend(session.clone(), Timestamp::from_secs(100)).await, Ok(true));
        assert_eq!(spent.spend(session.clone(), Timestamp::from_secs(100)).await, Ok(false));

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
        let again = Spent::open(&dir.file("spent.db"), clock.clone(), &Lifecycle::new()).await.unwrap();
        assert!(again.contains(&session) && (0..50).all(|n| again.contains(&jti(n))));

        clock.advance(Duration::from_secs(10));
        again.sweep().await;
        assert!(again.contains(&session) && !again.contains(&jti(0)));
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM spent").fetch_one(&again.writer).await.unwrap();
        assert_eq!((left, again.marks.read().len()), (1, 1));
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_an_error_and_can_be_tried_again() {
        let dir = TestDir::new();
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let spent = Spent::open(&dir.file("spent.db"), clock, &Lifecycle::new()).await.unwrap();
        spent.writer.close().await;
        let mark = Mark::Handoff("x".into());
        for _ in 0..2 {
            assert_eq!(spent.spend(mark.clone(), Timestamp::from_secs(1)).await, Err(ShopError::Storage));
            assert!(!spent.contains(&mark));
        }
    }
}

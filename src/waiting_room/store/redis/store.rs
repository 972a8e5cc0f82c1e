//! The Redis store's state and start.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use redis::{FromRedisValue, Value};
use tokio::sync::Notify;

use self::{
    record_effects::{Bucket, Effect},
    replay::Pending,
    scripts::SCRIPTS,
};
use super::{
    Counts, EndedVisit, EntryAsk, Finished, Found, Heard, Moment, Numbered, PassGrant, QueueStore,
    Reservation, Settings, SharedBoard, Standing, Stock, StoreError,
    memory::{MemoryStore, Progress, SLOT_GRACE},
};
use crate::{
    kernel::{Timestamp, VisitId},
    platform::{
        group_commit::GroupCommit,
        redis::{Call, CallError, Line},
        shutdown::Lifecycle,
    },
    waiting_room::{
        BoxOfficeHealth, Config, Inside, ZoneStock,
        admission::{
            lanes::{ASK_AGAIN, ASK_AGAIN_FAR, CLAIM_LAPSE, CLAIMANTS_MAX, SURGE},
            policy::{Situation, whole},
        },
        forecast::visit_length::VisitsOutlook,
        journal::{Event, Join, JournalError, PgJournal, Record, Stored, writer::Promise},
        status::people_ahead::Survivors,
        tokens::queue_token::is_stranger,
    },
};

/// A reserved slot whose entry is not written down within this time is given back.
const ENTRY_LAPSE: Duration = Duration::from_secs(10);
/// An end that is not written down within this time is handed out again.
const END_AGAIN: Duration = Duration::from_secs(5);
const FINISHED_AT_ONCE: usize = 500;
/// A node that is silent for so long counts no more when a slot is freed: it is dead, or its passes lapse by themselves.
const NODE_SILENT: Duration = Duration::from_secs(5);
/// How long a node may be silent before another one calls.
const CALLER_LEASE: Duration = Duration::from_millis(400);
/// Where claimants are written down.
const CLAIMS: [&str; 6] = [
    "called",
    "called_asked",
    "returners",
    "returners_asked",
    "called_unpassed",
    "returners_unpassed",
];

/// One sale's engine, and this node's mirror of its journal.
pub(crate) struct RedisStore {
    config: Config,
    node: String,
    line: Arc<Line>,
    journal: Arc<PgJournal>,
    mirror: MemoryStore,
    buckets: u32,
    desk: GroupCommit<Join, Result<Numbered, StoreError>>,
    numbering: Arc<allocate::Numbering>,
    pending: Mutex<Pending>,
    /// The last record that the mirror holds.
    followed: AtomicU64,
    /// The last epoch that was complete here.
    epoch: AtomicU64,
    kept: Mutex<HashMap<VisitId, Timestamp>>,
    said: Mutex<Said>,
    stock: Mutex<Option<Stock>>,
    active: AtomicU32,
    claimants: AtomicU32,
    returners: AtomicU32,
    /// Up to when, by the server's clock, this node knows who has been heard of.
    heard_to_ms: AtomicI64,
    /// Wakes the keeper.
    look: Arc<Notify>,
    time: Time,
}

/// What box offices said to this node since the last tick.
#[derive(Debug, Default)]
struct Said {
    zones: Option<String>,
    /// By source.
    healths: HashMap<String, String>,
}

/// What `situation.lua` returns.
type Told = (
    u32,
    u64,
    u32,
    u32,
    u32,
    u32,
    u8,
    String,
    u64,
    Vec<u32>,
    Vec<u32>,
    Vec<String>,
);

/// Whose clock the scripts go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Time {
    Servers,
    #[cfg(test)]
    Given,
}

impl Time {
    fn arg(self, now: Timestamp) -> i64 {
        match self {
            Self::Servers => {
                let _ = now;
                0
            }
            #[cfg(test)]
            Self::Given => now.as_millis().max(1),
        }
    }
}

impl From<CallError> for StoreError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Away | CallError::Refused(_) => Self::Away,
            CallError::Rebuilding => Self::Rebuilding,
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The answer of one of our own scripts; anything else is a slip in it, and nothing can be relied on.
fn read<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    redis::from_redis_value(value).map_err(|error| {
        tracing::error!(%error, "a script answered what was not expected");
        StoreError::Away
    })
}

impl RedisStore {
    /// Starts to keep the engine's memory complete; until it is, calls answer [`StoreError::Rebuilding`].
    pub(crate) async fn open(
        config: Config,
        node: String,
        line: Arc<Line>,
        journal: Arc<PgJournal>,
        at: Moment,
        life: &Lifecycle,
    ) -> Result<Arc<Self>, JournalError> {
        let store = Self::build(config, node, line, journal, at, life, Time::Servers).await?;
        let kept = Arc::clone(&store);
        let stopping = life.clone();
        life.supervise("queue engine keeper", rebuild::LOOK_EVERY, move || {
            let (store, life) = (Arc::clone(&kept), stopping.clone());
            async move {
                tokio::select! {
                    () = life.stopping() => {}
                    () = store.keep() => {}
                    () = store.numbering.stock_up() => {}
                    () = store.numbering.stay_below_the_ceiling() => {}
                }
            }
        });
        Ok(store)
    }

    async fn build(
        config: Config,
        node: String,
        line: Arc<Line>,
        journal: Arc<PgJournal>,
        at: Moment,
        life: &Lifecycle,
        time: Time,
    ) -> Result<Arc<Self>, JournalError> {
        let head = journal.head().await?;
        let buckets = head.buckets();
        let numbering = Arc::new(allocate::Numbering::new(
            Arc::clone(&line),
            Arc::clone(&journal),
            Bucket::layout(&line, buckets),
            config.max_fans,
            head.ceiling(),
        ));
        let numbers = Arc::clone(&numbering);
        let desk = GroupCommit::start(
            life,
            allocate::WAITING_MAX,
            allocate::GROUP_MAX,
            move |joins: Vec<Join>| {
                let numbers = Arc::clone(&numbers);
                async move { numbers.give(joins).await }
            },
        );
        Ok(Arc::new(Self {
            mirror: MemoryStore::mirror(config.clone(), at),
            config,
            node,
            line,
            journal,
            buckets,
            desk,
            numbering,
            pending: Mutex::default(),
            followed: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            kept: Mutex::default(),
            said: Mutex::default(),
            stock: Mutex::default(),
            active: AtomicU32::new(0),
            claimants: AtomicU32::new(0),
            returners: AtomicU32::new(0),
            heard_to_ms: AtomicI64::new(0),
            look: Arc::default(),
            time,
        }))
    }

    fn layout(&self) -> record_effects::Layout {
        Bucket::layout(&self.line, self.buckets)
    }

    fn keys(&self, names: &[&str]) -> Call {
        names
            .iter()
            .fold(Call::new(), |call, name| call.key(self.line.key(name)))
    }

    fn time(&self, now: Timestamp) -> i64 {
        self.time.arg(now)
    }

    fn overlay(&self, mut counts: Counts) -> Counts {
        counts.active = self.active.load(Ordering::Relaxed);
        counts.claimants = self.claimants.load(Ordering::Relaxed);
        counts.returners = self.returners.load(Ordering::Relaxed);
        counts
    }
}


//! The Redis store's state and start.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    kernel::{Timestamp, VisitId},
    platform::{
        group_commit::GroupCommit,
        redis::{Call, FencedConnection},
        shutdown::Lifecycle,
    },
    waiting_room::{
        journal::{PgJournal, port::JournalError, record::Join},
        state::Counts,
        store::{
            memory::MemoryStore,
            port::{Moment, Numbered, Stock, StoreError},
            redis::{
                allocate,
                bucket::Layout,
                record_effects::Effect,
            },
        },
        types::Config,
    },
};

pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Where claimants are written down.
pub(super) const CLAIMS: [&str; 6] = [
    "called",
    "called_asked",
    "returners",
    "returners_asked",
    "called_unpassed",
    "returners_unpassed",
];

/// One sale's engine, and this node's mirror of its journal.
pub(crate) struct RedisStore {
    pub(super) config: Config,
    pub(super) node: String,
    pub(super) line: Arc<FencedConnection>,
    pub(super) journal: Arc<PgJournal>,
    pub(super) mirror: MemoryStore,
    pub(super) buckets: u32,
    pub(super) desk: GroupCommit<Join, Result<Numbered, StoreError>>,
    pub(super) numbering: Arc<allocate::Numbering>,
    pub(super) pending: Mutex<Pending>,
    /// The last record that the mirror holds.
    pub(super) followed: AtomicU64,
    /// The last epoch that was complete here.
    pub(super) epoch: AtomicU64,
    pub(super) kept: Mutex<HashMap<VisitId, Timestamp>>,
    pub(super) said: Mutex<Said>,
    pub(super) stock: Mutex<Option<Stock>>,
    pub(super) active: AtomicU32,
    pub(super) claimants: AtomicU32,
    pub(super) returners: AtomicU32,
    /// Up to when, by the server's clock, this node knows who has been heard of.
    pub(super) heard_to_ms: AtomicI64,
    /// Wakes the keeper.
    pub(super) look: Arc<Notify>,
    pub(super) time: Time,
}

/// What records mean to Redis, while it is not known to have them.
#[derive(Default)]
pub(crate) struct Pending {
    pub(crate) effects: VecDeque<Effect>,
    /// Redis has followed the journal so far, as it last said.
    pub(crate) applied: u64,
}

/// What box offices said to this node since the last tick.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) zones: Option<String>,
    /// By source.
    pub(super) healths: HashMap<String, String>,
}

/// Whose clock the scripts go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
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

impl RedisStore {
    /// Starts to keep the engine's memory complete; until it is, calls answer [`StoreError::Rebuilding`].
    pub(crate) async fn open(
        config: Config,
        node: String,
        line: Arc<FencedConnection>,
        journal: Arc<PgJournal>,
        at: Moment,
        life: &Lifecycle,
    ) -> Result<Arc<Self>, JournalError> {
        let store = Self::build(config, node, line, journal, at, life, Time::Servers).await?;
        let kept = Arc::clone(&store);
        let stopping = life.clone();
        life.supervise("queue engine keeper", LOOK_EVERY, move || {
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

    pub(super) async fn build(
        config: Config,
        node: String,
        line: Arc<FencedConnection>,
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
            Layout::new(&line, buckets),
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

    pub(super) fn layout(&self) -> Layout {
        Layout::new(&self.line, self.buckets)
    }

    pub(super) fn keys(&self, names: &[&str]) -> Call {
        names
            .iter()
            .fold(Call::new(), |call, name| call.key(self.line.key(name)))
    }

    pub(super) fn time(&self, now: Timestamp) -> i64 {
        self.time.arg(now)
    }

    pub(super) fn overlay(&self, mut counts: Counts) -> Counts {
        counts.active = self.active.load(Ordering::Relaxed);
        counts.claimants = self.claimants.load(Ordering::Relaxed);
        counts.returners = self.returners.load(Ordering::Relaxed);
        counts
    }
}


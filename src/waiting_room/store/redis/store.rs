//! The Redis store's state and start.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64},
    },
    time::Duration,
};

use parking_lot::Mutex;
use redis::FromRedisValue;
use tokio::sync::Notify;

use crate::{
    kernel::{Timestamp, VisitId},
    platform::{
        group_commit::GroupCommit,
        redis::{Call, FencedConnection},
        shutdown::Lifecycle,
    },
    waiting_room::{
        journal::{port::JournalError, postgres::journal::PostgresJournal, record::Join},
        state::AdmissionState,
        store::{
            memory::store::MemoryStore,
            port::{Assigned, Moment, QueueStore, Stock, StoreError},
            redis::{
                allocate::{self, NumberAllocator},
                record_effects::Effect,
                reply::parse,
                scripts::{NamedScript, ScriptArgs},
                subject_index::SubjectIndex,
            },
        },
        types::Config,
    },
};

/// How often a node checks whether the dataset is complete.
pub(super) const RECOVERY_INTERVAL: Duration = Duration::from_millis(250);

/// One sale's store in Redis, and this node's mirror of its journal.
pub(crate) struct RedisStore {
    pub(super) config: Config,
    /// This node's name among others.
    pub(super) node: String,
    pub(super) connection: Arc<FencedConnection>,
    pub(super) journal: Arc<PostgresJournal>,
    pub(super) mirror: MemoryStore,
    /// Buckets of the subject index, fixed by the journal.
    pub(super) bucket_count: u32,
    pub(super) number_batcher: GroupCommit<Join, Result<Assigned, StoreError>>,
    pub(super) allocator: Arc<NumberAllocator>,
    pub(super) pending: Mutex<PendingEffects>,
    /// The last record that the mirror holds.
    pub(super) mirrored_seq: AtomicU64,
    /// The last epoch that was complete here.
    pub(super) epoch: AtomicU64,
    /// Whether the dataset is a new one, which may lack visits that this node ended.
    pub(super) ends_to_repeat: AtomicBool,
    /// Visits to extend with the next tick, and until when.
    pub(super) extensions: Mutex<HashMap<VisitId, Timestamp>>,
    pub(super) reports: Mutex<BoxOfficeReports>,
    /// The stock as of the last tick.
    pub(super) stock: Mutex<Option<Stock>>,
    /// What the policy needs, as of the last tick.
    pub(super) synced: Mutex<AdmissionState>,
    /// Heartbeats up to this moment, by the server's clock, are known to this node.
    pub(super) heartbeats_since_ms: AtomicI64,
    pub(super) recovery_wakeup: Arc<Notify>,
    pub(super) clock: ScriptClock,
}

/// Effects of journal records that Redis is not known to have applied.
#[derive(Default)]
pub(super) struct PendingEffects {
    pub(super) effects: VecDeque<Effect>,
    /// The last record that Redis has applied, as it last reported.
    pub(super) applied_seq: u64,
}

/// What box offices reported to this node since the last tick.
#[derive(Debug, Default)]
pub(super) struct BoxOfficeReports {
    /// The stock by zone, as JSON.
    pub(super) zones: Option<String>,
    /// Health by source, as JSON.
    pub(super) healths: HashMap<String, String>,
}

/// Whose clock the scripts read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScriptClock {
    /// The server's: one clock for all nodes.
    Server,
    /// The caller's, so that tests control it.
    #[cfg(test)]
    Caller,
}

impl ScriptClock {
    /// The argument `now_ms`; 0 tells a script to read the server's clock.
    pub(super) fn arg(self, now: Timestamp) -> i64 {
        match self {
            Self::Server => {
                let _ = now;
                0
            }
            #[cfg(test)]
            Self::Caller => now.as_millis().max(1),
        }
    }
}

impl RedisStore {
    /// Opens the store and starts its background tasks. Until the dataset is complete, calls fail with
    /// [`StoreError::Recovering`].
    ///
    /// # Errors
    /// [`JournalError`] where the journal cannot be read.
    pub(crate) async fn open(
        config: Config,
        node: String,
        connection: Arc<FencedConnection>,
        journal: Arc<PostgresJournal>,
        at: Moment,
        life: &Lifecycle,
    ) -> Result<Arc<Self>, JournalError> {
        let store = Self::build(config, node, connection, journal, at, life, ScriptClock::Server).await?;
        let supervised = Arc::clone(&store);
        let stopping = life.clone();
        life.supervise("queue store recovery", RECOVERY_INTERVAL, move || {
            let (store, life) = (Arc::clone(&supervised), stopping.clone());
            async move {
                tokio::select! {
                    () = life.stopping() => {}
                    () = store.recovery_loop() => {}
                    () = store.allocator.refill_loop() => {}
                    () = store.allocator.raise_ceiling_loop() => {}
                }
            }
        });
        Ok(store)
    }

    pub(super) async fn build(
        config: Config,
        node: String,
        connection: Arc<FencedConnection>,
        journal: Arc<PostgresJournal>,
        at: Moment,
        life: &Lifecycle,
        clock: ScriptClock,
    ) -> Result<Arc<Self>, JournalError> {
        let head = journal.head().await?;
        let bucket_count = head.buckets();
        let allocator = Arc::new(NumberAllocator::new(
            Arc::clone(&connection),
            Arc::clone(&journal),
            SubjectIndex::new(&connection, bucket_count),
            config.queue_entries_max,
            head.ceiling(),
        ));
        let batches = Arc::clone(&allocator);
        let number_batcher = GroupCommit::start(
            life,
            allocate::QUEUE_MAX,
            allocate::BATCH_MAX,
            move |joins: Vec<Join>| {
                let allocator = Arc::clone(&batches);
                async move { allocator.assign(joins).await }
            },
        );
        let mirror = MemoryStore::mirror(config.clone(), at);
        Ok(Arc::new(Self {
            synced: Mutex::new(mirror.admission_state(at)),
            mirror,
            config,
            node,
            connection,
            journal,
            bucket_count,
            number_batcher,
            allocator,
            pending: Mutex::default(),
            mirrored_seq: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            ends_to_repeat: AtomicBool::new(false),
            extensions: Mutex::default(),
            reports: Mutex::default(),
            stock: Mutex::default(),
            heartbeats_since_ms: AtomicI64::new(0),
            recovery_wakeup: Arc::default(),
            clock,
        }))
    }

    pub(super) fn layout(&self) -> SubjectIndex {
        SubjectIndex::new(&self.connection, self.bucket_count)
    }

    /// A call with these keys of the sale.
    pub(super) fn keys(&self, names: &[&str]) -> Call {
        names
            .iter()
            .fold(Call::new(), |call, name| call.key(self.connection.key(name)))
    }

    /// Runs a script that has no list of keys or items beside its named ones.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        script: &NamedScript,
        args: impl ScriptArgs,
    ) -> Result<T, StoreError> {
        let call = args.append_to(self.keys(script.keys));
        parse(self.connection.call(&script.script, call).await?)
    }
}

//! Recovery and start of one sale's waiting room: its journal, its store, and its background loops.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    kernel::{Clock, Entropy, SaleId},
    platform::{
        keys::Keys,
        redis::{FencedConnection, Redis},
        shutdown::Lifecycle,
        sql,
    },
    waiting_room::{
        commands,
        context::RoomContext,
        draw::coordinator::{self, DrawSetupError},
        journal::{
            chain::ChainStore,
            notices::NoticeStore,
            port::{Journal, JournalError},
            postgres::journal::{self as postgres, PostgresJournal},
            sqlite::SqliteJournal,
            writer::{JournalWriter, WriteError},
        },
        room::WaitingRoom,
        status::reporter::PUBLISH_EVERY,
        store::{
            memory::store::MemoryStore,
            port::{Moment, QueueStore},
            redis::store::RedisStore,
        },
        types::{Config, Durability, JournalLocation, StoreBackend},
    },
};

/// Subjects per bucket of the store's map at the configured number of entries; at four times as many it is
/// still compact.
const SUBJECTS_A_BUCKET: u32 = 64;
/// Entries up to which a bucket must be compact: four times as many, and the spread.
const BUCKET_ENTRIES_MAX: u32 = 512;
/// A store that is not complete after this time keeps the process from starting.
const READY_WITHIN: Duration = Duration::from_mins(1);

const ADMISSION_EVERY: Duration = Duration::from_millis(100);
const DRAW_EVERY: Duration = Duration::from_millis(500);
const CHAIN_EVERY: Duration = Duration::from_secs(1);
const CALL_NOTICES_EVERY: Duration = Duration::from_millis(500);

/// What a waiting room is built from.
#[derive(Clone)]
pub struct Deps {
    /// Wall clock and steady clock.
    pub clock: Arc<dyn Clock>,
    /// Source of randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Keys of tokens, passes, receipts and the draw.
    pub keys: Keys,
    /// Where the journal is kept.
    pub journal: JournalLocation,
    /// What assigns numbers and slots.
    pub store: StoreBackend,
    /// Name of this node among others.
    pub node_name: String,
    /// Ends the background loops.
    pub lifecycle: Lifecycle,
}

/// Why a waiting room cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The sale's configuration contradicts itself, its journal or its keys.
    #[error("the admission of sale {sale} cannot work: {why}")]
    Config {
        /// The sale.
        sale: SaleId,
        /// What to change.
        why: &'static str,
    },
    /// The journal's file cannot be opened.
    #[error(transparent)]
    Sql(#[from] sql::OpenError),
    /// The journal's database cannot be opened.
    #[error(transparent)]
    Journal(#[from] postgres::OpenError),
    /// The store has not been complete within a minute.
    #[error(
        "the store of sale {sale} does not become ready: is Redis reachable, \
         and does another node keep rebuilding it?"
    )]
    NotReady {
        /// The sale.
        sale: SaleId,
    },
    /// The journal's records cannot be read or applied.
    #[error("the journal of sale {sale} cannot be replayed: {why}")]
    Replay {
        /// The sale.
        sale: SaleId,
        /// What was wrong with the records.
        why: String,
    },
}

struct Opened {
    journal: Arc<dyn Journal>,
    chain: Arc<dyn ChainStore>,
    notices: Arc<dyn NoticeStore>,
    store: Arc<dyn QueueStore>,
}

/// Recovers a waiting room from its journal and starts its background loops.
///
/// # Errors
/// [`OpenError`]
pub async fn open(config: Config, deps: Deps) -> Result<Arc<WaitingRoom>, OpenError> {
    let room = Arc::new(recover(config, deps).await?);
    let short = Duration::from_millis(100);
    supervise(&room, "admission", short, |room| async move {
        admission_loop(&room).await;
    });
    supervise(&room, "status", PUBLISH_EVERY, |room| async move {
        status_loop(&room).await;
    });
    supervise(&room, "draw", Duration::from_secs(1), |room| async move {
        draw_loop(&room).await;
    });
    supervise(&room, "journal chain", CHAIN_EVERY, |room| async move {
        chain_loop(&room).await;
    });
    supervise(&room, "call notices", CALL_NOTICES_EVERY, |room| async move {
        call_notice_loop(&room).await;
    });
    Ok(room)
}

/// The waiting room as its journal knows it, without its background loops.
pub(crate) async fn recover(config: Config, deps: Deps) -> Result<WaitingRoom, OpenError> {
    let of_config = |why| OpenError::Config {
        sale: config.sale.clone(),
        why,
    };
    let of_replay = |why: String| OpenError::Replay {
        sale: config.sale.clone(),
        why,
    };
    let of_draw = |error| match error {
        DrawSetupError::Config(why) => of_config(why),
        DrawSetupError::Write(error) => of_replay(error.to_string()),
    };
    check(&config).map_err(of_config)?;
    let at = Moment {
        now: deps.clock.now(),
        monotonic: deps.clock.monotonic(),
    };
    let Opened {
        journal,
        chain,
        notices,
        store,
    } = open_backend(&config, &deps, at).await?;
    let Deps {
        clock,
        entropy,
        keys,
        lifecycle: life,
        ..
    } = deps;
    let writer = JournalWriter::new(journal, Arc::clone(&store), Arc::clone(&clock), config.durability);
    tokio::time::timeout(READY_WITHIN, until_complete(&writer, store.as_ref()))
        .await
        .map_err(|_| OpenError::NotReady {
            sale: config.sale.clone(),
        })?
        .map_err(|error| of_replay(error.to_string()))?;
    if let Some(terms) = &config.draw {
        coordinator::commit(&config, terms, store.as_ref(), &writer, &keys, entropy.as_ref())
            .await
            .map_err(of_draw)?;
    }
    let secrets = coordinator::open_secrets(&config, store.as_ref(), &keys).map_err(of_draw)?;
    writer
        .resume()
        .await
        .map_err(|error| of_replay(error.to_string()))?;
    store
        .finish_replay(at)
        .await
        .map_err(|error| of_replay(error.to_string()))?;
    for override_text in commands::overrides(&config, &store.settings()) {
        tracing::warn!(
            sale = %config.sale,
            "an operator's earlier command is in force: {override_text}; another command changes it"
        );
    }
    let linked = chain
        .last_link()
        .await
        .map_err(|error| of_replay(error.to_string()))?;
    let context = RoomContext {
        lag: writer.lag(),
        writer: writer.start(&life),
        config,
        clock,
        entropy,
        keys,
        store,
    };
    Ok(WaitingRoom::new(context, life, chain, linked, notices, secrets))
}

/// Runs one loop until the process stops, again after `pause` when it panics.
fn supervise<F>(
    room: &Arc<WaitingRoom>,
    name: &'static str,
    pause: Duration,
    run: impl Fn(Arc<WaitingRoom>) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let of_loop = Arc::clone(room);
    room.life()
        .supervise(name, pause, move || run(Arc::clone(&of_loop)));
}

/// Ticks that do not catch up on those that were missed.
fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn admission_loop(room: &WaitingRoom) {
    let sale = &room.config().sale;
    let mut ticks = ticks(ADMISSION_EVERY);
    let mut is_failing = false;
    while room.life().until_stopping(ticks.tick()).await.is_some() {
        let ticked = room.tick().await;
        match &ticked {
            // While it lasts, once is enough.
            Err(error) if !is_failing => {
                tracing::error!(%sale, %error,
                    "admission ticks fail: no visitor is called until the store answers");
            }
            Ok(()) if is_failing => tracing::info!(%sale, "admission ticks again"),
            _ => {}
        }
        is_failing = ticked.is_err();
    }
}

async fn status_loop(room: &WaitingRoom) {
    let mut ticks = ticks(PUBLISH_EVERY);
    while room.life().until_stopping(ticks.tick()).await.is_some() {
        room.status_second().await;
    }
}

async fn draw_loop(room: &WaitingRoom) {
    let mut ticks = ticks(DRAW_EVERY);
    while room.life().until_stopping(ticks.tick()).await.is_some() {
        if room.has_order() {
            // Nothing is left to do, ever.
            return room.life().stopping().await;
        }
        room.advance_draw().await;
    }
}

/// Chains the journal's records second by second. Apart from the status, which goes on when the journal is
/// away.
async fn chain_loop(room: &WaitingRoom) {
    let mut ticks = ticks(CHAIN_EVERY);
    let mut is_failing = false;
    while room.life().until_stopping(ticks.tick()).await.is_some() {
        let extended = room.extend_chain().await;
        if let Err(error) = &extended
            && !is_failing
        {
            tracing::warn!(sale = %room.config().sale, %error,
                "cannot extend the journal's hash chain; retrying");
        }
        is_failing = extended.is_err();
    }
}

async fn call_notice_loop(room: &WaitingRoom) {
    let mut ticks = ticks(CALL_NOTICES_EVERY);
    let mut is_failing = false;
    while room.life().until_stopping(ticks.tick()).await.is_some() {
        let stepped = room.step_call_notices().await;
        if let Err(error) = &stepped
            && !is_failing
        {
            tracing::warn!(sale = %room.config().sale, %error,
                "cannot look up who asked to be told of their call; retrying");
        }
        is_failing = stepped.is_err();
    }
}

/// Waits until memory holds what the journal does, and a shared store is complete too. Other nodes may write
/// meanwhile.
async fn until_complete(writer: &JournalWriter, store: &dyn QueueStore) -> Result<(), WriteError> {
    loop {
        writer.catch_up().await?;
        if store.is_complete() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn open_backend(config: &Config, deps: &Deps, at: Moment) -> Result<Opened, OpenError> {
    let sale = &config.sale;
    let broken = |why: JournalError| OpenError::Replay {
        sale: sale.clone(),
        why: why.to_string(),
    };
    match (&deps.store, &deps.journal) {
        (StoreBackend::Memory, JournalLocation::File(file)) => {
            let journal = Arc::new(SqliteJournal::open(file, sale.clone(), &deps.lifecycle).await?);
            let given_before = journal.ceiling().await.map_err(broken)?;
            let store = Arc::new(
                MemoryStore::new(config.clone(), 0, at).with_journal(Arc::clone(&journal), given_before),
            );
            Ok(Opened {
                chain: Arc::clone(&journal) as _,
                notices: Arc::clone(&journal) as _,
                journal,
                store,
            })
        }
        (StoreBackend::Memory, JournalLocation::Postgres { .. })
            if config.durability == Durability::Async =>
        {
            Err(OpenError::Config {
                sale: sale.clone(),
                why: "the memory store supports async durability only with a journal in its own file",
            })
        }
        (StoreBackend::Memory, JournalLocation::Postgres { url }) => {
            let journal = Arc::new(open_shared(url, sale, config).await?);
            // One process at a time: the later one takes the epoch, and the earlier one is refused.
            let head = journal.head().await.map_err(broken)?;
            let mut name = [0; 8];
            deps.entropy.fill(&mut name);
            let identity = format!("memory of {} {:016x}", deps.node_name, u64::from_le_bytes(name));
            let head = journal
                .raise_epoch(head.epoch(), &identity)
                .await
                .map_err(broken)?;
            journal.settle(head.epoch()).await.map_err(broken)?;
            // This store's numbers are lost with it, so it needs no ceiling.
            journal
                .raise_ceiling(head.epoch(), config.queue_entries_max)
                .await
                .map_err(broken)?;
            let store = Arc::new(MemoryStore::new(config.clone(), head.epoch(), at));
            Ok(Opened {
                chain: Arc::clone(&journal) as _,
                notices: Arc::clone(&journal) as _,
                journal,
                store,
            })
        }
        (StoreBackend::Redis(redis), JournalLocation::Postgres { url }) => {
            let journal = Arc::new(open_shared(url, sale, config).await?);
            make_compact(redis).await;
            let line = FencedConnection::start(
                redis.clone(),
                sale.to_string(),
                Arc::clone(&deps.entropy),
                &deps.lifecycle,
            );
            let opening = RedisStore::open(
                config.clone(),
                deps.node_name.clone(),
                line,
                Arc::clone(&journal),
                at,
                &deps.lifecycle,
            );
            let store = opening.await.map_err(broken)?;
            Ok(Opened {
                chain: Arc::clone(&journal) as _,
                notices: Arc::clone(&journal) as _,
                journal,
                store,
            })
        }
        (StoreBackend::Redis(_), JournalLocation::File(_)) => Err(OpenError::Config {
            sale: sale.clone(),
            why: "a store that nodes share needs a shared journal: give journal.url a PostgreSQL database",
        }),
    }
}

async fn open_shared(url: &str, sale: &SaleId, config: &Config) -> Result<PostgresJournal, OpenError> {
    let buckets = (config.queue_entries_max / SUBJECTS_A_BUCKET)
        .clamp(1, 1 << 20)
        .next_power_of_two();
    Ok(PostgresJournal::open(url, sale.clone(), buckets).await?)
}

/// Where it may not be set, the map takes more memory, and that is all.
async fn make_compact(redis: &Redis) {
    if !matches!(redis.compact_hashes(BUCKET_ENTRIES_MAX).await, Ok(true)) {
        tracing::warn!(
            redis = %redis.url(),
            "hash-max-listpack-entries is below {BUCKET_ENTRIES_MAX} and cannot be set: \
             a queue beyond queue_entries_max will take much memory"
        );
    }
}

fn check(config: &Config) -> Result<(), &'static str> {
    if config.prequeue_starts_at > config.on_sale_starts_at || config.on_sale_starts_at >= config.closes_at {
        return Err("it must take queue places before it opens, and open before it closes");
    }
    if config.admission_rate_per_minute == 0
        || config.active_visits_max == 0
        || config.queue_entries_max == 0
        || config.admission_burst == Some(0)
    {
        return Err("rate, capacity, burst and the number of fans must be at least 1");
    }
    if config.draw.is_some() && config.durability != Durability::Committed {
        return Err("a fair draw needs durability \"committed\": no announced entry may be lost");
    }
    if config
        .draw
        .as_ref()
        .is_some_and(|terms| terms.chain.period_s == 0)
    {
        return Err("the beacon's rounds must be at least a second apart");
    }
    if !(0.0..=1.0).contains(&config.late_arrival_share) {
        return Err("late_arrival_share must be between 0 and 1");
    }
    if config.call_window < Duration::from_secs(1)
        || config.pass_ttl < Duration::from_secs(2)
        || config.visit_max < config.pass_ttl
    {
        return Err("the call window must last a second, a pass two, and a visit as long as a pass");
    }
    Ok(())
}

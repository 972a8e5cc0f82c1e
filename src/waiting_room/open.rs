//! How a room is opened: its journal, its engine, and what the journal knows.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use crate::waiting_room::{
    Config, Deps, Durability, Engine, JournalPlace, OpenError, WaitingRoom,
    admission::controller::{self, Gatekeeper},
    draw::coordinator::{self, Drawing},
    journal::{
        Chain, Journal, JournalError, PgJournal, SqliteJournal,
        writer::{WriteError, Writer},
    },
    status::{presence::Presence, snapshot::BoardPost},
    store::{MemoryStore, Moment, QueueStore, RedisStore},
    tokens::{pass::PassReader, queue_token},
};
use crate::{
    kernel::SaleId,
    platform::redis::{Line, Redis},
};

/// Subjects a bucket of the engine's map at the declared number of fans; at four times as many it is still compact.
const SUBJECTS_A_BUCKET: u32 = 64;
/// Entries up to which a bucket must be compact: four times as many, and the spread.
const BUCKET_ENTRIES_MAX: u32 = 512;
/// An engine that is not complete after this time keeps the process from starting.
const READY_WITHIN: Duration = Duration::from_mins(1);

struct Opened {
    journal: Arc<dyn Journal>,
    chain: Arc<dyn Chain>,
    store: Arc<dyn QueueStore>,
}

impl WaitingRoom {
    /// Recovers from the journal and starts the tick and the board.
    pub async fn open(config: Config, deps: Deps) -> Result<Arc<Self>, OpenError> {
        let room = Arc::new(Self::recover(config, deps).await?);
        for (name, pause) in [
            ("admission", Duration::from_millis(100)),
            ("board", Duration::from_secs(1)),
            ("draw", Duration::from_secs(1)),
            ("log", Duration::from_secs(1)),
        ] {
            let of_loop = Arc::clone(&room);
            room.life.supervise(name, pause, move || {
                let room = Arc::clone(&of_loop);
                async move {
                    match name {
                        "board" => room.board_loop().await,
                        "draw" => room.draw_loop().await,
                        "log" => room.log_loop().await,
                        _ => room.admission_loop().await,
                    }
                }
            });
        }
        Ok(room)
    }

    /// The room as the journal knows it, without its tick.
    pub(crate) async fn recover(config: Config, deps: Deps) -> Result<Self, OpenError> {
        check(&config).map_err(|why| OpenError::Config {
            sale: config.sale.clone(),
            why,
        })?;
        let at = Moment {
            now: deps.clock.now(),
            monotonic: deps.clock.monotonic(),
        };
        let Opened {
            journal,
            chain,
            store,
        } = open_engine(&config, &deps, at).await?;
        let Deps {
            clock,
            entropy,
            keys,
            life,
            ..
        } = deps;
        let writer = Writer::new(journal, Arc::clone(&store), Arc::clone(&clock), config.durability);
        let unreadable = |why: String| OpenError::Replay {
            sale: config.sale.clone(),
            why,
        };
        tokio::time::timeout(READY_WITHIN, until_complete(&writer, store.as_ref()))
            .await
            .map_err(|_| OpenError::NotReady {
                sale: config.sale.clone(),
            })?
            .map_err(|e| unreadable(e.to_string()))?;
        if let Some(terms) = &config.draw {
            coordinator::commit(&config, terms, store.as_ref(), &writer, &keys, entropy.as_ref()).await?;
        }
        let drawing = Drawing::of(&config, store.as_ref(), &keys)?;
        writer.resume().await.map_err(|e| unreadable(e.to_string()))?;
        store.recovered(at).await.map_err(|e| unreadable(e.to_string()))?;
        let linked = chain.last_link().await.map_err(|e| unreadable(e.to_string()))?;
        let first = controller::board_content(&config, store.as_ref(), at, &[], None, Vec::new());
        let post = BoardPost::new(first, config.watchers_max);
        let room = Self {
            sale_hash: queue_token::sale_hash(&config.sale),
            behind: writer.behind(),
            pen: writer.start(&life),
            chain,
            linked: ArcSwap::from_pointee(linked),
            post,
            told: ArcSwap::default(),
            presence: Presence::default(),
            gatekeeper: Gatekeeper::default(),
            drawing,
            passes: PassReader::new(
                config.sale.clone(),
                config.issuer.clone(),
                keys.clone(),
                Arc::clone(&clock),
            ),
            config,
            clock,
            entropy,
            keys,
            life,
            store,
        };
        room.hang_board();
        Ok(room)
    }
}

/// Memory holds what the journal does, and an engine elsewhere is complete too. Other nodes may write meanwhile.
async fn until_complete(writer: &Writer, store: &dyn QueueStore) -> Result<(), WriteError> {
    loop {
        writer.catch_up().await?;
        if store.is_complete() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn open_engine(config: &Config, deps: &Deps, at: Moment) -> Result<Opened, OpenError> {
    let sale = &config.sale;
    let broken = |why: JournalError| OpenError::Replay {
        sale: sale.clone(),
        why: why.to_string(),
    };
    match (&deps.engine, &deps.journal) {
        (Engine::Memory, JournalPlace::File(file)) => {
            let journal = Arc::new(SqliteJournal::open(file, sale.clone()).await?);
            let given_before = journal.ceiling().await.map_err(broken)?;
            let store =
                Arc::new(MemoryStore::new(config.clone(), 0, at).beside(Arc::clone(&journal), given_before));
            Ok(Opened {
                chain: Arc::clone(&journal) as _,
                journal,
                store,
            })
        }
        (Engine::Memory, JournalPlace::Postgres { .. }) if config.durability == Durability::Acknowledged => {
            Err(OpenError::Config {
                sale: sale.clone(),
                why: "the memory engine answers joins before they are written down only beside a journal in a file of its own",
            })
        }
        (Engine::Memory, JournalPlace::Postgres { url }) => {
            let journal = Arc::new(open_shared(url, sale, config).await?);
            // One process at a time: whoever comes later takes the epoch, and the one before is refused.
            let head = journal.head().await.map_err(broken)?;
            let mut name = [0; 8];
            deps.entropy.fill(&mut name);
            let identity = format!("memory of {} {:016x}", deps.node, u64::from_le_bytes(name));
            let head = journal
                .raise_epoch(head.epoch(), &identity)
                .await
                .map_err(broken)?;
            journal.settle(head.epoch()).await.map_err(broken)?;
            // This engine's numbers go with it, so it needs no ceiling.
            journal
                .raise_ceiling(head.epoch(), config.max_fans)
                .await
                .map_err(broken)?;
            let store = Arc::new(MemoryStore::new(config.clone(), head.epoch(), at));
            Ok(Opened {
                chain: Arc::clone(&journal) as _,
                journal,
                store,
            })
        }
        (Engine::Redis(redis), JournalPlace::Postgres { url }) => {
            let journal = Arc::new(open_shared(url, sale, config).await?);
            make_compact(redis).await;
            let line = Line::start(
                redis.clone(),
                sale.to_string(),
                Arc::clone(&deps.entropy),
                &deps.life,
            );
            let opening = RedisStore::open(
                config.clone(),
                deps.node.clone(),
                line,
                Arc::clone(&journal),
                at,
                &deps.life,
            );
            let store = opening.await.map_err(broken)?;
            Ok(Opened {
                chain: Arc::clone(&journal) as _,
                journal,
                store,
            })
        }
        (Engine::Redis(_), JournalPlace::File(_)) => Err(OpenError::Config {
            sale: sale.clone(),
            why: "an engine that several nodes share needs a journal that they share: give journal.url a PostgreSQL database",
        }),
    }
}

async fn open_shared(url: &str, sale: &SaleId, config: &Config) -> Result<PgJournal, OpenError> {
    let buckets = (config.max_fans / SUBJECTS_A_BUCKET)
        .clamp(1, 1 << 20)
        .next_power_of_two();
    Ok(PgJournal::open(url, sale.clone(), buckets).await?)
}

/// Where it may not be set, the map takes more memory, and that is all.
async fn make_compact(redis: &Redis) {
    if !matches!(redis.compact_hashes(BUCKET_ENTRIES_MAX).await, Ok(true)) {
        tracing::warn!(
            redis = %redis.address(),
            "hash-max-listpack-entries is below {BUCKET_ENTRIES_MAX} and cannot be set: a queue that outgrows max_fans will take much memory"
        );
    }
}

fn check(config: &Config) -> Result<(), &'static str> {
    if config.prequeue_at > config.opens_at || config.opens_at >= config.closes_at {
        return Err("it must take queue places before it opens, and open before it closes");
    }
    if config.rate_per_minute == 0 || config.capacity == 0 || config.max_fans == 0 || config.burst == Some(0)
    {
        return Err("rate, capacity, burst and the number of fans must be at least 1");
    }
    if config.draw.is_some() && config.durability != Durability::Journaled {
        return Err(
            "a fair draw needs durability \"journaled\": nobody is told that she is in a list that may not hold her",
        );
    }
    if config
        .draw
        .as_ref()
        .is_some_and(|terms| terms.chain.period_s == 0)
    {
        return Err("the beacon's rounds must be at least a second apart");
    }
    if !(0.0..=1.0).contains(&config.returner_share) {
        return Err("the returners' share must be between 0 and 1");
    }
    if config.call_window < Duration::from_secs(1)
        || config.pass_life < Duration::from_secs(2)
        || config.visit_max < config.pass_life
    {
        return Err("the call window must last a second, a pass two, and a visit as long as a pass");
    }
    Ok(())
}

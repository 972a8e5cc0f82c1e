//! Builds the parts of a house that its roles need, each from its settings.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use tokio::net::TcpListener;

use super::{Roles, directory, gateway::gateway};
use crate::{
    checkout::{self, Checkout, LedgerLocation},
    edge::{
        self, IpRateLimits, BoxOfficeState, WaitingRoomState, EndedVisits, AppState, PerformanceInfo, SaleInfo,
        auth::cookies::{CookieRules, SaleCookies},
        handlers::sales::DemoLogin,
        overload::{
            proof_of_work::ProofOfWork,
            rate_limit::{IpRateLimit, Rate},
            shed::{InFlightLimit, LoadShedder},
        },
        pages::Pages,
    },
    kernel::{Clock, Entropy, OsEntropy, SaleId, SystemClock},
    ops::{
        config::{self, DatabaseLocation, PerformanceSettings, SaleSettings, Settings},
        plans,
    },
    platform::{
        keys::Keys,
        redis::{Redis, RedisConfig},
        shutdown::Lifecycle,
    },
    seating::{self, Plan, Seating},
    shop::{self, Shop, ReplayGuardLocation},
    waiting_room::{self, JournalPlace, Papers, PassReader, WaitingRoom},
};

/// The lives of a process, in the order in which they end.
#[derive(Clone, Debug, Default)]
pub(super) struct Lifecycles {
    /// Whoever is being served.
    pub(super) visitors: Lifecycle,
    /// What serves them, and the orders under way.
    pub(super) background: Lifecycle,
    /// What writes down how far both have come.
    pub(super) writers: Lifecycle,
}

/// What this process has.
pub(super) struct Parts {
    pub(super) house: Arc<AppState>,
    pub(super) waiting_room: Option<WaitingRoomState>,
    pub(super) box_office: Option<BoxOfficeState>,
    pub(super) open_keys: Keys,
}

/// What every part is made with.
struct BuildContext {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    keys: Keys,
    lives: Lifecycles,
}

/// The plans of a sale's performances, in their order.
type Plans = Vec<Arc<Plan>>;

pub(super) async fn build(
    settings: &Settings,
    roles: Roles,
    public: &TcpListener,
    demo: Option<DemoLogin>,
    lives: &Lifecycles,
) -> anyhow::Result<Parts> {
    if roles == Roles::BoxOffice && settings.box_office.waiting_room_urls.is_empty() {
        bail!(
            "box_office.waiting_room_urls: a box office without a waiting room must name one, or the door never learns what is sold"
        );
    }
    let data = &settings.data.dir;
    directory::create(data)?;
    directory::claim(settings, roles)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
    let (keys, shop) = {
        let _alone = directory::setup_lock(data).await?;
        let keys = keys(settings, &entropy).await?;
        let customers = shop::Deps {
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            keys: keys.clone(),
            // Nodes that share their queue share it with the journal's database; a directory's processes share a file.
            replay_guard: match settings.journal_database() {
                DatabaseLocation::Postgres(url) => ReplayGuardLocation::Postgres {
                    url: url.expose().to_owned(),
                },
                DatabaseLocation::Sqlite(_) => ReplayGuardLocation::File(data.join("sessions.db")),
            },
            life: lives.background.clone(),
        };
        (keys, Shop::open(settings.shop(), customers).await?)
    };
    let tools = BuildContext {
        clock,
        entropy,
        keys,
        lives: lives.clone(),
    };
    let plans = settings
        .sales
        .iter()
        .map(load_plans)
        .collect::<anyhow::Result<Vec<Plans>>>()?;

    let office = if roles.has_box_office() {
        Some(box_office(settings, &plans, public, &tools).await?)
    } else {
        None
    };
    let rooms = if roles.has_waiting_room() {
        Some(open_waiting_rooms(settings, roles, &tools).await?)
    } else {
        None
    };
    let sales = settings.sales.iter().zip(&plans).map(|(sale, plans)| {
        let papers: Arc<dyn Papers> = match rooms.as_ref().and_then(|rooms| rooms.get(&sale.id)) {
            Some(room) => Arc::clone(room) as _,
            None => Arc::new(PassReader::new(
                sale.id.clone(),
                settings.server.public_base.clone(),
                tools.keys.clone(),
                Arc::clone(&tools.clock),
            )),
        };
        (
            sale.id.clone(),
            Arc::new(sale_info(sale, plans, papers, demo.clone())),
        )
    });
    let house = Arc::new(state(settings, sales.collect(), shop, &tools)?);
    let door = rooms.map(|rooms| WaitingRoomState {
        house: Arc::clone(&house),
        rooms: Arc::new(rooms),
    });
    let box_office = office.map(|(seating, checkout)| BoxOfficeState {
        house: Arc::clone(&house),
        seating,
        checkout,
        ended_visits: EndedVisits::default(),
        health: Arc::default(),
    });
    Ok(Parts {
        house,
        waiting_room: door,
        box_office,
        open_keys: tools.keys,
    })
}

/// Nodes that share their books share their keys with them.
async fn keys(settings: &Settings, entropy: &Arc<dyn Entropy>) -> anyhow::Result<Keys> {
    let (file, master) = (settings.data.dir.join("keys.json"), master_key(settings)?);
    Ok(match settings.journal_database() {
        DatabaseLocation::Sqlite(_) => Keys::open_or_create(&file, &master, entropy.as_ref())?,
        DatabaseLocation::Postgres(url) => {
            Keys::open_or_create_shared(url.expose(), &file, &master, Arc::clone(entropy)).await?
        }
    })
}

fn load_plans(sale: &SaleSettings) -> anyhow::Result<Plans> {
    let plan = |performance: &PerformanceSettings| {
        let plan = plans::load(&performance.plan)
            .with_context(|| format!("the plan of {} {}", sale.id, performance.id))?;
        let unpriced = performance.zones_without_price(plan.zones().iter().map(String::as_str));
        if !unpriced.is_empty() {
            bail!(
                "sale {}, performance {}: no price for the plan's zones {}",
                sale.id,
                performance.id,
                unpriced.join(", ")
            );
        }
        Ok(Arc::new(plan))
    };
    sale.performances.iter().map(plan).collect()
}

async fn box_office(
    settings: &Settings,
    plans: &[Plans],
    public: &TcpListener,
    tools: &BuildContext,
) -> anyhow::Result<(Arc<Seating>, Arc<Checkout>)> {
    let engine = match settings.box_office_redis() {
        None => seating::StoreBackend::Memory,
        Some(config) => seating::StoreBackend::Redis(open_redis(config, "box_office.redis.url").await?),
    };
    let performances = settings.sales.iter().zip(plans).flat_map(|(sale, plans)| {
        sale.performances
            .iter()
            .zip(plans)
            .map(|(performance, plan)| (performance.seating(sale), Arc::clone(plan)))
    });
    let life = tools.lives.background.clone();
    let seats = seating::Deps {
        engine,
        clock: Arc::clone(&tools.clock),
        entropy: Arc::clone(&tools.entropy),
        life: life.clone(),
    };
    let seating = Seating::open(performances.collect(), seats).await?;
    let paying = checkout::Deps {
        clock: Arc::clone(&tools.clock),
        entropy: Arc::clone(&tools.entropy),
        keys: tools.keys.clone(),
        ledger: ledger_location(settings),
        node: settings.node_name(),
        seating: Arc::clone(&seating) as _,
        gateway: Arc::new(gateway(settings, public, &tools.clock, &tools.entropy, &life)?),
        announcer: None,
        life,
        books: tools.lives.writers.clone(),
    };
    let checkout = Checkout::open(settings.checkout(), paying).await?;
    Ok((seating, checkout))
}

async fn open_waiting_rooms(
    settings: &Settings,
    roles: Roles,
    tools: &BuildContext,
) -> anyhow::Result<BTreeMap<SaleId, Arc<WaitingRoom>>> {
    let engine = match settings.waiting_room_redis() {
        None => waiting_room::Engine::Memory,
        Some(config) => waiting_room::Engine::Redis(open_redis(config, "waiting_room.redis.url").await?),
    };
    let mut rooms = BTreeMap::new();
    for sale in &settings.sales {
        let mut config = sale.waiting_room(&settings.server.public_base);
        config.passes_checked_elsewhere = !roles.has_box_office();
        config.durability = settings.waiting_room.durability;
        config.draw = sale.draw_terms(&tools.entropy);
        let door = waiting_room::Deps {
            clock: Arc::clone(&tools.clock),
            entropy: Arc::clone(&tools.entropy),
            keys: tools.keys.clone(),
            journal: match settings.journal_database() {
                DatabaseLocation::Sqlite(file) => JournalPlace::File(file),
                DatabaseLocation::Postgres(url) => JournalPlace::Postgres {
                    url: url.expose().to_owned(),
                },
            },
            engine: engine.clone(),
            node: settings.node_name(),
            life: tools.lives.background.clone(),
        };
        rooms.insert(sale.id.clone(), waiting_room::open(config, door).await?);
    }
    Ok(rooms)
}

/// A Redis that can be relied on; the process does not start on another.
async fn open_redis(config: RedisConfig, key: &'static str) -> anyhow::Result<Redis> {
    let redis = Redis::new(config).with_context(|| format!("{key} (or store.redis.url)"))?;
    redis
        .check_fitness()
        .await
        .with_context(|| format!("{key} (or store.redis.url)"))?;
    Ok(redis)
}

fn ledger_location(settings: &Settings) -> LedgerLocation {
    match settings.ledger_database() {
        DatabaseLocation::Sqlite(file) => LedgerLocation::File(file),
        DatabaseLocation::Postgres(url) => LedgerLocation::Postgres {
            url: url.expose().to_owned(),
        },
    }
}

fn state(
    settings: &Settings,
    sales: BTreeMap<SaleId, Arc<SaleInfo>>,
    shop: Arc<Shop>,
    tools: &BuildContext,
) -> anyhow::Result<AppState> {
    let limit = |count, per| IpRateLimit::new(Rate { count, per }, Arc::clone(&tools.clock));
    let (minute, second) = (Duration::from_mins(1), Duration::from_secs(1));
    Ok(AppState {
        config: edge_config(settings)?,
        cookies: CookieRules {
            secure: settings.server.public_base.starts_with("https://"),
        },
        sales,
        shop,
        pages: Pages::load(),
        public_keys: [
            tools.keys.pass.jwks(),
            tools.keys.receipt.jwks(),
            tools.keys.ticket.jwks(),
        ]
        .concat(),
        limits: IpRateLimits {
            sign_ins: limit(settings.limits.sign_in_per_ip_per_minute, minute),
            joins: limit(settings.limits.joins_per_ip_per_minute, minute),
            requests: limit(settings.limits.requests_per_ip_per_second, second),
        },
        proof_of_work: ProofOfWork::new(
            settings.proof_of_work(),
            tools.keys.proof_of_work.clone(),
            Arc::clone(&tools.clock),
            Arc::clone(&tools.entropy),
        ),
        in_flight: InFlightLimit::new(settings.server.requests_in_flight_max),
        load_shedder: LoadShedder::default(),
        clock: Arc::clone(&tools.clock),
        entropy: Arc::clone(&tools.entropy),
        life: tools.lives.visitors.clone(),
    })
}

fn sale_info(
    sale: &SaleSettings,
    plans: &Plans,
    papers: Arc<dyn Papers>,
    demo: Option<DemoLogin>,
) -> SaleInfo {
    SaleInfo {
        id: sale.id.clone(),
        cookies: SaleCookies::of(&sale.id),
        title: sale.title.clone(),
        artist: sale.artist.clone(),
        sign_in: match sale.sign_in {
            config::SignIn::Customer => edge::SignIn::Customer,
            config::SignIn::None => edge::SignIn::None,
        },
        queue_order: match sale.queue_order {
            config::QueueOrder::Fifo => "fifo",
            config::QueueOrder::FairDraw => "fair_draw",
        },
        prequeue_starts_at: sale.prequeue_starts_at,
        on_sale_starts_at: sale.on_sale_starts_at,
        closes_at: sale.closes_at,
        seats_per_customer_max: sale.seats_per_customer_max,
        hold_ttl: Duration::from_secs(u64::from(sale.hold_ttl_s)),
        performances: sale
            .performances
            .iter()
            .zip(plans)
            .map(|(it, plan)| PerformanceInfo {
                id: it.id.clone(),
                title: it.title.clone(),
                venue: it.venue.clone(),
                starts_at: it.starts_at,
                seat_count: plan.seat_count(),
                plan_hash: plan.hash().to_owned(),
                prices: it.seating(sale).prices,
            })
            .collect(),
        demo,
        tokens: papers,
    }
}

fn edge_config(settings: &Settings) -> anyhow::Result<edge::Config> {
    let server = &settings.server;
    let trusted_proxies = server
        .trusted_proxies
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>();
    Ok(edge::Config {
        public_base: server.public_base.clone(),
        trusted_proxies: trusted_proxies.map_err(|e: &str| anyhow::anyhow!("server.trusted_proxies: {e}"))?,
        body_bytes_max: server.body_bytes_max,
        body_timeout: Duration::from_millis(u64::from(server.body_timeout_ms)),
        request_timeout: Duration::from_millis(u64::from(server.request_timeout_ms)),
    })
}

fn master_key(settings: &Settings) -> anyhow::Result<String> {
    if !settings.keys.master.is_empty() {
        return Ok(settings.keys.master.expose().to_owned());
    }
    let file = &settings.keys.master_file;
    if file.as_os_str().is_empty() {
        bail!(
            "keys.master: the house's keys are sealed under a master key; set STAGEDOOR__KEYS__MASTER or keys.master_file"
        );
    }
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("keys.master_file: cannot read {}", file.display()))?;
    match text.trim() {
        "" => bail!("keys.master_file: {} is empty", file.display()),
        key => Ok(key.to_owned()),
    }
}

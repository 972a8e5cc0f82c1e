//! Builds the parts that a process's roles need, each from its settings.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use tokio::net::TcpListener;

use crate::{
    app::{
        clock,
        context::{BuildContext, Plans},
        created_files, directory, edge_state,
        gateway::gateway,
        lifecycles::Lifecycles,
        roles::Roles,
    },
    checkout::{self, Checkout, EventDelivery, LedgerLocation, WebhookReceiver},
    edge::{AppState, BoxOfficeState, DemoLogin, EndedVisits, SaleInfo, WaitingRoomState},
    kernel::{Clock, Entropy, OsEntropy, SaleId},
    ops::{
        config::{DatabaseLocation, PerformanceSettings, SaleSettings, Settings},
        plans,
    },
    platform::{
        http_client::TrustStore,
        keys::{self, Keys, MASTER_KEY_BYTES_MIN},
        redis::{Redis, RedisConfig},
        text_file::read_text,
    },
    seating::{self, Plan, Seating},
    shop::{self, ReplayGuardLocation, Shop},
    waiting_room::{self, JournalLocation, PassVerifier, TokenVerifier, WaitingRoom},
};

/// The parts of this process.
pub(super) struct Parts {
    /// Shared by all handlers.
    pub(super) state: Arc<AppState>,
    /// `None` without this role.
    pub(super) waiting_room: Option<WaitingRoomState>,
    /// `None` without this role.
    pub(super) box_office: Option<BoxOfficeState>,
    /// The service's keys.
    pub(super) keys: Keys,
}

/// Builds the parts of this process.
pub(super) async fn build(
    settings: &Settings,
    roles: Roles,
    public: &TcpListener,
    demo: Option<DemoLogin>,
    lifecycles: &Lifecycles,
) -> anyhow::Result<Parts> {
    if roles == Roles::BoxOffice && settings.box_office.waiting_room_urls.is_empty() {
        bail!(
            "box_office.waiting_room_urls: a box office without a waiting room must name one, or admission \
            never learns what is sold"
        );
    }
    let data = &settings.data.dir;
    directory::create(data)?;
    directory::claim(settings, roles)?;
    created_files::check(settings)?;
    let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
    let (keys, clock, shop) = open_keys_and_shop(settings, &entropy, lifecycles).await?;
    let context = BuildContext {
        clock,
        entropy,
        keys,
        lifecycles: lifecycles.clone(),
    };
    let plans = settings
        .sales
        .iter()
        .map(load_plans)
        .collect::<anyhow::Result<Vec<Plans>>>()?;

    let office = if roles.has_box_office() {
        Some(open_box_office(settings, &plans, public, &context).await?)
    } else {
        None
    };
    let rooms = if roles.has_waiting_room() {
        Some(open_waiting_rooms(settings, roles, &context).await?)
    } else {
        None
    };
    let sales = sale_infos(settings, &plans, rooms.as_ref(), demo.as_ref(), &context);
    let state = Arc::new(edge_state::app_state(settings, sales, shop, &context)?);
    let waiting_room = rooms.map(|rooms| WaitingRoomState {
        app: Arc::clone(&state),
        rooms: Arc::new(rooms),
    });
    let box_office = office.map(|(seating, checkout)| BoxOfficeState {
        app: Arc::clone(&state),
        seating,
        checkout,
        ended_visits: EndedVisits::default(),
        health: Arc::default(),
    });
    record_created(settings).await?;
    Ok(Parts {
        state,
        waiting_room,
        box_office,
        keys: context.keys,
    })
}

/// Records what this process and others have created, now that it is complete.
async fn record_created(settings: &Settings) -> anyhow::Result<()> {
    let _setup_lock = directory::setup_lock(&settings.data.dir).await?;
    created_files::record(settings)?;
    if let DatabaseLocation::Postgres(url) = settings.journal_database() {
        keys::record_created_schemas(url.expose()).await?;
    }
    Ok(())
}

/// Opens the keys, the clock and the shop, under the directory's setup lock because keys and shop create
/// missing files. The keys come first: they check the database that the clock reads.
async fn open_keys_and_shop(
    settings: &Settings,
    entropy: &Arc<dyn Entropy>,
    lifecycles: &Lifecycles,
) -> anyhow::Result<(Keys, Arc<dyn Clock>, Arc<Shop>)> {
    let data = &settings.data.dir;
    let _setup_lock = directory::setup_lock(data).await?;
    let keys = open_keys(settings, entropy).await?;
    let clock = clock::open(settings, &lifecycles.background).await?;
    let deps = shop::Deps {
        clock: Arc::clone(&clock),
        entropy: Arc::clone(entropy),
        keys: keys.clone(),
        // Nodes that share a journal share used tokens in its database; the processes of one directory share
        // a file.
        replay_guard: match settings.journal_database() {
            DatabaseLocation::Postgres(url) => ReplayGuardLocation::Postgres {
                url: url.expose().to_owned(),
            },
            DatabaseLocation::Sqlite(_) => ReplayGuardLocation::File(data.join("sessions.db")),
        },
        lifecycle: lifecycles.background.clone(),
    };
    let shop = Shop::open(settings.shop(), deps).await?;
    Ok((keys, clock, shop))
}

/// The sales as the handlers know them. Without a waiting room in this process, passes are verified by their
/// signature.
fn sale_infos(
    settings: &Settings,
    plans: &[Plans],
    rooms: Option<&BTreeMap<SaleId, Arc<WaitingRoom>>>,
    demo: Option<&DemoLogin>,
    context: &BuildContext,
) -> BTreeMap<SaleId, Arc<SaleInfo>> {
    let info = |(sale, plans): (&SaleSettings, &Plans)| {
        let tokens: Arc<dyn TokenVerifier> = match rooms.and_then(|rooms| rooms.get(&sale.id)) {
            Some(room) => Arc::clone(room) as _,
            None => Arc::new(PassVerifier::new(
                sale.id.clone(),
                settings.server.public_base.clone(),
                context.keys.clone(),
                Arc::clone(&context.clock),
            )),
        };
        let info = edge_state::sale_info(sale, plans, tokens, demo.cloned());
        (sale.id.clone(), Arc::new(info))
    };
    settings.sales.iter().zip(plans).map(info).collect()
}

/// The keys, from the data directory, or from the journal's database where nodes share one.
async fn open_keys(settings: &Settings, entropy: &Arc<dyn Entropy>) -> anyhow::Result<Keys> {
    let (file, master) = (created_files::keys_file(settings), master_key(settings)?);
    Ok(match settings.journal_database() {
        DatabaseLocation::Sqlite(_) => Keys::open_or_create(&file, &master, entropy.as_ref())?,
        DatabaseLocation::Postgres(url) => {
            Keys::open_or_create_shared(url.expose(), &file, &master, Arc::clone(entropy)).await?
        }
    })
}

fn load_plans(sale: &SaleSettings) -> anyhow::Result<Plans> {
    let plan = |performance: &PerformanceSettings| {
        let plan = load_plan(sale, performance)?;
        check_prices(sale, performance, &plan)?;
        Ok(Arc::new(plan))
    };
    sale.performances.iter().map(plan).collect()
}

fn load_plan(sale: &SaleSettings, performance: &PerformanceSettings) -> anyhow::Result<Plan> {
    plans::load(&performance.plan).with_context(|| format!("the plan of {} {}", sale.id, performance.id))
}

/// Checks that each zone of the plan has a price, and that each price has a zone.
fn check_prices(sale: &SaleSettings, performance: &PerformanceSettings, plan: &Plan) -> anyhow::Result<()> {
    let zones = || plan.zones().iter().map(String::as_str);
    for (zones, what) in [
        (
            performance.zones_without_price(zones()),
            "no price for the plan's zones",
        ),
        (
            performance.prices_without_zone(zones()),
            "prices for zones that the plan does not have:",
        ),
    ] {
        if !zones.is_empty() {
            let zones = zones.join(", ");
            bail!("sale {}, performance {}: {what} {zones}", sale.id, performance.id);
        }
    }
    Ok(())
}

/// Checks plans and prices against each other without opening a sale. A plan that cannot be read is only
/// named: the configuration may be looked at elsewhere than where its sales are held.
///
/// # Errors
/// A price or a zone lacks the other.
pub fn check_plans(settings: &Settings) -> anyhow::Result<()> {
    for sale in &settings.sales {
        for performance in &sale.performances {
            match load_plan(sale, performance) {
                Ok(plan) => check_prices(sale, performance, &plan)?,
                Err(error) => eprintln!("prices are not checked: {error:#}"),
            }
        }
    }
    Ok(())
}

/// Checks the plans of a sale and that each zone has a price. Returns the number of seats.
pub(super) fn check_sale_plans(sale: &SaleSettings) -> anyhow::Result<usize> {
    Ok(load_plans(sale)?.iter().map(|plan| plan.seat_count()).sum())
}

async fn open_box_office(
    settings: &Settings,
    plans: &[Plans],
    public: &TcpListener,
    context: &BuildContext,
) -> anyhow::Result<(Arc<Seating>, Arc<Checkout>)> {
    let store = match settings.box_office_redis() {
        None => seating::StoreBackend::Memory,
        Some(config) => seating::StoreBackend::Redis(open_redis(config, "box_office.redis.url").await?),
    };
    let performances = settings.sales.iter().zip(plans).flat_map(|(sale, plans)| {
        sale.performances
            .iter()
            .zip(plans)
            .map(|(performance, plan)| (performance.seating(sale), Arc::clone(plan)))
    });
    let lifecycle = context.lifecycles.background.clone();
    let seating_deps = seating::Deps {
        store,
        clock: Arc::clone(&context.clock),
        entropy: Arc::clone(&context.entropy),
        lifecycle: lifecycle.clone(),
    };
    let seating = Seating::open(performances.collect(), seating_deps).await?;
    let checkout_deps = checkout::Deps {
        clock: Arc::clone(&context.clock),
        entropy: Arc::clone(&context.entropy),
        keys: context.keys.clone(),
        ledger: ledger_location(settings),
        node_name: settings.node_name(),
        seats: Arc::clone(&seating) as _,
        gateway: Arc::new(gateway(
            settings,
            public,
            &context.clock,
            &context.entropy,
            &lifecycle,
        )?),
        events: event_delivery(settings, &context.clock)?,
        lifecycle,
        ledger_lifecycle: context.lifecycles.writers.clone(),
    };
    let checkout = Checkout::open(settings.checkout(), checkout_deps).await?;
    Ok((seating, checkout))
}

async fn open_waiting_rooms(
    settings: &Settings,
    roles: Roles,
    context: &BuildContext,
) -> anyhow::Result<BTreeMap<SaleId, Arc<WaitingRoom>>> {
    let backend = match settings.waiting_room_redis() {
        None => waiting_room::StoreBackend::Memory,
        Some(config) => {
            waiting_room::StoreBackend::Redis(open_redis(config, "waiting_room.redis.url").await?)
        }
    };
    let mut rooms = BTreeMap::new();
    for sale in &settings.sales {
        let mut config = sale.waiting_room(&settings.server.public_base);
        config.passes_verified_elsewhere = !roles.has_box_office();
        config.durability = settings.waiting_room.durability;
        config.draw = sale.draw_terms(&context.entropy);
        let deps = waiting_room::Deps {
            clock: Arc::clone(&context.clock),
            entropy: Arc::clone(&context.entropy),
            keys: context.keys.clone(),
            journal: match settings.journal_database() {
                DatabaseLocation::Sqlite(file) => JournalLocation::File(file),
                DatabaseLocation::Postgres(url) => JournalLocation::Postgres {
                    url: url.expose().to_owned(),
                },
            },
            store: backend.clone(),
            node_name: settings.node_name(),
            lifecycle: context.lifecycles.background.clone(),
        };
        let room = waiting_room::open(config, deps).await?;
        if room.metrics().numbers_issued == 0 {
            let reasons = sale.reasons_not_to_begin(context.clock.now());
            if !reasons.is_empty() {
                bail!("sale {} cannot begin: {}", sale.id, reasons.join("; "));
            }
        }
        rooms.insert(sale.id.clone(), room);
    }
    Ok(rooms)
}

/// A Redis that has passed the fitness check; the process does not start on another.
async fn open_redis(config: RedisConfig, key: &'static str) -> anyhow::Result<Redis> {
    let redis = Redis::new(config).with_context(|| format!("{key} (or store.redis.url)"))?;
    redis
        .check_fitness()
        .await
        .with_context(|| format!("{key} (or store.redis.url)"))?;
    Ok(redis)
}

/// How events get to the shop; `None` when no receiver is configured.
fn event_delivery(settings: &Settings, clock: &Arc<dyn Clock>) -> anyhow::Result<Option<EventDelivery>> {
    let receiver = event_receiver(settings, clock)?;
    Ok(receiver.map(|receiver| EventDelivery {
        receiver: Arc::new(receiver),
        timeout: event_timeout(settings),
        requests_max: settings.shop.events.requests_max,
    }))
}

/// The shop's receiver; `None` when none is configured.
pub(super) fn event_receiver(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Option<WebhookReceiver>> {
    let section = &settings.shop.events;
    if section.url.is_empty() {
        return Ok(None);
    }
    let (url, secret) = (&section.url, section.secret.expose());
    let (timeout, trust_store) = (event_timeout(settings), TrustStore::for_url(url));
    let receiver = WebhookReceiver::new(url, secret, timeout, &trust_store, Arc::clone(clock));
    receiver.context("shop.events").map(Some)
}

fn event_timeout(settings: &Settings) -> Duration {
    Duration::from_millis(u64::from(settings.shop.events.timeout_ms))
}

fn ledger_location(settings: &Settings) -> LedgerLocation {
    match settings.ledger_database() {
        DatabaseLocation::Sqlite(file) => LedgerLocation::File(file),
        DatabaseLocation::Postgres(url) => LedgerLocation::Postgres {
            url: url.expose().to_owned(),
        },
    }
}

fn master_key(settings: &Settings) -> anyhow::Result<String> {
    if !settings.keys.master.is_empty() {
        return Ok(settings.keys.master.expose().to_owned());
    }
    let file = &settings.keys.master_file;
    if file.as_os_str().is_empty() {
        bail!(
            "keys.master: the service's keys are stored encrypted under a master key; set \
            STAGEDOOR__KEYS__MASTER or \
             keys.master_file"
        );
    }
    let text =
        read_text(file).with_context(|| format!("keys.master_file: cannot read {}", file.display()))?;
    match text.trim() {
        "" => bail!("keys.master_file: {} is empty", file.display()),
        key if key.len() < MASTER_KEY_BYTES_MIN => bail!(
            "keys.master_file: the key in {} must be at least {MASTER_KEY_BYTES_MIN} bytes long; \
            `openssl rand -base64 32` makes a good one",
            file.display()
        ),
        key => Ok(key.to_owned()),
    }
}

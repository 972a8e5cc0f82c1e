//! The composition root: builds the house from its settings, serves it, drains it. No decisions of any kind.

pub mod audit;
pub mod demo;
mod rounds;

use std::{fs, future::Future, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Semaphore,
};

use crate::{
    checkout::{self, Checkout, gateways::sandbox::SandboxGateway, webhooks::WebhookSecret},
    edge::{
        self, AddressLimits, House, Patience, PerformanceOnOffer, SaleOnOffer,
        cookies::CookieRules,
        limits::{AddressLimit, Rate},
        pages::Pages,
        server::ConnectionLimits,
    },
    kernel::{Clock, Entropy, OsEntropy, SystemClock},
    ops::{
        config::{self, GatewayKind, LogFormat, SaleSettings, Secret, Settings},
        listener::{self, Readiness},
        plans, telemetry,
    },
    platform::{
        keys::{Keys, write_private},
        lifecycle::Lifecycle,
    },
    seating::{self, Seating},
    shop::{self, Shop},
    simulation::sandbox_gateway::{self, SandboxConfig, WebhookTarget},
    waiting_room::{self, WaitingRoom},
};

/// Sockets that are open before anything else is done, so that a taken port is said at once.
pub struct Listeners {
    pub public: TcpListener,
    pub ops: TcpListener,
}

/// Work that begins when the house has opened.
pub type OnOpen = Box<dyn FnOnce(&Lifecycle) + Send>;

/// What the demo adds to a house.
#[derive(Default)]
pub struct Extras {
    pub demo_login: Option<edge::http::sales::DemoLogin>,
    /// Started once the house is open.
    pub on_open: Option<OnOpen>,
}

const ACCEPT_QUEUE: u32 = 16_384;

/// Runs `work` on a runtime of its own.
pub fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    // A soft limit of 1024 files is common and far below what a sale needs; what the machine refuses, it refuses.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?.block_on(work)
}

/// Serves the sales of a configuration until SIGTERM or SIGINT.
pub async fn serve(settings: Settings) -> anyhow::Result<()> {
    if settings.sales.is_empty() {
        bail!("the configuration has no [[sales]]; config/stagedoor.toml shows one");
    }
    let listeners = Listeners { public: listen(settings.server.listen)?, ops: listen(settings.server.ops_listen)? };
    open(settings, listeners, Extras::default()).await
}

/// Opens a socket with a queue long enough for a flash of arrivals.
pub fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.context("cannot make a socket")?;
    socket.set_reuseaddr(true).context("cannot set a socket's options")?;
    socket.bind(address).and_then(|()| socket.listen(ACCEPT_QUEUE)).with_context(|| format!("cannot listen on {address}"))
}

/// Builds, serves and drains the house.
pub async fn open(settings: Settings, listeners: Listeners, extras: Extras) -> anyhow::Result<()> {
    telemetry::start_logs(&settings.log.level, settings.log.format);
    let metrics = telemetry::start_metrics();
    // Two lives: visitors are served to their ends first, then what served them stops.
    let (visitors, background) = (Lifecycle::new(), Lifecycle::new());
    let readiness = Readiness::default();
    let ops_limits = connection_limits(&settings);
    background.spawn(edge::server::serve(
        listeners.ops,
        listener::router(readiness.clone(), metrics.clone()),
        ops_limits,
        background.clone(),
    ));

    let house = build(&settings, &listeners.public, extras.demo_login, &visitors, &background).await?;
    let public = visitors.spawn(edge::server::serve(
        listeners.public,
        edge::router(Arc::clone(&house)),
        connection_limits(&settings),
        visitors.clone(),
    ));
    rounds::keep_house(&house, metrics, &background);
    readiness.set(true);
    tracing::info!(address = %settings.server.public_base, "open");
    if let Some(on_open) = extras.on_open {
        on_open(&background);
    }

    asked_to_stop().await?;
    tracing::info!("stopping: no new visitors, the present ones are served to their ends");
    readiness.set(false);
    visitors.stop();
    let patience = Duration::from_secs(u64::from(settings.server.drain_s));
    if !visitors.drained(patience).await {
        tracing::warn!("some visitors were not served to their ends in time");
    }
    let _ = public.await;
    background.stop();
    if !background.drained(Duration::from_secs(5)).await {
        tracing::warn!("some background work did not end in time; it is taken up at the next start");
    }
    Ok(())
}

/// The sandbox gateway as a process of its own.
pub async fn sandbox_gateway(address: SocketAddr, book_file: PathBuf, webhook_url: Option<String>, secret: Secret) -> anyhow::Result<()> {
    telemetry::start_logs("info", LogFormat::Text);
    let life = Lifecycle::new();
    let listener = listen(address)?;
    let public_url = format!("http://{}", listener.local_addr()?);
    println!("sandbox gateway: {public_url}");
    let webhook = webhook_url.map(|url| webhook_target(&url, &secret)).transpose()?;
    let config = sandbox(book_file, public_url, webhook, Arc::new(SystemClock::new()), Arc::new(OsEntropy));
    let serving = sandbox_gateway::serve(listener, config, life.clone());
    tokio::select! {
        served = serving => served?,
        stopped = asked_to_stop() => stopped?,
    }
    life.stop();
    life.drained(Duration::from_secs(5)).await;
    Ok(())
}

fn sandbox(
    book_file: PathBuf,
    public_url: String,
    webhook: Option<WebhookTarget>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> SandboxConfig {
    SandboxConfig { book_file, public_url, webhook, slow: Duration::from_secs(3), clock, entropy }
}

fn webhook_target(url: &str, secret: &Secret) -> anyhow::Result<WebhookTarget> {
    let url = url.parse().with_context(|| format!("`{url}` is not a URL"))?;
    Ok(WebhookTarget { url, secret: WebhookSecret::new(secret.expose().as_bytes()) })
}

async fn build(
    settings: &Settings,
    public: &TcpListener,
    demo: Option<edge::http::sales::DemoLogin>,
    visitors: &Lifecycle,
    background: &Lifecycle,
) -> anyhow::Result<Arc<House>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
    let data = &settings.data.dir;
    make_private_dir(data).with_context(|| format!("cannot make the data directory {}", data.display()))?;
    claim_directory(settings)?;
    let keys = Keys::open_or_make(&data.join("keys.json"), &master_key(settings)?, entropy.as_ref())?;

    let mut performances = Vec::new();
    for sale in &settings.sales {
        for performance in &sale.performances {
            let plan = plans::load(&performance.plan).with_context(|| format!("the plan of {} {}", sale.id, performance.id))?;
            let unpriced = performance.zones_without_price(plan.zones().iter().map(String::as_str));
            if !unpriced.is_empty() {
                bail!("sale {}, performance {}: no price for the plan's zones {}", sale.id, performance.id, unpriced.join(", "));
            }
            performances.push((performance.seating(sale), Arc::new(plan)));
        }
    }
    let seats = seating::Deps {
        engine: seating::Engine::Memory,
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        life: background.clone(),
    };
    let seating = Seating::open(performances, seats).await?;

    let gateway = gateway(settings, public, &clock, &entropy, background)?;
    let paying = checkout::Deps {
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        keys: keys.clone(),
        ledger_file: data.join("ledger.db"),
        // A file has one node.
        node: "embedded".into(),
        seating: Arc::clone(&seating) as _,
        gateway: Arc::new(gateway),
        announcer: None,
        life: background.clone(),
    };
    let checkout = Checkout::open(settings.checkout(), paying).await?;
    let customers = shop::Deps {
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        keys: keys.clone(),
        revoked_file: data.join("sessions.db"),
        life: background.clone(),
    };
    let shop = Shop::open(settings.shop(), customers).await?;

    let mut sales = std::collections::BTreeMap::new();
    for sale in &settings.sales {
        let door = waiting_room::Deps {
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            keys: keys.clone(),
            journal_file: data.join("queue.db"),
            life: background.clone(),
        };
        let room = WaitingRoom::open(sale.waiting_room(&settings.server.public_base), door).await?;
        sales.insert(sale.id.clone(), Arc::new(on_offer(sale, room, demo.clone())));
    }
    let limit = |count, per| AddressLimit::new(Rate { count, per }, Arc::clone(&clock));
    let (minute, second) = (Duration::from_mins(1), Duration::from_secs(1));
    Ok(Arc::new(House {
        config: edge_config(settings)?,
        cookies: CookieRules { secure: settings.server.public_base.starts_with("https://") },
        sales,
        seating,
        checkout,
        shop,
        pages: Pages::load(),
        public_keys: [keys.pass.jwks(), keys.ticket.jwks()].concat(),
        limits: AddressLimits {
            sign_ins: limit(settings.limits.sign_in_per_address_per_minute, minute),
            joins: limit(settings.limits.joins_per_address_per_minute, minute),
            requests: limit(settings.limits.requests_per_address_per_second, second),
        },
        in_flight: Semaphore::new(settings.server.requests_in_flight_max),
        clock,
        entropy,
        life: visitors.clone(),
    }))
}

fn on_offer(sale: &SaleSettings, room: Arc<WaitingRoom>, demo: Option<edge::http::sales::DemoLogin>) -> SaleOnOffer {
    SaleOnOffer {
        id: sale.id.clone(),
        title: sale.title.clone(),
        artist: sale.artist.clone(),
        sign_in: match sale.sign_in {
            config::SignIn::Customer => edge::SignIn::Customer,
            config::SignIn::None => edge::SignIn::None,
        },
        queueing: match sale.queueing {
            config::Queueing::Fifo => "fifo",
            config::Queueing::FairDraw => "fair_draw",
        },
        prequeue_at: sale.prequeue_at,
        opens_at: sale.opens_at,
        closes_at: sale.closes_at,
        seats_per_fan: sale.seats_per_fan,
        hold: Duration::from_secs(u64::from(sale.hold_s)),
        performances: sale
            .performances
            .iter()
            .map(|it| PerformanceOnOffer { id: it.id.clone(), title: it.title.clone(), venue: it.venue.clone(), starts_at: it.starts_at })
            .collect(),
        demo,
        room,
    }
}

fn edge_config(settings: &Settings) -> anyhow::Result<edge::Config> {
    let server = &settings.server;
    let trusted_proxies = server.trusted_proxies.iter().map(|text| text.parse()).collect::<Result<_, _>>();
    Ok(edge::Config {
        public_base: server.public_base.clone(),
        trusted_proxies: trusted_proxies.map_err(|e: &str| anyhow::anyhow!("server.trusted_proxies: {e}"))?,
        body_bytes_max: server.body_bytes_max,
        body_timeout: Duration::from_millis(u64::from(server.body_timeout_ms)),
        request_timeout: Duration::from_millis(u64::from(server.request_timeout_ms)),
        requests_in_flight_max: server.requests_in_flight_max,
    })
}

fn connection_limits(settings: &Settings) -> ConnectionLimits {
    let server = &settings.server;
    ConnectionLimits {
        connections_max: server.connections_max,
        connections_per_address_max: u32::try_from(server.connections_per_address_max).unwrap_or(u32::MAX),
        header_bytes_max: server.header_bytes_max,
        patience: Patience {
            idle: Duration::from_secs(u64::from(server.idle_timeout_s)),
            head: Duration::from_millis(u64::from(server.header_timeout_ms)),
            stalled: Duration::from_secs(30),
        },
    }
}

/// The books name customers and orders: only the house's own user reads them.
pub fn make_private_dir(dir: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Two processes on one data directory would each believe in a queue of its own.
fn claim_directory(settings: &Settings) -> anyhow::Result<()> {
    let file = settings.data.dir.join("lock");
    let lock = fs::File::create(&file).with_context(|| format!("cannot make {}", file.display()))?;
    if lock.try_lock().is_err() {
        bail!("another process serves the data directory {}", settings.data.dir.display());
    }
    // Held until the process ends, whatever way it ends.
    std::mem::forget(lock);
    Ok(())
}

fn master_key(settings: &Settings) -> anyhow::Result<String> {
    if !settings.keys.master.is_empty() {
        return Ok(settings.keys.master.expose().to_owned());
    }
    let file = &settings.keys.master_file;
    if file.as_os_str().is_empty() {
        bail!("keys.master: the house's keys are sealed under a master key; set STAGEDOOR__KEYS__MASTER or keys.master_file");
    }
    let text = fs::read_to_string(file).with_context(|| format!("keys.master_file: cannot read {}", file.display()))?;
    match text.trim() {
        "" => bail!("keys.master_file: {} is empty", file.display()),
        key => Ok(key.to_owned()),
    }
}

/// The configured gateway, or the built-in sandbox on a port of its own.
fn gateway(
    settings: &Settings,
    public: &TcpListener,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
    background: &Lifecycle,
) -> anyhow::Result<SandboxGateway> {
    let GatewayKind::Sandbox = settings.gateway.kind;
    let deadline = Duration::from_millis(u64::from(settings.checkout.gateway_deadline_ms));
    let secret = &settings.gateway.webhook_secret;
    let url = if settings.gateway.url.is_empty() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let url = format!("http://{}", listener.local_addr()?);
        let port = public.local_addr()?.port();
        let webhook = webhook_target(&format!("http://127.0.0.1:{port}/v1/webhooks/sandbox"), secret)?;
        let book_file = settings.data.dir.join("gateway.db");
        let config = sandbox(book_file, url.clone(), Some(webhook), Arc::clone(clock), Arc::clone(entropy));
        let serving = sandbox_gateway::serve(listener, config, background.clone());
        background.spawn(async move {
            if let Err(e) = serving.await {
                tracing::error!(error = %e, "the sandbox gateway ended");
            }
        });
        url
    } else {
        settings.gateway.url.clone()
    };
    SandboxGateway::new(&url, WebhookSecret::new(secret.expose().as_bytes()), deadline).context("gateway.url")
}

async fn asked_to_stop() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// A secret of 256 bits in a file of its own, made once.
pub fn secret_file(file: &std::path::Path, entropy: &dyn Entropy) -> anyhow::Result<String> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let mut bytes = [0; 32];
            entropy.fill(&mut bytes);
            let text = crate::platform::signing::base64url(&bytes);
            write_private(file, text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))?;
            Ok(text)
        }
        Err(e) => Err(e).with_context(|| format!("cannot read {}", file.display())),
    }
}

//! The house that a crowd comes to: one that is started for it, on either engine, or one that runs somewhere.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use clap::{Args, ValueEnum};
use stagedoor::{
    audit::{DoorSetting, books::Books},
    demo::sandbox_beacon::{self, BeaconConfig, SandboxSigner},
    kernel::{Clock, Entropy, OsEntropy, SaleId, SystemClock, Timestamp},
    platform::signing::hex,
    shop::HandoffConfig,
};
use testkit::{Postgres, RedisServer};

use crate::{
    process::{Folder, Process, Usage, free_port},
    target::{SaleFacts, Target, find_sale},
    wire::Wire,
};

/// The variable that holds the secret of the target's shop.
pub const HANDOFF_SECRET: &str = "STAGEDOOR_HANDOFF_SECRET";

/// What remembers who stands where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// In the process; books in SQLite.
    Memory,
    /// Redis and PostgreSQL, started for the run.
    Redis,
}

impl Engine {
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
        }
    }
}

/// When a join is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// After its commit.
    Journaled,
    /// Once the engine has it; the commit follows.
    Acknowledged,
}

impl Durability {
    pub fn name(self) -> &'static str {
        match self {
            Self::Journaled => "journaled",
            Self::Acknowledged => "acknowledged",
        }
    }
}

/// Who may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SignIn {
    /// Anybody.
    None,
    /// Customers whom the shop hands over, each with a word that it has signed.
    Handoff,
}

/// In which order they go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Queueing {
    /// As they came.
    Fifo,
    /// By a draw, half a minute after the opening; by a beacon of the run's own.
    FairDraw,
}

/// Which house.
#[derive(Args, Clone, Debug)]
pub struct GroundArgs {
    /// A house that runs already, http://HOST:PORT; without it one is started for the run.
    #[arg(long, value_name = "URL")]
    pub target: Option<String>,
    /// Also when the target is another machine.
    #[arg(long)]
    pub allow_remote: bool,
    /// The target's sale, if it has several.
    #[arg(long, value_name = "ID")]
    pub sale: Option<String>,
    /// Where the target keeps its books, so that the auditor can read them: its data directory on this machine.
    #[arg(long, value_name = "DIR")]
    pub books: Option<PathBuf>,
    /// By which name the target's shop hands its customers over (shop.handoff.issuer), where the sale asks for a sign-in; its
    /// secret is read from STAGEDOOR_HANDOFF_SECRET.
    #[arg(long, value_name = "NAME", requires_all = ["target", "handoff_audience"])]
    pub handoff_issuer: Option<String>,
    /// To whom (shop.handoff.audience).
    #[arg(long, value_name = "NAME", requires_all = ["target", "handoff_issuer"])]
    pub handoff_audience: Option<String>,
    /// Who may come to a house that is started.
    #[arg(long, value_enum, default_value_t = SignIn::None)]
    pub sign_in: SignIn,
    /// In which order those who come before the opening go in, in a house that is started.
    #[arg(long, value_enum, default_value_t = Queueing::Fifo)]
    pub queueing: Queueing,
    /// The engine of a house that is started.
    #[arg(long, value_enum, default_value_t = Engine::Memory)]
    pub engine: Engine,
    /// When its joins are answered.
    #[arg(long, value_enum, default_value_t = Durability::Journaled)]
    pub durability: Durability,
    /// Its seats; 500 for a run, 66000 for a flash.
    #[arg(long)]
    pub seats: Option<u32>,
    /// Its entries a minute.
    #[arg(long, value_name = "PER_MINUTE")]
    pub rate: Option<u32>,
    /// Its visitors at once.
    #[arg(long)]
    pub capacity: Option<u32>,
    /// Seconds that its holds last.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub hold: u32,
    /// Cores for the house (as taskset takes them), so that the crowd does not take them away.
    #[arg(long, value_name = "CORES")]
    pub pin: Option<String>,
    /// Where its data are kept after the run; else they go with it.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

impl GroundArgs {
    /// A house that is started for a measurement.
    #[must_use]
    pub fn started(engine: Engine, pin: Option<String>) -> Self {
        Self {
            target: None,
            allow_remote: false,
            sale: None,
            books: None,
            handoff_issuer: None,
            handoff_audience: None,
            sign_in: SignIn::None,
            queueing: Queueing::Fifo,
            engine,
            durability: Durability::Journaled,
            seats: None,
            rate: None,
            capacity: None,
            hold: 30,
            pin,
            data: None,
        }
    }
}

impl GroundArgs {
    fn shop_of_target(&self) -> anyhow::Result<Option<HandoffConfig>> {
        let (Some(issuer), Some(audience)) = (&self.handoff_issuer, &self.handoff_audience) else {
            return Ok(None);
        };
        let secret = std::env::var(HANDOFF_SECRET).ok().filter(|it| !it.is_empty());
        let secret = secret.with_context(|| format!("--handoff-issuer: {HANDOFF_SECRET} is not set"))?;
        Ok(Some(HandoffConfig {
            issuer: issuer.clone(),
            audience: audience.clone(),
            secret,
        }))
    }
}

/// Starts a beacon, and gives what a sale says of it.
async fn drawn_by_a_beacon(now: Timestamp) -> anyhow::Result<String> {
    let chain = format!("{:064x}", OsEntropy.below(u64::MAX));
    let (genesis_at, period_s) = (now.minus(Duration::from_mins(10)), 3);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .context("the beacon's port")?;
    let url = format!("http://{}", listener.local_addr()?);
    let public_key = SandboxSigner::of(&chain).public_key();
    let config = BeaconConfig {
        chain: chain.clone(),
        genesis_at,
        period_s,
        clock: Arc::new(SystemClock::new()),
    };
    tokio::spawn(sandbox_beacon::serve(listener, config));
    Ok(format!(
        "[sales.draw]\nbeacon_url = \"{url}\"\nchain = \"{chain}\"\ngenesis_at = \"{genesis_at}\"\nperiod_s = {period_s}\n\
         public_key = \"{public_key}\"\n"
    ))
}

fn shop_of_the_run() -> HandoffConfig {
    let mut secret = [0; 32];
    OsEntropy.fill(&mut secret);
    HandoffConfig {
        issuer: "the load test's shop".into(),
        audience: "the load test's house".into(),
        secret: hex(&secret),
    }
}

fn handed_over_by(shop: &HandoffConfig) -> String {
    let HandoffConfig {
        issuer,
        audience,
        secret,
    } = shop;
    format!("[shop.handoff]\nissuer = \"{issuer}\"\naudience = \"{audience}\"\nsecret = \"{secret}\"\n")
}

/// The sale of a house that is started.
#[derive(Clone, Debug)]
pub struct Scene {
    pub seats: u32,
    pub rate_per_minute: u32,
    pub capacity: u32,
    pub hold_s: u32,
    pub max_fans: u32,
    pub open_in: Duration,
    pub watchers_max: u32,
}

/// A house, started or found.
pub struct Ground {
    pub target: Target,
    pub facts: SaleFacts,
    pub sale: SaleId,
    /// The shop that hands its customers over.
    pub shop: Option<HandoffConfig>,
    /// Where its books can be read, and by which rules its door went.
    pub books: Option<Books>,
    pub door: Option<DoorSetting>,
    pub hold: Duration,
    pub opens_at: Timestamp,
    pub described: String,
    process: Option<Process>,
    ops: Option<SocketAddr>,
    // Dropped after the house.
    _gateway: Option<Process>,
    _servers: Option<Servers>,
    _folder: Option<Folder>,
}

/// Redis and PostgreSQL of one house.
pub struct Servers {
    pub redis: RedisServer,
    pub postgres: Postgres,
    pub books: String,
}

impl Servers {
    pub async fn start() -> anyhow::Result<Self> {
        let redis = RedisServer::start().await?;
        let postgres = Postgres::start().await?;
        let books = postgres.create_database("loadtest").await?;
        Ok(Self {
            redis,
            postgres,
            books,
        })
    }
}

pub const SALE: &str = "load";
pub const PERFORMANCE: &str = "night";
const RETURNER_SHARE: f64 = 0.2;
/// The sandbox gateway's and the house's secret for webhooks of a run on this machine.
pub const WEBHOOK_SECRET: &str = "whsec_dGhlIGdhdGV3YXkncyBvd24gc2VjcmV0IGZvciB0ZXN0cw==";

impl Ground {
    /// Starts a house, or finds the one that is meant.
    pub async fn prepare(args: &GroundArgs, scene: &Scene) -> anyhow::Result<Self> {
        match &args.target {
            Some(_) => Self::found_at(args).await,
            None => Self::started(args, scene).await,
        }
    }

    /// Finds the house that is named.
    pub async fn found_at(args: &GroundArgs) -> anyhow::Result<Self> {
        let url = args.target.as_deref().context("--target: which house?")?;
        let target = Target::parse(url, args.allow_remote)?;
        let wire = Wire::new(target.address, &target.authority, 1, Duration::from_secs(10));
        let facts = find_sale(&wire, args.sale.as_deref()).await?;
        let now = SystemClock::new().now();
        Ok(Self {
            sale: facts
                .id
                .parse()
                .with_context(|| format!("{url}: a sale named {:?}", facts.id))?,
            described: format!("{url}, sale {}", facts.id),
            shop: args.shop_of_target()?,
            facts,
            target,
            books: args.books.as_deref().map(Books::in_folder),
            door: None,
            hold: Duration::from_secs(u64::from(args.hold)),
            opens_at: now,
            process: None,
            ops: None,
            _gateway: None,
            _servers: None,
            _folder: None,
        })
    }

    async fn started(args: &GroundArgs, scene: &Scene) -> anyhow::Result<Self> {
        let folder = match &args.data {
            Some(dir) => Folder::kept(dir)?,
            None => Folder::fresh()?,
        };
        let (public, ops) = (free_port()?, free_port()?);
        let mut extra = in_memory(args.durability);
        let (mut gateway, mut servers) = (None, None);
        let mut books = Books::in_folder(&folder.path.join("data"));
        if args.engine == Engine::Redis {
            let started = Servers::start().await?;
            let port = free_port()?;
            let listen = format!("127.0.0.1:{port}");
            let book = folder.path.join("gateway.db");
            let webhooks = format!("http://127.0.0.1:{public}/v1/webhooks/sandbox");
            let text = book.display().to_string();
            gateway = Some(Process::start(
                "the gateway",
                &["gateway", &listen, &text, &webhooks],
                None,
            )?);
            extra = on_redis(
                &started.redis.url(),
                &started.books,
                args.durability,
                &format!("http://{listen}"),
            );
            books.journal = started.books.parse().context("the journal's address")?;
            books.ledger = started.books.parse().context("the ledger's address")?;
            books.gateway = Some(book);
            servers = Some(started);
        }
        let now = SystemClock::new().now();
        let opens_at = now.plus(scene.open_in);
        let file = folder.path.join("house.toml");
        let (mut sale, mut shop) = (sale_config(SALE, scene, now, opens_at), None);
        if args.sign_in == SignIn::Handoff {
            sale = sale.replace("sign_in = \"none\"", "sign_in = \"customer\"");
            extra += &handed_over_by(shop.insert(shop_of_the_run()));
        }
        if args.queueing == Queueing::FairDraw {
            sale = sale.replace("sign_in =", "queueing = \"fair_draw\"\nsign_in =");
            sale = sale.replace(
                "[[sales.performances]]",
                &(drawn_by_a_beacon(now).await? + "[[sales.performances]]"),
            );
        }
        let text = house_config(&folder, public, ops, &extra) + &sale;
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        let mut process = start_house(&file, args.pin.as_deref())?;
        process
            .until_ready(
                &Wire::new(
                    SocketAddr::from(([127, 0, 0, 1], ops)),
                    "ops",
                    1,
                    Duration::from_secs(2),
                ),
                "/health/ready",
            )
            .await?;
        let target = Target {
            address: SocketAddr::from(([127, 0, 0, 1], public)),
            authority: format!("127.0.0.1:{public}"),
        };
        let facts = find_sale(
            &Wire::new(target.address, &target.authority, 1, Duration::from_secs(10)),
            Some(SALE),
        )
        .await?;
        if books.gateway.is_none() {
            let book = folder.path.join("data").join("gateway.db");
            books.gateway = Some(book).filter(|it| it.exists());
        }
        Ok(Self {
            sale: SALE.parse().context("our own sale's name")?,
            described: format!(
                "{} engine, joins {}{}{}, {} seats, {} entries a minute, {} at once",
                args.engine.name(),
                args.durability.name(),
                if shop.is_some() {
                    " after a hand-off from the shop"
                } else {
                    ""
                },
                if args.queueing == Queueing::FairDraw {
                    ", a fair draw"
                } else {
                    ""
                },
                scene.seats,
                scene.rate_per_minute,
                scene.capacity
            ),
            shop,
            facts,
            target,
            books: Some(books),
            door: Some(DoorSetting {
                from: Timestamp::default(),
                capacity: scene.capacity,
                rate_per_minute: scene.rate_per_minute,
                burst: scene.rate_per_minute.div_ceil(60).max(1),
            }),
            hold: Duration::from_secs(u64::from(scene.hold_s)),
            opens_at,
            process: Some(process),
            ops: Some(SocketAddr::from(([127, 0, 0, 1], ops))),
            _gateway: gateway,
            _servers: servers,
            _folder: Some(folder),
        })
    }

    pub fn returner_share(&self) -> f64 {
        RETURNER_SHARE
    }

    /// How the house ended, if it is ours and has.
    pub fn ended(&mut self) -> Option<String> {
        self.process.as_mut().and_then(Process::ended)
    }

    /// What the house uses, if it is ours.
    pub fn usage(&self) -> Option<Usage> {
        self.process.as_ref().and_then(|it| Usage::of(it.pid()))
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The private listener, if the house is ours.
    pub fn ops(&self) -> Option<SocketAddr> {
        self.ops
    }
}

/// A process that serves this configuration.
pub fn start_house(config: &std::path::Path, cores: Option<&str>) -> anyhow::Result<Process> {
    let file = config.display().to_string();
    Process::start("the house", &["serve", &file], cores)
}

/// Everything but sales; nobody is limited by her address, as one machine plays the whole world.
pub fn house_config(folder: &Folder, public: u16, ops: u16, more: &str) -> String {
    let dir = folder.path.display();
    let gateway = if more.contains("[gateway]") {
        String::new()
    } else {
        format!("[gateway]\nwebhook_secret = \"{WEBHOOK_SECRET}\"\n")
    };
    format!(
        "[server]\nlisten = \"127.0.0.1:{public}\"\nops_listen = \"127.0.0.1:{ops}\"\npublic_base = \"http://127.0.0.1:{public}\"\n\
         shutdown_notice_ms = 0\nconnections_max = 40000\nconnections_per_ip_max = 0\n\
         [data]\ndir = \"{dir}/data\"\n[keys]\nmaster = \"only for this load test\"\n[log]\nlevel = \"warn\"\n\
         [limits]\nsign_in_per_ip_per_minute = 0\njoins_per_ip_per_minute = 0\nrequests_per_ip_per_second = 0\n\
         [shop]\ndatabase_url = \"sqlite:{dir}/shop.db\"\n\
         [checkout]\ngateway_timeout_ms = 5000\npayment_timeout_s = 10\n{gateway}{more}"
    )
}

/// The engine of [`Engine::Memory`].
pub fn in_memory(durability: Durability) -> String {
    format!("[waiting_room]\ndurability = \"{}\"\n", durability.name())
}

/// The engine of [`Engine::Redis`].
pub fn on_redis(redis: &str, books: &str, durability: Durability, gateway: &str) -> String {
    format!(
        "[store]\nkind = \"redis\"\n[store.redis]\nurl = \"{redis}\"\ncommand_timeout_ms = 2000\n[waiting_room]\ndurability = \"{}\"\n\
         [ledger]\nurl = \"{books}\"\n[gateway]\nurl = \"{gateway}\"\nwebhook_secret = \"{WEBHOOK_SECRET}\"\n",
        durability.name()
    )
}

/// One sale with one performance, which asks nobody who she is.
pub fn sale_config(id: &str, scene: &Scene, prequeue_at: Timestamp, opens_at: Timestamp) -> String {
    let closes_at = opens_at.plus(Duration::from_hours(3));
    let Scene {
        seats,
        rate_per_minute,
        capacity,
        hold_s,
        max_fans,
        watchers_max,
        ..
    } = scene;
    let kind = match seats {
        0..3_000 => "theatre",
        3_000..30_000 => "arena",
        _ => "stadium",
    };
    format!(
        "[[sales]]\nid = \"{id}\"\ntitle = {{ en = \"Load\" }}\nartist = \"Nobody\"\nsign_in = \"none\"\nprequeue_at = \"{prequeue_at}\"\n\
         opens_at = \"{opens_at}\"\ncloses_at = \"{closes_at}\"\nadmission_rate_per_minute = {rate_per_minute}\nactive_visits_max = {capacity}\n\
         call_window_s = 30\nlate_arrival_share = {RETURNER_SHARE}\nvisit_max_s = 7200\nqueue_entries_max = {max_fans}\nstatus_streams_max = {watchers_max}\n\
         seats_per_customer_max = 4\nhold_ttl_s = {hold_s}\n\
         [[sales.performances]]\nid = \"{PERFORMANCE}\"\ntitle = {{ en = \"Night\" }}\nstarts_at = \"{closes_at}\"\nvenue = \"Hall\"\n\
         plan = \"generate:{kind}:{seats}\"\nprices = {{ VIP = 4, R = 3, S = 2, A = 1 }}\n"
    )
}

//! The house that a crowd comes to: one that is started for it, on either engine, or one that runs somewhere.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use stagedoor::{
    kernel::{Clock, SaleId, SystemClock, Timestamp},
    simulation::{
        auditor::{DoorSetting, books::Books},
        servers::{Postgres, RedisServer},
    },
};

use crate::{
    process::{Folder, Process, Usage, free_port},
    target::{SaleFacts, Target, find_sale},
    wire::Wire,
};

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
    /// Once Redis has it; the commit follows.
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
    /// The engine of a house that is started.
    #[arg(long, value_enum, default_value_t = Engine::Memory)]
    pub engine: Engine,
    /// When its joins are answered; `acknowledged` needs redis.
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
        Ok(Self { redis, postgres, books })
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
        if facts.sign_in != "none" {
            bail!("{url}: sale {} asks for a sign-in; a crowd has no accounts: aim at a sale with sign_in = \"none\"", facts.id);
        }
        let now = SystemClock::new().now();
        Ok(Self {
            sale: facts.id.parse().with_context(|| format!("{url}: a sale named {:?}", facts.id))?,
            described: format!("{url}, sale {}", facts.id),
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
        if args.durability == Durability::Acknowledged && args.engine == Engine::Memory {
            bail!("--durability acknowledged: only with --engine redis; what the memory engine has acknowledged would go with its process");
        }
        let folder = match &args.data {
            Some(dir) => Folder::kept(dir)?,
            None => Folder::fresh()?,
        };
        let (public, ops) = (free_port()?, free_port()?);
        let mut extra = String::new();
        let (mut gateway, mut servers) = (None, None);
        let mut books = Books::in_folder(&folder.path.join("data"));
        if args.engine == Engine::Redis {
            let started = Servers::start().await?;
            let port = free_port()?;
            let listen = format!("127.0.0.1:{port}");
            let book = folder.path.join("gateway.db");
            let webhooks = format!("http://127.0.0.1:{public}/v1/webhooks/sandbox");
            let text = book.display().to_string();
            gateway = Some(Process::start("the gateway", &["gateway", &listen, &text, &webhooks], None)?);
            extra = on_redis(&started.redis.url(), &started.books, args.durability, &format!("http://{listen}"));
            books.journal = started.books.parse().context("the journal's address")?;
            books.ledger = started.books.parse().context("the ledger's address")?;
            books.gateway = Some(book);
            servers = Some(started);
        }
        let now = SystemClock::new().now();
        let opens_at = now.plus(scene.open_in);
        let file = folder.path.join("house.toml");
        let text = house_config(&folder, public, ops, &extra) + &sale_config(SALE, scene, now, opens_at);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        let mut process = start_house(&file, args.pin.as_deref())?;
        process.until_ready(&Wire::new(SocketAddr::from(([127, 0, 0, 1], ops)), "ops", 1, Duration::from_secs(2)), "/health/ready").await?;
        let target = Target { address: SocketAddr::from(([127, 0, 0, 1], public)), authority: format!("127.0.0.1:{public}") };
        let facts = find_sale(&Wire::new(target.address, &target.authority, 1, Duration::from_secs(10)), Some(SALE)).await?;
        if books.gateway.is_none() {
            let book = folder.path.join("data").join("gateway.db");
            books.gateway = Some(book).filter(|it| it.exists());
        }
        Ok(Self {
            sale: SALE.parse().context("our own sale's name")?,
            described: format!(
                "{} engine, joins {}, {} seats, {} entries a minute, {} at once",
                args.engine.name(),
                args.durability.name(),
                scene.seats,
                scene.rate_per_minute,
                scene.capacity
            ),
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
    let gateway = if more.contains("[gateway]") { String::new() } else { format!("[gateway]\nwebhook_secret = \"{WEBHOOK_SECRET}\"\n") };
    format!(
        "[server]\nlisten = \"127.0.0.1:{public}\"\nops_listen = \"127.0.0.1:{ops}\"\npublic_base = \"http://127.0.0.1:{public}\"\n\
         lame_duck_ms = 0\nconnections_max = 40000\nconnections_per_address_max = 0\n\
         [data]\ndir = \"{dir}/data\"\n[keys]\nmaster = \"only for this load test\"\n[log]\nlevel = \"warn\"\n\
         [limits]\nsign_in_per_address_per_minute = 0\njoins_per_address_per_minute = 0\nrequests_per_address_per_second = 0\n\
         [shop]\ndatabase_url = \"sqlite:{dir}/shop.db\"\n\
         [checkout]\ngateway_deadline_ms = 5000\nauthorise_within_s = 10\n{gateway}{more}"
    )
}

/// The engine of [`Engine::Redis`].
pub fn on_redis(redis: &str, books: &str, durability: Durability, gateway: &str) -> String {
    format!(
        "[engine]\nkind = \"redis\"\n[engine.redis]\nurl = \"{redis}\"\ncall_deadline_ms = 2000\n[waiting_room]\ndurability = \"{}\"\n\
         [ledger]\nurl = \"{books}\"\n[gateway]\nurl = \"{gateway}\"\nwebhook_secret = \"{WEBHOOK_SECRET}\"\n",
        durability.name()
    )
}

/// One sale with one performance, which asks nobody who she is.
pub fn sale_config(id: &str, scene: &Scene, prequeue_at: Timestamp, opens_at: Timestamp) -> String {
    let closes_at = opens_at.plus(Duration::from_hours(3));
    let Scene { seats, rate_per_minute, capacity, hold_s, max_fans, watchers_max, .. } = scene;
    let kind = match seats {
        0..3_000 => "theatre",
        3_000..30_000 => "arena",
        _ => "stadium",
    };
    format!(
        "[[sales]]\nid = \"{id}\"\ntitle = {{ en = \"Load\" }}\nartist = \"Nobody\"\nsign_in = \"none\"\nprequeue_at = \"{prequeue_at}\"\n\
         opens_at = \"{opens_at}\"\ncloses_at = \"{closes_at}\"\nrate_per_minute = {rate_per_minute}\ncapacity = {capacity}\n\
         call_window_s = 30\nreturner_share = {RETURNER_SHARE}\nvisit_max_s = 7200\nmax_fans = {max_fans}\nboard_watchers_max = {watchers_max}\n\
         seats_per_fan = 4\nhold_s = {hold_s}\n\
         [[sales.performances]]\nid = \"{PERFORMANCE}\"\ntitle = {{ en = \"Night\" }}\nstarts_at = \"{closes_at}\"\nvenue = \"Hall\"\n\
         plan = \"generate:{kind}:{seats}\"\nprices = {{ VIP = 4, R = 3, S = 2, A = 1 }}\n"
    )
}

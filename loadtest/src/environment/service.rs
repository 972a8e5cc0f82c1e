//! A service under test: started for the run, or found.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use stagedoor::{
    audit::{AdmissionSettings, databases::Databases},
    demo::{
        client::messages::SaleInfo,
        sandbox_beacon::{self, BeaconConfig, SandboxSigner},
    },
    kernel::{Clock, Entropy, OsEntropy, SaleId, SystemClock, Timestamp},
    platform::signing::hex,
    shop::HandoffIssuer,
};

use super::{
    args::{Backend, QueueOrder, ServiceArgs, SignIn},
    config_file::{self, LATE_ARRIVAL_SHARE, SALE, SaleSpec},
    servers::BackendServers,
};
use crate::{
    http1::Http1Client,
    process::{DataFolder, Process, Usage, free_port, own_program},
    target::{Target, find_sale},
};

/// The timeout of requests that prepare a run.
const TIMEOUT: Duration = Duration::from_secs(10);
const BEACON_PERIOD_S: u32 = 3;

/// A service, its sale, and what the auditor needs to know of it.
pub struct Service {
    /// The public listener.
    pub target: Target,
    /// The sale as the service publishes it.
    pub sale: SaleInfo,
    /// The sale's identifier.
    pub sale_id: SaleId,
    /// The shop that hands customers over, if the sale requires a sign-in.
    pub shop: Option<HandoffIssuer>,
    /// The databases that the auditor reads, where they are on this machine.
    pub databases: Option<Databases>,
    /// The admission settings that the auditor checks against, where they are known.
    pub admission: Option<AdmissionSettings>,
    /// How long a hold lasts.
    pub hold_ttl: Duration,
    /// One line for results.
    pub description: String,
    process: Option<Process>,
    admin: Option<SocketAddr>,
    // Fields drop in order: the service stops before its gateway, servers and folder.
    _gateway: Option<Process>,
    _servers: Option<BackendServers>,
    _folder: Option<DataFolder>,
}

impl Service {
    /// Finds the target, or starts a service.
    ///
    /// # Errors
    /// It does not answer, or does not start.
    pub async fn prepare(args: &ServiceArgs, spec: &SaleSpec) -> anyhow::Result<Self> {
        match &args.target {
            Some(_) => Self::find(args).await,
            None => Self::start(args, spec).await,
        }
    }

    /// Finds the service at `--target`.
    ///
    /// # Errors
    /// It does not answer, is no stagedoor, or has no such sale.
    pub async fn find(args: &ServiceArgs) -> anyhow::Result<Self> {
        let url = args.target.as_deref().context("--target: is missing")?;
        let target = Target::parse(url, args.allow_remote)?;
        let client = Http1Client::new(target.address, &target.authority, 1, TIMEOUT);
        let sale = find_sale(&client, args.sale.as_deref()).await?;
        Ok(Self {
            sale_id: sale
                .id
                .parse()
                .with_context(|| format!("{url}: the sale name {:?}", sale.id))?,
            description: format!("{url}, sale {}", sale.id),
            shop: args.target_shop()?,
            sale,
            target,
            databases: args.target_data.as_deref().map(Databases::in_folder),
            admission: None,
            hold_ttl: Duration::from_secs(u64::from(args.hold_ttl)),
            process: None,
            admin: None,
            _gateway: None,
            _servers: None,
            _folder: None,
        })
    }

    async fn start(args: &ServiceArgs, spec: &SaleSpec) -> anyhow::Result<Self> {
        let folder = match &args.data {
            Some(dir) => DataFolder::kept(dir)?,
            None => DataFolder::temporary()?,
        };
        let (public_port, admin_port) = (free_port()?, free_port()?);
        let mut backend = start_backend(args, &folder, public_port).await?;
        let shop = (args.sign_in == SignIn::Handoff).then(new_shop);
        let file = folder.path.join("stagedoor.toml");
        let mut more = std::mem::take(&mut backend.config);
        more += &shop.as_ref().map(config_file::handoff).unwrap_or_default();
        let config = config_file::service_config(&folder, public_port, admin_port, &more);
        let sale = sale_with_options(args, spec, SystemClock::new().now()).await?;
        fs::write(&file, config + &sale).with_context(|| format!("cannot write {}", file.display()))?;

        let mut process = start_service(&own_program()?, &file, args.pin.as_deref())?;
        let admin = SocketAddr::from(([127, 0, 0, 1], admin_port));
        let admin_client = Http1Client::new(admin, "admin", 1, Duration::from_secs(2));
        process.wait_until_ready(&admin_client, "/health/ready").await?;
        let target = Target {
            address: SocketAddr::from(([127, 0, 0, 1], public_port)),
            authority: format!("127.0.0.1:{public_port}"),
        };
        let client = Http1Client::new(target.address, &target.authority, 1, TIMEOUT);
        let sale = find_sale(&client, Some(SALE)).await?;
        if backend.databases.gateway.is_none() {
            let built_in = folder.path.join("data").join("gateway.db");
            backend.databases.gateway = Some(built_in).filter(|file| file.exists());
        }
        Ok(Self {
            sale_id: SALE.parse().context("the load test's sale name")?,
            description: describe(args, spec),
            shop,
            sale,
            target,
            databases: Some(backend.databases),
            admission: Some(AdmissionSettings {
                from: Timestamp::default(),
                active_visits_max: spec.active_visits_max,
                rate_per_minute: spec.admission_rate_per_minute,
                burst: spec.admission_rate_per_minute.div_ceil(60).max(1),
            }),
            hold_ttl: Duration::from_secs(u64::from(spec.hold_ttl_s)),
            process: Some(process),
            admin: Some(admin),
            _gateway: backend.gateway,
            _servers: backend.servers,
            _folder: Some(folder),
        })
    }

    /// The share of active visits that late arrivals may use.
    pub fn late_arrival_share(&self) -> f64 {
        LATE_ARRIVAL_SHARE
    }

    /// How the service ended, if this run started it and it has.
    pub fn ended(&mut self) -> Option<String> {
        self.process.as_mut().and_then(Process::ended)
    }

    /// The memory and CPU time of the service, if this run started it.
    pub fn usage(&self) -> Option<Usage> {
        self.process.as_ref().and_then(|process| Usage::of(process.pid()))
    }

    /// The process id of the service, if this run started it.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The admin listener, if this run started the service.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }
}

/// Starts the service of a build of `loadtest` with this configuration, on these CPU cores.
///
/// # Errors
/// The process cannot be started.
pub fn start_service(program: &Path, config: &Path, cores: Option<&str>) -> anyhow::Result<Process> {
    let file = config.display().to_string();
    Process::start_program(program, "the service", &["serve", &file], cores)
}

/// Starts a sandbox gateway that keeps its statement in `folder`; its URL.
///
/// # Errors
/// The process cannot be started.
pub fn start_gateway(folder: &DataFolder, public_port: u16) -> anyhow::Result<(String, Process)> {
    let address = format!("127.0.0.1:{}", free_port()?);
    let file = gateway_file(folder).display().to_string();
    let webhooks = format!("http://127.0.0.1:{public_port}/v1/webhooks/sandbox");
    let gateway = Process::start("the gateway", &["gateway", &address, &file, &webhooks], None)?;
    Ok((format!("http://{address}"), gateway))
}

fn gateway_file(folder: &DataFolder) -> PathBuf {
    folder.path.join("gateway.db")
}

/// What a service needs before it starts.
struct StartedBackend {
    config: String,
    databases: Databases,
    gateway: Option<Process>,
    servers: Option<BackendServers>,
}

async fn start_backend(
    args: &ServiceArgs,
    folder: &DataFolder,
    public_port: u16,
) -> anyhow::Result<StartedBackend> {
    let mut databases = Databases::in_folder(&folder.path.join("data"));
    if args.backend == Backend::Embedded {
        let config = config_file::embedded(args.durability);
        return Ok(StartedBackend {
            config,
            databases,
            gateway: None,
            servers: None,
        });
    }
    let servers = BackendServers::start().await?;
    let (gateway_url, gateway) = start_gateway(folder, public_port)?;
    let config = config_file::redis_postgresql(
        &servers.redis.url(),
        &servers.database_url,
        args.durability,
        &gateway_url,
    );
    databases.journal = servers.database_url.parse().context("the journal's URL")?;
    databases.ledger = servers.database_url.parse().context("the ledger's URL")?;
    databases.gateway = Some(gateway_file(folder));
    Ok(StartedBackend {
        config,
        databases,
        gateway: Some(gateway),
        servers: Some(servers),
    })
}

/// The sale's configuration with the sign-in and the queue order that the command line asks for.
async fn sale_with_options(args: &ServiceArgs, spec: &SaleSpec, now: Timestamp) -> anyhow::Result<String> {
    let mut sale = config_file::sale(SALE, spec, now, now.plus(spec.open_in));
    if args.sign_in == SignIn::Handoff {
        sale = sale.replace("sign_in = \"none\"", "sign_in = \"customer\"");
    }
    if args.queue_order == QueueOrder::FairDraw {
        sale = sale.replace("sign_in =", "queue_order = \"fair_draw\"\nsign_in =");
        let draw = start_beacon(now).await?;
        sale = sale.replace("[[sales.performances]]", &(draw + "[[sales.performances]]"));
    }
    Ok(sale)
}

/// Starts a sandbox beacon in this process; the sale's draw settings.
async fn start_beacon(now: Timestamp) -> anyhow::Result<String> {
    let chain = format!("{:064x}", OsEntropy.below(u64::MAX));
    let genesis_at = now.minus(Duration::from_mins(10));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .context("the beacon's port")?;
    let url = format!("http://{}", listener.local_addr()?);
    let public_key = SandboxSigner::of(&chain).public_key();
    let config = BeaconConfig {
        chain: chain.clone(),
        genesis_at,
        period_s: BEACON_PERIOD_S,
        clock: Arc::new(SystemClock::new()),
    };
    tokio::spawn(sandbox_beacon::serve(listener, config));
    Ok(format!(
        "[sales.draw]\nbeacon_url = \"{url}\"\nchain = \"{chain}\"\ngenesis_at = \"{genesis_at}\"\n\
         period_s = {BEACON_PERIOD_S}\npublic_key = \"{public_key}\"\n"
    ))
}

fn new_shop() -> HandoffIssuer {
    let mut secret = [0; 32];
    OsEntropy.fill(&mut secret);
    HandoffIssuer {
        issuer: "the load test's shop".into(),
        audience: "the load test's service".into(),
        secret: hex(&secret),
    }
}

fn describe(args: &ServiceArgs, spec: &SaleSpec) -> String {
    let sign_in = if args.sign_in == SignIn::Handoff {
        " after a hand-off from the shop"
    } else {
        ""
    };
    let order = if args.queue_order == QueueOrder::FairDraw {
        ", a fair draw"
    } else {
        ""
    };
    format!(
        "{} backend, joins {}{sign_in}{order}, {} seats, {} admissions a minute, {} active visits",
        args.backend.name(),
        args.durability.name(),
        spec.seats,
        spec.admission_rate_per_minute,
        spec.active_visits_max
    )
}

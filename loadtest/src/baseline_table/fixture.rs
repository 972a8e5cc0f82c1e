//! A service with one sale for each purpose, and the baseline server beside it.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use stagedoor::{
    demo::client::{Reply, messages::QueueEntry, paths},
    kernel::{Clock, SystemClock},
};

use super::{
    paired::{CONNECTIONS_MAX, Server, Side, WORKERS},
    prefill,
};
use crate::{
    environment::{
        Backend, BackendServers, Durability, SaleSpec, VISIT_MAX_S, config_file, start_gateway, start_service,
    },
    http1::{Http1Client, HttpRequest},
    process::{DataFolder, Process, Usage, free_port, own_program},
};

/// A sale in its prequeue that stays nearly empty.
pub(crate) const EMPTY: &str = "empty";
/// A sale in its prequeue that was declared for a million visitors.
pub(crate) const DECLARED: &str = "declared";
/// A sale in its prequeue for the long queue.
pub(crate) const FOURFOLD: &str = "fourfold";
/// A sale that is on.
pub(crate) const OPEN: &str = "open";

/// A running service and its baseline server.
pub(crate) struct Fixture {
    // Fields drop in order: processes stop before the servers and the folder that they use.
    _service_process: Process,
    _baseline_process: Process,
    _gateway: Option<Process>,
    pub(crate) backend: Backend,
    pub(crate) durability: Durability,
    pub(crate) service: Server,
    pub(crate) baseline: Server,
    pub(crate) admin: SocketAddr,
    pub(crate) servers: Option<Arc<BackendServers>>,
    folder: Arc<DataFolder>,
    /// From the start of the service until it was ready, with its journal replayed.
    pub(crate) ready_after: Duration,
}

const TIMEOUT: Duration = Duration::from_secs(10);
/// An idle service stops shedding load within this time.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_POLL_INTERVAL: Duration = Duration::from_millis(200);

impl Fixture {
    /// Starts a service and its baseline.
    pub(crate) async fn open(
        backend: Backend,
        durability: Durability,
        servers: Option<BackendServers>,
    ) -> anyhow::Result<Self> {
        Self::open_program(&own_program()?, backend, durability, servers).await
    }

    /// The same with the service of another build of `loadtest`.
    pub(crate) async fn open_program(
        program: &Path,
        backend: Backend,
        durability: Durability,
        servers: Option<BackendServers>,
    ) -> anyhow::Result<Self> {
        let folder = Arc::new(DataFolder::temporary()?);
        Self::start(program, backend, durability, servers.map(Arc::new), folder).await
    }

    /// Restarts with the same data and another durability.
    pub(crate) async fn reopen(self, durability: Durability) -> anyhow::Result<Self> {
        let (backend, servers, folder) = (self.backend, self.servers.clone(), Arc::clone(&self.folder));
        drop(self);
        Self::start(&own_program()?, backend, durability, servers, folder).await
    }

    /// Another service in one of whose sales so many customers wait, and the memory of its store without
    /// them.
    pub(crate) async fn with_waiting(&self, sale: &str, fans: u32) -> anyhow::Result<(Self, u64)> {
        let servers = match self.backend {
            Backend::Embedded => None,
            Backend::RedisPostgresql => Some(BackendServers::start().await?),
        };
        // The first start creates the databases; the second replays what is written into them in between.
        let first = Self::open(self.backend, self.durability, servers).await?;
        let empty_bytes = first.used_bytes().await?;
        let (servers, folder) = (first.servers.clone(), Arc::clone(&first.folder));
        drop(first);
        let database_url = servers.as_ref().map(|servers| servers.database_url.as_str());
        prefill::write_joins(&folder.path, database_url, sale, u64::from(fans)).await?;
        if let Some(servers) = &servers {
            // The store of the first start contradicts the journal now; it is rebuilt from the journal.
            servers.redis.flush_all().await?;
        }
        Ok((
            Self::start(&own_program()?, self.backend, self.durability, servers, folder).await?,
            empty_bytes,
        ))
    }

    async fn start(
        program: &Path,
        backend: Backend,
        durability: Durability,
        servers: Option<Arc<BackendServers>>,
        folder: Arc<DataFolder>,
    ) -> anyhow::Result<Self> {
        let (public_port, admin_port) = (free_port()?, free_port()?);
        let (store, gateway) = match &servers {
            Some(servers) => {
                let (url, gateway) = start_gateway(&folder, public_port)?;
                let store = config_file::redis_postgresql(
                    &servers.redis.url(),
                    &servers.database_url,
                    durability,
                    &url,
                );
                (store, Some(gateway))
            }
            None => (config_file::embedded(durability), None),
        };
        let file = folder.path.join("fixture.toml");
        let config = config_file::service_config(&folder, public_port, admin_port, &store);
        fs::write(&file, config + &sales()).with_context(|| format!("cannot write {}", file.display()))?;
        let clock = SystemClock::new();
        let mut service_process = start_service(program, &file, None)?;
        let admin = SocketAddr::from(([127, 0, 0, 1], admin_port));
        let admin_client = Http1Client::new(admin, "admin", 1, TIMEOUT);
        service_process
            .wait_until_ready(&admin_client, "/health/ready")
            .await?;
        let ready_after = clock.monotonic();
        let redis_url = servers
            .as_ref()
            .map(|servers| servers.redis.url())
            .unwrap_or_default();
        let (baseline_process, baseline) = start_baseline(&redis_url).await?;
        Ok(Self {
            backend,
            durability,
            service: local_server(public_port, service_process.pid()),
            baseline,
            admin,
            servers,
            folder,
            ready_after,
            _service_process: service_process,
            _baseline_process: baseline_process,
            _gateway: gateway,
        })
    }

    /// The bare route with as many bytes as `side` is answered, heads included, by the same method.
    pub(crate) async fn bare(&self, side: &Side) -> anyhow::Result<Side> {
        self.with_as_many_bytes(side, "/bare").await
    }

    /// The same from a route whose bytes were made beforehand.
    pub(crate) async fn prepared_bytes(&self, side: &Side) -> anyhow::Result<Side> {
        self.with_as_many_bytes(side, "/bytes").await
    }

    async fn with_as_many_bytes(&self, side: &Side, route: &str) -> anyhow::Result<Side> {
        let reply = Self::first_accepted(side).await?;
        let is_post = side.requests[0].starts_with(b"POST");
        let of = |path: &str| {
            if is_post {
                Side::post(&self.baseline, path)
            } else {
                Side::get(&self.baseline, path)
            }
        };
        let sample = of(&format!("{route}/100"));
        let sample = self
            .baseline
            .client
            .send_bytes(&sample.requests[0])
            .await
            .context("the baseline")?;
        let head_bytes = sample.wire_bytes - sample.body.len();
        Ok(of(&format!(
            "{route}/{}",
            reply.wire_bytes.saturating_sub(head_bytes)
        )))
    }

    /// The first reply to the side's request that is not shed. The measurement before may have made the
    /// service shed load, from which it recovers by itself.
    pub(crate) async fn first_accepted(side: &Side) -> anyhow::Result<Reply> {
        let mut polls_left = ACCEPT_TIMEOUT.as_millis() / ACCEPT_POLL_INTERVAL.as_millis();
        loop {
            let reply = side.server.client.send_bytes(&side.requests[0]).await?;
            if reply.is_ok() {
                return Ok(reply);
            }
            if reply.status != 503 || polls_left == 0 {
                bail!(
                    "answered {}: {}",
                    reply.status,
                    String::from_utf8_lossy(&reply.body)
                );
            }
            polls_left -= 1;
            tokio::time::sleep(ACCEPT_POLL_INTERVAL).await;
        }
    }

    /// The memory of the store in bytes: of the service's process, or of Redis.
    pub(crate) async fn used_bytes(&self) -> anyhow::Result<u64> {
        // Buffers of the last requests are freed by then.
        tokio::time::sleep(Duration::from_secs(2)).await;
        match &self.servers {
            Some(servers) => Ok(servers.redis.info("used_memory").await?.parse()?),
            None => Ok(Usage::of(self.service.pid)
                .context("the service's memory")?
                .rss_kib
                * 1_024),
        }
    }

    /// Queue tokens for as many visitors as there are workers.
    pub(crate) async fn tokens(&self, sale: &str) -> anyhow::Result<Vec<String>> {
        let path = paths::queue(sale);
        let mut tokens = Vec::new();
        for _ in 0..WORKERS {
            let reply = self
                .service
                .client
                .send(&HttpRequest::post(&path))
                .await
                .context("joining")?;
            let entry = reply.json::<QueueEntry>().and_then(|entry| entry.token);
            let token = entry.with_context(|| format!("joining was answered {}", reply.status))?;
            tokens.push(token.into());
        }
        Ok(tokens)
    }
}

/// A server of this machine.
pub(crate) fn local_server(port: u16, pid: u32) -> Server {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let client = Http1Client::new(address, format!("127.0.0.1:{port}"), CONNECTIONS_MAX, TIMEOUT);
    Server {
        client: Arc::new(client),
        pid,
    }
}

/// Starts the baseline server, on a Redis unless the URL is empty.
pub(crate) async fn start_baseline(redis_url: &str) -> anyhow::Result<(Process, Server)> {
    let port = free_port()?;
    let args = ["baseline-server", &port.to_string(), redis_url];
    let mut process = Process::start("the baseline server", &args, None)?;
    let server = local_server(port, process.pid());
    process.wait_until_ready(&server.client, "/bare/100").await?;
    Ok((process, server))
}

fn sales() -> String {
    let now = SystemClock::new().now();
    let later = now.plus(Duration::from_hours(2));
    let spec = |seats, queue_entries_max| SaleSpec {
        seats,
        admission_rate_per_minute: 60_000,
        active_visits_max: 5_000,
        visit_max_s: VISIT_MAX_S,
        hold_ttl_s: 900,
        queue_entries_max,
        open_in: Duration::ZERO,
        status_streams_max: 100,
    };
    // As many seats for each customer as a holder of the bench holds at once.
    let open = config_file::sale(OPEN, &spec(15_000, 100_000), now, now).replace(
        "seats_per_customer_max = 4",
        "seats_per_customer_max = 80\npass_ttl_s = 3600",
    );
    let closed = [(EMPTY, 40_000_000), (DECLARED, 1_000_000), (FOURFOLD, 40_000_000)]
        .map(|(id, entries_max)| config_file::sale(id, &spec(60, entries_max), now, later));
    closed.concat() + &open
}

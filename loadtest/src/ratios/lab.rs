//! A house with sales for every purpose, and a floor beside it.

use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use serde::Deserialize;
use stagedoor::kernel::{Clock, SystemClock};

use super::{
    fill,
    sides::{CONNECTIONS_MAX, Server, Side, WORKERS},
};
use crate::{
    ground::{
        Durability, Engine, Scene, Servers, house_config, in_memory, on_redis, sale_config, start_house,
    },
    process::{Folder, Process, free_port},
    wire::{Ask, Reply, Wire},
};

pub(super) struct Lab {
    // Dropped in this order: the processes before what they rely on.
    house_process: Process,
    _floor_process: Process,
    pub engine: Engine,
    pub durability: Durability,
    pub house: Server,
    pub floor: Server,
    pub ops: SocketAddr,
    pub servers: Option<Arc<Servers>>,
    pub folder: Arc<Folder>,
    /// From its start until it was ready, its books read and its engine filled.
    pub ready_after: Duration,
}

const DEADLINE: Duration = Duration::from_secs(10);
/// A house without load lets everybody in again.
const OPENS_WITHIN: Duration = Duration::from_secs(10);
const LOOKS_EVERY: Duration = Duration::from_millis(200);
const HEAD: &str = "/bare/100";

impl Lab {
    pub(super) async fn open(
        engine: Engine,
        durability: Durability,
        servers: Option<Servers>,
    ) -> anyhow::Result<Self> {
        Self::start(
            engine,
            durability,
            servers.map(Arc::new),
            Arc::new(Folder::fresh()?),
        )
        .await
    }

    /// The same sales, their joins answered otherwise.
    pub(super) async fn reopened(self, durability: Durability) -> anyhow::Result<Self> {
        let (engine, servers, folder) = (self.engine, self.servers.clone(), Arc::clone(&self.folder));
        drop(self);
        Self::start(engine, durability, servers, folder).await
    }

    /// Another house beside this one, in one of whose sales so many customers wait; and what its engine weighed without them.
    pub(super) async fn grown(&self, sale: &str, fans: u32) -> anyhow::Result<(Self, u64)> {
        let servers = match self.engine {
            Engine::Memory => None,
            Engine::Redis => Some(Servers::start().await?),
        };
        // The first start makes the books, the second reads what was written into them meanwhile.
        let first = Self::open(self.engine, self.durability, servers).await?;
        let (servers, folder, empty) = (
            first.servers.clone(),
            Arc::clone(&first.folder),
            fill::used(&first).await?,
        );
        drop(first);
        fill::journal(
            &folder.path,
            servers.as_ref().map(|it| it.books.as_str()),
            sale,
            u64::from(fans),
        )
        .await?;
        if let Some(servers) = &servers {
            // What Redis knows of the first start is not what the journal says now: it is rebuilt from that.
            servers.redis.flush_all().await?;
        }
        Ok((
            Self::start(self.engine, self.durability, servers, folder).await?,
            empty,
        ))
    }

    async fn start(
        engine: Engine,
        durability: Durability,
        servers: Option<Arc<Servers>>,
        folder: Arc<Folder>,
    ) -> anyhow::Result<Self> {
        let (public, ops, beside) = (free_port()?, free_port()?, free_port()?);
        let more = match &servers {
            // No order is placed here, so nobody is there to be paid.
            Some(it) => on_redis(&it.redis.url(), &it.books, durability, "http://127.0.0.1:9"),
            None => in_memory(durability),
        };
        let file = folder.path.join("lab.toml");
        fs::write(&file, house_config(&folder, public, ops, &more) + &sales())
            .with_context(|| format!("cannot write {}", file.display()))?;
        let (clock, mut house_process) = (SystemClock::new(), start_house(&file, None)?);
        let ops = SocketAddr::from(([127, 0, 0, 1], ops));
        house_process
            .until_ready(&Wire::new(ops, "ops", 1, DEADLINE), "/health/ready")
            .await?;
        let ready_after = clock.monotonic();
        let redis = servers.as_ref().map(|it| it.redis.url()).unwrap_or_default();
        let mut floor_process = Process::start("the floor", &["floor", &beside.to_string(), &redis], None)?;
        let server = |port: u16, pid: u32| {
            let to = SocketAddr::from(([127, 0, 0, 1], port));
            Server {
                wire: Arc::new(Wire::new(
                    to,
                    format!("127.0.0.1:{port}"),
                    CONNECTIONS_MAX,
                    DEADLINE,
                )),
                pid,
            }
        };
        let floor = server(beside, floor_process.pid());
        floor_process.until_ready(&floor.wire, HEAD).await?;
        let house = server(public, house_process.pid());
        Ok(Self {
            engine,
            durability,
            house,
            floor,
            ops,
            servers,
            folder,
            ready_after,
            house_process,
            _floor_process: floor_process,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.house_process.pid()
    }

    /// The bare route with as many bytes as `side` is answered, heads included, by the same method.
    pub(super) async fn bare(&self, side: &Side) -> anyhow::Result<Side> {
        self.as_many_bytes(side, "/bare").await
    }

    /// The same from a route whose bytes were made beforehand.
    pub(super) async fn bytes(&self, side: &Side) -> anyhow::Result<Side> {
        self.as_many_bytes(side, "/bytes").await
    }

    /// The answer to the first of the side's requests that is let in: what was measured before may have closed the valve, which
    /// opens again by itself.
    pub(super) async fn let_in(side: &Side) -> anyhow::Result<Reply> {
        let mut tries_left = OPENS_WITHIN.as_millis() / LOOKS_EVERY.as_millis();
        loop {
            let answer = side
                .wire
                .send(&side.requests[0])
                .await
                .map_err(|lost| anyhow::anyhow!("{}", lost.name()))?;
            if answer.is_ok() {
                return Ok(answer);
            }
            if answer.status != 503 || tries_left == 0 {
                bail!(
                    "answered {}: {}",
                    answer.status,
                    String::from_utf8_lossy(&answer.body)
                );
            }
            tries_left -= 1;
            tokio::time::sleep(LOOKS_EVERY).await;
        }
    }

    async fn as_many_bytes(&self, side: &Side, route: &str) -> anyhow::Result<Side> {
        let answer = Self::let_in(side).await?;
        let is_post = side.requests[0].starts_with(b"POST");
        let of = |path: &str| {
            if is_post {
                Side::post(&self.floor, path)
            } else {
                Side::get(&self.floor, path)
            }
        };
        let own = self
            .floor
            .wire
            .send(&of(&format!("{route}/100")).requests[0])
            .await
            .map_err(|lost| anyhow::anyhow!("the floor: {}", lost.name()))?;
        let wanted = answer.bytes.saturating_sub(own.bytes - own.body.len());
        Ok(of(&format!("{route}/{wanted}")))
    }

    /// Joins so often, and gives the tokens.
    pub(super) async fn tokens(&self, sale: &str) -> anyhow::Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Place {
            token: String,
        }
        let path = format!("/v1/sales/{sale}/queue");
        let mut tokens = Vec::new();
        for _ in 0..WORKERS {
            let ask = Ask {
                method: "POST",
                path: &path,
                headers: &[],
                body: None,
            };
            let answer = self
                .house
                .wire
                .ask(&ask)
                .await
                .map_err(|lost| anyhow::anyhow!("joining: {}", lost.name()))?;
            tokens.push(
                answer
                    .json::<Place>()
                    .with_context(|| format!("joining was answered {}", answer.status))?
                    .token,
            );
        }
        Ok(tokens)
    }
}

fn sales() -> String {
    let now = SystemClock::new().now();
    let later = now.plus(Duration::from_hours(2));
    let scene = |seats, max_fans| Scene {
        seats,
        rate_per_minute: 60_000,
        capacity: 5_000,
        hold_s: 900,
        max_fans,
        open_in: Duration::ZERO,
        watchers_max: 100,
    };
    let open = sale_config("open", &scene(15_000, 100_000), now, now)
        .replace("seats_per_customer_max = 4", "seats_per_customer_max = 80\npass_ttl_s = 3600");
    // As many come as were declared, and four times as many.
    let closed = ["empty", "declared", "fourfold"].map(|id| {
        sale_config(
            id,
            &scene(60, if id == "declared" { 1_000_000 } else { 40_000_000 }),
            now,
            later,
        )
    });
    closed.concat() + &open
}

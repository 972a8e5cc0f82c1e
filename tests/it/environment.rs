//! The servers that several nodes share: Redis, PostgreSQL, a payment gateway, and nginx in front.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use sqlx::{Connection, PgConnection};
use stagedoor::kernel::Clock;
use testkit::{Nginx, Postgres, RedisCluster, RedisSentinels, RedisServer, TcpProxy, process::free_port};
use tokio::net::TcpStream;

use crate::{
    nodes::{Node, Site, loopback},
    world::WEBHOOK_SECRET,
};

const DATABASE: &str = "stagedoor";

/// Which Redis and how many nodes.
#[derive(Clone, Copy)]
pub struct Deployment {
    pub redis: Topology,
    /// `waiting_room.durability`
    pub durability: &'static str,
    pub nodes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// One server, with a TCP proxy for each node.
    Server,
    /// As [`Topology::Server`], with a replica.
    WithReplica,
    /// A primary and its replica, monitored by sentinels.
    Sentinels,
    /// Three primaries.
    Cluster,
}

impl Default for Deployment {
    fn default() -> Self {
        Self {
            redis: Topology::Server,
            durability: "committed",
            nodes: 3,
        }
    }
}

/// The running servers; stopped and removed on drop.
pub struct Environment {
    pub redis: Backend,
    pub postgres: Postgres,
    durability: &'static str,
    gateway: Gateway,
    nginx: Nginx,
}

pub enum Backend {
    Server {
        /// The current primary.
        server: RedisServer,
        replica: Option<Box<RedisServer>>,
        /// One proxy to the primary for each node.
        proxies: Vec<TcpProxy>,
    },
    Sentinels(Box<RedisSentinels>),
    Cluster(RedisCluster),
}

impl Environment {
    /// Starts the servers; returns them with the nodes, which are not started yet.
    pub async fn prepare(deployment: Deployment, site: &Site) -> (Self, Vec<Node>) {
        let (redis, postgres) = tokio::join!(Backend::start(deployment), async {
            let postgres = Postgres::start().await.unwrap();
            postgres.create_database(DATABASE).await.unwrap();
            postgres
        });
        let node = |n: usize| {
            let variables = vec![
                ("STAGEDOOR__SERVER__NODE_NAME", format!("node-{n}")),
                ("STAGEDOOR__STORE__REDIS__URL", redis.url_for(n)),
                ("STAGEDOOR__LEDGER__URL", postgres.url(DATABASE)),
                // Longer than nginx keeps an idle connection to a node.
                ("STAGEDOOR__SERVER__SHUTDOWN_NOTICE_MS", "3000".to_owned()),
            ];
            Node::new(site, "all", site.dir.join(format!("data-{n}")), variables)
        };
        let nodes: Vec<Node> = (0..deployment.nodes).map(node).collect();
        let addresses: Vec<SocketAddr> = nodes.iter().map(|node| node.public).collect();
        let nginx = Nginx::start(&addresses, &addresses).await.unwrap();
        let gateway = Gateway::start(site, &format!("{}/v1/webhooks/sandbox", nginx.url())).await;
        (
            Self {
                redis,
                postgres,
                durability: deployment.durability,
                gateway,
                nginx,
            },
            nodes,
        )
    }

    /// The base URL of nginx.
    pub fn base(&self) -> String {
        self.nginx.url()
    }

    /// The error log and the access log of nginx.
    pub fn balancer_log(&self) -> String {
        self.nginx.log()
    }

    pub fn gateway_url(&self) -> String {
        format!("http://{}", self.gateway.address)
    }

    pub fn gateway_statement(&self) -> PathBuf {
        self.gateway.statement.clone()
    }

    pub fn database_url(&self) -> String {
        self.postgres.url(DATABASE)
    }

    /// The sections for several nodes. The servers' URLs come from each node's environment variables.
    pub fn config(&self) -> String {
        format!(
            "[store]\nkind = \"redis\"\n[waiting_room]\ndurability = \"{}\"\n",
            self.durability
        )
    }

    /// The single server.
    pub fn server(&mut self) -> &mut RedisServer {
        match &mut self.redis {
            Backend::Server { server, .. } => server,
            Backend::Sentinels(_) | Backend::Cluster(_) => {
                panic!("this environment has several Redis servers")
            }
        }
    }

    /// Promotes the replica once it has all writes so far; a failover to it loses what is written next.
    pub async fn promote_replica(&mut self) -> RedisServer {
        let Backend::Server { server, replica, .. } = &mut self.redis else {
            panic!("this environment has several Redis servers")
        };
        let mut replica = replica.take().expect("it was started with a replica");
        replica.wait_until_synced_with(server).await.unwrap();
        replica.promote().await.unwrap();
        *replica
    }

    /// Kills the single server and points every proxy to `next`.
    pub fn fail_over_to(&mut self, next: RedisServer) {
        let Backend::Server { server, proxies, .. } = &mut self.redis else {
            panic!("this environment has several Redis servers")
        };
        server.kill9().unwrap();
        for proxy in proxies {
            proxy.switch_to(next.port());
        }
        *server = next;
    }

    /// The proxies to the single server, one for each node.
    pub fn proxies(&self) -> &[TcpProxy] {
        match &self.redis {
            Backend::Server { proxies, .. } => proxies,
            Backend::Sentinels(_) | Backend::Cluster(_) => {
                panic!("this environment has several Redis servers")
            }
        }
    }

    /// Runs a statement on the service's database.
    pub async fn execute(&self, statement: &str) {
        self.postgres.run(DATABASE, statement).await.unwrap();
    }

    /// Queries a single number from the database.
    pub async fn query_number(&self, query: &'static str) -> i64 {
        let mut db = PgConnection::connect(&self.database_url()).await.unwrap();
        let number = sqlx::query_scalar(query).fetch_one(&mut db).await.unwrap();
        db.close().await.unwrap();
        number
    }

    /// How many seats the ledger has claimed for this order.
    pub async fn claims_of(&self, order: &str) -> i64 {
        let mut db = PgConnection::connect(&self.database_url()).await.unwrap();
        let claims =
            sqlx::query_scalar("SELECT COUNT(*) FROM stagedoor_ledger.seat_claim WHERE order_id = $1")
                .bind(order)
                .fetch_one(&mut db)
                .await
                .unwrap();
        db.close().await.unwrap();
        claims
    }

    /// The epochs of the queue's store and of the seat store.
    pub async fn epochs(&self) -> (i64, i64) {
        (
            self.query_number("SELECT epoch FROM stagedoor_queue.journal_head")
                .await,
            self.query_number("SELECT epoch FROM stagedoor_ledger.seat_store_epoch")
                .await,
        )
    }
}

impl Backend {
    async fn start(deployment: Deployment) -> Self {
        match deployment.redis {
            Topology::Cluster => return Self::Cluster(RedisCluster::start(3).await.unwrap()),
            Topology::Sentinels => return Self::Sentinels(Box::new(RedisSentinels::start().await.unwrap())),
            Topology::Server | Topology::WithReplica => {}
        }
        let server = RedisServer::start().await.unwrap();
        let mut proxies = Vec::new();
        for _ in 0..deployment.nodes {
            proxies.push(TcpProxy::forward_to(server.port()).await.unwrap());
        }
        // Attached at once, because attaching the first replica changes the replication id.
        let replica = if deployment.redis == Topology::WithReplica {
            Some(Box::new(server.replica().await.unwrap()))
        } else {
            None
        };
        Self::Server {
            server,
            replica,
            proxies,
        }
    }

    fn url_for(&self, node: usize) -> String {
        match self {
            Self::Server { proxies, .. } => proxies[node].url(),
            Self::Sentinels(sentinels) => sentinels.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }
}

/// The payment gateway of all nodes, in a process of its own.
struct Gateway {
    address: SocketAddr,
    statement: PathBuf,
    child: Child,
}

impl Gateway {
    async fn start(site: &Site, webhook_url: &str) -> Self {
        let address = loopback(free_port().unwrap());
        let statement = site.dir.join("gateway.db");
        let log = fs::File::create(site.dir.join("gateway.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_stagedoor"))
            .args([
                "sandbox-gateway",
                "--listen",
                &address.to_string(),
                "--webhook-url",
                webhook_url,
                "--statement",
            ])
            .arg(&statement)
            .env("STAGEDOOR__GATEWAY__WEBHOOK_SECRET", WEBHOOK_SECRET)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        let mut gateway = Self {
            address,
            statement,
            child: child.unwrap(),
        };
        let until = site.clock.monotonic() + Duration::from_secs(30);
        while TcpStream::connect(address).await.is_err() {
            assert!(
                gateway.child.try_wait().unwrap().is_none(),
                "the gateway ended:\n{}",
                site.log()
            );
            assert!(
                site.clock.monotonic() < until,
                "the gateway does not listen:\n{}",
                site.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        gateway
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

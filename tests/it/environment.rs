//! What several nodes of one house stand on: Redis and PostgreSQL of their own, one payment gateway, nginx before them.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use sqlx::{Connection, PgConnection};
use stagedoor::{
    kernel::Clock,
};
use testkit::{TcpProxy, Nginx, Postgres, RedisCluster, RedisSentinels, RedisServer};
use tokio::net::TcpStream;

use crate::{
    nodes::{Node, Site},
    world::WEBHOOK_SECRET,
};

const DATABASE: &str = "stagedoor";

/// Which Redis and how many nodes.
#[derive(Clone, Copy)]
pub struct Pair {
    pub redis: Topology,
    /// `waiting_room.durability`
    pub durability: &'static str,
    pub nodes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// One server, before which each node has a door of its own.
    Server,
    /// As [`Topology::Server`], with a replica.
    WithReplica,
    /// A primary and its replica, which sentinels watch.
    Sentinels,
    /// Three primaries.
    Cluster,
}

impl Default for Pair {
    fn default() -> Self {
        Self {
            redis: Topology::Server,
            durability: "committed",
            nodes: 3,
        }
    }
}

/// The servers, running; ended and removed when dropped.
pub struct Environment {
    pub redis: Backend,
    pub postgres: Postgres,
    durability: &'static str,
    gateway: Gateway,
    nginx: Nginx,
}

pub enum Backend {
    Server {
        /// The one that has the data now.
        server: RedisServer,
        replica: Option<Box<RedisServer>>,
        /// Each node's way to the one that has the data.
        doors: Vec<TcpProxy>,
    },
    Sentinels(Box<RedisSentinels>),
    Cluster(RedisCluster),
}

impl Environment {
    /// Starts the servers, and says which nodes are to be started on them.
    pub async fn prepare(pair: Pair, site: &Site) -> (Self, Vec<Node>) {
        let (engine, postgres) = tokio::join!(Backend::start(pair), async {
            let postgres = Postgres::start().await.unwrap();
            postgres.create_database(DATABASE).await.unwrap();
            postgres
        });
        let node = |n: usize| {
            let variables = vec![
                ("STAGEDOOR__SERVER__NODE_NAME", format!("node-{n}")),
                ("STAGEDOOR__STORE__REDIS__URL", engine.url_for(n)),
                ("STAGEDOOR__LEDGER__URL", postgres.url(DATABASE)),
                // Longer than nginx keeps an idle connection to a node.
                ("STAGEDOOR__SERVER__SHUTDOWN_NOTICE_MS", "3000".to_owned()),
            ];
            Node::new(site, "all", site.dir.join(format!("data-{n}")), variables)
        };
        let nodes: Vec<Node> = (0..pair.nodes).map(node).collect();
        let addresses: Vec<SocketAddr> = nodes.iter().map(|it| it.public).collect();
        let nginx = Nginx::start(&addresses, &addresses).await.unwrap();
        let gateway = Gateway::start(site, &format!("{}/v1/webhooks/sandbox", nginx.url())).await;
        (
            Self {
                redis: engine,
                postgres,
                durability: pair.durability,
                gateway,
                nginx,
            },
            nodes,
        )
    }

    /// nginx.
    pub fn base(&self) -> String {
        self.nginx.url()
    }

    /// nginx's complaints, and a line for each request.
    pub fn balancer_log(&self) -> String {
        self.nginx.log()
    }

    pub fn gateway_url(&self) -> String {
        format!("http://{}", self.gateway.address)
    }

    pub fn gateway_statement(&self) -> PathBuf {
        self.gateway.book.clone()
    }

    pub fn database_url(&self) -> String {
        self.postgres.url(DATABASE)
    }

    /// The sections that a house of one node has not; where the servers are, each node has from its environment.
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
            Backend::Sentinels(_) | Backend::Cluster(_) => panic!("this house is on several servers"),
        }
    }

    /// Takes the replica, with all that it has been sent so far: what is written next is what a failover loses.
    pub async fn replaced_server(&mut self) -> RedisServer {
        let Backend::Server { server, replica, .. } = &mut self.redis else {
            panic!("this house is on several servers")
        };
        let mut replica = replica.take().expect("it was started with a replica");
        replica.wait_until_synced_with(server).await.unwrap();
        replica.promote().await.unwrap();
        *replica
    }

    /// Kills the single server; from now on every door leads to this one.
    pub fn fail_over_to(&mut self, next: RedisServer) {
        let Backend::Server { server, doors, .. } = &mut self.redis else {
            panic!("this house is on several servers")
        };
        server.kill9().unwrap();
        for door in doors {
            door.switch_to(next.port());
        }
        *server = next;
    }

    /// Each node's way to the single server.
    pub fn proxies(&self) -> &[TcpProxy] {
        match &self.redis {
            Backend::Server { doors, .. } => doors,
            Backend::Sentinels(_) | Backend::Cluster(_) => panic!("this house is on several servers"),
        }
    }

    /// Changes the database behind the house's back.
    pub async fn execute(&self, statement: &str) {
        self.postgres.run(DATABASE, statement).await.unwrap();
    }

    /// One figure out of the database.
    pub async fn query_number(&self, query: &'static str) -> i64 {
        let mut db = PgConnection::connect(&self.database_url()).await.unwrap();
        let number = sqlx::query_scalar(query).fetch_one(&mut db).await.unwrap();
        db.close().await.unwrap();
        number
    }

    /// Memories of the queue's engine so far, and of the seats'.
    pub async fn epochs(&self) -> (i64, i64) {
        (
            self.query_number("SELECT epoch FROM stagedoor_queue.journal_head").await,
            self.query_number("SELECT epoch FROM stagedoor_ledger.seat_store_epoch")
                .await,
        )
    }
}

impl Backend {
    async fn start(pair: Pair) -> Self {
        match pair.redis {
            Topology::Cluster => return Self::Cluster(RedisCluster::start(3).await.unwrap()),
            Topology::Sentinels => return Self::Sentinels(Box::new(RedisSentinels::start().await.unwrap())),
            Topology::Server | Topology::WithReplica => {}
        }
        let server = RedisServer::start().await.unwrap();
        let mut doors = Vec::new();
        for _ in 0..pair.nodes {
            doors.push(TcpProxy::forward_to(server.port()).await.unwrap());
        }
        // It is there from the first: a server that gets its first replica gets a new replication id too.
        let replica = if pair.redis == Topology::WithReplica {
            Some(Box::new(server.replica().await.unwrap()))
        } else {
            None
        };
        Self::Server {
            server,
            replica,
            doors,
        }
    }

    fn url_for(&self, node: usize) -> String {
        match self {
            Self::Server { doors, .. } => doors[node].url(),
            Self::Sentinels(watched) => watched.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }
}

/// The payment gateway that all nodes share, as a process of its own.
struct Gateway {
    address: SocketAddr,
    book: PathBuf,
    child: Child,
}

impl Gateway {
    async fn start(site: &Site, webhook_url: &str) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let book = site.dir.join("gateway.db");
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
            .arg(&book)
            .env("STAGEDOOR__GATEWAY__WEBHOOK_SECRET", WEBHOOK_SECRET)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        let mut gateway = Self {
            address,
            book,
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

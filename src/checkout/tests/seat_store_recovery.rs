//! Nodes that share a seat store on a real Redis, which loses data, is replaced and moves; the ledger does
//! not.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tempfile::TempDir;
use testkit::{RedisCluster, RedisSentinels, RedisServer, TcpProxy};

use super::world::{CrashPoint, CrashingGateway, FakeGateway, buyer, request};
use crate::{
    checkout::{
        Checkout, Config, Deps, LedgerLocation, PlaceOutcome, SaleConfig,
        ledger::{
            conformance::fixtures::performance_key,
            port::{Ledger, SeatStoreEpoch},
            sqlite::SqliteLedger,
        },
    },
    kernel::{Clock, Currency, HoldId, ManualClock, Money, OsEntropy, SystemClock, Timestamp, VisitId},
    platform::{
        keys::Keys,
        redis::{Redis, RedisConfig},
        shutdown::Lifecycle,
    },
    seating::{
        self, HoldOutcome, HoldSpec, Performance, Plan, SeatIx, Seating, SeatingError, StoreBackend,
        StoreError, VenueKind, generate,
    },
};

const IN_TIME: Duration = Duration::from_secs(20);
const A_MOMENT: Duration = Duration::from_millis(10);

/// What all nodes share besides Redis.
struct Environment {
    ledger: Arc<SqliteLedger>,
    clock: Arc<dyn Clock>,
    gateway: Arc<FakeGateway>,
    plan: Arc<Plan>,
    lifecycle: Lifecycle,
    _dir: TempDir,
}

struct Node {
    checkout: Arc<Checkout>,
    performance: Arc<Performance>,
}

impl Environment {
    async fn new() -> Self {
        Self::by(Arc::new(SystemClock::new())).await
    }

    async fn by(clock: Arc<dyn Clock>) -> Self {
        let (dir, lifecycle) = (tempfile::tempdir().unwrap(), Lifecycle::new());
        let ledger = Arc::new(
            SqliteLedger::open(&dir.path().join("ledger.db"), "a", &lifecycle)
                .await
                .unwrap(),
        );
        let plan = Arc::new(Plan::parse(&generate(VenueKind::Theatre, 200)).unwrap());
        Self {
            ledger,
            clock,
            gateway: Arc::default(),
            plan,
            lifecycle,
            _dir: dir,
        }
    }

    async fn node(&self, url: String) -> Node {
        let deadline = Duration::from_millis(500);
        let redis = Redis::new(RedisConfig {
            url,
            command_timeout: deadline,
            connect_timeout: deadline,
            allow_unsafe: false,
        })
        .unwrap();
        let prices: BTreeMap<_, _> = self
            .plan
            .zones()
            .iter()
            .map(|zone| (zone.clone(), Money::new(1_000, Currency::KRW)))
            .collect();
        let config = seating::Config {
            sale: performance_key().sale,
            performance: performance_key().performance,
            prices,
            hold_ttl: Duration::from_mins(5),
            extensions_max: 1,
            seats_per_customer_max: 4,
            seat_streams_max: 10,
            doors_open_at: Timestamp::from_millis(i64::MAX),
        };
        let (clock, entropy) = (Arc::clone(&self.clock), Arc::new(OsEntropy));
        let deps = seating::Deps {
            store: StoreBackend::Redis(redis),
            clock: Arc::clone(&clock),
            entropy: entropy.clone(),
            lifecycle: self.lifecycle.clone(),
        };
        let seats = Seating::open(vec![(config, Arc::clone(&self.plan))], deps)
            .await
            .unwrap();
        let performance = seats
            .performance(&performance_key().sale, &performance_key().performance)
            .unwrap();
        let config = Config {
            sales: vec![SaleConfig {
                sale: performance_key().sale,
                title: "Spring".into(),
                seats_per_customer_max: 4,
                doors_open_at: [(performance_key().performance, Timestamp::from_millis(i64::MAX))].into(),
            }],
            issuer: "https://tickets.example".into(),
            order_response_wait: Duration::from_secs(20),
            gateway_timeout: Duration::from_millis(500),
            payment_timeout: Duration::from_secs(20),
            payment_page_timeout: Duration::from_mins(10),
        };
        let deps = Deps {
            clock,
            entropy,
            keys: Keys::ephemeral(&OsEntropy),
            ledger: LedgerLocation::File("unused".into()),
            node_name: "a".into(),
            seats,
            gateway: Arc::new(CrashingGateway(Arc::clone(&self.gateway), CrashPoint::never())),
            events: None,
            lifecycle: self.lifecycle.clone(),
            ledger_lifecycle: self.lifecycle.clone(),
        };
        let checkout = Checkout::open_on(
            config,
            deps,
            Arc::clone(&self.ledger) as _,
            Arc::clone(&self.ledger) as _,
        )
        .await
        .unwrap();
        Node {
            checkout,
            performance,
        }
    }

    async fn epoch(&self) -> u64 {
        let SeatStoreEpoch { epoch, .. } = self.ledger.seat_store_epoch(&performance_key()).await.unwrap();
        epoch
    }

    async fn until_epoch(&self, epoch: u64) {
        in_time(async {
            while self.epoch().await < epoch {
                tokio::time::sleep(A_MOMENT).await;
            }
        })
        .await;
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.lifecycle.stop();
    }
}

impl Node {
    async fn try_hold(&self, customer: u32, seats: &[u32]) -> Result<HoldOutcome, SeatingError> {
        let request = HoldSpec::Seats(seats.iter().map(|seat| SeatIx(*seat)).collect());
        self.performance
            .hold(&buyer(customer), VisitId::random(&OsEntropy), request, None)
            .await
    }

    async fn hold(&self, customer: u32, seats: &[u32]) -> HoldId {
        match self.try_hold(customer, seats).await.unwrap() {
            HoldOutcome::Held(hold) => hold.id,
            other => panic!("{other:?}"),
        }
    }

    async fn buy(&self, customer: u32, seats: &[u32]) {
        let hold = self.hold(customer, seats).await;
        let bought = self
            .checkout
            .place_order(request(customer, hold, "tok_ok", &format!("{seats:?}")))
            .await
            .unwrap();
        assert!(matches!(bought, PlaceOutcome::Paid(_)), "{bought:?}");
    }

    /// Outcome of a hold once the seat store serves calls again.
    async fn hold_when_back(&self, customer: u32, seats: &[u32]) -> HoldOutcome {
        in_time(async {
            loop {
                match self.try_hold(customer, seats).await {
                    Ok(outcome) => return outcome,
                    Err(SeatingError::Store(StoreError::Unavailable | StoreError::Recovering)) => {
                        tokio::time::sleep(A_MOMENT).await;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        })
        .await
    }

    async fn holds(&self, customer: u32, hold: HoldId) -> bool {
        self.performance
            .volatile_store()
            .unwrap()
            .clone()
            .has_hold(hold, customer)
            .await
    }

    async fn booked(&self) -> Vec<u32> {
        self.performance
            .booked_seats()
            .await
            .unwrap()
            .iter()
            .map(|seat| seat.0)
            .collect()
    }
}

impl seating::RedisStore {
    async fn has_hold(&self, hold: HoldId, customer: u32) -> bool {
        seating::SeatStore::find(self, hold, &buyer(customer))
            .await
            .unwrap()
            .is_some()
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(IN_TIME, work)
        .await
        .expect("it should have happened in time")
}

fn is_taken(outcome: &HoldOutcome) -> bool {
    let is_taken = matches!(outcome, HoldOutcome::Taken { .. });
    assert!(is_taken, "{outcome:?}");
    is_taken
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_store_is_rebuilt_from_the_ledger() {
    let (server, environment) = (RedisServer::start().await.unwrap(), Environment::new().await);
    let node = environment.node(server.url()).await;
    node.buy(1, &[0, 1]).await;
    let lost = node.hold(2, &[2, 3]).await;
    let version = node.performance.snapshot_packed().version;
    server.flush_all().await.unwrap();
    environment.until_epoch(2).await;
    assert!(
        is_taken(&node.hold_when_back(3, &[1]).await),
        "what was sold stays sold"
    );
    assert!(!node.holds(2, lost).await);
    node.hold(3, &[2, 3]).await;
    assert_eq!(node.booked().await, [0, 1]);
    assert!(
        node.performance.snapshot_packed().version > version,
        "versions grow over a rebuild"
    );
    node.buy(1, &[4]).await;
    assert_eq!(environment.epoch().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_counts_as_another_one() {
    let (mut server, environment) = (RedisServer::start().await.unwrap(), Environment::new().await);
    let node = environment.node(server.url()).await;
    node.buy(1, &[0, 1]).await;
    server.kill9().unwrap();
    let away = in_time(async {
        loop {
            match node.try_hold(2, &[5]).await {
                Err(error) => return error,
                Ok(_) => tokio::time::sleep(A_MOMENT).await,
            }
        }
    })
    .await;
    assert_eq!(away, SeatingError::Store(StoreError::Unavailable));
    server.restart().await.unwrap();
    assert!(is_taken(&node.hold_when_back(3, &[0]).await));
    assert_eq!((environment.epoch().await, node.booked().await), (2, vec![0, 1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_nodes_rebuild_a_store_once() {
    let (server, environment) = (RedisServer::start().await.unwrap(), Environment::new().await);
    let nodes = [
        environment.node(server.url()).await,
        environment.node(server.url()).await,
        environment.node(server.url()).await,
    ];
    assert_eq!(environment.epoch().await, 1, "a later node finds the store ready");
    nodes[0].buy(1, &[0, 1]).await;
    for epoch in 2..5 {
        server.flush_all().await.unwrap();
        environment.until_epoch(epoch).await;
        for node in &nodes {
            assert!(is_taken(&node.hold_when_back(3, &[0]).await));
        }
    }
    // Advancing the epoch twice for one loss would be harmless, and is rare.
    assert!(environment.epoch().await <= 6, "{}", environment.epoch().await);
    let hold = nodes[1].hold(3, &[7]).await;
    assert!(nodes[2].holds(3, hold).await);
    in_time(async {
        while nodes[2]
            .performance
            .stock()
            .iter()
            .map(|zone| zone.held)
            .sum::<u32>()
            == 0
        {
            tokio::time::sleep(A_MOMENT).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_the_old_primary_stops() {
    let (server, environment) = (RedisServer::start().await.unwrap(), Environment::new().await);
    let mut replica = server.replica().await.unwrap();
    let doors = [
        TcpProxy::forward_to(server.port()).await.unwrap(),
        TcpProxy::forward_to(server.port()).await.unwrap(),
    ];
    let nodes = [
        environment.node(doors[0].url()).await,
        environment.node(doors[1].url()).await,
    ];
    nodes[0].buy(1, &[0, 1]).await;
    replica.wait_until_synced_with(&server).await.unwrap();
    replica.promote().await.unwrap();
    let lost = nodes[1].hold(2, &[5]).await;
    doors[0].switch_to(replica.port());
    let HoldOutcome::Held(_) = nodes[0].hold_when_back(3, &[5]).await else {
        panic!("the new primary never had that hold")
    };
    // Two customers hold the seat now; the node on the old primary stops serving.
    let stopped = in_time(async {
        loop {
            match nodes[1].try_hold(4, &[6]).await {
                Err(error) => return error,
                Ok(_) => tokio::time::sleep(A_MOMENT).await,
            }
        }
    })
    .await;
    assert_eq!(stopped, SeatingError::Store(StoreError::Recovering));
    doors[1].switch_to(replica.port());
    assert!(is_taken(&nodes[1].hold_when_back(2, &[5]).await));
    assert!(!nodes[1].holds(2, lost).await);
    assert_eq!(nodes[1].booked().await, [0, 1]);
    assert_eq!(environment.epoch().await, 2);
}

/// Two nodes sell, the primary is killed and stays down, and the two continue to sell.
async fn a_replica_takes_over(url: String, kill: impl FnOnce()) {
    let environment = Environment::new().await;
    let nodes = [environment.node(url.clone()).await, environment.node(url).await];
    nodes[0].buy(1, &[0, 1]).await;
    let lost = nodes[1].hold(2, &[5]).await;
    kill();
    let HoldOutcome::Held(_) = nodes[0].hold_when_back(3, &[5]).await else {
        panic!("the seat should be free again")
    };
    for node in &nodes {
        assert!(
            is_taken(&node.hold_when_back(4, &[0]).await),
            "what was sold stays sold"
        );
        assert!(
            is_taken(&node.hold_when_back(4, &[5]).await),
            "both nodes use the same dataset"
        );
        assert_eq!(node.booked().await, [0, 1]);
        assert!(!node.holds(2, lost).await);
    }
    nodes[1].buy(4, &[6]).await;
    assert_eq!(environment.epoch().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_promoted_by_sentinels_takes_over() {
    let mut watched = RedisSentinels::start().await.unwrap();
    a_replica_takes_over(watched.url(), || watched.primary_mut().kill9().unwrap()).await;
    assert_eq!(watched.replica().info("role").await.unwrap(), "master");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_in_a_cluster_takes_over() {
    let mut cluster = RedisCluster::start(3).await.unwrap();
    let tag = format!("{{{}:{}}}", performance_key().sale, performance_key().performance);
    let owner = cluster.owner_of_key(&tag).await.unwrap();
    let replica = cluster.add_replica_of(owner).await.unwrap();
    a_replica_takes_over(cluster.url(), || cluster.member_mut(owner).kill9().unwrap()).await;
    assert_eq!(cluster.owner_of_key(&tag).await.unwrap(), replica);
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_survive_a_slot_migration() {
    let (cluster, environment) = (RedisCluster::start(3).await.unwrap(), Environment::new().await);
    let nodes = [
        environment.node(cluster.url()).await,
        environment.node(cluster.url()).await,
    ];
    nodes[0].buy(1, &[0, 1]).await;
    let tag = format!("{{{}:{}}}", performance_key().sale, performance_key().performance);
    let (mut held, mut refused) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let owner = cluster.owner_of_key(&tag).await.unwrap();
        let moving = cluster.move_slot_of_key(&tag, (owner + 1) % 3);
        let holding = async {
            for n in 0..20 {
                let (customer, seat) = (round * 20 + n + 2, round * 20 + n + 2);
                match nodes[n as usize % 2].try_hold(customer, &[seat]).await {
                    Ok(HoldOutcome::Held(hold)) => held.push((customer, hold.id)),
                    Ok(other) => panic!("{other:?}"),
                    Err(error) => refused.push(error),
                }
                tokio::time::sleep(A_MOMENT).await;
            }
        };
        tokio::join!(async { moving.await.unwrap() }, holding);
    }
    assert_eq!(
        (environment.epoch().await, refused),
        (1, vec![]),
        "a migration loses nothing"
    );
    for (customer, hold) in held {
        assert!(nodes[1].holds(customer, hold).await);
    }
    // A later node finds the dataset on its activated server.
    let store = nodes[0].performance.volatile_store().unwrap();
    in_time(async {
        while !store
            .dataset_status()
            .await
            .ok()
            .flatten()
            .is_some_and(|status| status.is_activated_dataset)
        {
            tokio::time::sleep(A_MOMENT).await;
        }
    })
    .await;
    let late = environment.node(cluster.url()).await;
    assert_eq!((late.booked().await, environment.epoch().await), (vec![0, 1], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_contradicts_the_ledger_is_corrected() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_795_464_000_000)));
    let (server, environment) = (
        RedisServer::start().await.unwrap(),
        Environment::by(Arc::clone(&clock) as Arc<dyn Clock>).await,
    );
    let node = environment.node(server.url()).await;
    node.buy(1, &[0, 1]).await;
    let hold = environment.ledger.claims(None, clock.now()).await.unwrap()[0].hold;
    node.performance.free(hold, &[SeatIx(0)]).await.unwrap();
    let unknown = HoldId::random(&OsEntropy);
    node.performance
        .book(unknown, &[SeatIx(9)], &buyer(9))
        .await
        .unwrap();
    assert_eq!(node.booked().await, [1, 9]);
    in_time(async {
        while node.booked().await != [0, 1] {
            clock.advance(Duration::from_secs(10));
            tokio::time::sleep(A_MOMENT * 10).await;
        }
    })
    .await;
    assert_eq!(environment.epoch().await, 1);
}

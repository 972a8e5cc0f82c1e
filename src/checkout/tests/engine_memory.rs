//! Nodes that share a seat engine on a real Redis, which forgets, is replaced and moves; the ledger does not forget.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::world::{FakeGateway, Fuse, FusedGateway, buyer, wish};
use crate::{
    checkout::{
        Checkout, Config, Deps, LedgerLocation, PlaceOutcome, SaleConfig,
        ledger::{
            SeatStoreEpoch, Ledger,
            conformance::{TempDir, performance_key},
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
        self, StoreBackend, HoldOutcome, Performance, Plan, SeatIx, Seating, SeatingError, StoreError, VenueKind,
        HoldSpec, generate,
    },
};
use testkit::{TcpProxy, RedisCluster, RedisSentinels, RedisServer};

const IN_TIME: Duration = Duration::from_secs(20);
const A_MOMENT: Duration = Duration::from_millis(10);

/// What all nodes share besides Redis.
struct Town {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    gateway: Arc<FakeGateway>,
    plan: Arc<Plan>,
    life: Lifecycle,
    _dir: TempDir,
}

struct Node {
    checkout: Arc<Checkout>,
    performance: Arc<Performance>,
}

impl Town {
    async fn new() -> Self {
        Self::by(Arc::new(SystemClock::new())).await
    }

    async fn by(clock: Arc<dyn Clock>) -> Self {
        let (dir, life) = (TempDir::new("memory"), Lifecycle::new());
        let ledger = Arc::new(
            SqliteLedger::open(&dir.file("ledger.db"), "a", &life)
                .await
                .unwrap(),
        );
        let plan = Arc::new(Plan::parse(&generate(VenueKind::Theatre, 200)).unwrap());
        Self {
            ledger,
            clock,
            gateway: Arc::default(),
            plan,
            life,
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
            .map(|it| (it.clone(), Money::new(1_000, Currency::KRW)))
            .collect();
        let config = seating::Config {
            sale: performance_key().sale,
            performance: performance_key().performance,
            prices,
            hold_ttl: Duration::from_mins(5),
            extensions_max: 1,
            seats_per_customer_max: 4,
            seat_streams_max: 10,
        };
        let (clock, entropy) = (Arc::clone(&self.clock), Arc::new(OsEntropy));
        let engine = StoreBackend::Redis(redis);
        let deps = seating::Deps {
            engine,
            clock: Arc::clone(&clock),
            entropy: entropy.clone(),
            life: self.life.clone(),
        };
        let seats = Seating::open(vec![(config, Arc::clone(&self.plan))], deps)
            .await
            .unwrap();
        let performance = seats.performance(&performance_key().sale, &performance_key().performance).unwrap();
        let config = Config {
            sales: vec![SaleConfig {
                sale: performance_key().sale,
                title: "Spring".into(),
                seats_per_fan: 4,
            }],
            issuer: "https://tickets.example".into(),
            order_response_wait: Duration::from_secs(20),
            gateway_timeout: Duration::from_millis(500),
            payment_timeout: Duration::from_secs(20),
        };
        let deps = Deps {
            clock,
            entropy,
            keys: Keys::ephemeral(&OsEntropy),
            ledger: LedgerLocation::File("unused".into()),
            node: "a".into(),
            seating: seats,
            gateway: Arc::new(FusedGateway(Arc::clone(&self.gateway), Fuse::none())),
            publisher: None,
            life: self.life.clone(),
            books: self.life.clone(),
        };
        let checkout = Checkout::open_on(config, deps, Arc::clone(&self.ledger))
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

impl Drop for Town {
    fn drop(&mut self) {
        self.life.stop();
    }
}

impl Node {
    async fn try_hold(&self, who: u32, seats: &[u32]) -> Result<HoldOutcome, SeatingError> {
        let wish = HoldSpec::Seats(seats.iter().map(|it| SeatIx(*it)).collect());
        self.performance
            .hold(&buyer(who), VisitId::random(&OsEntropy), wish, None)
            .await
    }

    async fn hold(&self, who: u32, seats: &[u32]) -> HoldId {
        match self.try_hold(who, seats).await.unwrap() {
            HoldOutcome::Held(hold) => hold.id,
            other => panic!("{other:?}"),
        }
    }

    async fn buy(&self, who: u32, seats: &[u32]) {
        let hold = self.hold(who, seats).await;
        let bought = self
            .checkout
            .place_order(wish(who, hold, "tok_ok", &format!("{seats:?}")))
            .await
            .unwrap();
        assert!(matches!(bought, PlaceOutcome::Paid(_)), "{bought:?}");
    }

    /// What comes of a hold once the engine answers again.
    async fn hold_when_back(&self, who: u32, seats: &[u32]) -> HoldOutcome {
        in_time(async {
            loop {
                match self.try_hold(who, seats).await {
                    Ok(outcome) => return outcome,
                    Err(SeatingError::Store(StoreError::Unavailable | StoreError::Recovering)) => {
                        tokio::time::sleep(A_MOMENT).await
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        })
        .await
    }

    async fn lives(&self, who: u32, hold: HoldId) -> bool {
        self.performance
            .volatile_store()
            .unwrap()
            .clone()
            .find_it(hold, who)
            .await
    }

    async fn booked(&self) -> Vec<u32> {
        self.performance
            .booked_seats()
            .await
            .unwrap()
            .iter()
            .map(|it| it.0)
            .collect()
    }
}

impl seating::RedisStore {
    async fn find_it(&self, hold: HoldId, who: u32) -> bool {
        seating::SeatStore::find(self, hold, &buyer(who))
            .await
            .unwrap()
            .is_some()
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(IN_TIME, work)
        .await
        .expect("it comes to that in time")
}

fn is_taken(outcome: &HoldOutcome) -> bool {
    let is_taken = matches!(outcome, HoldOutcome::Taken { .. });
    assert!(is_taken, "{outcome:?}");
    is_taken
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_that_is_emptied_is_filled_from_the_ledger() {
    let (server, town) = (RedisServer::start().await.unwrap(), Town::new().await);
    let node = town.node(server.url()).await;
    node.buy(1, &[0, 1]).await;
    let lost = node.hold(2, &[2, 3]).await;
    let version = node.performance.snapshot_packed().version;
    server.flush_all().await.unwrap();
    town.until_epoch(2).await;
    assert!(
        is_taken(&node.hold_when_back(3, &[1]).await),
        "what was sold stays sold"
    );
    assert!(!node.lives(2, lost).await);
    node.hold(3, &[2, 3]).await;
    assert_eq!(node.booked().await, [0, 1]);
    assert!(
        node.performance.snapshot_packed().version > version,
        "versions grow over a rebuild"
    );
    node.buy(1, &[4]).await;
    assert_eq!(town.epoch().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_comes_back_as_another() {
    let (mut server, town) = (RedisServer::start().await.unwrap(), Town::new().await);
    let node = town.node(server.url()).await;
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
    assert_eq!((town.epoch().await, node.booked().await), (2, vec![0, 1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_notice_at_once_fill_it_once() {
    let (server, town) = (RedisServer::start().await.unwrap(), Town::new().await);
    let nodes = [
        town.node(server.url()).await,
        town.node(server.url()).await,
        town.node(server.url()).await,
    ];
    assert_eq!(town.epoch().await, 1, "who comes later finds it ready");
    nodes[0].buy(1, &[0, 1]).await;
    for epoch in 2..5 {
        server.flush_all().await.unwrap();
        town.until_epoch(epoch).await;
        for node in &nodes {
            assert!(is_taken(&node.hold_when_back(3, &[0]).await));
        }
    }
    // Raising it twice for one loss would be harmless, and rare.
    assert!(town.epoch().await <= 6, "{}", town.epoch().await);
    let hold = nodes[1].hold(3, &[7]).await;
    assert!(nodes[2].lives(3, hold).await);
    in_time(async {
        while nodes[2].performance.stock().iter().map(|it| it.held).sum::<u32>() == 0 {
            tokio::time::sleep(A_MOMENT).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_left_with_the_old_primary_stops() {
    let (server, town) = (RedisServer::start().await.unwrap(), Town::new().await);
    let mut replica = server.replica().await.unwrap();
    let doors = [
        TcpProxy::forward_to(server.port()).await.unwrap(),
        TcpProxy::forward_to(server.port()).await.unwrap(),
    ];
    let nodes = [town.node(doors[0].url()).await, town.node(doors[1].url()).await];
    nodes[0].buy(1, &[0, 1]).await;
    replica.wait_until_synced_with(&server).await.unwrap();
    replica.promote().await.unwrap();
    let lost = nodes[1].hold(2, &[5]).await;
    doors[0].switch_to(replica.port());
    let HoldOutcome::Held(_) = nodes[0].hold_when_back(3, &[5]).await else {
        panic!("the new primary never knew of it")
    };
    // Now two fans believe in the seat; the one at the old primary is told to come again.
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
    assert!(!nodes[1].lives(2, lost).await);
    assert_eq!(nodes[1].booked().await, [0, 1]);
    assert_eq!(town.epoch().await, 2);
}

/// Two nodes sell, the primary is killed and nobody starts it again, and the two sell on.
async fn a_replica_takes_over(url: String, kill: impl FnOnce()) {
    let town = Town::new().await;
    let nodes = [town.node(url.clone()).await, town.node(url).await];
    nodes[0].buy(1, &[0, 1]).await;
    let lost = nodes[1].hold(2, &[5]).await;
    kill();
    let HoldOutcome::Held(_) = nodes[0].hold_when_back(3, &[5]).await else {
        panic!("nobody has that seat any more")
    };
    for node in &nodes {
        assert!(
            is_taken(&node.hold_when_back(4, &[0]).await),
            "what was sold stays sold"
        );
        assert!(
            is_taken(&node.hold_when_back(4, &[5]).await),
            "both have one and the same memory"
        );
        assert_eq!(node.booked().await, [0, 1]);
        assert!(!node.lives(2, lost).await);
    }
    nodes[1].buy(4, &[6]).await;
    assert_eq!(town.epoch().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_go_over_to_the_replica_that_sentinels_promote() {
    let mut watched = RedisSentinels::start().await.unwrap();
    a_replica_takes_over(watched.url(), || watched.primary_mut().kill9().unwrap()).await;
    assert_eq!(watched.replica().info("role").await.unwrap(), "master");
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_go_over_to_the_replica_in_a_cluster() {
    let mut cluster = RedisCluster::start(3).await.unwrap();
    let tag = format!("{{{}:{}}}", performance_key().sale, performance_key().performance);
    let owner = cluster.owner_of_key(&tag).await.unwrap();
    let replica = cluster.add_replica_of(owner).await.unwrap();
    a_replica_takes_over(cluster.url(), || cluster.member_mut(owner).kill9().unwrap()).await;
    assert_eq!(cluster.owner_of_key(&tag).await.unwrap(), replica);
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_live_on_while_the_cluster_moves_them() {
    let (cluster, town) = (RedisCluster::start(3).await.unwrap(), Town::new().await);
    let nodes = [town.node(cluster.url()).await, town.node(cluster.url()).await];
    nodes[0].buy(1, &[0, 1]).await;
    let tag = format!("{{{}:{}}}", performance_key().sale, performance_key().performance);
    let (mut held, mut refused) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let owner = cluster.owner_of_key(&tag).await.unwrap();
        let moving = cluster.move_slot_of_key(&tag, (owner + 1) % 3);
        let holding = async {
            for n in 0..20 {
                let (who, seat) = (round * 20 + n + 2, round * 20 + n + 2);
                match nodes[n as usize % 2].try_hold(who, &[seat]).await {
                    Ok(HoldOutcome::Held(hold)) => held.push((who, hold.id)),
                    Ok(other) => panic!("{other:?}"),
                    Err(error) => refused.push(error),
                }
                tokio::time::sleep(A_MOMENT).await;
            }
        };
        tokio::join!(async { moving.await.unwrap() }, holding);
    }
    assert_eq!((town.epoch().await, refused), (1, vec![]), "moved is not lost");
    for (who, hold) in held {
        assert!(nodes[1].lives(who, hold).await);
    }
    // A node that comes later finds a memory at home.
    let store = nodes[0].performance.volatile_store().unwrap();
    in_time(async {
        while !store.dataset_status().await.ok().flatten().is_some_and(|it| it.is_activated_server) {
            tokio::time::sleep(A_MOMENT).await;
        }
    })
    .await;
    let late = town.node(cluster.url()).await;
    assert_eq!((late.booked().await, town.epoch().await), (vec![0, 1], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_is_followed_where_the_engine_drifts() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_795_464_000_000)));
    let (server, town) = (
        RedisServer::start().await.unwrap(),
        Town::by(Arc::clone(&clock) as Arc<dyn Clock>).await,
    );
    let node = town.node(server.url()).await;
    node.buy(1, &[0, 1]).await;
    let hold = town.ledger.claims(None, clock.now()).await.unwrap()[0].hold;
    node.performance.free(hold, &[SeatIx(0)]).await.unwrap();
    let stranger = HoldId::random(&OsEntropy);
    node.performance
        .book(stranger, &[SeatIx(9)], &buyer(9))
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
    assert_eq!(town.epoch().await, 1);
}

//! Several nodes and one queue: on Redis and PostgreSQL, with what can happen to either.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;

use super::draw::TestBeacon;
use crate::{
    kernel::{Clock, OsEntropy, SeededEntropy, Subject, SystemClock},
    platform::{
        keys::Keys,
        redis::{Redis, RedisConfig},
        shutdown::Lifecycle,
    },
    waiting_room::{
        draw::progress::DrawTerms,
        journal::{
            port::Journal,
            postgres::journal::PostgresJournal,
            record::{Event, Join, PendingJoin, Record, StoredRecord},
            request::{WriteRequest, WriteResult},
        },
        open::Deps,
        room::WaitingRoom,
        store::{conformance, port::Assigned},
        tokens::queue_token::{QueueToken, subject_hash},
        types::{
            BoxOfficeLoad, Config, Durability, EnterOutcome, EntryState, JoinOutcome, JournalLocation,
            StoreBackend,
        },
    },
};
use testkit::{Postgres, RedisCluster, RedisSentinels, RedisServer};

pub(super) struct Nodes {
    pub(super) rooms: Vec<Arc<WaitingRoom>>,
    pub(super) life: Lifecycle,
    journal: PostgresJournal,
    postgres: Postgres,
}

fn customer(n: u32) -> Subject {
    Subject::customer(&n.to_string()).unwrap()
}

/// A door that is open, with passes long enough not to lapse within a test.
pub(super) fn config(durability: Durability) -> Config {
    let now = SystemClock::new().now();
    Config {
        prequeue_starts_at: now.minus(Duration::from_secs(10)),
        on_sale_starts_at: now.minus(Duration::from_secs(5)),
        closes_at: now.plus(Duration::from_hours(1)),
        admission_rate_per_minute: 60_000,
        admission_burst: Some(1_000),
        queue_entries_max: 100_000,
        durability,
        ..conformance::config(20)
    }
}

impl Nodes {
    pub(super) async fn open(count: usize, config: Config, redis_url: String) -> Self {
        let postgres = Postgres::start().await.unwrap();
        let url = postgres.create_database("queue").await.unwrap();
        let (call_deadline, connect_deadline) = (Duration::from_millis(500), Duration::from_secs(1));
        let redis = Redis::new(RedisConfig {
            url: redis_url,
            command_timeout: call_deadline,
            connect_timeout: connect_deadline,
            allow_unsafe: false,
        })
        .unwrap();
        let (life, keys) = (Lifecycle::new(), Keys::ephemeral(&SeededEntropy::new(42)));
        let mut rooms = Vec::new();
        for node in 0..count {
            let deps = Deps {
                clock: Arc::new(SystemClock::new()),
                entropy: Arc::new(OsEntropy),
                keys: keys.clone(),
                journal: JournalLocation::Postgres { url: url.clone() },
                store: StoreBackend::Redis(redis.clone()),
                node_name: format!("node-{node}"),
                lifecycle: life.clone(),
            };
            rooms.push(crate::waiting_room::open(config.clone(), deps).await.unwrap());
        }
        let journal = PostgresJournal::open(&url, config.sale.clone(), 1).await.unwrap();
        Self {
            rooms,
            life,
            journal,
            postgres,
        }
    }

    pub(super) fn room(&self, n: u32) -> &Arc<WaitingRoom> {
        &self.rooms[n as usize % self.rooms.len()]
    }

    /// Joins at a node until it is answered; gives the token.
    pub(super) async fn join(&self, n: u32, node: u32) -> QueueToken {
        let room = self.room(node);
        let started = tokio::time::Duration::from_secs(30);
        let asking = async {
            loop {
                if let Ok(JoinOutcome::Joined(joined) | JoinOutcome::Existing(joined)) =
                    room.join(&customer(n)).await
                {
                    return room.verify_token(&joined.token).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(started, asking)
            .await
            .expect("the queue goes on")
    }

    pub(super) async fn records(&self) -> Vec<Record> {
        let (mut after, mut records) = (0, Vec::new());
        loop {
            let page = self.journal.read(after, 1_000).await.unwrap();
            let Some(StoredRecord { seq, .. }) = page.last() else {
                return records;
            };
            after = *seq;
            records.extend(page.into_iter().map(|it| it.record));
        }
    }

    /// What must be true of the journal, whatever happened.
    pub(super) async fn checker(&self, config: &Config) -> Checked {
        let (mut owners, mut numbers) = (BTreeMap::new(), BTreeMap::<u64, BTreeSet<u32>>::new());
        let (mut inside, mut entered, mut left) = (HashSet::new(), HashSet::new(), HashSet::new());
        let (mut serving, mut active_most) = (0, 0);
        for record in self.records().await {
            match record {
                Record::Joins { first, joins } => {
                    for (number, join) in (first..).zip(joins) {
                        assert_eq!(
                            *owners.entry(number).or_insert(join.subject),
                            join.subject,
                            "number {number} is two customers'"
                        );
                        let hers = numbers.entry(join.subject).or_default();
                        hers.insert(number);
                        assert_eq!(
                            hers.iter().filter(|it| !left.contains(*it)).count(),
                            1,
                            "one customer has two numbers: {hers:?}"
                        );
                    }
                }
                Record::Event {
                    event: Event::Called { after, last, .. },
                    ..
                } => {
                    assert_eq!(after, serving, "calls follow on");
                    serving = last;
                }
                Record::Event {
                    event:
                        Event::Admitted {
                            number,
                            visit,
                            subject,
                        },
                    ..
                } => {
                    assert!(number <= serving, "{number} was not called");
                    assert!(entered.insert(number), "{number} entered twice");
                    assert_eq!(owners.get(&number).copied().unwrap_or(subject), subject);
                    inside.insert(visit);
                    active_most = active_most.max(inside.len());
                }
                Record::Event {
                    event: Event::VisitEnded { number, visit },
                    ..
                } => {
                    inside.remove(&visit);
                    left.insert(number);
                }
                Record::Event {
                    event: Event::Left { number },
                    ..
                } => {
                    left.insert(number);
                }
                Record::Event { .. } => {}
            }
        }
        assert!(
            active_most <= config.active_visits_max as usize,
            "{active_most} were inside"
        );
        Checked {
            owners,
            entered: entered.len(),
            active_most,
        }
    }
}

pub(super) struct Checked {
    owners: BTreeMap<u32, u64>,
    entered: usize,
    active_most: usize,
}

/// Enters when called, stays a moment, and goes; each step at another node.
async fn visit(nodes: &Nodes, n: u32, token: QueueToken) {
    for knock in 0_u32.. {
        let room = nodes.room(n + knock);
        if let Ok(EnterOutcome::Admitted { pass, .. }) = room.enter(&token, BoxOfficeLoad::Normal).await {
            tokio::time::sleep(Duration::from_millis(30)).await;
            for step in 1_u32.. {
                let room = nodes.room(n + knock + step);
                let read = room.verify_pass(&pass);
                assert!(read.is_ok() || step > 1, "a pass opens every node at once");
                // An end whose answer was lost is one.
                let Ok(pass) = read else { return };
                if room.end_visit(&pass).await.is_ok() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_serve_one_queue() {
    let server = RedisServer::start().await.unwrap();
    let config = config(Durability::Committed);
    let nodes = Nodes::open(3, config.clone(), server.url()).await;
    // Everyone asks two nodes at once.
    let tokens = join_all((0..300_u32).map(|n| {
        let nodes = &nodes;
        async move {
            let (one, other) = tokio::join!(nodes.join(n, n), nodes.join(n, n + 1));
            assert_eq!(one, other, "customer {n} has one entry on every node");
            one
        }
    }))
    .await;
    let walked = tokio::time::timeout(
        Duration::from_mins(1),
        join_all((0..).zip(&tokens).map(|(n, token)| visit(&nodes, n, *token))),
    );
    walked.await.expect("everybody comes in");
    let checked = nodes.checker(&config).await;
    assert_eq!((checked.owners.len(), checked.entered), (300, 300));
    assert!(checked.active_most > 1, "they were inside together");
    for room in &nodes.rooms {
        // A node that did not write the last call learns of it with the next tick.
        let follows = async {
            while (room.metrics().numbers_issued, room.metrics().now_serving) != (300, 300) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(
            tokio::time::timeout(Duration::from_secs(5), follows)
                .await
                .is_ok(),
            "{:?}",
            room.metrics()
        );
        assert_eq!(room.position(&tokens[7]).state, EntryState::Left);
    }
    let statuses: HashSet<_> = nodes
        .rooms
        .iter()
        .map(|room| room.status().json.clone())
        .collect();
    assert!(
        statuses.len() <= 2,
        "all nodes serve the same bytes, but for one that is just taking over the next status"
    );
    nodes.life.stop();
}

/// Fans come, are called, enter and leave all the while `fault` does its worst to the servers.
async fn through(
    durability: Durability,
    redis_url: String,
    fault: impl AsyncFnOnce(&mut Postgres),
) -> (Checked, u64) {
    let config = config(durability);
    let mut nodes = Nodes::open(3, config.clone(), redis_url).await;
    let epoch = nodes.journal.head().await.unwrap().epoch();
    let mut first = Vec::new();
    for n in 0..60 {
        first.push(nodes.join(n, n).await);
    }
    let mut postgres = std::mem::replace(&mut nodes.postgres, Postgres::start().await.unwrap());
    let nodes = Arc::new(nodes);
    let crowd: Vec<_> = (60..260_u32)
        .map(|n| {
            let nodes = Arc::clone(&nodes);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(u64::from(n - 60) * 20)).await;
                let token = nodes.join(n, n).await;
                let again = nodes.join(n, n + 1).await;
                assert_eq!(token.arrival, again.arrival, "customer {n} keeps the number");
                visit(&nodes, n, token).await;
            })
        })
        .chain((0..).zip(first.clone()).map(|(n, token)| {
            let nodes = Arc::clone(&nodes);
            tokio::spawn(async move { visit(&nodes, n, token).await })
        }))
        .collect();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    fault(&mut postgres).await;
    for done in tokio::time::timeout(Duration::from_mins(1), join_all(crowd))
        .await
        .expect("the sale goes on")
    {
        done.unwrap();
    }
    for (n, token) in (0..).zip(&first) {
        let ends = async {
            while nodes.room(n).position(token).state != EntryState::Left {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // An end that was not journaled before the fault is journaled by the next tick after the recovery,
        // for which sentinels alone need some ten seconds on a busy machine.
        let ended = tokio::time::timeout(Duration::from_secs(30), ends).await;
        ended.unwrap_or_else(|_| panic!("the visit of customer {n} has not ended"));
    }
    let checked = nodes.checker(&config).await;
    let raised = nodes.journal.head().await.unwrap().epoch() - epoch;
    nodes.life.stop();
    (checked, raised)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unwritten_number_is_abandoned_when_the_draw_closes() {
    let (server, now) = (RedisServer::start().await.unwrap(), SystemClock::new().now());
    let on_sale_starts_at = now.plus(Duration::from_secs(8));
    let draw = Some(DrawTerms {
        chain: super::draw::chain(),
        beacon: Arc::new(TestBeacon::default()),
    });
    let config = Config {
        on_sale_starts_at,
        draw,
        ..config(Durability::Committed)
    };
    let nodes = Nodes::open(2, config.clone(), server.url()).await;
    let mut tokens = vec![nodes.join(1, 0).await, nodes.join(2, 1).await];
    // A node assigns a number, and is away before it is written down.
    let room = nodes.room(0);
    let subject = subject_hash(
        &Keys::ephemeral(&SeededEntropy::new(42)).queue,
        &config.sale,
        &customer(3),
    );
    let Assigned::New(given) = room
        .context()
        .store
        .assign_number(Join {
            subject,
            joined_at: SystemClock::new().now(),
        })
        .await
        .unwrap()
    else {
        panic!("the subject is new");
    };
    assert_eq!(given.number, 3);
    tokens.extend([nodes.join(4, 0).await, nodes.join(5, 1).await]);
    assert!(
        SystemClock::new().now() < on_sale_starts_at,
        "this machine was too slow"
    );

    let closed = async {
        while nodes
            .rooms
            .iter()
            .any(|room| room.published_draw().unwrap().entries.is_none())
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), closed)
        .await
        .expect("the entries are closed");
    let published = nodes.room(1).published_draw().unwrap();
    assert_eq!(
        (published.entries, nodes.room(1).context().store.subjects_of(3, 1)),
        (Some(5), vec![None]),
        "the number is void"
    );
    let late = nodes.join(3, 1).await;
    assert!(late.arrival > 5, "the new number is behind the draw: {late:?}");
    assert_eq!(nodes.join(3, 0).await, late, "on every node");
    for (n, token) in [1, 2, 4, 5].into_iter().zip(&tokens) {
        assert_eq!(
            nodes.join(n, n + 1).await,
            *token,
            "the others are where they were"
        );
    }
    let receipts = join_all(
        tokens
            .iter()
            .chain([&late])
            .map(|token| nodes.room(0).draw_receipt(token)),
    )
    .await;
    let in_it: Vec<bool> = receipts
        .iter()
        .map(|receipt| receipt.as_ref().unwrap().path.is_some())
        .collect();
    assert_eq!(in_it, [true, true, true, true, false]);
    nodes.checker(&config).await;
    nodes.life.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_node_survives_a_conflicting_number_of_an_old_epoch() {
    let server = RedisServer::start().await.unwrap();
    let config = config(Durability::Committed);
    let nodes = Nodes::open(2, config.clone(), server.url()).await;
    for n in 1..=3 {
        nodes.join(n, n).await;
    }
    // The slow node is given a number, and does not get round to writing it down before the memory is lost.
    let slow = nodes.room(0);
    let subject = subject_hash(
        &Keys::ephemeral(&SeededEntropy::new(42)).queue,
        &config.sale,
        &customer(4),
    );
    let (epoch, join) = (
        slow.context().store.epoch(),
        Join {
            subject,
            joined_at: SystemClock::new().now(),
        },
    );
    assert!(matches!(slow.context().store.assign_number(join).await,
            Ok(Assigned::New(given)) if given.number == 4));
    server.flush_all().await.unwrap();
    let rebuilt = async {
        while nodes
            .rooms
            .iter()
            .any(|room| room.context().store.epoch() == epoch || !room.context().store.is_complete())
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), rebuilt)
        .await
        .expect("the memory is given back");
    assert_eq!(nodes.join(5, 1).await.arrival, 4, "the journal did not have it");
    assert_eq!(
        slow.context()
            .writer
            .submit(WriteRequest::Join(PendingJoin {
                number: 4,
                join,
                epoch
            }))
            .await,
        Ok(WriteResult::Failed)
    );
    assert_eq!(
        (nodes.join(6, 0).await.arrival, nodes.join(4, 0).await.arrival),
        (5, 6),
        "the slow node goes on"
    );
    nodes.checker(&config).await;
    nodes.life.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_redis_is_emptied() {
    for durability in [Durability::Committed, Durability::Async] {
        let server = RedisServer::start().await.unwrap();
        let (checked, raised) = through(durability, server.url(), async |_| {
            server.flush_all().await.unwrap();
        })
        .await;
        assert_eq!((checked.entered, raised >= 1), (260, true), "{durability:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_redis_is_killed() {
    let mut server = RedisServer::start().await.unwrap();
    let (checked, raised) = through(Durability::Committed, server.url(), async |_| {
        server.kill9().unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.restart().await.unwrap();
    })
    .await;
    assert_eq!((checked.entered, raised >= 1), (260, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_sentinels_promote_the_replica() {
    for durability in [Durability::Committed, Durability::Async] {
        let mut watched = RedisSentinels::start().await.unwrap();
        let (checked, raised) = through(durability, watched.url(), async |_| {
            watched.primary_mut().kill9().unwrap();
        })
        .await;
        assert_eq!((checked.entered, raised >= 1), (260, true), "{durability:?}");
        assert_eq!(watched.replica().info("role").await.unwrap(), "master");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_a_replica_takes_over_in_a_cluster() {
    let mut cluster = RedisCluster::start(3).await.unwrap();
    let tag = format!("{{{}}}", config(Durability::Committed).sale);
    let owner = cluster.owner_of_key(&tag).await.unwrap();
    let replica = cluster.add_replica_of(owner).await.unwrap();
    let (checked, raised) = through(Durability::Committed, cluster.url(), async |_| {
        cluster.member_mut(owner).kill9().unwrap();
    })
    .await;
    assert_eq!((checked.entered, raised >= 1), (260, true));
    assert_eq!(cluster.owner_of_key(&tag).await.unwrap(), replica);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_postgresql_is_killed() {
    let server = RedisServer::start().await.unwrap();
    let (checked, raised) = through(Durability::Committed, server.url(), async |postgres| {
        postgres.kill9().unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        postgres.restart().await.unwrap();
    })
    .await;
    assert_eq!((checked.entered, raised), (260, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_embedded_stores_the_later_one_writes() {
    let postgres = Postgres::start().await.unwrap();
    let url = postgres.create_database("queue").await.unwrap();
    let (life, keys) = (Lifecycle::new(), Keys::ephemeral(&SeededEntropy::new(42)));
    let open = async || {
        let deps = Deps {
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(OsEntropy),
            keys: keys.clone(),
            journal: JournalLocation::Postgres { url: url.clone() },
            store: StoreBackend::Memory,
            node_name: "alone".into(),
            lifecycle: life.clone(),
        };
        crate::waiting_room::open(config(Durability::Committed), deps)
            .await
            .unwrap()
    };
    let first = open().await;
    let JoinOutcome::Joined(one) = first.join(&customer(1)).await.unwrap() else {
        panic!("a new customer")
    };
    let second = open().await;
    assert!(first.join(&customer(2)).await.is_err(), "its epoch is over");
    assert_eq!(
        second.join(&customer(1)).await.unwrap(),
        JoinOutcome::Existing(second_view(&second, &one.token))
    );
    let JoinOutcome::Joined(two) = second.join(&customer(2)).await.unwrap() else {
        panic!("a new customer")
    };
    assert_eq!(two.number, Some(2));
    life.stop();
}

fn second_view(room: &WaitingRoom, token: &str) -> crate::waiting_room::Joined {
    let read = room.verify_token(token).unwrap();
    let place = room.position(&read);
    crate::waiting_room::Joined {
        token: token.to_owned(),
        state: place.state,
        number: place.number,
        joined_at: read.joined_at,
        heartbeat_sample: place.heartbeat_sample,
    }
}

/// Each customer's page talks to whichever node the balancer chooses.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_share_heartbeats() {
    let redis = RedisServer::start().await.unwrap();
    let config = Config {
        admission_rate_per_minute: 60,
        admission_burst: Some(1),
        ..config(Durability::Committed)
    };
    let nodes = Nodes::open(2, config, redis.url()).await;
    let mut tokens = Vec::new();
    for n in 0..120 {
        tokens.push(nodes.join(n, n % 2).await);
    }
    let status =
        |node: u32| -> serde_json::Value { serde_json::from_slice(&nodes.room(node).status().json).unwrap() };
    let told = |node: u32| status(node)["presence"]["online"][0][1].as_u64();
    let all_there = async {
        while (0..2).any(|node| told(node) != Some(100)) {
            for (n, token) in (0_u32..).zip(&tokens) {
                nodes.room(n % 2).heartbeat(token);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(20), all_there)
            .await
            .is_ok(),
        "{} {}",
        status(0),
        status(1)
    );
    // Each by itself learns it of all, so that it does not matter which of them makes the status.
    let online_at = |node: u32| {
        let room = nodes.room(node);
        let store = &room.context().store;
        let asked = store.heartbeat_sample(120);
        let now = SystemClock::new().now();
        let online = room
            .presence()
            .status(&asked, store.now_serving(), 120, 120, now)
            .online;
        online.iter().map(|share| share.percent).min()
    };
    let each_knows = async {
        while (0..2).any(|node| online_at(node).is_none_or(|percent| percent <= 90)) {
            for (n, token) in (0_u32..).zip(&tokens) {
                nodes.room(n % 2).heartbeat(token);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let learned = tokio::time::timeout(Duration::from_secs(10), each_knows).await;
    assert!(learned.is_ok(), "{:?}", [0, 1].map(online_at));
    nodes.life.stop();
}

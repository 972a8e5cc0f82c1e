//! The store on real Redis servers.

mod rebuild;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use testkit::{RedisCluster, RedisServer};

use crate::{
    kernel::{Clock, SeededEntropy, SystemClock},
    platform::{
        redis::{Redis, RedisConfig},
        shutdown::Lifecycle,
    },
    seating::{
        seat::{SeatIx, SeatStates},
        store::{
            conformance,
            fixture::{self, Fixture, TERMS, customer, hold_id, request, seats},
            model_check,
            port::{BookReply, ExtendReply, HoldReply, IdempotencyKey, SeatStore, StoreHold},
            redis::{rebuild::RebuildOutcome, scripts::SCRIPTS, store::RedisStore},
        },
        types::StoreError,
    },
};

const SEATS: usize = 100;

fn redis(url: String) -> Redis {
    let timeout = Duration::from_secs(2);
    Redis::new(RedisConfig {
        url,
        command_timeout: timeout,
        connect_timeout: timeout,
        allow_unsafe: false,
    })
    .unwrap()
}

/// One node's empty store, activated under epoch 1.
async fn activated_store(
    redis: &Redis,
    tag: String,
    clock: Option<Arc<dyn Clock>>,
    lifecycle: &Lifecycle,
) -> RedisStore {
    let store = RedisStore::start_with(
        redis.clone(),
        tag,
        (SEATS, TERMS),
        clock,
        Arc::new(SeededEntropy::new(1)),
        lifecycle,
    );
    activate(&store, 1).await;
    store
}

/// Waits until a server is connected, rebuilds it without claims if it is not ready, and activates it.
async fn activate(store: &RedisStore, epoch: u64) {
    let mut changes = store.dataset_changes();
    while store.dataset_status().await.ok().flatten().is_none() {
        changes.changed().await.unwrap();
    }
    let dataset_id = store.dataset_status().await.unwrap().unwrap().dataset_id;
    let no_claims = async { Ok::<_, StoreError>(Vec::new()) };
    assert_eq!(
        store.rebuild(epoch, &dataset_id, no_claims).await.unwrap(),
        RebuildOutcome::Ready
    );
    store.activate(epoch, &dataset_id);
}

/// Makes stores one after the other, each with its own hash tag.
struct Stores {
    redis: Redis,
    count: AtomicU32,
    lifecycle: Mutex<Lifecycle>,
}

impl Stores {
    fn on(url: String) -> Self {
        Self {
            redis: redis(url),
            count: 0.into(),
            lifecycle: Mutex::default(),
        }
    }

    async fn fixture(&self) -> Fixture<RedisStore> {
        let clock = fixture::clock();
        let n = self.count.fetch_add(1, Ordering::Relaxed);
        // The store before is no longer needed: close its connections.
        let lifecycle = {
            let mut lifecycle = self.lifecycle.lock().unwrap();
            std::mem::take(&mut *lifecycle).stop();
            lifecycle.clone()
        };
        let store = activated_store(
            &self.redis,
            format!("sale:{n}"),
            Some(Arc::clone(&clock) as Arc<dyn Clock>),
            &lifecycle,
        )
        .await;
        Fixture { store, clock }
    }
}

#[tokio::test]
async fn redis_store_conforms_to_the_port() {
    let server = RedisServer::start().await.unwrap();
    let stores = Stores::on(server.url());
    conformance::run(async || stores.fixture().await).await;
}

#[tokio::test]
async fn redis_cluster_store_conforms_to_the_port() {
    let cluster = RedisCluster::start(3).await.unwrap();
    let stores = Stores::on(cluster.url());
    conformance::run(async || stores.fixture().await).await;
}

#[test]
fn redis_store_agrees_with_the_reference_model() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(RedisServer::start()).unwrap();
    let stores = Stores::on(server.url());
    model_check::run(120, &runtime, async || stores.fixture().await);
}

#[test]
fn redis_cluster_store_agrees_with_the_reference_model() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(RedisCluster::start(3)).unwrap();
    let stores = Stores::on(cluster.url());
    model_check::run(60, &runtime, async || stores.fixture().await);
}

/// Two nodes on one server, which use the server's own clock.
struct TwoNodes {
    server: RedisServer,
    nodes: [RedisStore; 2],
    lifecycle: Lifecycle,
}

impl TwoNodes {
    async fn start() -> Self {
        let (server, lifecycle) = (RedisServer::start().await.unwrap(), Lifecycle::new());
        let redis = redis(server.url());
        let nodes = [
            activated_store(&redis, "sale:1".into(), None, &lifecycle).await,
            activated_store(&redis, "sale:1".into(), None, &lifecycle).await,
        ];
        Self {
            server,
            nodes,
            lifecycle,
        }
    }
}

impl Drop for TwoNodes {
    fn drop(&mut self) {
        self.lifecycle.stop();
    }
}

#[tokio::test]
async fn call_sent_twice_has_the_reply_of_the_first() {
    let pair = TwoNodes::start().await;
    let [first, second] = &pair.nodes;
    let idempotency_key = Some(IdempotencyKey {
        key_hash: [1; 16],
        request_hash: [2; 16],
    });
    for request in [
        request(1, 1, &[0, 1]),
        StoreHold {
            idempotency_key,
            ..request(2, 1, &[2, 3])
        },
    ] {
        let reply = first.hold(&request).await.unwrap();
        assert!(matches!(reply, HoldReply::Held { .. }), "{reply:?}");
        assert_eq!(
            second.hold(&request).await.unwrap(),
            reply,
            "as if the first reply had been lost"
        );
    }
    assert_eq!(
        first.hold(&request(3, 1, &[9])).await.unwrap(),
        HoldReply::LimitReached,
        "nothing was counted twice"
    );
    let subject = customer(1);
    let replies = [
        first.book(hold_id(1), &subject, &seats(&[0, 1])).await,
        second.book(hold_id(1), &subject, &seats(&[0, 1])).await,
    ];
    assert_eq!(replies, [Ok(BookReply::Booked), Ok(BookReply::Booked)]);
    first.free(hold_id(1), &seats(&[0])).await.unwrap();
    second.free(hold_id(1), &seats(&[0])).await.unwrap();
    assert!(matches!(
        first.hold(&request(3, 1, &[0])).await.unwrap(),
        HoldReply::Held { .. }
    ));
}

#[tokio::test]
async fn extension_sent_twice_counts_once() {
    let pair = TwoNodes::start().await;
    let (store, subject) = (&pair.nodes[0], customer(1));
    store.hold(&request(1, 1, &[0])).await.unwrap();
    let call = || {
        store
            .core
            .owned_hold_call(hold_id(1), &subject)
            .arg(60_000_u32)
            .arg(1_u8)
    };
    let replies = [
        store.core.reply(&SCRIPTS.extend, call()).await.unwrap(),
        store.core.reply(&SCRIPTS.extend, call()).await.unwrap(),
    ];
    assert!(replies.iter().all(|reply| reply.status() == b"extended"));
    assert_eq!(
        store.extend(hold_id(1), &subject).await.unwrap(),
        ExtendReply::NoMoreExtensions
    );
}

#[tokio::test]
async fn holds_expire_by_the_servers_clock() {
    let pair = TwoNodes::start().await;
    let clock = SystemClock::new();
    let earliest = clock.now().plus(TERMS.hold_ttl);
    let HoldReply::Held { expires_at, .. } = pair.nodes[0].hold(&request(1, 1, &[0])).await.unwrap() else {
        panic!("not held")
    };
    assert!((earliest..=clock.now().plus(TERMS.hold_ttl)).contains(&expires_at));
}

#[tokio::test]
async fn changes_are_visible_on_all_nodes_and_at_once_on_their_own() {
    let pair = TwoNodes::start().await;
    let [first, second] = &pair.nodes;
    let (start, mut shown) = second.load().await.unwrap();
    let mut version = start;
    for n in 0..50 {
        let own = first.load().await.unwrap().0;
        first
            .hold(&request(n, u8::try_from(n).unwrap(), &[n]))
            .await
            .unwrap();
        let mut changes = Vec::new();
        assert!(first.changes_since(own, &mut changes));
        assert_eq!(
            changes.iter().map(|change| change.seat).collect::<Vec<_>>(),
            [SeatIx(n)],
            "the node's own hold, at once"
        );
    }
    let seen = async {
        while (0..50).any(|n| shown.is_free(SeatIx(n))) {
            let mut changes = Vec::new();
            assert!(
                second.changes_since(version, &mut changes),
                "continued from the last version"
            );
            for change in changes {
                shown.set(change.seat, change.state);
                version = change.version;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), seen)
        .await
        .expect("the stream brings the changes");
}

/// Each caller records in a table outside the store who owns which seat; two owners of one seat would be seen
/// there.
#[tokio::test(flavor = "multi_thread")]
async fn competing_callers_on_two_nodes_never_share_a_seat() {
    let pair = TwoNodes::start().await;
    let owners: Arc<Vec<AtomicU32>> = Arc::new((0..24).map(|_| AtomicU32::new(0)).collect());
    let conflicts = Arc::new(AtomicU32::new(0));
    let callers = (1..=8_u8).map(|me| {
        let (store, owners, conflicts) = (
            pair.nodes[usize::from(me % 2)].clone(),
            Arc::clone(&owners),
            Arc::clone(&conflicts),
        );
        tokio::spawn(async move {
            let mut random = u32::from(me);
            for round in 0..150 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let first = random >> 8;
                let wanted: Vec<u32> = (0..=first % 4).map(|i| (first / 4 + i * 5) % 24).collect();
                let id = u32::from(me) << 24 | round;
                match store.hold(&request(id, me, &wanted)).await.unwrap() {
                    HoldReply::Held { .. } => {
                        for seat in &wanted {
                            assert_eq!(
                                owners[*seat as usize].swap(u32::from(me), Ordering::SeqCst),
                                0,
                                "seat {seat} had an owner"
                            );
                        }
                        for seat in &wanted {
                            owners[*seat as usize].store(0, Ordering::SeqCst);
                        }
                        assert!(store.release(hold_id(id), &customer(me)).await.unwrap());
                    }
                    HoldReply::Taken(taken) => {
                        assert!(!taken.is_empty() && taken.iter().all(|seat| wanted.contains(&seat.0)));
                        conflicts.fetch_add(1, Ordering::Relaxed);
                    }
                    other => panic!("{other:?}"),
                }
            }
        })
    });
    futures_util::future::join_all(callers)
        .await
        .into_iter()
        .for_each(|caller| caller.unwrap());
    assert_eq!(
        pair.nodes[0].load().await.unwrap().1,
        SeatStates::free(SEATS),
        "all or none: nothing is left behind"
    );
    assert!(conflicts.load(Ordering::Relaxed) > 0, "the callers competed");
}

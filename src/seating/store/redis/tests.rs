//! The engine on real servers.

use crate::seating::store::{
    conformance::{self, Bench, TERMS, fan, hold_id, request, seats},
    redis::*,
    reference_model,
};
use crate::{
    kernel::SeededEntropy,
    platform::redis::RedisConfig,
};
use testkit::{RedisCluster, RedisServer};

const SEATS: usize = 100;

fn redis(url: String) -> Redis {
    let deadline = std::time::Duration::from_secs(2);
    Redis::new(RedisConfig {
        url,
        command_timeout: deadline,
        connect_timeout: deadline,
        allow_unsafe: false,
    })
    .unwrap()
}

/// A node's engine, under an epoch of its own, empty.
async fn engine(redis: &Redis, tag: String, clock: Option<Arc<dyn Clock>>, life: &Lifecycle) -> RedisStore {
    let store = RedisStore::start_with(
        redis.clone(),
        tag,
        (SEATS, TERMS),
        clock,
        Arc::new(SeededEntropy::new(1)),
        life,
    );
    vouched(&store, 1).await;
    store
}

/// Waits until the server is there, fills it with nothing if it is not ready, and vouches for it.
async fn vouched(store: &RedisStore, epoch: u64) {
    let mut changes = store.dataset_changes();
    while store.dataset_status().await.ok().flatten().is_none() {
        changes.changed().await.unwrap();
    }
    let identity = store.dataset_status().await.unwrap().unwrap().identity;
    let nothing = async { Ok::<_, StoreError>(Vec::new()) };
    assert_eq!(
        store.rebuild(epoch, &identity, nothing).await.unwrap(),
        RebuildOutcome::Ready
    );
    store.activate(epoch, &identity);
}

/// Engines one after the other, each with a tag of its own.
struct Engines {
    redis: Redis,
    made: std::sync::atomic::AtomicU32,
    life: std::sync::Mutex<Lifecycle>,
}

impl Engines {
    fn on(url: String) -> Self {
        Self {
            redis: redis(url),
            made: 0.into(),
            life: std::sync::Mutex::default(),
        }
    }

    async fn bench(&self) -> Bench<RedisStore> {
        let clock = conformance::clock();
        let n = self.made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // The one before is needed no longer: its connections are closed.
        let life = {
            let mut life = self.life.lock().unwrap();
            std::mem::take(&mut *life).stop();
            life.clone()
        };
        let store = engine(
            &self.redis,
            format!("sale:{n}"),
            Some(Arc::clone(&clock) as Arc<dyn Clock>),
            &life,
        )
        .await;
        Bench { store, clock }
    }
}

#[tokio::test]
async fn the_engine_on_redis_keeps_the_contract() {
    let server = RedisServer::start().await.unwrap();
    let engines = Engines::on(server.url());
    conformance::run(async || engines.bench().await).await;
}

#[tokio::test]
async fn the_engine_on_a_cluster_keeps_the_contract() {
    let cluster = RedisCluster::start(3).await.unwrap();
    let engines = Engines::on(cluster.url());
    conformance::run(async || engines.bench().await).await;
}

#[test]
fn the_engine_on_redis_does_what_a_naive_one_does() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(RedisServer::start()).unwrap();
    let engines = Engines::on(server.url());
    reference_model::run(120, &runtime, async || engines.bench().await);
}

#[test]
fn the_engine_on_a_cluster_does_what_a_naive_one_does() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(RedisCluster::start(3)).unwrap();
    let engines = Engines::on(cluster.url());
    reference_model::run(60, &runtime, async || engines.bench().await);
}

/// Two nodes on one server, by the server's own time.
struct Two {
    server: RedisServer,
    nodes: [RedisStore; 2],
    life: Lifecycle,
}

impl Two {
    async fn start() -> Self {
        let (server, life) = (RedisServer::start().await.unwrap(), Lifecycle::new());
        let redis = redis(server.url());
        let nodes = [
            engine(&redis, "sale:1".into(), None, &life).await,
            engine(&redis, "sale:1".into(), None, &life).await,
        ];
        Self { server, nodes, life }
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        self.life.stop();
    }
}

#[tokio::test]
async fn a_call_that_is_sent_twice_answers_as_the_first_time() {
    let two = Two::start().await;
    let [first, second] = &two.nodes;
    let operation = Some(IdempotencyKey {
        key: [1; 16],
        request_hash: [2; 16],
    });
    for request in [
        request(1, 1, &[0, 1]),
        StoreHold {
            operation,
            ..request(2, 1, &[2, 3])
        },
    ] {
        let reply = first.hold(&request).await.unwrap();
        assert!(matches!(reply, HoldReply::Held { .. }), "{reply:?}");
        assert_eq!(
            second.hold(&request).await.unwrap(),
            reply,
            "as if the first answer had been lost"
        );
    }
    assert_eq!(
        first.hold(&request(3, 1, &[9])).await.unwrap(),
        HoldReply::LimitReached,
        "and nothing was counted twice"
    );
    let who = fan(1);
    let answers = [
        first.book(hold_id(1), &who, &seats(&[0, 1])).await,
        second.book(hold_id(1), &who, &seats(&[0, 1])).await,
    ];
    assert_eq!(answers, [Ok(BookReply::Booked), Ok(BookReply::Booked)]);
    first.free(hold_id(1), &seats(&[0])).await.unwrap();
    second.free(hold_id(1), &seats(&[0])).await.unwrap();
    assert!(matches!(
        first.hold(&request(3, 1, &[0])).await.unwrap(),
        HoldReply::Held { .. }
    ));
}

#[tokio::test]
async fn an_extension_that_is_sent_twice_is_one() {
    let two = Two::start().await;
    let (store, who) = (&two.nodes[0], fan(1));
    store.hold(&request(1, 1, &[0])).await.unwrap();
    let call = || store.0.on_her_hold(hold_id(1), &who).arg(60_000_u32).arg(1_u8);
    let answers = [
        store.0.answer(&SCRIPTS.extend, call()).await.unwrap(),
        store.0.answer(&SCRIPTS.extend, call()).await.unwrap(),
    ];
    assert!(answers.iter().all(|it| it.word() == b"extended"));
    assert_eq!(
        store.extend(hold_id(1), &who).await.unwrap(),
        ExtendReply::NoMoreExtensions
    );
}

#[tokio::test]
async fn holds_run_out_by_the_servers_own_clock() {
    let two = Two::start().await;
    let clock = crate::kernel::SystemClock::new();
    let earliest = clock.now().plus(TERMS.hold_ttl);
    let HoldReply::Held { expires_at, .. } = two.nodes[0].hold(&request(1, 1, &[0])).await.unwrap() else {
        panic!("not held")
    };
    assert!((earliest..=clock.now().plus(TERMS.hold_ttl)).contains(&expires_at));
}

#[tokio::test]
async fn what_one_node_does_is_seen_at_the_other_and_at_once_at_its_own() {
    let two = Two::start().await;
    let [first, second] = &two.nodes;
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
            changes.iter().map(|it| it.seat).collect::<Vec<_>>(),
            [SeatIx(n)],
            "her own hold, at once"
        );
    }
    let seen = async {
        while (0..50).any(|n| shown.is_free(SeatIx(n))) {
            let mut changes = Vec::new();
            assert!(second.changes_since(version, &mut changes), "resumed from where it was");
            for change in changes {
                shown.set(change.seat, change.state);
                version = change.version;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), seen)
        .await
        .expect("the stream brings them");
}

/// Each caller notes in a table outside whose seat is whose; two names on one seat would be seen there.
#[tokio::test(flavor = "multi_thread")]
async fn callers_at_two_nodes_who_fight_for_seats_never_share_one() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let two = Two::start().await;
    let owners: Arc<Vec<AtomicU32>> = Arc::new((0..24).map(|_| AtomicU32::new(0)).collect());
    let fought = Arc::new(AtomicU32::new(0));
    let callers = (1..=8_u8).map(|me| {
        let (store, owners, fought) = (
            two.nodes[usize::from(me % 2)].clone(),
            Arc::clone(&owners),
            Arc::clone(&fought),
        );
        tokio::spawn(async move {
            let mut random = u32::from(me);
            for round in 0..150 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let first = random >> 8;
                let wish: Vec<u32> = (0..=first % 4).map(|i| (first / 4 + i * 5) % 24).collect();
                let id = u32::from(me) << 24 | round;
                match store.hold(&request(id, me, &wish)).await.unwrap() {
                    HoldReply::Held { .. } => {
                        for seat in &wish {
                            assert_eq!(
                                owners[*seat as usize].swap(u32::from(me), Ordering::SeqCst),
                                0,
                                "seat {seat} had an owner"
                            );
                        }
                        for seat in &wish {
                            owners[*seat as usize].store(0, Ordering::SeqCst);
                        }
                        assert!(store.release(hold_id(id), &fan(me)).await.unwrap());
                    }
                    HoldReply::Taken(taken) => {
                        assert!(!taken.is_empty() && taken.iter().all(|it| wish.contains(&it.0)));
                        fought.fetch_add(1, Ordering::Relaxed);
                    }
                    other => panic!("{other:?}"),
                }
            }
        })
    });
    futures_util::future::join_all(callers)
        .await
        .into_iter()
        .for_each(|it| it.unwrap());
    assert_eq!(
        two.nodes[0].load().await.unwrap().1,
        SeatStates::free(SEATS),
        "all or none: nothing is left behind"
    );
    assert!(fought.load(Ordering::Relaxed) > 0, "they met");
}

#[tokio::test]
async fn who_fills_the_memory_for_an_epoch_that_is_over_is_refused() {
    let two = Two::start().await;
    let [slow, quick] = &two.nodes;
    let identity = slow.dataset_status().await.unwrap().unwrap().identity;
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let claim = RestoredClaim {
        hold: hold_id(1),
        subject: fan(1),
        visit: crate::kernel::VisitId::from_uuid(uuid::Uuid::nil()),
        seats: vec![SeatIx(0)],
        booked: true,
        until: Timestamp::default(),
    };
    let of_slow = async {
        wait.await.unwrap();
        Ok::<_, StoreError>(vec![claim])
    };
    let slows = slow.rebuild(2, &identity, of_slow);
    let quicks = async {
        while quick.dataset_status().await.unwrap().unwrap().rebuilding_epoch != Some(2) {
            tokio::task::yield_now().await;
        }
        let nothing = || async { Ok::<_, StoreError>(Vec::new()) };
        assert_eq!(
            quick.hold(&request(7, 7, &[7])).await,
            Err(StoreError::Recovering),
            "nobody is answered meanwhile"
        );
        assert_eq!(
            quick.rebuild(2, &identity, nothing()).await,
            Ok(RebuildOutcome::Busy),
            "one fills it"
        );
        assert_eq!(
            quick.rebuild(3, &identity, nothing()).await,
            Ok(RebuildOutcome::Ready),
            "a later epoch has precedence"
        );
        quick.activate(3, &identity);
        go.send(()).unwrap();
    };
    let (slows, ()) = tokio::join!(slows, quicks);
    assert_eq!(slows, Err(StoreError::Recovering));
    quick.activate(3, &identity);
    assert_eq!(quick.load().await.unwrap().1, SeatStates::free(SEATS));
    assert_eq!(
        slow.rebuild(2, &identity, async { Ok::<_, StoreError>(Vec::new()) })
            .await,
        Ok(RebuildOutcome::Superseded)
    );
}

#[tokio::test]
async fn whoever_dies_while_filling_is_replaced() {
    let two = Two::start().await;
    let [dies, lives] = &two.nodes;
    let identity = dies.dataset_status().await.unwrap().unwrap().identity;
    let never = std::future::pending::<Result<Vec<RestoredClaim>, StoreError>>();
    let filling = tokio::time::timeout(
        std::time::Duration::from_millis(200),
        dies.rebuild(2, &identity, never),
    )
    .await;
    assert!(filling.is_err());
    let nothing = || async { Ok::<_, StoreError>(Vec::new()) };
    assert_eq!(
        lives.rebuild(2, &identity, nothing()).await,
        Ok(RebuildOutcome::Busy),
        "it may be slow"
    );
    two.server
        .run(&["PEXPIRE", "{sale:1}:rebuilding", "1"])
        .await
        .unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert_eq!(lives.rebuild(2, &identity, nothing()).await, Ok(RebuildOutcome::Ready));
}

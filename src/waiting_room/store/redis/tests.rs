//! The contract, on one server and on a cluster.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::{
    kernel::{OsEntropy, SaleId},
    platform::redis::{Redis, RedisConfig},
    waiting_room::store::conformance,
};
use testkit::{Postgres, RedisCluster, RedisServer};

fn redis(url: String) -> Redis {
    let (call_deadline, connect_deadline) = (Duration::from_secs(2), Duration::from_secs(2));
    Redis::new(RedisConfig {
        url,
        command_timeout: call_deadline,
        connect_timeout: connect_deadline,
        allow_unsafe: false,
    })
    .unwrap()
}

/// An engine of its own sale, complete.
async fn engine(redis: &Redis, url: &str, sale: SaleId, config: Config, life: &Lifecycle) -> Arc<RedisStore> {
    let line = FencedConnection::start(redis.clone(), sale.to_string(), Arc::new(OsEntropy), life);
    let journal = Arc::new(PgJournal::open(url, sale, 16).await.unwrap());
    let store = RedisStore::build(
        config,
        "node".into(),
        line,
        journal,
        conformance::at(0),
        life,
        Time::Given,
    )
    .await
    .unwrap();
    complete(&store).await;
    store
}

async fn complete(store: &RedisStore) {
    while !store.is_complete() {
        store.look_after_memory().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn keeps_the_contract(redis: Redis) {
    let server = Postgres::start().await.unwrap();
    let url = server.create_database("queue").await.unwrap();
    let (life, made) = (Lifecycle::new(), AtomicU32::new(0));
    conformance::holds(async |config: Config| {
        let sale: SaleId = format!("contract-{}", made.fetch_add(1, Ordering::Relaxed))
            .parse()
            .unwrap();
        engine(&redis, &url, sale, config, &life).await
    })
    .await;
    life.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_an_engine_on_one_server() {
    let server = RedisServer::start().await.unwrap();
    keeps_the_contract(redis(server.url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_an_engine_on_a_cluster() {
    let cluster = RedisCluster::start(3).await.unwrap();
    keeps_the_contract(redis(cluster.url())).await;
}

/// The number of a stranger who comes in this millisecond.
async fn stranger(store: &RedisStore, name: u64, ms: i64) -> u32 {
    let joined_at = conformance::at(1)
        .now
        .plus(Duration::from_millis(u64::try_from(ms).unwrap()));
    match store
        .number(Join {
            subject: name | 1 << 63,
            joined_at,
        })
        .await
        .unwrap()
    {
        Numbered::New(found) => found.number,
        other => panic!("{other:?}"),
    }
}

async fn scripts_run(server: &RedisServer) -> u64 {
    let stats = server.info("cmdstat_evalsha").await.unwrap();
    stats
        .trim_start_matches("calls=")
        .split(',')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

async fn keys_in(server: &RedisServer) -> String {
    server
        .info("db0")
        .await
        .unwrap()
        .split(',')
        .next()
        .unwrap()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_weigh_nothing_and_a_flood_of_them_waits_for_no_engine() {
    let (server, books) = (
        RedisServer::start().await.unwrap(),
        Postgres::start().await.unwrap(),
    );
    let url = books.create_database("queue").await.unwrap();
    let life = Lifecycle::new();
    let config = Config {
        max_fans: 100_000,
        ..conformance::config(9)
    };
    let store = engine(
        &redis(server.url()),
        &url,
        "strangers".parse().unwrap(),
        config,
        &life,
    )
    .await;
    let keys = keys_in(&server).await;
    let mut numbers = Vec::new();
    for name in 0..20 {
        numbers.push(stranger(&store, name, 0).await);
    }
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>(), "few leave no gaps");
    // Time stands still where the engine has to be asked, so that the test does not depend on how fast it is.
    let stocking = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.numbering.stock_up().await }
    });
    let mut calls = 0;
    for ms in 1..200 {
        let before = scripts_run(&server).await;
        for name in 0..20 {
            numbers.push(stranger(&store, name, ms).await);
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        calls += if ms > 150 {
            scripts_run(&server).await - before
        } else {
            0
        };
    }
    stocking.abort();
    assert!(calls <= 100, "{calls} calls for 1,000 who come within 50 ms");
    let last = numbers.iter().max().copied().unwrap();
    let gaps = last - u32::try_from(numbers.len()).unwrap();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 20 + 199 * 20, "nobody has another's number");
    assert!(gaps <= 200, "{gaps} are nobody's");
    assert_eq!(keys_in(&server).await, keys);

    // What was taken ahead under a memory that is lost is nobody's.
    let at_hand = |ms: u64| {
        store.numbering.at_hand(Join {
            subject: 1 << 63,
            joined_at: conformance::at(1).now.plus(Duration::from_millis(ms)),
        })
    };
    assert!(at_hand(199).is_some());
    server.flush_all().await.unwrap();
    store.is_stale();
    complete(&store).await;
    assert!(at_hand(199).is_none());
    assert_eq!(stranger(&store, 0, 199).await, 1, "the journal has none");
    life.stop();
}

//! The contract, on one server and on a cluster.

use std::sync::atomic::AtomicU32;

use super::*;
use crate::{
    kernel::{OsEntropy, SaleId},
    platform::redis::{Redis, RedisConfig},
    simulation::servers::{Postgres, RedisCluster, RedisServer},
    waiting_room::store::contract,
};

fn redis(url: String) -> Redis {
    let (call_deadline, connect_deadline) = (Duration::from_secs(2), Duration::from_secs(2));
    Redis::new(RedisConfig { url, call_deadline, connect_deadline, accept_risky: false }).unwrap()
}

async fn keeps_the_contract(redis: Redis) {
    let server = Postgres::start().await.unwrap();
    let url = server.create_database("queue").await.unwrap();
    let (life, made) = (Lifecycle::new(), AtomicU32::new(0));
    contract::holds(async |config: Config| {
        let sale: SaleId = format!("contract-{}", made.fetch_add(1, Ordering::Relaxed)).parse().unwrap();
        let line = Line::start(redis.clone(), sale.to_string(), Arc::new(OsEntropy), &life);
        let journal = Arc::new(PgJournal::open(&url, sale, 16).await.unwrap());
        let building = RedisStore::build(config, "node".into(), line, journal, contract::at(0), &life, Time::Given);
        let store = building.await.unwrap();
        while !store.is_complete() {
            store.look_after_memory().await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        store
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

//! The engine on real servers.

use super::{
    super::{
        model,
        suite::{self, Bench, TERMS},
    },
    *,
};
use crate::{
    kernel::SeededEntropy,
    platform::redis::RedisConfig,
    simulation::servers::{RedisCluster, RedisServer},
};

const SEATS: usize = 100;

fn redis(url: String) -> Redis {
    let deadline = std::time::Duration::from_secs(2);
    Redis::new(RedisConfig { url, call_deadline: deadline, connect_deadline: deadline, accept_risky: false }).unwrap()
}

/// A node's engine, under an epoch of its own, empty.
async fn engine(redis: &Redis, tag: String, clock: Option<Arc<dyn Clock>>, life: &Lifecycle) -> RedisStore {
    let store = RedisStore::start_with(redis.clone(), tag, (SEATS, TERMS), clock, Arc::new(SeededEntropy::new(1)), life);
    vouched(&store, 1).await;
    store
}

/// Waits until the server is there, fills it with nothing if it is not ready, and vouches for it.
async fn vouched(store: &RedisStore, epoch: u64) {
    let mut changes = store.memory_changes();
    while store.memory().await.ok().flatten().is_none() {
        changes.changed().await.unwrap();
    }
    let identity = store.memory().await.unwrap().unwrap().identity;
    let nothing = async { Ok::<_, StoreError>(Vec::new()) };
    assert_eq!(store.rebuild(epoch, &identity, nothing).await.unwrap(), Rebuilt::Ready);
    store.vouch(epoch, &identity);
}

/// Engines one after the other, each with a tag of its own.
struct Engines {
    redis: Redis,
    made: std::sync::atomic::AtomicU32,
    life: std::sync::Mutex<Lifecycle>,
}

impl Engines {
    fn on(url: String) -> Self {
        Self { redis: redis(url), made: 0.into(), life: std::sync::Mutex::default() }
    }

    async fn bench(&self) -> Bench<RedisStore> {
        let clock = suite::clock();
        let n = self.made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // The one before is needed no longer: its connections are closed.
        let life = {
            let mut life = self.life.lock().unwrap();
            std::mem::take(&mut *life).stop();
            life.clone()
        };
        let store = engine(&self.redis, format!("sale:{n}"), Some(Arc::clone(&clock) as Arc<dyn Clock>), &life).await;
        Bench { store, clock }
    }
}

#[tokio::test]
async fn the_engine_on_redis_keeps_the_contract() {
    let server = RedisServer::start().await.unwrap();
    let engines = Engines::on(server.url());
    suite::run(async || engines.bench().await).await;
}

#[tokio::test]
async fn the_engine_on_a_cluster_keeps_the_contract() {
    let cluster = RedisCluster::start(3).await.unwrap();
    let engines = Engines::on(cluster.url());
    suite::run(async || engines.bench().await).await;
}

#[test]
fn the_engine_on_redis_does_what_a_naive_one_does() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(RedisServer::start()).unwrap();
    let engines = Engines::on(server.url());
    model::run(120, &runtime, async || engines.bench().await);
}

#[test]
fn the_engine_on_a_cluster_does_what_a_naive_one_does() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(RedisCluster::start(3)).unwrap();
    let engines = Engines::on(cluster.url());
    model::run(60, &runtime, async || engines.bench().await);
}

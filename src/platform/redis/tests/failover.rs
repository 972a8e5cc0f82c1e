//! Discovery of primaries, and their replacement by a replica, with sentinels and in a cluster.

use super::*;
use testkit::{RedisSentinel, RedisSentinels};

/// For assertions that nothing happens: longer than two health check intervals.
const A_WHILE: Duration = Duration::from_millis(2_500);

fn at(server: &RedisServer) -> String {
    format!("127.0.0.1:{}", server.port())
}

/// The server that a new connection reaches.
async fn found(url: &str) -> Result<String, String> {
    let redis = redis(url);
    let connecting = tokio::time::timeout(TIMEOUT * 3, redis.connect("sale:1"));
    connecting
        .await
        .expect("it has a time limit")
        .map(|connection| connection.host)
        .map_err(|e| e.to_string())
}

async fn refusal(url: &str) -> String {
    let redis = redis(url);
    let examined = tokio::time::timeout(TIMEOUT * 3, redis.check_fitness());
    examined
        .await
        .expect("it has a time limit")
        .unwrap_err()
        .to_string()
}

impl Store {
    /// Asserts that for a while every call succeeds on one and the same dataset.
    async fn is_left_alone(&self) {
        let (identity, mut last) = (self.connection.dataset(), self.count().await.unwrap());
        let quiet = async {
            loop {
                let now = self.count().await;
                assert_eq!((now, self.connection.dataset()), (Ok(last + 1), identity.clone()));
                last += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(A_WHILE, quiet).await.is_err());
    }
}

#[tokio::test]
async fn sentinels_lead_to_the_primary() {
    let mut watched = RedisSentinels::start().await.unwrap();
    assert_eq!(found(&watched.url()).await, Ok(at(watched.primary())));
    assert!(redis(&watched.url()).check_fitness().await.is_ok());
    watched
        .primary()
        .run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
        .await
        .unwrap();
    let evicts = refusal(&watched.url()).await;
    assert!(
        evicts.contains(&at(watched.primary())) && evicts.contains("allkeys-lru"),
        "{evicts}"
    );

    let unknown = refusal(&watched.url_of("villain")).await;
    assert!(
        unknown.contains("villain") && unknown.contains("sentinel monitor"),
        "{unknown}"
    );

    // One sentinel that responds is enough, and the others delay nothing.
    watched.sentinels_mut()[0].kill9().unwrap();
    assert_eq!(found(&watched.url()).await, Ok(at(watched.primary())));
    let unknown = refusal(&watched.url_of("villain")).await;
    assert!(
        unknown.contains("villain") && unknown.contains("sentinel monitor"),
        "{unknown}"
    );
    watched.sentinels()[1].pause().unwrap();
    assert_eq!(found(&watched.url()).await, Ok(at(watched.primary())));
}

#[tokio::test]
async fn without_sentinels_the_present_primary_is_kept() {
    let mut watched = RedisSentinels::start().await.unwrap();
    let store = Store::on(&watched.url()).await;
    store.make_ready(1).await;
    for hang in [true, false] {
        for sentinel in watched.sentinels_mut() {
            if hang {
                sentinel.pause().unwrap();
            } else {
                sentinel.kill9().unwrap();
            }
        }
        let refused = refusal(&watched.url()).await;
        let first = format!("127.0.0.1:{}", watched.sentinels()[0].port());
        assert!(
            refused.contains("sentinels") && refused.contains(&first),
            "{refused}"
        );
        store.is_left_alone().await;
    }
}

#[tokio::test]
async fn a_sentinel_that_is_mistaken_is_outvoted() {
    let (watched, other) = (
        RedisSentinels::start().await.unwrap(),
        RedisServer::start().await.unwrap(),
    );
    let mistaken = RedisSentinel::single(&other).await.unwrap();
    let url = watched
        .url()
        .replacen("://", &format!("://127.0.0.1:{},", mistaken.port()), 1);
    let store = Store::on(&url).await;
    assert_eq!(found(&url).await, Ok(at(watched.primary())));
    store.make_ready(1).await;
    store.is_left_alone().await;
    assert_eq!(counter(&other).await, None);
}

#[tokio::test]
async fn the_connection_moves_to_a_promoted_replica() {
    let mut watched = RedisSentinels::start().await.unwrap();
    let store = Store::on(&watched.url()).await;
    store.make_ready(1).await;
    assert_eq!(store.count().await, Ok(1));
    watched
        .replica()
        .wait_until_synced_with(watched.primary())
        .await
        .unwrap();
    watched.primary_mut().kill9().unwrap();
    store.until_recovering().await;
    assert_eq!(counter(watched.replica()).await, Some(1));
    store.make_ready(2).await;
    assert_eq!(
        (store.count().await, counter(watched.replica()).await),
        (Ok(2), Some(2))
    );
}

#[tokio::test]
async fn a_replaced_primary_that_comes_back_is_not_used() {
    let watched = RedisSentinels::start().await.unwrap();
    let store = Store::on(&watched.url()).await;
    store.make_ready(1).await;
    store.count().await.unwrap();
    watched.primary().pause().unwrap();
    store.until_recovering().await;
    store.make_ready(2).await;
    // For some seconds it still considers itself the primary.
    watched.primary().resume().unwrap();
    assert_eq!(watched.primary().info("role").await.unwrap(), "master");
    store.is_left_alone().await;
}

#[tokio::test]
async fn the_connection_follows_a_planned_failover() {
    let watched = RedisSentinels::start().await.unwrap();
    let store = Store::on(&watched.url()).await;
    store.make_ready(1).await;
    store.count().await.unwrap();
    watched.fail_over().await.unwrap();
    store.until(|connection| connection.epoch().is_none()).await;
    store.until_recovering().await;
    store.make_ready(2).await;
    assert_eq!(
        (store.count().await, watched.replica().info("role").await.unwrap()),
        (Ok(2), "master".into())
    );
}

#[tokio::test]
async fn the_connection_follows_a_failover_in_a_cluster() {
    let mut cluster = RedisCluster::start(3).await.unwrap();
    let owner = cluster.owner_of_key("{sale:1}").await.unwrap();
    let url = cluster.url();
    let replica = cluster.add_replica_of(owner).await.unwrap();
    let store = Store::on(&url).await;
    store.make_ready(1).await;
    assert_eq!(store.count().await, Ok(1));
    cluster
        .member(replica)
        .wait_until_synced_with(cluster.member(owner))
        .await
        .unwrap();
    cluster.member_mut(owner).kill9().unwrap();
    store.until_recovering().await;
    store.make_ready(2).await;
    assert_eq!(
        (
            store.count().await,
            cluster.owner_of_key("{sale:1}").await.unwrap()
        ),
        (Ok(2), replica)
    );
}

#[tokio::test]
async fn hanging_cluster_members_delay_no_connection() {
    let cluster = RedisCluster::start(3).await.unwrap();
    let owner = cluster.owner_of_key("{sale:1}").await.unwrap();
    let [first, second] = [1, 2].map(|n| cluster.member((owner + n) % 3));
    first.pause().unwrap();
    second.pause().unwrap();
    let url = format!(
        "redis+cluster://{},{},{}",
        at(first),
        at(second),
        at(cluster.member(owner))
    );
    let redis = redis(&url);
    let connection = tokio::time::timeout(TIMEOUT * 2, redis.connect("sale:1"))
        .await
        .expect("other members are queried meanwhile");
    assert_eq!(connection.unwrap().host, at(cluster.member(owner)));
}

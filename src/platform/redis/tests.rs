//! Fenced connections to real servers that restart, lose data, hang, are replaced and migrate.

mod failover;

use std::{sync::Arc, time::Duration};

use super::*;
use crate::{kernel::SeededEntropy, platform::shutdown::Lifecycle};
use testkit::{RedisCluster, RedisServer, TcpProxy};

const TIMEOUT: Duration = Duration::from_millis(300);
/// Upper bound of calls that fail at once, well below the timeout.
const AT_ONCE: Duration = Duration::from_millis(100);
const IN_TIME: Duration = Duration::from_secs(10);

fn redis(url: &str) -> Redis {
    let config = RedisConfig {
        url: url.to_owned(),
        command_timeout: TIMEOUT,
        connect_timeout: TIMEOUT,
        allow_unsafe: false,
    };
    Redis::new(config).unwrap()
}

/// A counter that is incremented by a script, as a minimal store.
struct Store {
    connection: Arc<FencedConnection>,
    count: Script,
    lifecycle: Lifecycle,
}

impl Store {
    async fn on(url: &str) -> Self {
        let lifecycle = Lifecycle::new();
        let connection = FencedConnection::start(
            redis(url),
            "sale:1".into(),
            Arc::new(SeededEntropy::new(1)),
            &lifecycle,
        );
        let store = Self {
            connection,
            count: Script::new("count", "return redis.call('INCRBY', KEYS[1], ARGV[1])"),
            lifecycle,
        };
        store.until(|connection| connection.dataset().is_some()).await;
        store
    }

    /// Marks the server's data as complete for this epoch, and activates it.
    async fn make_ready(&self, epoch: u64) {
        let mut cmd = redis::cmd("SET");
        cmd.arg(self.connection.ready_key()).arg(epoch);
        self.connection.query(&cmd).await.unwrap();
        self.connection
            .activate(epoch, &self.connection.dataset().unwrap());
    }

    async fn count(&self) -> Result<i64, CallError> {
        let call = Call::new().key(self.connection.key("counter")).arg(1);
        self.connection
            .call(&self.count, call)
            .await
            .map(|value| redis::from_redis_value(value).unwrap())
    }

    async fn until(&self, condition: impl Fn(&FencedConnection) -> bool) {
        let mut changes = self.connection.changes();
        let waiting = async {
            while !condition(&self.connection) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(IN_TIME, waiting)
            .await
            .expect("the condition comes true");
    }

    /// Calls until the connection has noticed the other dataset. No call may succeed meanwhile.
    async fn until_recovering(&self) {
        let waiting = async {
            loop {
                match self.count().await {
                    Err(CallError::Recovering) => return,
                    Err(CallError::Unavailable) => tokio::time::sleep(Duration::from_millis(5)).await,
                    other => panic!("a call ran on a dataset that was not activated: {other:?}"),
                }
            }
        };
        tokio::time::timeout(IN_TIME, waiting)
            .await
            .expect("the condition comes true");
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.lifecycle.stop();
    }
}

async fn counter(server: &RedisServer) -> Option<i64> {
    redis::from_redis_value(server.run(&["GET", "{sale:1}:counter"]).await.unwrap()).unwrap()
}

#[tokio::test]
async fn no_call_runs_before_activation() {
    let server = RedisServer::start().await.unwrap();
    let store = Store::on(&server.url()).await;
    assert_eq!(store.count().await, Err(CallError::Recovering));
    store.make_ready(3).await;
    assert_eq!(store.count().await, Ok(1));
    store.connection.deactivate();
    assert_eq!(store.count().await, Err(CallError::Recovering));
    store.connection.activate(2, &store.connection.dataset().unwrap());
    assert_eq!(
        store.count().await,
        Err(CallError::Recovering),
        "the data are of another epoch"
    );
    store.connection.activate(3, &DatasetId("another".into()));
    assert_eq!(
        (store.count().await, counter(&server).await),
        (Err(CallError::Recovering), Some(1)),
        "another dataset was activated"
    );
}

#[tokio::test]
async fn a_restarted_server_is_another_dataset() {
    // With the default of one flush a second, a write may be acknowledged before it is on disk.
    let mut server = RedisServer::start_with(&["appendfsync always"]).await.unwrap();
    let store = Store::on(&server.url()).await;
    store.make_ready(1).await;
    assert_eq!(store.count().await, Ok(1));
    server.restart().await.unwrap();
    assert_eq!(
        counter(&server).await,
        Some(1),
        "it has its data, including the ready key"
    );
    store.until_recovering().await;
    let before = store.connection.dataset();
    server.restart_empty().await.unwrap();
    store.until_recovering().await;
    store
        .until(|connection| {
            connection
                .dataset()
                .is_some_and(|it| before.as_ref() != Some(&it))
        })
        .await;
    assert_eq!(
        (store.count().await, counter(&server).await),
        (Err(CallError::Recovering), None)
    );
    store.make_ready(2).await;
    assert_eq!(store.count().await, Ok(1));
}

#[tokio::test]
async fn an_emptied_server_serves_no_calls() {
    let server = RedisServer::start().await.unwrap();
    let store = Store::on(&server.url()).await;
    store.make_ready(1).await;
    store.count().await.unwrap();
    server.flush_all().await.unwrap();
    assert_eq!(
        (store.count().await, counter(&server).await),
        (Err(CallError::Recovering), None)
    );
    assert_eq!(store.connection.epoch(), None, "the next call is not even sent");
}

#[tokio::test]
async fn flushed_scripts_are_loaded_again() {
    let server = RedisServer::start().await.unwrap();
    let store = Store::on(&server.url()).await;
    store.make_ready(1).await;
    store.count().await.unwrap();
    server.run(&["SCRIPT", "FLUSH"]).await.unwrap();
    assert_eq!(store.count().await, Ok(2));
}

#[tokio::test]
async fn a_promoted_replica_is_another_dataset() {
    let server = RedisServer::start().await.unwrap();
    let proxy = TcpProxy::forward_to(server.port()).await.unwrap();
    let store = Store::on(&proxy.url()).await;
    store.make_ready(1).await;
    store.count().await.unwrap();
    let mut replica = server.replica().await.unwrap();
    // The first replica changes its primary's replication id.
    store.until(|connection| connection.epoch().is_none()).await;
    store.until(|connection| connection.dataset().is_some()).await;
    store.make_ready(2).await;
    assert_eq!(store.count().await, Ok(2));
    replica.wait_until_synced_with(&server).await.unwrap();
    replica.promote().await.unwrap();
    assert_eq!(
        store.count().await,
        Ok(3),
        "a write that the replica does not have"
    );
    proxy.switch_to(replica.port());
    store.until_recovering().await;
    assert_eq!(
        (counter(&replica).await, counter(&server).await),
        (Some(2), Some(3))
    );
}

#[tokio::test]
async fn calls_fail_at_once_while_a_server_hangs() {
    let server = RedisServer::start().await.unwrap();
    let store = Store::on(&server.url()).await;
    store.make_ready(1).await;
    store.count().await.unwrap();
    server.pause().unwrap();
    let first = tokio::time::timeout(TIMEOUT * 2, store.count())
        .await
        .expect("it has a time limit");
    assert_eq!(first, Err(CallError::Unavailable));
    for _ in 0..20 {
        assert_eq!(
            tokio::time::timeout(AT_ONCE, store.count())
                .await
                .expect("at once"),
            Err(CallError::Unavailable)
        );
    }
    server.resume().unwrap();
    store.until(|connection| connection.epoch() == Some(1)).await;
    assert!(
        store.count().await.is_ok(),
        "the same dataset needs no new activation"
    );
}

#[tokio::test]
async fn a_server_that_becomes_a_replica_is_dropped() {
    let (server, other) = (
        RedisServer::start().await.unwrap(),
        RedisServer::start().await.unwrap(),
    );
    let store = Store::on(&server.url()).await;
    store.make_ready(1).await;
    other
        .run(&["SET", store.connection.ready_key(), "1"])
        .await
        .unwrap();
    server
        .run(&["REPLICAOF", "127.0.0.1", &other.port().to_string()])
        .await
        .unwrap();
    server.wait_until_info("master_link_status", "up").await.unwrap();
    let call = tokio::time::timeout(TIMEOUT * 6, store.count())
        .await
        .expect("it gives up");
    assert_eq!(call, Err(CallError::Unavailable));
    server.run(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    store.until_recovering().await;
}

#[tokio::test]
async fn the_activation_follows_a_migrated_slot() {
    let cluster = RedisCluster::start(3).await.unwrap();
    let store = Store::on(&cluster.url()).await;
    store.make_ready(1).await;
    for round in 1..=3 {
        assert_eq!(store.count().await, Ok(2 * round - 1));
        let owner = cluster.owner_of_key("{sale:1}").await.unwrap();
        cluster
            .move_slot_of_key("{sale:1}", (owner + 1) % 3)
            .await
            .unwrap();
        assert_eq!(store.count().await, Ok(2 * round), "the call itself follows");
    }
}

#[tokio::test]
async fn a_slot_migrated_without_its_keys_is_not_active() {
    let cluster = RedisCluster::start(3).await.unwrap();
    let store = Store::on(&cluster.url()).await;
    store.make_ready(1).await;
    store.count().await.unwrap();
    let owner = cluster.owner_of_key("{sale:1}").await.unwrap();
    cluster
        .member(owner)
        .run(&["DEL", "{sale:1}:counter", "{sale:1}:ready"])
        .await
        .unwrap();
    cluster
        .move_slot_of_key("{sale:1}", (owner + 1) % 3)
        .await
        .unwrap();
    store.until_recovering().await;
}

#[tokio::test]
async fn unfit_servers_are_refused_at_start() {
    let fit = async |server: &RedisServer| {
        redis(&server.url())
            .check_fitness()
            .await
            .map_err(|e| e.to_string())
    };
    let server = RedisServer::start().await.unwrap();
    assert_eq!(fit(&server).await, Ok(()));

    let replica = server.replica().await.unwrap();
    let refusal = fit(&replica).await.unwrap_err();
    assert!(
        refusal.contains("is a replica") && refusal.contains("redis+sentinel://"),
        "{refusal}"
    );

    server.run(&["CONFIG", "SET", "appendonly", "no"]).await.unwrap();
    let refusal = fit(&server).await.unwrap_err();
    assert!(
        refusal.contains("no persistence") && refusal.contains("appendonly yes"),
        "{refusal}"
    );
    server.run(&["CONFIG", "SET", "save", "3600 1"]).await.unwrap();
    assert_eq!(fit(&server).await, Ok(()), "snapshots are persistence");

    server
        .run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
        .await
        .unwrap();
    let refusal = fit(&server).await.unwrap_err();
    assert!(
        refusal.contains("maxmemory-policy allkeys-lru") && refusal.contains("noeviction"),
        "{refusal}"
    );
    let unsafe_config = RedisConfig {
        allow_unsafe: true,
        ..redis(&server.url()).config().clone()
    };
    assert!(
        Redis::new(unsafe_config).unwrap().check_fitness().await.is_ok(),
        "allow_unsafe accepts the risk"
    );
}

#[tokio::test]
async fn every_primary_of_a_cluster_is_checked() {
    let cluster = RedisCluster::start(3).await.unwrap();
    let redis = redis(&cluster.url());
    redis.check_fitness().await.unwrap();
    for at in 0..3 {
        cluster
            .member(at)
            .run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
            .await
            .unwrap();
        let refusal = redis.check_fitness().await.unwrap_err();
        assert!(
            refusal
                .to_string()
                .contains(&cluster.member(at).port().to_string()),
            "{refusal}"
        );
        cluster
            .member(at)
            .run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])
            .await
            .unwrap();
        cluster
            .member(at)
            .run(&["ACL", "SETUSER", "default", "-eval"])
            .await
            .unwrap();
        assert!(matches!(
            redis.check_fitness().await,
            Err(Unfit::NotPermitted { .. })
        ));
        cluster
            .member(at)
            .run(&["ACL", "SETUSER", "default", "+eval"])
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn refused_logins_name_the_remedy() {
    let server = RedisServer::start_with(&["requirepass s3cret"]).await.unwrap();
    let at = format!("127.0.0.1:{}", server.port());
    assert!(redis(&server.url()).check_fitness().await.is_ok());
    for url in [
        format!("redis://{at}"),
        format!("redis://:wr0ng@{at}"),
        format!("redis://app:s3cret@{at}"),
    ] {
        let refusal = redis(&url).check_fitness().await.unwrap_err();
        assert!(matches!(refusal, Unfit::Login { .. }), "{url}: {refusal:?}");
        assert!(
            !refusal.to_string().contains("cret") && !refusal.to_string().contains("wr0ng"),
            "{refusal}"
        );
    }

    server
        .run(&["ACL", "SETUSER", "app", "on", ">key", "~*", "+@all", "-eval"])
        .await
        .unwrap();
    let app = redis(&format!("redis://app:key@{at}"));
    let refusal = app.check_fitness().await.unwrap_err();
    assert!(
        matches!(&refusal, Unfit::NotPermitted { what, .. } if what.contains("eval")),
        "{refusal:?}"
    );
    // The rights named by the message are sufficient.
    let named = refusal
        .to_string()
        .rsplit_once("these rights: ")
        .unwrap()
        .1
        .to_owned();
    let command: Vec<&str> = ["ACL", "SETUSER", "app", "reset", "on", ">key"]
        .into_iter()
        .chain(named.split(' '))
        .collect();
    server.run(&command).await.unwrap();
    assert!(app.check_fitness().await.is_ok());
    let store = Store::on(&format!("redis://app:key@{at}")).await;
    store.make_ready(1).await;
    assert_eq!(store.count().await, Ok(1));

    let nowhere = redis("redis://127.0.0.1:1").check_fitness().await.unwrap_err();
    assert!(matches!(nowhere, Unfit::Unreachable { .. }), "{nowhere:?}");
}

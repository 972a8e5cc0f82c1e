//! Lines to real servers that restart, forget, hang, are replaced and move.

mod failover;

use super::*;
use crate::{
    kernel::SeededEntropy,
    platform::shutdown::Lifecycle,
};
use testkit::{TcpProxy, RedisCluster, RedisServer};

const DEADLINE: Duration = Duration::from_millis(300);
/// What fails at once is told so long before a deadline.
const AT_ONCE: Duration = Duration::from_millis(100);
const IN_TIME: Duration = Duration::from_secs(10);

fn redis(url: &str) -> Redis {
    let config = RedisConfig {
        url: url.to_owned(),
        command_timeout: DEADLINE,
        connect_timeout: DEADLINE,
        allow_unsafe: false,
    };
    Redis::new(config).unwrap()
}

/// A counter kept by a script, as a store is.
struct Store {
    line: Arc<FencedConnection>,
    count: Script,
    life: Lifecycle,
}

impl Store {
    async fn on(url: &str) -> Self {
        let life = Lifecycle::new();
        let line = FencedConnection::start(
            redis(url),
            "sale:1".into(),
            Arc::new(SeededEntropy::new(1)),
            &life,
        );
        let store = Self {
            line,
            count: Script::new("count", "return redis.call('INCRBY', KEYS[1], ARGV[1])"),
            life,
        };
        store.until(|line| line.dataset().is_some()).await;
        store
    }

    /// Says that the server has all of this epoch's data.
    async fn make_ready(&self, epoch: u64) {
        let mut cmd = redis::cmd("SET");
        cmd.arg(self.line.ready_key()).arg(epoch);
        self.line.query(&cmd).await.unwrap();
        self.line.activate(epoch, &self.line.dataset().unwrap());
    }

    async fn count(&self) -> Result<i64, CallError> {
        let call = Call::new().key(self.line.key("counter")).arg(1);
        self.line
            .call(&self.count, call)
            .await
            .map(|value| redis::from_redis_value(value).unwrap())
    }

    async fn until(&self, is_so: impl Fn(&FencedConnection) -> bool) {
        let mut changes = self.line.changes();
        let waiting = async {
            while !is_so(&self.line) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(IN_TIME, waiting)
            .await
            .expect("it comes to that");
    }

    /// Calls until the line has noticed that somebody else answers: no call may run meanwhile.
    async fn until_rebuilding(&self) {
        let waiting = async {
            loop {
                match self.count().await {
                    Err(CallError::Recovering) => return,
                    Err(CallError::Unavailable) => tokio::time::sleep(Duration::from_millis(5)).await,
                    other => panic!("a call ran on a server that nobody vouched for: {other:?}"),
                }
            }
        };
        tokio::time::timeout(IN_TIME, waiting)
            .await
            .expect("it comes to that");
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.life.stop();
    }
}

async fn counter(server: &RedisServer) -> Option<i64> {
    redis::from_redis_value(server.run(&["GET", "{sale:1}:counter"]).await.unwrap()).unwrap()
}

#[tokio::test]
async fn nothing_runs_before_somebody_vouches() {
    let server = RedisServer::start().await.unwrap();
    let store = Store::on(&server.url()).await;
    assert_eq!(store.count().await, Err(CallError::Recovering));
    store.make_ready(3).await;
    assert_eq!(store.count().await, Ok(1));
    store.line.deactivate();
    assert_eq!(store.count().await, Err(CallError::Recovering));
    store.line.activate(2, &store.line.dataset().unwrap());
    assert_eq!(
        store.count().await,
        Err(CallError::Recovering),
        "the data are of another epoch"
    );
    store.line.activate(3, &DatasetId("another".into()));
    assert_eq!(
        (store.count().await, counter(&server).await),
        (Err(CallError::Recovering), Some(1)),
        "another server was meant"
    );
}

#[tokio::test]
async fn a_server_that_restarts_is_another_even_with_its_data() {
    // While the disk is busy, what is flushed each second may be answered before it is written.
    let mut server = RedisServer::start_with(&["appendfsync always"]).await.unwrap();
    let store = Store::on(&server.url()).await;
    store.make_ready(1).await;
    assert_eq!(store.count().await, Ok(1));
    server.restart().await.unwrap();
    assert_eq!(
        counter(&server).await,
        Some(1),
        "it has its data, and the key that says they are complete"
    );
    store.until_rebuilding().await;
    let before = store.line.dataset();
    server.restart_empty().await.unwrap();
    store.until_rebuilding().await;
    store
        .until(|line| line.dataset().is_some_and(|it| before.as_ref() != Some(&it)))
        .await;
    assert_eq!(
        (store.count().await, counter(&server).await),
        (Err(CallError::Recovering), None)
    );
    store.make_ready(2).await;
    assert_eq!(store.count().await, Ok(1));
}

#[tokio::test]
async fn a_server_that_is_emptied_answers_nothing_more() {
    let server = RedisServer::start().await.unwrap();
    let store = Store::on(&server.url()).await;
    store.make_ready(1).await;
    store.count().await.unwrap();
    server.flush_all().await.unwrap();
    assert_eq!(
        (store.count().await, counter(&server).await),
        (Err(CallError::Recovering), None)
    );
    assert_eq!(store.line.epoch(), None, "the next one is not even sent");
}

#[tokio::test]
async fn scripts_that_were_forgotten_are_loaded_again() {
    let server = RedisServer::start().await.unwrap();
    let store = Store::on(&server.url()).await;
    store.make_ready(1).await;
    store.count().await.unwrap();
    server.run(&["SCRIPT", "FLUSH"]).await.unwrap();
    assert_eq!(store.count().await, Ok(2));
}

#[tokio::test]
async fn a_promoted_replica_at_the_same_address_is_another() {
    let server = RedisServer::start().await.unwrap();
    let door = TcpProxy::forward_to(server.port()).await.unwrap();
    let store = Store::on(&door.url()).await;
    store.make_ready(1).await;
    store.count().await.unwrap();
    let mut replica = server.replica().await.unwrap();
    // The first replica makes its primary look like another.
    store.until(|line| line.epoch().is_none()).await;
    store.until(|line| line.dataset().is_some()).await;
    store.make_ready(2).await;
    assert_eq!(store.count().await, Ok(2));
    replica.wait_until_synced_with(&server).await.unwrap();
    replica.promote().await.unwrap();
    assert_eq!(store.count().await, Ok(3), "what the replica has not got");
    door.switch_to(replica.port());
    store.until_rebuilding().await;
    assert_eq!(
        (counter(&replica).await, counter(&server).await),
        (Some(2), Some(3))
    );
}

#[tokio::test]
async fn a_server_that_hangs_is_left_alone_until_it_answers_again() {
    let server = RedisServer::start().await.unwrap();
    let store = Store::on(&server.url()).await;
    store.make_ready(1).await;
    store.count().await.unwrap();
    server.pause().unwrap();
    let first = tokio::time::timeout(DEADLINE * 2, store.count())
        .await
        .expect("it has a deadline");
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
    store.until(|line| line.epoch() == Some(1)).await;
    assert!(
        store.count().await.is_ok(),
        "the same server needs nobody to vouch again"
    );
}

#[tokio::test]
async fn a_server_that_becomes_a_replica_is_left() {
    let (server, other) = (
        RedisServer::start().await.unwrap(),
        RedisServer::start().await.unwrap(),
    );
    let store = Store::on(&server.url()).await;
    store.make_ready(1).await;
    other.run(&["SET", store.line.ready_key(), "1"]).await.unwrap();
    server
        .run(&["REPLICAOF", "127.0.0.1", &other.port().to_string()])
        .await
        .unwrap();
    server.wait_until_info("master_link_status", "up").await.unwrap();
    let call = tokio::time::timeout(DEADLINE * 6, store.count())
        .await
        .expect("it gives up");
    assert_eq!(call, Err(CallError::Unavailable));
    server.run(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    store.until_rebuilding().await;
}

#[tokio::test]
async fn trust_goes_with_a_slot_that_is_handed_over() {
    let cluster = RedisCluster::start(3).await.unwrap();
    let store = Store::on(&cluster.url()).await;
    store.make_ready(1).await;
    for round in 1..=3 {
        assert_eq!(store.count().await, Ok(2 * round - 1));
        let owner = cluster.owner_of_key("{sale:1}").await.unwrap();
        cluster.move_slot_of_key("{sale:1}", (owner + 1) % 3).await.unwrap();
        assert_eq!(store.count().await, Ok(2 * round), "the call itself follows");
    }
}

#[tokio::test]
async fn a_slot_whose_keys_were_left_behind_is_not_trusted() {
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
    cluster.move_slot_of_key("{sale:1}", (owner + 1) % 3).await.unwrap();
    store.until_rebuilding().await;
}

#[tokio::test]
async fn what_would_lie_is_refused_at_start() {
    let fit = async |server: &RedisServer| redis(&server.url()).check_fitness().await.map_err(|e| e.to_string());
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
    let told = RedisConfig {
        allow_unsafe: true,
        ..redis(&server.url()).config().clone()
    };
    assert!(
        Redis::new(told).unwrap().check_fitness().await.is_ok(),
        "whoever says so takes the risk"
    );
}

#[tokio::test]
async fn every_member_of_a_cluster_is_looked_at() {
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
        assert!(matches!(redis.check_fitness().await, Err(Unfit::NotPermitted { .. })));
        cluster
            .member(at)
            .run(&["ACL", "SETUSER", "default", "+eval"])
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn who_may_not_come_in_is_told_what_to_do() {
    let server = RedisServer::start_with(&["requirepass s3cret"]).await.unwrap();
    let at = format!("127.0.0.1:{}", server.port());
    assert!(redis(&server.url()).check_fitness().await.is_ok());
    for url in [
        format!("redis://{at}"),
        format!("redis://:wr0ng@{at}"),
        format!("redis://door:s3cret@{at}"),
    ] {
        let refusal = redis(&url).check_fitness().await.unwrap_err();
        assert!(matches!(refusal, Unfit::Login { .. }), "{url}: {refusal:?}");
        assert!(
            !refusal.to_string().contains("cret") && !refusal.to_string().contains("wr0ng"),
            "{refusal}"
        );
    }

    server
        .run(&["ACL", "SETUSER", "door", "on", ">key", "~*", "+@all", "-eval"])
        .await
        .unwrap();
    let door = redis(&format!("redis://door:key@{at}"));
    let refusal = door.check_fitness().await.unwrap_err();
    assert!(
        matches!(&refusal, Unfit::NotPermitted { what, .. } if what.contains("eval")),
        "{refusal:?}"
    );
    // The message names rights that are enough.
    let named = refusal
        .to_string()
        .rsplit_once("these rights: ")
        .unwrap()
        .1
        .to_owned();
    let command: Vec<&str> = ["ACL", "SETUSER", "door", "reset", "on", ">key"]
        .into_iter()
        .chain(named.split(' '))
        .collect();
    server.run(&command).await.unwrap();
    assert!(door.check_fitness().await.is_ok());
    let store = Store::on(&format!("redis://door:key@{at}")).await;
    store.make_ready(1).await;
    assert_eq!(store.count().await, Ok(1));

    let nowhere = redis("redis://127.0.0.1:1").check_fitness().await.unwrap_err();
    assert!(matches!(nowhere, Unfit::Unreachable { .. }), "{nowhere:?}");
}

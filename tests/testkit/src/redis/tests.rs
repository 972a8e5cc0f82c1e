//! The servers themselves.

use redis::{Client, Value};

use super::{RedisCluster, RedisSentinels, RedisServer, TcpProxy};

async fn value(server: &RedisServer) -> Value {
    server.run(&["GET", "a"]).await.unwrap()
}

fn text(text: &str) -> Value {
    Value::BulkString(text.into())
}

#[tokio::test]
async fn writes_survive_sigkill_and_reach_the_replica() {
    let mut server = RedisServer::start_with(&["appendfsync always"]).await.unwrap();
    server.run(&["SET", "a", "1"]).await.unwrap();
    server.kill9().unwrap();
    assert!(server.run(&["GET", "a"]).await.is_err(), "the server is down");
    server.restart().await.unwrap();
    assert_eq!(value(&server).await, text("1"));
    let mut replica = server.replica().await.unwrap();
    assert_eq!(value(&replica).await, text("1"));
    replica.promote().await.unwrap();
    server.run(&["SET", "a", "2"]).await.unwrap();
    assert_eq!(value(&replica).await, text("1"), "it no longer replicates");
    server.restart_empty().await.unwrap();
    assert_eq!(value(&server).await, Value::Nil);
    let folder = server.folder.path().to_owned();
    drop(server);
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_cluster_moves_a_slot_with_its_keys() {
    let cluster = RedisCluster::start(3).await.unwrap();
    let owner = cluster.owner_of_key("{a}").await.unwrap();
    cluster.member(owner).run(&["SET", "{a}:x", "1"]).await.unwrap();
    cluster.member(owner).run(&["SET", "{a}:y", "2"]).await.unwrap();
    let next = (owner + 1) % 3;
    cluster.move_slot_of_key("{a}", next).await.unwrap();
    assert_eq!(cluster.owner_of_key("{a}").await.unwrap(), next);
    assert_eq!(
        cluster.member(next).run(&["GET", "{a}:y"]).await.unwrap(),
        text("2")
    );
    let elsewhere = cluster
        .member(owner)
        .run(&["GET", "{a}:y"])
        .await
        .unwrap_err()
        .to_string();
    assert!(elsewhere.contains("Moved"), "{elsewhere}");
}

#[tokio::test]
async fn a_cluster_replica_replaces_a_killed_primary() {
    let mut cluster = RedisCluster::start(3).await.unwrap();
    let owner = cluster.owner_of_key("{a}").await.unwrap();
    let replica = cluster.add_replica_of(owner).await.unwrap();
    cluster.member(owner).run(&["SET", "{a}:x", "1"]).await.unwrap();
    cluster
        .member(replica)
        .wait_until_synced_with(cluster.member(owner))
        .await
        .unwrap();
    cluster.member_mut(owner).kill9().unwrap();
    cluster.wait_until_owner_of("{a}", replica).await.unwrap();
    assert_eq!(
        cluster.member(replica).run(&["GET", "{a}:x"]).await.unwrap(),
        text("1")
    );
}

#[tokio::test]
async fn sentinels_promote_the_replica_of_a_killed_primary() {
    let mut watched = RedisSentinels::start().await.unwrap();
    watched.primary().run(&["SET", "a", "1"]).await.unwrap();
    watched
        .replica()
        .wait_until_synced_with(watched.primary())
        .await
        .unwrap();
    for sentinel in watched.sentinels() {
        assert_eq!(sentinel.primary_port().await.unwrap(), watched.primary().port());
    }
    watched.primary_mut().kill9().unwrap();
    watched.wait_until_failed_over().await.unwrap();
    assert_eq!(watched.replica().info("role").await.unwrap(), "master");
    assert_eq!(value(watched.replica()).await, text("1"));
}

#[tokio::test]
async fn a_proxy_switches_servers_and_refuses_connections() {
    let (first, second) = (
        RedisServer::start().await.unwrap(),
        RedisServer::start().await.unwrap(),
    );
    second.run(&["SET", "a", "2"]).await.unwrap();
    let proxy = TcpProxy::forward_to(first.port()).await.unwrap();
    let through = async || {
        let mut connection = Client::open(proxy.url())
            .unwrap()
            .get_multiplexed_async_connection()
            .await?;
        redis::cmd("GET")
            .arg("a")
            .query_async::<Option<String>>(&mut connection)
            .await
    };
    assert_eq!(through().await.unwrap(), None);
    proxy.switch_to(second.port());
    assert_eq!(through().await.unwrap().as_deref(), Some("2"));
    proxy.refuse_connections();
    assert!(through().await.is_err());
    proxy.switch_to(first.port());
    assert_eq!(through().await.unwrap(), None);
}

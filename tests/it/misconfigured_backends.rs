//! A node with unsuitable servers names the fault and the remedy and exits. It does not listen and leaves
//! nothing half-made.

use testkit::{RedisSentinels, RedisServer, process::free_port};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{
    environment::Deployment,
    fan::Fan,
    nodes::loopback,
    world::{SaleConfig, World},
};

const REDIS: &str = "STAGEDOOR__STORE__REDIS__URL";
const LEDGER: &str = "STAGEDOOR__LEDGER__URL";
const PASSWORD: &str = "not-for-the-log";

async fn world_with_one_node() -> World {
    World::prepared_on(
        Deployment {
            nodes: 1,
            ..Deployment::default()
        },
        SaleConfig::default(),
    )
    .await
}

/// Asserts that the node does not start with this variable, and prints all of `expected`.
async fn assert_start_refused(world: &mut World, variable: &'static str, value: &str, expected: &[&str]) {
    let good = world.nodes[0].variable(variable);
    world.nodes[0].set(variable, value.to_owned());
    let (status, output) = world.nodes[0].fails_to_start().await;
    assert!(!status.success(), "{value} was accepted: {output}");
    for text in expected {
        assert!(output.contains(text), "{value}: {output}");
    }
    assert!(
        !output.contains(PASSWORD) && !output.contains("panicked"),
        "{value}: {output}"
    );
    for address in [world.nodes[0].public, world.nodes[0].admin] {
        assert!(
            TcpStream::connect(address).await.is_err(),
            "{address} is still open"
        );
    }
    world.nodes[0].set(variable, good);
}

/// The number of schemas that were created.
async fn schemas_created(world: &World) -> i64 {
    world
        .environment()
        .query_number(
            "SELECT COUNT(*) FROM pg_namespace WHERE nspname IN ('stagedoor_ledger', 'stagedoor_queue')",
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_redis_is_refused() {
    let mut world = world_with_one_node().await;
    let unused_address = loopback(free_port().unwrap());
    assert_start_refused(&mut world, REDIS, "http://127.0.0.1", &["redis.url", "redis://"]).await;
    assert_start_refused(
        &mut world,
        REDIS,
        &format!("redis://{unused_address}"),
        &["cannot be reached", &unused_address.to_string()],
    )
    .await;

    let guarded = RedisServer::start_with(&["requirepass right"]).await.unwrap();
    let at = format!("127.0.0.1:{}", guarded.port());
    assert_start_refused(
        &mut world,
        REDIS,
        &format!("redis://:{PASSWORD}@{at}"),
        &["refuses the login", &at],
    )
    .await;
    assert_start_refused(
        &mut world,
        REDIS,
        &format!("redis://{at}"),
        &["refuses the login", "USER:PASSWORD"],
    )
    .await;
    guarded
        .run(&[
            "ACL",
            "SETUSER",
            "reader",
            "on",
            &format!(">{PASSWORD}"),
            "~*",
            "+@read",
            "+@connection",
            "+info",
        ])
        .await
        .unwrap();
    assert_start_refused(
        &mut world,
        REDIS,
        &format!("redis://reader:{PASSWORD}@{at}"),
        &["does not permit", "give its user these rights"],
    )
    .await;

    let evicting = RedisServer::start_with(&["maxmemory-policy allkeys-lru"])
        .await
        .unwrap();
    assert_start_refused(
        &mut world,
        REDIS,
        &evicting.url(),
        &["allkeys-lru", "noeviction", "store.redis.allow_unsafe"],
    )
    .await;
    let not_persistent = RedisServer::start_with(&["appendonly no"]).await.unwrap();
    let replica = not_persistent.replica().await.unwrap();
    assert_start_refused(
        &mut world,
        REDIS,
        &not_persistent.url(),
        &["no persistence", "appendonly yes"],
    )
    .await;
    assert_start_refused(
        &mut world,
        REDIS,
        &replica.url(),
        &["is a replica", "redis+sentinel://"],
    )
    .await;
    let sentinels = RedisSentinels::start().await.unwrap();
    assert_start_refused(
        &mut world,
        REDIS,
        &sentinels.url_of("villain"),
        &["monitor no primary named villain", "sentinel monitor"],
    )
    .await;
    assert_start_refused(
        &mut world,
        REDIS,
        &format!("redis+sentinel://{unused_address}/villain"),
        &["sentinels at", &unused_address.to_string(), "running"],
    )
    .await;
    let (old, _serving) = old_redis().await;
    assert_start_refused(&mut world, REDIS, &old, &["version 6.2.14", "7.0"]).await;

    assert_eq!(schemas_created(&world).await, 0, "a schema was created");
    assert_starts(&mut world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_database_is_refused() {
    let mut world = world_with_one_node().await;
    let postgres = &world.environment().postgres;
    let at = format!("127.0.0.1:{}", postgres.port());
    postgres
        .run("postgres", "CREATE ROLE guarded LOGIN PASSWORD 'right'")
        .await
        .unwrap();
    postgres.run("postgres", "CREATE ROLE plain LOGIN").await.unwrap();
    for name in ["closed", "crowded", "careless"] {
        postgres.create_database(name).await.unwrap();
    }
    postgres
        .run("closed", "REVOKE CREATE ON DATABASE closed FROM PUBLIC")
        .await
        .unwrap();
    postgres
        .run(
            "crowded",
            "CREATE SCHEMA stagedoor_keys; CREATE TABLE stagedoor_keys.customers (id int)",
        )
        .await
        .unwrap();
    postgres
        .run("careless", "ALTER DATABASE careless SET synchronous_commit = off")
        .await
        .unwrap();
    let unused_address = loopback(free_port().unwrap());

    assert_start_refused(&mut world, LEDGER, "mysql://127.0.0.1/x", &["ledger.url"]).await;
    assert_start_refused(
        &mut world,
        LEDGER,
        &format!("postgres://postgres:{PASSWORD}@{unused_address}/x"),
        &["no PostgreSQL server responds", &unused_address.to_string()],
    )
    .await;
    assert_start_refused(
        &mut world,
        LEDGER,
        &format!("postgres://guarded:{PASSWORD}@{at}/closed"),
        &["refuses the sign-in", "check user and password", &at],
    )
    .await;
    assert_start_refused(
        &mut world,
        LEDGER,
        &format!("postgres://postgres@{at}/nowhere"),
        &["there is no database", "nowhere", "create it"],
    )
    .await;
    assert_start_refused(
        &mut world,
        LEDGER,
        &format!("postgres://plain@{at}/closed"),
        &["lacks permission", "GRANT CREATE ON DATABASE"],
    )
    .await;
    assert_start_refused(
        &mut world,
        LEDGER,
        &format!("postgres://postgres@{at}/crowded"),
        &["stagedoor_keys", "not of this program", "customers"],
    )
    .await;
    assert_start_refused(
        &mut world,
        LEDGER,
        &format!("postgres://postgres@{at}/careless"),
        &["synchronous_commit"],
    )
    .await;
    assert_start_refused(&mut world, LEDGER, "sqlite:ledger.db", &["ledger.url", "redis"]).await;

    assert_starts(&mut world).await;
    assert!(world.nodes[0].stop().await.success());
    let good = world.nodes[0].variable(LEDGER);
    let set_success = |done: bool| format!("UPDATE stagedoor_ledger._sqlx_migrations SET success = {done}");
    world.environment().execute(&set_success(false)).await;
    assert_start_refused(&mut world, LEDGER, &good, &["stagedoor_ledger", "half"]).await;
    world.environment().execute(&set_success(true)).await;
    world
        .environment()
        .execute("UPDATE stagedoor_queue._sqlx_migrations SET checksum = 'x'")
        .await;
    assert_start_refused(
        &mut world,
        LEDGER,
        &good,
        &["stagedoor_queue", "older version of stagedoor"],
    )
    .await;
}

/// Asserts that the node starts with the original settings, and that a visitor can hold a seat.
async fn assert_starts(world: &mut World) {
    world.start().await;
    Fan::admitted(world, 1)
        .await
        .hold_best(world, 1)
        .await
        .expect(201);
}

/// A server that speaks just enough of the protocol to report version 6.2.
async fn old_redis() -> (String, JoinHandle<()>) {
    const INFO: &str = "redis_version:6.2.14\r\nrole:master\r\nloading:0\r\n\
                        maxmemory_policy:noeviction\r\naof_enabled:1\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = vec![0; 4_096];
                while let Ok(n @ 1..) = socket.read(&mut bytes).await {
                    let received = String::from_utf8_lossy(&bytes[..n]).to_uppercase();
                    // Commands may arrive together; each begins with `*` and its number of words.
                    for command in received.split('*').skip(1) {
                        let answer = if command.contains("\r\nINFO\r\n") {
                            format!("${}\r\n{INFO}\r\n", INFO.len())
                        } else {
                            "+OK\r\n".to_owned()
                        };
                        if socket.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    (url, serving)
}

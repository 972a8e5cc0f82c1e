//! A node that is given servers it cannot rely on says what is wrong and what to do about it, and ends: it does not
//! serve, keeps nothing open and makes nothing half.

use testkit::{RedisSentinels, RedisServer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{
    fan::Fan,
    environment::Pair,
    world::{Scene, World},
};

const REDIS: &str = "STAGEDOOR__STORE__REDIS__URL";
const LEDGER: &str = "STAGEDOOR__LEDGER__URL";
const PASSWORD: &str = "not-for-the-log";

async fn house() -> World {
    World::prepared_on(
        Pair {
            nodes: 1,
            ..Pair::default()
        },
        Scene::default(),
    )
    .await
}

/// The node does not start with this variable, and says all of `expected`.
async fn refuses(world: &mut World, variable: &'static str, value: &str, expected: &[&str]) {
    let good = world.nodes[0].variable(variable);
    world.nodes[0].set(variable, value.to_owned());
    let (status, said) = world.nodes[0].fails_to_start().await;
    assert!(!status.success(), "{value} was accepted: {said}");
    for text in expected {
        assert!(said.contains(text), "{value}: {said}");
    }
    assert!(
        !said.contains(PASSWORD) && !said.contains("panicked"),
        "{value}: {said}"
    );
    for address in [world.nodes[0].public, world.nodes[0].ops] {
        assert!(
            TcpStream::connect(address).await.is_err(),
            "{address} is open still"
        );
    }
    world.nodes[0].set(variable, good);
}

/// Books that somebody has begun.
async fn books(world: &World) -> i64 {
    world
        .environment()
        .query_number("SELECT COUNT(*) FROM pg_namespace WHERE nspname IN ('stagedoor_ledger', 'stagedoor_queue')")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_redis_is_refused() {
    let mut world = house().await;
    let nobody = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    refuses(&mut world, REDIS, "http://127.0.0.1", &["redis.url", "redis://"]).await;
    refuses(
        &mut world,
        REDIS,
        &format!("redis://{nobody}"),
        &["cannot be reached", &nobody.to_string()],
    )
    .await;

    let guarded = RedisServer::start_with(&["requirepass right"]).await.unwrap();
    let at = format!("127.0.0.1:{}", guarded.port());
    refuses(
        &mut world,
        REDIS,
        &format!("redis://:{PASSWORD}@{at}"),
        &["refuses the login", &at],
    )
    .await;
    refuses(
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
    refuses(
        &mut world,
        REDIS,
        &format!("redis://reader:{PASSWORD}@{at}"),
        &["does not permit", "give its user these rights"],
    )
    .await;

    let forgetful = RedisServer::start_with(&["maxmemory-policy allkeys-lru"])
        .await
        .unwrap();
    refuses(
        &mut world,
        REDIS,
        &forgetful.url(),
        &["allkeys-lru", "noeviction", "store.redis.allow_unsafe"],
    )
    .await;
    let unkept = RedisServer::start_with(&["appendonly no"]).await.unwrap();
    let replica = unkept.replica().await.unwrap();
    refuses(
        &mut world,
        REDIS,
        &unkept.url(),
        &["no persistence", "appendonly yes"],
    )
    .await;
    refuses(
        &mut world,
        REDIS,
        &replica.url(),
        &["is a replica", "redis+sentinel://"],
    )
    .await;
    let watched = RedisSentinels::start().await.unwrap();
    refuses(
        &mut world,
        REDIS,
        &watched.url_of("villain"),
        &["monitor no primary named villain", "sentinel monitor"],
    )
    .await;
    refuses(
        &mut world,
        REDIS,
        &format!("redis+sentinel://{nobody}/villain"),
        &["sentinels at", &nobody.to_string(), "running"],
    )
    .await;
    let (old, _serving) = old_redis().await;
    refuses(&mut world, REDIS, &old, &["version 6.2.14", "7.0"]).await;

    assert_eq!(books(&world).await, 0, "nothing was begun");
    starts_all_the_same(&mut world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_database_is_refused() {
    let mut world = house().await;
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
    let nobody = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();

    refuses(&mut world, LEDGER, "mysql://127.0.0.1/x", &["ledger.url"]).await;
    refuses(
        &mut world,
        LEDGER,
        &format!("postgres://postgres:{PASSWORD}@{nobody}/x"),
        &["no PostgreSQL server responds", &nobody.to_string()],
    )
    .await;
    refuses(
        &mut world,
        LEDGER,
        &format!("postgres://guarded:{PASSWORD}@{at}/closed"),
        &["refuses the sign-in", "check user and password", &at],
    )
    .await;
    refuses(
        &mut world,
        LEDGER,
        &format!("postgres://postgres@{at}/nowhere"),
        &["there is no database", "nowhere", "create it"],
    )
    .await;
    refuses(
        &mut world,
        LEDGER,
        &format!("postgres://plain@{at}/closed"),
        &["lacks permission", "GRANT CREATE ON DATABASE"],
    )
    .await;
    refuses(
        &mut world,
        LEDGER,
        &format!("postgres://postgres@{at}/crowded"),
        &["stagedoor_keys", "not of this program", "customers"],
    )
    .await;
    refuses(
        &mut world,
        LEDGER,
        &format!("postgres://postgres@{at}/careless"),
        &["synchronous_commit"],
    )
    .await;
    refuses(&mut world, LEDGER, "sqlite:ledger.db", &["ledger.url", "redis"]).await;

    starts_all_the_same(&mut world).await;
    assert!(world.nodes[0].stop().await.success());
    let good = world.nodes[0].variable(LEDGER);
    let mend = |done: bool| format!("UPDATE stagedoor_ledger._sqlx_migrations SET success = {done}");
    world.environment().execute(&mend(false)).await;
    refuses(&mut world, LEDGER, &good, &["stagedoor_ledger", "half"]).await;
    world.environment().execute(&mend(true)).await;
    world
        .environment()
        .execute("UPDATE stagedoor_queue._sqlx_migrations SET checksum = 'x'")
        .await;
    refuses(
        &mut world,
        LEDGER,
        &good,
        &["stagedoor_queue", "older version of stagedoor"],
    )
    .await;
}

/// With what it was given at first the node opens, and somebody can come in.
async fn starts_all_the_same(world: &mut World) {
    world.start().await;
    Fan::admitted(world, 1).await.hold_best(world, 1).await.expect(201);
}

/// Speaks as much of the protocol as it takes to say how old it is.
async fn old_redis() -> (String, JoinHandle<()>) {
    const INFO: &str = "redis_version:6.2.14\r\nrole:master\r\nloading:0\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = vec![0; 4_096];
                while let Ok(n @ 1..) = socket.read(&mut bytes).await {
                    let asked = String::from_utf8_lossy(&bytes[..n]).to_uppercase();
                    // Commands may come together; each begins with its number of words.
                    for command in asked.split('*').skip(1) {
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

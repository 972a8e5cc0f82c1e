//! Which databases are refused, and with which message, against real servers.

use sqlx::{
    Executor, SqlSafeStr,
    migrate::{Migration, MigrationType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use testkit::Postgres;

fn migrations(statements: &[&'static str]) -> Migrator {
    let numbered = (1..).zip(statements);
    Migrator::with_migrations(
        numbered
            .map(|(n, sql)| {
                Migration::new(n, "step".into(), MigrationType::Simple, sql.into_sql_str(), false)
            })
            .collect(),
    )
}

fn one() -> Migrator {
    migrations(&["CREATE TABLE thing (a int)"])
}

async fn refused(url: &str) -> OpenError {
    open_postgres(url, "ledger", &one(), 2)
        .await
        .expect_err("it is refused")
}

#[test]
fn invalid_urls_are_refused_without_showing_the_password() {
    for wrong in [
        "",
        "mysql://me:secret@host/db",
        "postgres://me:secret@host",
        "postgres://me:secret@host/",
        "postgres://me:12/secret@host/db",
        "postgres://me:12#secret@host/db",
        "postgres://me:12?secret@host/db",
        "postgres://me:secret@host:port/db",
        "postgres://me:secret@host/db?pasword=secret",
        "postgres://me:secret@host/db?sslmode=secret-like",
    ] {
        let error = DatabaseRef::from_str(wrong).expect_err(wrong);
        assert!(matches!(error, OpenError::Url { .. }), "{wrong}: {error:?}");
        assert!(
            !format!("{error} {error:?}").contains("secret@") && !error.to_string().contains("me:"),
            "{error}"
        );
    }
    let database =
        DatabaseRef::from_str("postgresql://me:s%2Fecret@db.example:5433/tickets?sslmode=require").unwrap();
    assert_eq!(database.to_string(), "db.example:5433/tickets");
}

#[tokio::test]
async fn an_unresponsive_server_is_reported() {
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = refused(&format!("postgres://me:secret@127.0.0.1:{port}/db")).await;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    assert_eq!(error.to_string().matches("secret").count(), 0);
    // Accepts and never responds.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = refused(&format!(
        "postgres://me:secret@{}/db",
        silent.local_addr().unwrap()
    ))
    .await;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn an_old_server_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    // Imitates the greeting of a server of version 12.
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 1_024];
        assert!(socket.read(&mut request).await.unwrap() > 0);
        let version = b"server_version\x0012.22\x00";
        let mut reply = b"R\x00\x00\x00\x08\x00\x00\x00\x00S".to_vec();
        reply.extend_from_slice(&u32::try_from(version.len() + 4).unwrap().to_be_bytes());
        reply.extend_from_slice(version);
        reply.extend_from_slice(b"Z\x00\x00\x00\x05I");
        socket.write_all(&reply).await.unwrap();
        let _ = socket.read(&mut request).await;
    });
    let error = refused(&format!("postgres://me@{at}/db?sslmode=disable")).await;
    assert!(
        matches!(
            error,
            OpenError::TooOld {
                found: 12,
                needed: 13,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn refusals_of_the_server_are_told_apart() {
    let server = Postgres::start().await.unwrap();
    server.create_database("tickets").await.unwrap();
    server
        .run(
            "tickets",
            "CREATE ROLE guarded LOGIN PASSWORD 'right'; CREATE ROLE guest LOGIN; CREATE ROLE careless LOGIN",
        )
        .await
        .unwrap();
    server
        .run(
            "tickets",
            "GRANT CREATE ON DATABASE tickets TO careless; ALTER ROLE careless SET synchronous_commit = off",
        )
        .await
        .unwrap();
    let of = |user: &str, database: &str| server.url(database).replace("postgres@", &format!("{user}@"));

    let error = refused(&of("guarded:wrong-secret", "tickets")).await;
    assert!(matches!(error, OpenError::SignIn { .. }), "{error:?}");
    assert!(!format!("{error}{error:?}").contains("wrong-secret"), "{error}");
    let error = refused(&of("nobody", "tickets")).await;
    assert!(matches!(error, OpenError::SignIn { .. }), "{error:?}");
    let error = refused(&of("postgres", "ticket")).await;
    assert!(matches!(error, OpenError::NoDatabase { .. }), "{error:?}");
    let error = refused(&of("guarded:right", "tickets")).await;
    assert!(
        matches!(error, OpenError::NoPermission { .. }),
        "to make the schema: {error:?}"
    );
    server
        .run(
            "tickets",
            "CREATE SCHEMA stagedoor_ledger; GRANT USAGE ON SCHEMA stagedoor_ledger TO guest",
        )
        .await
        .unwrap();
    let error = refused(&of("guest", "tickets")).await;
    assert!(
        matches!(error, OpenError::NoPermission { .. }),
        "to make tables: {error:?}"
    );
    let error = refused(&of("careless", "tickets")).await;
    assert!(
        matches!(
            error,
            OpenError::NotDurable {
                setting: "synchronous_commit",
                ..
            }
        ),
        "{error:?}"
    );
    server
        .run("tickets", "REVOKE CONNECT ON DATABASE tickets FROM PUBLIC")
        .await
        .unwrap();
    let error = refused(&of("guest", "tickets")).await;
    assert!(
        matches!(error, OpenError::NoPermission { .. }),
        "to connect: {error:?}"
    );
}

#[tokio::test]
async fn schemas_in_an_unknown_state_are_left_alone() {
    let server = Postgres::start().await.unwrap();
    let foreign = server.create_database("foreign_tables").await.unwrap();
    server
        .run(
            "foreign_tables",
            "CREATE SCHEMA stagedoor_ledger; CREATE TABLE stagedoor_ledger.customers (a int)",
        )
        .await
        .unwrap();
    let error = refused(&foreign).await;
    assert!(
        matches!(&error, OpenError::ForeignTables { tables, .. } if tables == "customers"),
        "{error:?}"
    );

    let dirty = server.create_database("dirty").await.unwrap();
    open_postgres(&dirty, "ledger", &one(), 2).await.unwrap();
    server
        .run(
            "dirty",
            "UPDATE stagedoor_ledger._sqlx_migrations SET success = false",
        )
        .await
        .unwrap();
    let error = refused(&dirty).await;
    assert!(
        matches!(error, OpenError::HalfApplied { version: 1, .. }),
        "{error:?}"
    );

    let newer = server.create_database("newer").await.unwrap();
    let two = migrations(&["CREATE TABLE thing (a int)", "ALTER TABLE thing ADD b int"]);
    open_postgres(&newer, "ledger", &two, 2).await.unwrap();
    let error = refused(&newer).await;
    assert!(matches!(error, OpenError::Newer { version: 2, .. }), "{error:?}");

    let older = server.create_database("older").await.unwrap();
    let before = migrations(&["CREATE TABLE board (a int)", "ALTER TABLE board ADD b int"]);
    open_postgres(&older, "ledger", &before, 2).await.unwrap();
    let error = refused(&older).await;
    assert!(matches!(error, OpenError::OlderLayout { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("schema stagedoor_ledger of") && text.contains("start with an empty"),
        "{text}"
    );
}

#[tokio::test]
async fn components_share_a_database_and_nodes_start_together() {
    let server = Postgres::start().await.unwrap();
    let url = server.create_database("shared").await.unwrap();
    let many = migrations(&[
        "CREATE TABLE thing (a int)",
        "SELECT pg_sleep(0.1)",
        "INSERT INTO thing VALUES (1)",
    ]);
    let opened = futures_util::future::join_all(
        ["ledger", "queue", "shop"]
            .into_iter()
            .flat_map(|component| [component; 4])
            .map(|component| open_postgres(&url, component, &many, 2)),
    );
    for (n, pool) in opened.await.into_iter().enumerate() {
        let pool = pool.unwrap_or_else(|e| panic!("node {n}: {e}"));
        let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM thing")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(rows, 1, "migrated once");
    }
}

#[tokio::test]
async fn sessions_have_time_limits_and_reconnect() {
    let mut server = Postgres::start().await.unwrap();
    let url = server.create_database("held").await.unwrap();
    let pool = open_postgres(&url, "ledger", &one(), 3).await.unwrap();
    let error = pool.execute("SELECT pg_sleep(20)").await.unwrap_err();
    assert_eq!(
        error.as_database_error().unwrap().code().unwrap(),
        "57014",
        "a statement has a time limit"
    );
    assert!(!is_transient(&error), "a retry would time out as well");
    let mut held = pool.begin().await.unwrap();
    held.execute("LOCK TABLE thing").await.unwrap();
    let error = pool.execute("INSERT INTO thing VALUES (1)").await.unwrap_err();
    assert!(is_transient(&error), "a wait for a lock has one too: {error:?}");
    server.kill9().unwrap();
    let error = held.execute("INSERT INTO thing VALUES (1)").await.unwrap_err();
    assert!(is_transient(&error), "{error:?}");
    drop(held);
    let error = pool.execute("INSERT INTO thing VALUES (1)").await.unwrap_err();
    assert!(is_transient(&error), "{error:?}");
    server.restart().await.unwrap();
    pool.execute("INSERT INTO thing VALUES (1)").await.unwrap();
    // The server becomes unsafe while the service runs: new sessions are refused.
    server
        .run("held", "ALTER ROLE postgres SET synchronous_commit = off")
        .await
        .unwrap();
    server.restart().await.unwrap();
    assert!(pool.execute("INSERT INTO thing VALUES (1)").await.is_err());
}

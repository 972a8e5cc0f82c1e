//! The directory over each database that a shop may have.

use sqlx::{AssertSqlSafe, Connection, SqliteConnection, SqlitePool};
use tempfile::TempDir;
use testkit::{MariaDb, Postgres};

mod ready_queries;

use super::*;
use crate::kernel::SystemClock;

/// As a shop may have them: with capitals, accents, blanks around them, twice in another case, not at all.
const CUSTOMERS: &str = "
    INSERT INTO customers (id, email, name, password, active) VALUES
    (1, 'Kim.Su+hero@Example.com', 'Kim', 'hash-1', TRUE),
    (2, 'ÉMILIE@exämple.com', 'Émilie', 'hash-2', TRUE),
    (3, 'hana@example.com', 'Hana', 'hash-3', TRUE), (4, 'Hana@example.com', 'HANA', 'hash-4', TRUE),
    (5, '한글@예시.한국', '한글', 'hash-5', TRUE), (6, ' space@example.com ', 'Space', 'hash-6', TRUE),
    (7, 'off@example.com', NULL, NULL, FALSE), (8, NULL, 'No address', 'hash-8', TRUE),
    (9, 'gone@example.com', 'Gone', 'hash-9', NULL), (10, 'emilie@exämple.com', 'Emilie', 'hash-10', TRUE)";
const EXACT: &str = "SELECT id, name, password AS password_hash, active, email AS login FROM customers
    WHERE email IN (:login, :login_lower)";

/// A shop, and what an administrator can do there.
enum World {
    Sqlite(TempDir),
    Postgres(Postgres),
    MariaDb(MariaDb),
}

impl World {
    async fn all() -> Vec<Self> {
        vec![
            Self::Sqlite(tempfile::tempdir().unwrap()),
            Self::Postgres(Postgres::start().await.unwrap()),
            Self::MariaDb(MariaDb::start().await.unwrap()),
        ]
    }

    async fn with_customers() -> Vec<Self> {
        let worlds = Self::all().await;
        for world in &worlds {
            world.create_table().await;
            world.run(CUSTOMERS).await;
        }
        worlds
    }

    async fn create_table(&self) {
        let key = match self {
            Self::Sqlite(_) => "integer",
            Self::Postgres(_) => "bigint",
            Self::MariaDb(_) => "bigint unsigned",
        };
        if let Self::MariaDb(server) = self {
            let prepare = "CREATE DATABASE shop CHARACTER SET utf8mb4; \
                CREATE USER reader; CREATE USER writer; \
                GRANT SELECT ON shop.* TO reader; GRANT SELECT, UPDATE ON shop.* TO writer";
            server.run("mysql", prepare).await.unwrap();
        }
        self.run(&format!(
            "CREATE TABLE customers (id {key} PRIMARY KEY, email varchar(254), name varchar(150), \
             password varchar(128), active boolean)"
        ))
        .await;
        if let Self::Postgres(server) = self {
            let grants = "CREATE ROLE reader LOGIN; CREATE ROLE writer LOGIN; \
                GRANT SELECT ON customers TO reader; \
                GRANT SELECT, UPDATE (name) ON customers TO writer";
            server.run("postgres", grants).await.unwrap();
        }
    }

    /// Runs SQL as an administrator of the shop.
    async fn run(&self, sql: &str) {
        match self {
            Self::Sqlite(dir) => {
                let url = format!("sqlite:{}?mode=rwc", dir.path().join("shop.db").display());
                let mut shop = SqliteConnection::connect(&url).await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
                    .execute(&mut shop)
                    .await
                    .unwrap();
            }
            Self::Postgres(server) => server.run("postgres", sql).await.unwrap(),
            Self::MariaDb(server) => server.run("shop", sql).await.unwrap(),
        }
    }

    fn url(&self, user: &str) -> String {
        match self {
            Self::Sqlite(dir) => format!("sqlite:{}", dir.path().join("shop.db").display()),
            Self::Postgres(server) => format!("postgres://{user}@127.0.0.1:{}/postgres", server.port()),
            Self::MariaDb(server) => server.url(user, "shop"),
        }
    }

    fn config(&self, user: &str) -> DirectoryConfig {
        let any_case = match self {
            Self::Sqlite(_) => "email = :login COLLATE any_case",
            // The test server has the locale C, in which `lower` knows ASCII alone.
            Self::Postgres(_) => "lower(trim(email) COLLATE \"und-x-icu\") = :login_lower",
            Self::MariaDb(_) => "lower(trim(email)) = :login_lower COLLATE utf8mb4_bin",
        };
        let by_id = match self {
            Self::Postgres(_) => "id = CAST(:id AS bigint)",
            _ => "id = :id",
        };
        let (select, _) = EXACT.split_once("WHERE").unwrap();
        DirectoryConfig {
            database_url: self.url(user),
            customer_query: EXACT.to_owned(),
            customer_query_any_case: format!("{select} WHERE {any_case}"),
            customer_by_id_query: format!("{select} WHERE {by_id}"),
            customer_sample_query: format!("{select} WHERE id > 0 LIMIT 1000"),
            tables: vec!["customers".to_owned()],
            allow_write_access: false,
            connections_max: 2,
            query_timeout: Duration::from_secs(5),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
            Self::MariaDb(_) => "MariaDB",
        }
    }
}

fn open_directory(config: DirectoryConfig) -> SqlDirectory {
    SqlDirectory::new(config, Arc::new(SystemClock::new())).unwrap()
}

#[tokio::test]
async fn customers_are_found_by_what_they_type() {
    for world in World::with_customers().await {
        let directory = open_directory(world.config("reader"));
        directory.inspect().await.unwrap();
        let name = world.name();
        for (typed, search, expected) in [
            ("Kim.Su+hero@Example.com", Search::Exact, Ok(Some("1"))),
            ("KIM.SU+HERO@EXAMPLE.COM", Search::AnyCase, Ok(Some("1"))),
            ("kimsu@example.com", Search::AnyCase, Ok(None)),
            ("émilie@exämple.com", Search::AnyCase, Ok(Some("2"))),
            ("ÉMILIE@exämple.com", Search::Exact, Ok(Some("2"))),
            ("Emilie@exämple.com", Search::Exact, Ok(Some("10"))),
            ("hana@example.com", Search::Exact, Ok(Some("3"))),
            ("Hana@example.com", Search::Exact, Ok(Some("4"))),
            ("Hana@example.com", Search::AnyCase, Ok(Some("4"))),
            ("HANA@example.com", Search::AnyCase, Err(DirectoryError::Unclear)),
            ("한글@예시.한국", Search::Exact, Ok(Some("5"))),
            ("space@example.com", Search::AnyCase, Ok(Some("6"))),
            ("unknown@example.com", Search::Exact, Ok(None)),
            ("' OR 1=1 --", Search::AnyCase, Ok(None)),
            ("a\u{0}b", Search::Exact, Ok(None)),
        ] {
            let found = directory.find(&Wanted::login(typed), search).await;
            let key = found.map(|customer| customer.map(|it| it.key));
            let expected = expected.map(|key| key.map(str::to_owned));
            assert_eq!(key, expected, "{name}: {typed} {search:?}");
        }
        let off = directory
            .find(&Wanted::login("off@example.com"), Search::Exact)
            .await;
        let off = off.unwrap().unwrap();
        assert_eq!(
            (off.active, off.name.as_str(), off.password_hash.as_str()),
            (false, "", "")
        );
        let gone = directory
            .find(&Wanted::login("gone@example.com"), Search::Exact)
            .await;
        assert!(!gone.unwrap().unwrap().active, "{name}: not said to be active");
        for (key, expected) in [("4", Some("HANA")), ("77", None), ("no number", None)] {
            let found = directory.find(&Wanted::Key(key.to_owned()), Search::Exact).await;
            let customer = found.unwrap().map(|it| it.name);
            assert_eq!(customer.as_deref(), expected, "{name}: {key}");
        }
    }
}

#[tokio::test]
async fn an_account_that_could_write_is_refused() {
    for world in World::with_customers().await {
        let name = world.name();
        if let World::Sqlite(_) = world {
            // Every file is opened read-only.
            open_directory(world.config("")).inspect().await.unwrap();
            continue;
        }
        let directory = open_directory(world.config("writer"));
        let Err(DirectoryOpenError::Writable(privileges)) = directory.inspect().await else {
            panic!("{name}: a writer is accepted")
        };
        assert!(
            privileges.iter().any(|it| it.starts_with("UPDATE on")),
            "{name}: {privileges:?}"
        );
        assert!(
            directory
                .find(&Wanted::login("hana@example.com"), Search::Exact)
                .await
                .is_err(),
            "{name}: it is not used either"
        );
        let allowed = DirectoryConfig {
            allow_write_access: true,
            ..world.config("writer")
        };
        let directory = open_directory(allowed);
        directory.inspect().await.unwrap();
        let found = directory
            .find(&Wanted::login("hana@example.com"), Search::Exact)
            .await;
        assert_eq!(found.unwrap().unwrap().key, "3", "{name}");
    }
}

#[tokio::test]
async fn sessions_only_read_whatever_the_account_may_do() {
    for world in World::with_customers().await {
        let name = world.name();
        let user = if matches!(world, World::Sqlite(_)) {
            ""
        } else {
            "writer"
        };
        let writing = DirectoryConfig {
            customer_query: "UPDATE customers SET name = :login".to_owned(),
            allow_write_access: true,
            ..world.config(user)
        };
        let directory = open_directory(writing);
        let refused = directory.find(&Wanted::login("x"), Search::Exact).await;
        assert_eq!(refused, Err(DirectoryError::Failed), "{name}");
        let untouched = open_directory(DirectoryConfig {
            allow_write_access: true,
            ..world.config(user)
        });
        let hana = untouched
            .find(&Wanted::login("hana@example.com"), Search::Exact)
            .await;
        assert_eq!(hana.unwrap().unwrap().name, "Hana", "{name}");
    }
}

#[tokio::test]
async fn a_query_that_does_not_fit_the_shop_fails_and_names_what_it_lacks() {
    for world in World::with_customers().await {
        let name = world.name();
        for (query, reason) in [
            (
                "SELECT id, name, active FROM customers WHERE email = :login",
                "no column password_hash",
            ),
            (
                "SELECT nothing FROM customers WHERE email = :login",
                "an unknown column",
            ),
            ("SELECT * FROM elsewhere WHERE email = :login", "an unknown table"),
        ] {
            let wrong = DirectoryConfig {
                customer_query: query.to_owned(),
                ..world.config("reader")
            };
            let directory = open_directory(wrong);
            directory.inspect().await.unwrap();
            let found = directory
                .find(&Wanted::login("hana@example.com"), Search::Exact)
                .await;
            assert_eq!(found, Err(DirectoryError::Failed), "{name}: {reason}");
        }
        if !matches!(world, World::Sqlite(_)) {
            let elsewhere = DirectoryConfig {
                tables: vec!["elsewhere".to_owned()],
                ..world.config("reader")
            };
            let found = open_directory(elsewhere)
                .find(&Wanted::login("hana@example.com"), Search::Exact)
                .await;
            assert_eq!(found, Err(DirectoryError::Failed), "{name}: nothing is proved");
        }
        for (query, reason) in [
            (
                "SELECT id, name, password AS password_hash, active FROM customers \
                 WHERE id < 3 OR email = :login",
                "two customers and no login",
            ),
            (
                "SELECT NULL AS id, name, password AS password_hash, active FROM customers \
                 WHERE email = :login",
                "no key",
            ),
        ] {
            let unclear = DirectoryConfig {
                customer_query: query.to_owned(),
                ..world.config("reader")
            };
            let found = open_directory(unclear)
                .find(&Wanted::login("hana@example.com"), Search::Exact)
                .await;
            assert_eq!(found, Err(DirectoryError::Unclear), "{name}: {reason}");
        }
    }
}

#[tokio::test]
async fn a_query_that_reads_a_large_table_is_noticed() {
    for world in World::with_customers().await {
        let name = world.name();
        let many = match world {
            World::Sqlite(_) => {
                "WITH RECURSIVE n(i) AS (SELECT 20 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
                INSERT INTO customers SELECT i, 'fan' || i || '@example.com', 'Fan', 'x', 1 FROM n"
            }
            World::Postgres(_) => {
                "INSERT INTO customers SELECT i, 'fan' || i || '@example.com', 'Fan', 'x', true
                FROM generate_series(20, 20000) AS i; ANALYZE customers"
            }
            World::MariaDb(_) => {
                "INSERT INTO customers SELECT seq, concat('fan', seq, '@example.com'), 'Fan', 'x', true
                FROM seq_20_to_20000; ANALYZE TABLE customers"
            }
        };
        world.run(many).await;
        let directory = open_directory(world.config("reader"));
        let scans = directory.database.scans(&directory.exact).await.unwrap();
        assert_eq!(scans.len(), 1, "{name}: {scans:?}");
        assert_eq!(scans[0].table, "customers", "{name}");
        assert!(scans[0].rows > 10_000, "{name}: {scans:?}");
        world
            .run("CREATE INDEX customers_email ON customers (email)")
            .await;
        let scans = directory.database.scans(&directory.exact).await.unwrap();
        assert_eq!(scans, Vec::new(), "{name}");
    }
}

#[tokio::test]
async fn a_slow_query_ends_at_the_database_too() {
    for world in World::with_customers().await {
        let name = world.name();
        let endless = match world {
            World::Sqlite(_) => {
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                 SELECT i AS id, :login AS name FROM n WHERE i < 0"
            }
            World::Postgres(_) => "SELECT pg_sleep(60), :login AS name",
            World::MariaDb(_) => "SELECT sleep(60), :login AS name",
        };
        let slow = DirectoryConfig {
            customer_query: endless.to_owned(),
            query_timeout: Duration::from_millis(300),
            ..world.config("reader")
        };
        let directory = open_directory(slow);
        // More often than there are connections: none of them stays behind in the endless query.
        for _ in 0..5 {
            let found = directory.find(&Wanted::login("x"), Search::Exact).await;
            assert_eq!(found, Err(DirectoryError::Failed), "{name}");
        }
        let back = tokio::time::timeout(Duration::from_secs(5), async {
            let hana = Wanted::login("hana@example.com");
            while directory.find(&hana, Search::AnyCase).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        back.await
            .unwrap_or_else(|_| panic!("{name}: no connection is usable again"));
    }
}

#[tokio::test]
async fn missing_and_locked_files_fail() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.db");
    let world = World::Sqlite(dir);
    let directory = open_directory(DirectoryConfig {
        query_timeout: Duration::from_millis(100),
        ..world.config("")
    });
    let hana = Wanted::login("hana@example.com");
    directory
        .inspect()
        .await
        .expect("the shop may be down at the start");
    assert_eq!(
        directory.find(&hana, Search::Exact).await,
        Err(DirectoryError::Failed)
    );
    assert!(!file.exists(), "a query does not create the file");

    world.create_table().await;
    world.run(CUSTOMERS).await;
    let writer = SqlitePool::connect(&format!("sqlite:{}", file.display()))
        .await
        .unwrap();
    let mut locking = writer.acquire().await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE")
        .execute(&mut *locking)
        .await
        .unwrap();
    assert_eq!(
        directory.find(&hana, Search::Exact).await,
        Err(DirectoryError::Failed)
    );
    sqlx::query("COMMIT").execute(&mut *locking).await.unwrap();
    let found = directory.find(&hana, Search::Exact).await;
    assert!(found.unwrap().is_some(), "back again");
}

#[tokio::test]
async fn urls_and_queries_that_cannot_be_used_are_refused_by_name() {
    let world = World::Sqlite(tempfile::tempdir().unwrap());
    let refused = |config| match SqlDirectory::new(config, Arc::new(SystemClock::new())) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it is accepted"),
    };
    let oracle = DirectoryConfig {
        database_url: "oracle://shop".to_owned(),
        ..world.config("")
    };
    assert!(refused(oracle).starts_with("shop.database_url: "));
    let nameless = DirectoryConfig {
        customer_query_any_case: "SELECT 1".to_owned(),
        ..world.config("")
    };
    let text = refused(nameless);
    assert!(
        text.starts_with("shop.customer_query_any_case: must have"),
        "{text}"
    );
}

#[tokio::test]
async fn a_row_that_may_be_anothers_is_no_customer() {
    for world in World::with_customers().await {
        let name = world.name();
        let (query, reason) = match world {
            World::Sqlite(_) => continue,
            World::Postgres(_) => (
                "SELECT 12345678901234567890123 AS id, name, password AS password_hash, active, \
                 email AS login FROM customers WHERE email = :login",
                "JSON rounds the key",
            ),
            World::MariaDb(_) => (
                "SELECT id, name, password AS password_hash, active FROM customers WHERE email = :login",
                "a collation takes other letters for the same",
            ),
        };
        let directory = open_directory(DirectoryConfig {
            customer_query: query.to_owned(),
            ..world.config("reader")
        });
        let found = directory
            .find(&Wanted::login("hana@example.com"), Search::Exact)
            .await;
        assert_eq!(found, Err(DirectoryError::Unclear), "{name}: {reason}");
    }
}

#[tokio::test]
async fn a_shop_that_hangs_at_the_start_makes_one_caller_wait() {
    let postgres = Postgres::start().await.unwrap();
    let world = World::Postgres(postgres);
    world.create_table().await;
    let directory = Arc::new(open_directory(DirectoryConfig {
        query_timeout: Duration::from_millis(300),
        ..world.config("reader")
    }));
    let World::Postgres(server) = &world else {
        unreachable!("it was made above")
    };
    server.pause().unwrap();
    let callers: Vec<_> = (0..100)
        .map(|number| {
            let directory = Arc::clone(&directory);
            tokio::spawn(async move {
                let wanted = Wanted::login(&format!("fan{number}@example.com"));
                directory.find(&wanted, Search::Exact).await
            })
        })
        .collect();
    let all = async {
        for caller in callers {
            assert_eq!(caller.await.unwrap(), Err(DirectoryError::Failed));
        }
    };
    // One after the other they would take half a minute.
    tokio::time::timeout(Duration::from_secs(10), all)
        .await
        .expect("the others do not wait");
    server.resume().unwrap();
    let found = directory
        .find(&Wanted::login("fan1@example.com"), Search::Exact)
        .await;
    assert_eq!(found, Ok(None), "the database answers again");
}

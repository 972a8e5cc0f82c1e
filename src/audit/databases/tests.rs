//! The same sale reads the same from SQLite and from PostgreSQL.

use std::path::Path;

use sqlx::{Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use testkit::Postgres;

use super::*;
use crate::{audit::OrderState, kernel::SaleId};

/// The queue's tables in PostgreSQL.
const SHARED_QUEUE: &str = "
    CREATE TABLE journal (sale text NOT NULL, seq bigint NOT NULL, kind text NOT NULL, body bytea NOT NULL,
                          PRIMARY KEY (sale, seq));
    CREATE TABLE visit (sale text NOT NULL, queue_number bigint NOT NULL, subject bigint NOT NULL,
                        visit_id text NOT NULL, admitted_at bigint NOT NULL, ended_at bigint,
                        seq bigint NOT NULL);";

/// Two joins (the second left), a call, an order that is paid and one that is stuck, and another sale.
fn rows(is_shared: bool) -> String {
    let (yes, hex) = if is_shared { ("TRUE", r"'\x") } else { ("1", "x'") };
    let join = "000000070000000200000000000003e800000000000000640000000000000000000000c800000000";
    let hex_of = |text: &str| {
        text.bytes()
            .fold(String::new(), |hex, it| format!("{hex}{it:02x}"))
    };
    let event = |body: &str| format!("{hex}{}'", hex_of(body));
    let called =
        event(r#"[2000,{"kind":"called","after":0,"last":7,"window_ends_at":"1970-01-01T00:00:03.000Z"}]"#);
    let left = event(r#"[2500,{"kind":"left","number":8}]"#);
    // Admitted in another order than they are numbered in, and read in the order of admission.
    let visits = if is_shared {
        "INSERT INTO visit VALUES ('spring', 7, 100, 'v7', 4000, NULL, 11), ('spring', 6, -1, 'v6', 2100,
         2200, 10), ('other', 1, 1, 'x', 1, NULL, 12)"
    } else {
        "INSERT INTO visit VALUES ('spring', 6, -1, 'v6', 2100, 2200), ('spring', 7, 100, 'v7', 4000,
         NULL), ('other', 1, 1, 'x', 1, NULL)"
    };
    let order = |id: &str, sale: &str, state: &str, stuck: &str| {
        format!(
            "INSERT INTO orders (id, sale, performance, buyer, visit, hold, state, stuck, amount, currency,
             method, payment_deadline, created_at, updated_at)
             VALUES ('{id}', '{sale}', 'friday', 'b', 'v-{id}', 'h-{id}', '{state}', {stuck}, 300, 'KRW',
             'card', 1, 1, 1);
             INSERT INTO order_seat (order_id, seat, position, info) VALUES ('{id}', 'S-{id}', 0, '{{}}');
             INSERT INTO seat_claim VALUES ('{sale}', 'friday', 'S-{id}', '{id}', 1, '{}', 1);
             INSERT INTO ticket (id, order_id, seat, issued_at) VALUES ('t-{id}', '{id}', 'S-{id}', 1);",
            if state == "paid" { "booked" } else { "paying" }
        )
    };
    let no = if is_shared { "FALSE" } else { "0" };
    format!(
        "INSERT INTO journal (sale, seq, kind, body) VALUES ('spring', 1, 'joins', {hex}{join}');
         INSERT INTO journal (sale, seq, kind, body) VALUES ('spring', 2, 'event', {called});
         INSERT INTO journal (sale, seq, kind, body) VALUES ('spring', 3, 'event', {left});
         {visits};{}{}{}",
        order("one", "spring", "paid", no),
        order("two", "spring", "in_progress", yes),
        order("three", "other", "paid", no),
    )
}

#[tokio::test]
async fn both_database_systems_give_the_same_evidence() {
    let sale: SaleId = "spring".parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    for file in ["queue.db", "ledger.db"] {
        // Both schemas in each file: the rows above are of both.
        let mut db = SqliteConnection::connect_with(
            &SqliteConnectOptions::new()
                .filename(dir.join(file))
                .create_if_missing(true),
        )
        .await
        .unwrap();
        sqlx::raw_sql(include_str!(
            "../../waiting_room/journal/sqlite/migrations/0001_journal.sql"
        ))
        .execute(&mut db)
        .await
        .unwrap();
        sqlx::raw_sql(include_str!(
            "../../checkout/ledger/sqlite/migrations/0001_ledger.sql"
        ))
        .execute(&mut db)
        .await
        .unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(rows(false)))
            .execute(&mut db)
            .await
            .unwrap();
    }
    let server = Postgres::start().await.unwrap();
    let url = server.create_database("tickets").await.unwrap();
    let mut db = PgConnection::connect(&url).await.unwrap();
    let tables = format!(
        "CREATE SCHEMA stagedoor_queue; CREATE SCHEMA stagedoor_ledger;
         SET search_path = stagedoor_queue; {SHARED_QUEUE}
         SET search_path = stagedoor_ledger; {}
         SET search_path = stagedoor_queue, stagedoor_ledger; {}",
        include_str!("../../checkout/ledger/postgres/migrations/0001_ledger.sql"),
        rows(true)
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(tables))
        .execute(&mut db)
        .await
        .unwrap();

    let from_sqlite = read(dir, &sale).await.unwrap();
    let shared = DatabaseLocation::Postgres(url);
    let from_postgres = read_from(
        &Databases {
            journal: shared.clone(),
            ledger: shared,
            gateway: None,
        },
        &sale,
    )
    .await
    .unwrap();
    assert_eq!(format!("{from_sqlite:#?}"), format!("{from_postgres:#?}"));
    assert_eq!(
        from_sqlite
            .journal_joins
            .iter()
            .map(|join| (join.number, join.subject_hash, join.left))
            .collect::<Vec<_>>(),
        [(7, 100, false), (8, 200, true)]
    );
    assert_eq!(
        from_sqlite
            .admissions
            .iter()
            .map(|admission| (admission.number, admission.is_late_arrival))
            .collect::<Vec<_>>(),
        [(6, false), (7, true)]
    );
    let states: Vec<_> = from_sqlite
        .orders
        .iter()
        .map(|order| (order.id.as_str(), order.state, order.seats.len()))
        .collect();
    assert_eq!(
        states,
        [("one", OrderState::Paid, 1), ("two", OrderState::Stuck, 1)]
    );
    assert_eq!(
        (
            from_sqlite.ledger_booked.len(),
            from_sqlite.claims.len(),
            from_sqlite.tickets.len()
        ),
        (1, 2, 2)
    );
}

#[test]
fn a_location_is_a_file_or_a_postgresql_url() {
    assert!(matches!("sqlite:/data/ledger.db".parse(),
                 Ok(DatabaseLocation::File(file)) if file == Path::new("/data/ledger.db")));
    assert!(matches!("sqlite:///data/ledger.db".parse(),
                 Ok(DatabaseLocation::File(file)) if file == Path::new("/data/ledger.db")));
    assert!(matches!(
        "postgres://me@db/tickets".parse(),
        Ok(DatabaseLocation::Postgres(_))
    ));
    assert!(
        matches!("mysql://me:secret@db/tickets".parse::<DatabaseLocation>(),
                 Err(e) if !e.to_string().contains("secret"))
    );
}

#[tokio::test]
async fn an_unreachable_database_is_named() {
    let nowhere = DatabaseLocation::Postgres("postgres://me:secret@127.0.0.1:1/tickets".into());
    let databases = Databases {
        journal: nowhere.clone(),
        ledger: nowhere,
        gateway: None,
    };
    let error = read_from(&databases, &"spring".parse().unwrap())
        .await
        .unwrap_err();
    assert!(
        error.to_string().starts_with("the journal") && !error.to_string().contains("secret"),
        "{error}"
    );
}

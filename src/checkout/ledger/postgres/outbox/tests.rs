//! What only an outbox of several nodes must guarantee.

use std::sync::Arc;

use sqlx::PgPool;
use testkit::Postgres;

use crate::{
    checkout::{
        ledger::postgres::PostgresLedger,
        outbox::{
            conformance::{book, pay},
            port::Outbox,
        },
    },
    kernel::OsEntropy,
};

/// A transaction may begin before another one and commit after it. A reader that has seen the other one's
/// event finds the late one behind it.
#[tokio::test(flavor = "multi_thread")]
async fn the_feed_skips_no_event_that_is_committed_late() {
    let server = Postgres::start().await.unwrap();
    let url = server.create_database("ledger").await.unwrap();
    let ledger = PostgresLedger::open(&url, "a", Arc::new(OsEntropy))
        .await
        .unwrap();
    let pool = PgPool::connect(&url).await.unwrap();
    let mut late = pool.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO stagedoor_ledger.outbox (stream, sequence, sale, kind, data, at)
         VALUES ('a-late-one', 1, 'spring', 'late', '{}', 0)",
    )
    .execute(&mut *late)
    .await
    .unwrap();
    let order = book(&ledger, 1, 0).await;
    ledger.number_events().await.unwrap();
    let first = ledger.events_after(0, 9).await.unwrap();
    assert_eq!(first.len(), 1, "{first:?}");
    late.commit().await.unwrap();
    pay(&ledger, order, 1).await;
    ledger.number_events().await.unwrap();
    let rest = ledger.events_after(first[0].0, 9).await.unwrap();
    let kinds: Vec<_> = rest.iter().map(|(_, event)| event.kind.as_str()).collect();
    assert_eq!(kinds.len(), 2, "{rest:?}");
    assert!(kinds.contains(&"late"), "{rest:?}");
}

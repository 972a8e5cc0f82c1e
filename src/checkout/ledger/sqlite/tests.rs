//! The conformance suite on SQLite, and the journal that only grows.

use super::SqliteLedger;
use crate::{
    checkout::{
        ledger::{
            conformance::{self, fixtures},
            port::LedgerError,
        },
        outbox::conformance::outbox_conformance,
    },
    platform::shutdown::Lifecycle,
};

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_conformance_suite() {
    let dir = tempfile::tempdir().unwrap();
    let lifecycle = Lifecycle::new();
    conformance::all(
        &SqliteLedger::open(&dir.path().join("ledger.db"), "a", &lifecycle)
            .await
            .unwrap(),
    )
    .await;
    lifecycle.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_journal_is_append_only() {
    let dir = tempfile::tempdir().unwrap();
    let lifecycle = Lifecycle::new();
    let ledger = SqliteLedger::open(&dir.path().join("ledger.db"), "a", &lifecycle)
        .await
        .unwrap();
    fixtures::open(&ledger, &fixtures::Request::new(1, &["A-1"])).await;
    for forbidden in [
        "UPDATE order_journal SET change = 'nothing'",
        "DELETE FROM order_journal",
    ] {
        let tried = ledger
            .write(move |db| {
                Box::pin(async move {
                    sqlx::query(forbidden).execute(db).await?;
                    Ok(())
                })
            })
            .await;
        assert!(matches!(tried, Err(LedgerError::Unavailable(_))), "{forbidden}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_conformance_suite_of_the_outbox() {
    let lifecycle = Lifecycle::new();
    let dir = tempfile::tempdir().unwrap();
    let mut files = 0;
    outbox_conformance!({
        files += 1;
        let file = dir.path().join(format!("{files}.db"));
        SqliteLedger::open(&file, "a", &lifecycle).await.unwrap()
    });
    lifecycle.stop();
}

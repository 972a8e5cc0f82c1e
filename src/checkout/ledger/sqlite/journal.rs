//! The order journal: an append-only table whose rows form a hash chain.

use sqlx::SqliteConnection;

use crate::{checkout::ledger::port::LedgerError, kernel::Timestamp, platform::signing::sha256};

/// Appends a change of an order, chained to the row before.
pub(super) async fn append(
    db: &mut SqliteConnection,
    order: &str,
    change: &str,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let last: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT hash FROM order_journal ORDER BY sequence DESC LIMIT 1")
            .fetch_optional(&mut *db)
            .await?;
    let mut covered = last.unwrap_or_default();
    covered.extend_from_slice(format!("{}|{order}|{change}", at.as_millis()).as_bytes());
    sqlx::query("INSERT INTO order_journal (at, order_id, change, hash) VALUES (?1, ?2, ?3, ?4)")
        .bind(at.as_millis())
        .bind(order)
        .bind(change)
        .bind(sha256(&covered).to_vec())
        .execute(db)
        .await?;
    Ok(())
}

//! The order journal: each transaction appends its own rows, and any node chains them afterwards.

use sqlx::{PgConnection, Row};

use super::transaction::TxResult;
use crate::{kernel::Timestamp, platform::signing::sha256};

/// Rows chained in one transaction; the rest is chained by the next call.
const ROWS_MAX: i64 = 2_000;
/// Key of the advisory lock under which rows are chained.
const CHAIN_LOCK: i64 = 0x0061_7564_6974;

/// Appends a change of an order. The row is chained later: chaining here would serialize all transactions.
pub(super) async fn append(db: &mut PgConnection, order: &str, change: &str, at: Timestamp) -> TxResult<()> {
    sqlx::query("INSERT INTO order_journal (at, order_id, change) VALUES ($1, $2, $3)")
        .bind(at.as_millis())
        .bind(order)
        .bind(change)
        .execute(db)
        .await?;
    Ok(())
}

/// Chains the rows that are visible now, and returns how many. Does nothing while another node does so.
pub(super) async fn chain(db: &mut PgConnection) -> TxResult<u64> {
    let is_mine: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
        .bind(CHAIN_LOCK)
        .fetch_one(&mut *db)
        .await?;
    if !is_mine {
        return Ok(0);
    }
    // A new snapshot after the lock, so that it includes what the previous holder committed.
    let rows = sqlx::query(
        "SELECT id, at, order_id, change FROM order_journal WHERE sequence IS NULL ORDER BY id LIMIT $1",
    )
    .bind(ROWS_MAX)
    .fetch_all(&mut *db)
    .await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let last = sqlx::query(
        "SELECT sequence, hash FROM order_journal WHERE sequence IS NOT NULL ORDER BY sequence DESC LIMIT 1",
    )
    .fetch_optional(&mut *db)
    .await?;
    let (mut sequence, mut hash) = match &last {
        Some(row) => (
            row.try_get::<i64, _>("sequence")?,
            row.try_get::<Vec<u8>, _>("hash")?,
        ),
        None => (0, Vec::new()),
    };
    let (mut ids, mut sequences, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let (at, order, change): (i64, &str, &str) = (
            row.try_get("at")?,
            row.try_get("order_id")?,
            row.try_get("change")?,
        );
        hash.extend_from_slice(format!("{at}|{order}|{change}").as_bytes());
        hash = sha256(&hash).to_vec();
        sequence += 1;
        ids.push(row.try_get::<i64, _>("id")?);
        sequences.push(sequence);
        hashes.push(hash.clone());
    }
    let chained = sqlx::query(
        "UPDATE order_journal j SET sequence = c.sequence, hash = c.hash
         FROM UNNEST($1::bigint[], $2::bigint[], $3::bytea[]) AS c (id, sequence, hash) WHERE j.id = c.id",
    )
    .bind(ids)
    .bind(sequences)
    .bind(hashes)
    .execute(db)
    .await?;
    Ok(chained.rows_affected())
}

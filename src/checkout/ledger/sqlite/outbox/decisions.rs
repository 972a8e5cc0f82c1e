//! What operators decide: dead letters and replays.

use sqlx::{Row, SqliteConnection, SqlitePool};

use super::delivery::event_of;
use crate::{
    checkout::{
        ledger::{port::LedgerError, sqlite::rows::time},
        outbox::{
            event::VISITOR_CALLED,
            port::{DeadLetter, EventId, ReplayRange, ReplayStep},
        },
    },
    kernel::{SaleId, Timestamp},
};

pub(super) async fn dead_letters(
    db: &SqlitePool,
    after: &str,
    limit: u32,
) -> Result<Vec<DeadLetter>, LedgerError> {
    let rows = sqlx::query(
        "SELECT e.stream, e.sequence, e.sale, e.kind, e.data, e.at, s.dead_at, s.attempts, s.last_error,
                (SELECT COUNT(*) FROM outbox l WHERE l.stream = e.stream AND l.pending = 1) - 1 AS waiting
         FROM outbox_stream s JOIN outbox e ON e.stream = s.stream
         WHERE s.dead_at IS NOT NULL AND s.stream > ?1
         AND e.sequence = (SELECT MIN(f.sequence) FROM outbox f WHERE f.stream = s.stream AND f.pending = 1)
         ORDER BY s.stream LIMIT ?2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(DeadLetter {
                event: event_of(row)?,
                dead_at: time(row, "dead_at")?,
                attempts: row.try_get("attempts")?,
                last_error: row.try_get("last_error")?,
                waiting: u64::try_from(row.try_get::<i64, _>("waiting")?).unwrap_or(0),
            })
        })
        .collect()
}

/// Ends the stop of up to `limit` streams, of all sales or of one. Returns how many.
pub(super) async fn revive_all(
    db: &mut SqliteConnection,
    sale: Option<SaleId>,
    limit: u32,
    at: Timestamp,
) -> Result<u64, LedgerError> {
    let revived = sqlx::query(
        "UPDATE outbox_stream SET dead_at = NULL, attempts = 0, failing_since = NULL, last_error = NULL,
         due_at = ?1
         WHERE stream IN (SELECT s.stream FROM outbox_stream s WHERE s.dead_at IS NOT NULL
               AND (?2 IS NULL OR EXISTS (SELECT 1 FROM outbox e WHERE e.stream = s.stream AND e.sale = ?2))
               LIMIT ?3)",
    )
    .bind(at.as_millis())
    .bind(sale.as_ref().map(SaleId::as_str))
    .bind(limit)
    .execute(db)
    .await?;
    Ok(revived.rows_affected())
}

/// Ends the stop of a stream that this dead letter stops. Returns whether it did.
pub(super) async fn revive(
    db: &mut SqliteConnection,
    id: &EventId,
    at: Timestamp,
) -> Result<bool, LedgerError> {
    let revived = sqlx::query(
        "UPDATE outbox_stream SET dead_at = NULL, attempts = 0, failing_since = NULL, last_error = NULL,
         due_at = ?3
         WHERE stream = ?1 AND dead_at IS NOT NULL
         AND ?2 = (SELECT MIN(sequence) FROM outbox WHERE stream = ?1 AND pending = 1)",
    )
    .bind(&id.stream)
    .bind(id.sequence)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(revived.rows_affected() == 1)
}

pub(super) async fn skip(
    db: &mut SqliteConnection,
    id: EventId,
    operator: String,
    at: Timestamp,
) -> Result<bool, LedgerError> {
    if !revive(db, &id, at).await? {
        return Ok(false);
    }
    sqlx::query(
        "UPDATE outbox SET pending = 0, skipped_by = $3 WHERE stream = $1 AND sequence = $2;
         UPDATE outbox_stream SET due_at = NULL
         WHERE stream = $1 AND NOT EXISTS (SELECT 1 FROM outbox WHERE stream = $1 AND pending = 1)",
    )
    .bind(id.stream)
    .bind(id.sequence)
    .bind(operator)
    .execute(db)
    .await?;
    Ok(true)
}

pub(super) async fn replay(
    db: &mut SqliteConnection,
    range: ReplayRange,
    after: i64,
    limit: u32,
    at: Timestamp,
) -> Result<ReplayStep, LedgerError> {
    let positions: Vec<i64> = sqlx::query_scalar(
        "SELECT position FROM outbox WHERE position > ?1 AND at >= ?2 AND at < ?3
         AND (?4 IS NULL OR sale = ?4) AND kind <> ?6 ORDER BY position LIMIT ?5",
    )
    .bind(after)
    .bind(range.from.as_millis())
    .bind(range.until.as_millis())
    .bind(range.sale.as_ref().map(SaleId::as_str))
    .bind(limit)
    .bind(VISITOR_CALLED)
    .fetch_all(&mut *db)
    .await?;
    let next = positions.last().copied();
    let positions = serde_json::to_string(&positions).expect("numbers are JSON");
    let marked: Vec<String> = sqlx::query_scalar(
        "UPDATE outbox SET pending = 1, skipped_by = NULL
         WHERE position IN (SELECT value FROM json_each(?1)) AND pending = 0
         AND EXISTS (SELECT 1 FROM outbox_stream s WHERE s.stream = outbox.stream AND s.dead_at IS NULL)
         RETURNING stream",
    )
    .bind(&positions)
    .fetch_all(&mut *db)
    .await?;
    // Another event may be the first one now: neither the failures of the former one nor its lease count.
    sqlx::query(
        "UPDATE outbox_stream SET attempts = 0, failing_since = NULL, last_error = NULL, due_at = ?2,
         lease = lease + 1
         WHERE stream IN (SELECT value FROM json_each(?1))",
    )
    .bind(serde_json::to_string(&marked).expect("texts are JSON"))
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(ReplayStep {
        events: marked.len() as u64,
        next,
    })
}

//! What operators decide: dead letters and replays.

use sqlx::{PgConnection, Row};

use super::{
    delivery::{attempts, event_of},
    feed::lock_numbering,
};
use crate::{
    checkout::{
        ledger::postgres::{rows::time, transaction::TxResult},
        outbox::{
            event::VISITOR_CALLED,
            port::{DeadLetter, EventId, ReplayRange, ReplayStep},
        },
    },
    kernel::{SaleId, Timestamp},
};

pub(super) async fn dead_letters(
    db: &mut PgConnection,
    after: String,
    limit: u32,
) -> TxResult<Vec<DeadLetter>> {
    let rows = sqlx::query(
        "SELECT e.stream, e.sequence, e.sale, e.kind, e.data, e.at, s.dead_at, s.attempts, s.last_error,
                (SELECT COUNT(*) FROM outbox l WHERE l.stream = e.stream AND l.pending) - 1 AS waiting
         FROM outbox_stream s JOIN outbox e ON e.stream = s.stream
         WHERE s.dead_at IS NOT NULL AND s.stream > $1
         AND e.sequence = (SELECT MIN(f.sequence) FROM outbox f WHERE f.stream = s.stream AND f.pending)
         ORDER BY s.stream LIMIT $2",
    )
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(DeadLetter {
                event: event_of(row)?,
                dead_at: time(row, "dead_at")?,
                attempts: attempts(row)?,
                last_error: row.try_get("last_error")?,
                waiting: u64::try_from(row.try_get::<i64, _>("waiting")?).unwrap_or(0),
            })
        })
        .collect()
}

/// Ends the stop of up to `limit` streams, of all sales or of one. Returns how many.
pub(super) async fn revive_all(
    db: &mut PgConnection,
    sale: Option<SaleId>,
    limit: u32,
    at: Timestamp,
) -> TxResult<u64> {
    let revived = sqlx::query(
        "UPDATE outbox_stream SET dead_at = NULL, attempts = 0, failing_since = NULL, last_error = NULL,
         due_at = $1
         WHERE stream IN (SELECT s.stream FROM outbox_stream s WHERE s.dead_at IS NOT NULL
               AND ($2::text IS NULL
                    OR EXISTS (SELECT 1 FROM outbox e WHERE e.stream = s.stream AND e.sale = $2))
               ORDER BY s.stream LIMIT $3 FOR NO KEY UPDATE)",
    )
    .bind(at.as_millis())
    .bind(sale.as_ref().map(SaleId::as_str))
    .bind(i64::from(limit))
    .execute(db)
    .await?;
    Ok(revived.rows_affected())
}

/// Ends the stop of a stream that this dead letter stops. Returns whether it did.
pub(super) async fn revive(db: &mut PgConnection, id: &EventId, at: Timestamp) -> TxResult<bool> {
    let revived = sqlx::query(
        "UPDATE outbox_stream SET dead_at = NULL, attempts = 0, failing_since = NULL, last_error = NULL,
         due_at = $3
         WHERE stream = $1 AND dead_at IS NOT NULL
         AND $2 = (SELECT MIN(sequence) FROM outbox WHERE stream = $1 AND pending)",
    )
    .bind(&id.stream)
    .bind(id.sequence)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(revived.rows_affected() == 1)
}

pub(super) async fn skip(
    db: &mut PgConnection,
    id: EventId,
    operator: String,
    at: Timestamp,
) -> TxResult<bool> {
    if !revive(db, &id, at).await? {
        return Ok(false);
    }
    sqlx::query("UPDATE outbox SET pending = FALSE, skipped_by = $3 WHERE stream = $1 AND sequence = $2")
        .bind(&id.stream)
        .bind(id.sequence)
        .bind(operator)
        .execute(&mut *db)
        .await?;
    sqlx::query(
        "UPDATE outbox_stream SET due_at = NULL
         WHERE stream = $1 AND NOT EXISTS (SELECT 1 FROM outbox WHERE stream = $1 AND pending)",
    )
    .bind(id.stream)
    .execute(db)
    .await?;
    Ok(true)
}

pub(super) async fn replay(
    db: &mut PgConnection,
    range: ReplayRange,
    after: i64,
    limit: u32,
    at: Timestamp,
) -> TxResult<ReplayStep> {
    lock_numbering(db).await?;
    let rows = sqlx::query(
        "SELECT position, stream FROM outbox WHERE position > $1 AND at >= $2 AND at < $3
         AND ($4::text IS NULL OR sale = $4) AND kind <> $6 ORDER BY position LIMIT $5",
    )
    .bind(after)
    .bind(range.from.as_millis())
    .bind(range.until.as_millis())
    .bind(range.sale.as_ref().map(SaleId::as_str))
    .bind(i64::from(limit))
    .bind(VISITOR_CALLED)
    .fetch_all(&mut *db)
    .await?;
    let mut positions = Vec::with_capacity(rows.len());
    let mut streams: Vec<String> = Vec::with_capacity(rows.len());
    for row in &rows {
        positions.push(row.try_get::<i64, _>("position")?);
        streams.push(row.try_get("stream")?);
    }
    let next = positions.last().copied();
    let live: Vec<String> = sqlx::query_scalar(
        "SELECT stream FROM outbox_stream WHERE stream = ANY($1) AND dead_at IS NULL
         ORDER BY stream FOR NO KEY UPDATE",
    )
    .bind(streams)
    .fetch_all(&mut *db)
    .await?;
    let marked: Vec<String> = sqlx::query_scalar(
        "UPDATE outbox SET pending = TRUE, skipped_by = NULL
         WHERE position = ANY($1) AND stream = ANY($2) AND NOT pending RETURNING stream",
    )
    .bind(positions)
    .bind(live)
    .fetch_all(&mut *db)
    .await?;
    let events = marked.len() as u64;
    // Another event may be the first one now: neither the failures of the former one nor its lease count.
    sqlx::query(
        "UPDATE outbox_stream SET attempts = 0, failing_since = NULL, last_error = NULL, due_at = $2,
         lease = lease + 1
         WHERE stream = ANY($1)",
    )
    .bind(marked)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(ReplayStep { events, next })
}

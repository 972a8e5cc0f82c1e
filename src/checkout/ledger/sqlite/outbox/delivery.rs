//! Writing events, and delivering them stream by stream.

use sqlx::{Row, SqliteConnection, SqlitePool, sqlite::SqliteRow};

use crate::{
    checkout::{
        ledger::{
            port::{LedgerError, NewEvent},
            sqlite::rows::{parse, time},
        },
        outbox::port::{AfterFailure, EventId, LeasedEvent, OutboxEvent, StandaloneEvent, StreamLease},
    },
    kernel::Timestamp,
};

/// Appends to the order's stream.
pub(crate) async fn append_event(
    db: &mut SqliteConnection,
    order: &str,
    event: &NewEvent,
    at: Timestamp,
) -> Result<(), LedgerError> {
    sqlx::query(
        "INSERT INTO outbox_stream (stream, last_sequence, due_at) VALUES ($1, 1, $4)
         ON CONFLICT DO UPDATE SET last_sequence = last_sequence + 1,
                                   due_at = CASE WHEN dead_at IS NULL THEN COALESCE(due_at, $4) END;
         INSERT INTO outbox (stream, sequence, sale, kind, data, at)
         SELECT $1, s.last_sequence, o.sale, $2, $3, $4 FROM outbox_stream s JOIN orders o ON o.id = s.stream
         WHERE s.stream = $1",
    )
    .bind(order)
    .bind(event.kind)
    .bind(&event.data)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn record_events(
    db: &mut SqliteConnection,
    sale: String,
    events: Vec<StandaloneEvent>,
) -> Result<(), LedgerError> {
    for event in events {
        record_event(db, &sale, event).await?;
    }
    Ok(())
}

async fn record_event(
    db: &mut SqliteConnection,
    sale: &str,
    StandaloneEvent { id, event, at }: StandaloneEvent,
) -> Result<(), LedgerError> {
    let recorded = sqlx::query(
        "INSERT INTO outbox (stream, sequence, sale, kind, data, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO NOTHING",
    )
    .bind(&id.stream)
    .bind(id.sequence)
    .bind(sale)
    .bind(event.kind)
    .bind(event.data)
    .bind(at.as_millis())
    .execute(&mut *db)
    .await?;
    if recorded.rows_affected() == 0 {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO outbox_stream (stream, last_sequence, due_at) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET last_sequence = MAX(last_sequence, excluded.last_sequence),
                                   due_at = CASE WHEN dead_at IS NULL THEN COALESCE(due_at, ?3) END",
    )
    .bind(id.stream)
    .bind(id.sequence)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn lease_streams(
    db: &mut SqliteConnection,
    now: Timestamp,
    until: Timestamp,
    limit: u32,
) -> Result<Vec<LeasedEvent>, LedgerError> {
    let rows = sqlx::query(
        "UPDATE outbox_stream SET lease = lease + 1, due_at = ?2
         WHERE stream IN (SELECT stream FROM outbox_stream WHERE due_at <= ?1 ORDER BY due_at LIMIT ?3)
         RETURNING stream, lease",
    )
    .bind(now.as_millis())
    .bind(until.as_millis())
    .bind(limit)
    .fetch_all(&mut *db)
    .await?;
    let mut leased = Vec::with_capacity(rows.len());
    for row in rows {
        let lease = StreamLease {
            stream: row.try_get("stream")?,
            fence: row.try_get("lease")?,
        };
        leased.extend(next_event(db, &lease).await?);
    }
    Ok(leased)
}

/// The stream's first pending event.
pub(super) async fn next_event(
    db: &mut SqliteConnection,
    lease: &StreamLease,
) -> Result<Option<LeasedEvent>, LedgerError> {
    let row = sqlx::query(
        "SELECT e.stream, e.sequence, e.sale, e.kind, e.data, e.at, s.attempts, s.failing_since
         FROM outbox e JOIN outbox_stream s ON s.stream = e.stream
         WHERE e.stream = ?1 AND e.pending = 1 ORDER BY e.sequence LIMIT 1",
    )
    .bind(&lease.stream)
    .fetch_optional(db)
    .await?;
    let leased = |row: SqliteRow| {
        Ok(LeasedEvent {
            lease: lease.clone(),
            event: event_of(&row)?,
            attempts: row.try_get("attempts")?,
            failing_since: row
                .try_get::<Option<i64>, _>("failing_since")?
                .map(Timestamp::from_millis),
        })
    };
    row.map(leased).transpose()
}

pub(super) fn event_of(row: &SqliteRow) -> Result<OutboxEvent, LedgerError> {
    Ok(OutboxEvent {
        id: EventId {
            stream: row.try_get("stream")?,
            sequence: row.try_get("sequence")?,
        },
        sale: parse(row, "sale")?,
        kind: row.try_get("kind")?,
        data: row.try_get("data")?,
        at: time(row, "at")?,
    })
}

pub(super) async fn record_accepted(
    db: &mut SqliteConnection,
    lease: StreamLease,
    sequence: i64,
    at: Timestamp,
    lease_until: Timestamp,
) -> Result<Option<LeasedEvent>, LedgerError> {
    let held = sqlx::query(
        "UPDATE outbox_stream SET attempts = 0, failing_since = NULL, last_error = NULL, due_at = ?3
         WHERE stream = ?1 AND lease = ?2 AND dead_at IS NULL",
    )
    .bind(&lease.stream)
    .bind(lease.fence)
    .bind(lease_until.as_millis())
    .execute(&mut *db)
    .await?;
    if held.rows_affected() == 0 {
        return Ok(None);
    }
    sqlx::query("UPDATE outbox SET pending = 0, delivered_at = ?3 WHERE stream = ?1 AND sequence = ?2")
        .bind(&lease.stream)
        .bind(sequence)
        .bind(at.as_millis())
        .execute(&mut *db)
        .await?;
    let next = next_event(db, &lease).await?;
    if next.is_none() {
        sqlx::query("UPDATE outbox_stream SET due_at = NULL WHERE stream = ?1")
            .bind(&lease.stream)
            .execute(db)
            .await?;
    }
    Ok(next)
}

pub(super) async fn record_failure(
    db: &mut SqliteConnection,
    lease: StreamLease,
    error: String,
    after: AfterFailure,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let (retry_at, dead_at) = match after {
        AfterFailure::RetryAt(retry_at) => (Some(retry_at), None),
        AfterFailure::Dead => (None, Some(at)),
        AfterFailure::Expired => return expire_first(db, lease, at).await,
    };
    sqlx::query(
        "UPDATE outbox_stream SET attempts = attempts + 1, failing_since = COALESCE(failing_since, ?6),
         last_error = ?3, due_at = ?4, dead_at = ?5, lease = lease + 1
         WHERE stream = ?1 AND lease = ?2",
    )
    .bind(lease.stream)
    .bind(lease.fence)
    .bind(error)
    .bind(retry_at.map(Timestamp::as_millis))
    .bind(dead_at.map(Timestamp::as_millis))
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(())
}

/// Gives the stream's first pending event up.
async fn expire_first(
    db: &mut SqliteConnection,
    lease: StreamLease,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let expired = sqlx::query(
        "UPDATE outbox SET pending = 0, skipped_by = 'expired' WHERE stream = ?1
         AND sequence = (SELECT MIN(sequence) FROM outbox WHERE stream = ?1 AND pending = 1)
         AND EXISTS (SELECT 1 FROM outbox_stream WHERE stream = ?1 AND lease = ?2)",
    );
    expired
        .bind(&lease.stream)
        .bind(lease.fence)
        .execute(&mut *db)
        .await?;
    sqlx::query(
        "UPDATE outbox_stream SET attempts = 0, failing_since = NULL, last_error = NULL, lease = lease + 1,
         due_at = CASE WHEN EXISTS (SELECT 1 FROM outbox WHERE stream = ?1 AND pending = 1) THEN ?3 END
         WHERE stream = ?1 AND lease = ?2",
    )
    .bind(lease.stream)
    .bind(lease.fence)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn release_stream(
    db: &mut SqliteConnection,
    lease: StreamLease,
    at: Timestamp,
) -> Result<(), LedgerError> {
    sqlx::query(
        "UPDATE outbox_stream SET due_at = ?3, lease = lease + 1
         WHERE stream = ?1 AND lease = ?2 AND dead_at IS NULL",
    )
    .bind(lease.stream)
    .bind(lease.fence)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(())
}

/// Whether a stream is due.
pub(super) async fn is_due(db: &SqlitePool, now: Timestamp) -> Result<bool, LedgerError> {
    let due = sqlx::query("SELECT 1 FROM outbox_stream WHERE due_at <= ?1 LIMIT 1")
        .bind(now.as_millis())
        .fetch_optional(db)
        .await?;
    Ok(due.is_some())
}

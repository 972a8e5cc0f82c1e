//! Writing events, and delivering them stream by stream.

use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::{
    checkout::{
        ledger::{
            port::NewEvent,
            postgres::{
                rows::{parse, time},
                transaction::TxResult,
            },
        },
        outbox::port::{AfterFailure, EventId, LeasedEvent, OutboxEvent, StandaloneEvent, StreamLease},
    },
    kernel::{SaleId, Timestamp},
};

/// Appends to the stream of the order, whose saga row is locked.
pub(crate) async fn append_event(
    db: &mut PgConnection,
    order: &str,
    event: &NewEvent,
    at: Timestamp,
) -> TxResult<()> {
    sqlx::query(
        "WITH stream AS (
             INSERT INTO outbox_stream AS s (stream, last_sequence, due_at) VALUES ($1, 1, $4)
             ON CONFLICT (stream) DO UPDATE SET last_sequence = s.last_sequence + 1,
                 due_at = CASE WHEN s.dead_at IS NULL THEN COALESCE(s.due_at, $4) END
             RETURNING last_sequence)
         INSERT INTO outbox (stream, sequence, sale, kind, data, at)
         SELECT $1, stream.last_sequence, o.sale, $2, $3, $4 FROM stream, orders o WHERE o.id = $1",
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
    db: &mut PgConnection,
    sale: SaleId,
    events: Vec<StandaloneEvent>,
) -> TxResult<()> {
    let Some(at) = events.iter().map(|event| event.at).min() else {
        return Ok(());
    };
    let streams: Vec<&str> = events.iter().map(|event| event.id.stream.as_str()).collect();
    let sequences: Vec<i64> = events.iter().map(|event| event.id.sequence).collect();
    // The rows exist from now on, and are locked, in one order for all nodes; they are due only if this
    // transaction adds an event.
    sqlx::query(
        "INSERT INTO outbox_stream AS s (stream, last_sequence)
         SELECT stream, max(sequence) FROM unnest($1::text[], $2::bigint[]) AS e (stream, sequence)
         GROUP BY stream ORDER BY stream
         ON CONFLICT (stream) DO UPDATE
             SET last_sequence = GREATEST(s.last_sequence, excluded.last_sequence)",
    )
    .bind(&streams)
    .bind(&sequences)
    .execute(&mut *db)
    .await?;
    let recorded: Vec<String> = sqlx::query_scalar(
        "INSERT INTO outbox (stream, sequence, sale, kind, data, at)
         SELECT stream, sequence, $1, kind, data, at
         FROM unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[])
              AS e (stream, sequence, kind, data, at)
         ON CONFLICT DO NOTHING RETURNING stream",
    )
    .bind(sale.as_str())
    .bind(&streams)
    .bind(&sequences)
    .bind(events.iter().map(|it| it.event.kind).collect::<Vec<_>>())
    .bind(events.iter().map(|it| it.event.data.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|it| it.at.as_millis()).collect::<Vec<_>>())
    .fetch_all(&mut *db)
    .await?;
    sqlx::query(
        "UPDATE outbox_stream SET due_at = COALESCE(due_at, $2) WHERE stream = ANY($1) AND dead_at IS NULL",
    )
    .bind(recorded)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(())
}

/// Skips streams that are locked: another node is leasing them, or one of their events is being written.
pub(super) async fn lease_streams(
    db: &mut PgConnection,
    now: Timestamp,
    until: Timestamp,
    limit: u32,
) -> TxResult<Vec<LeasedEvent>> {
    let rows = sqlx::query(
        "WITH due AS (SELECT stream FROM outbox_stream WHERE due_at <= $1
                      ORDER BY due_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)
         UPDATE outbox_stream s SET lease = s.lease + 1, due_at = $2 FROM due WHERE s.stream = due.stream
         RETURNING s.stream, s.lease",
    )
    .bind(now.as_millis())
    .bind(until.as_millis())
    .bind(i64::from(limit))
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
pub(super) async fn next_event(db: &mut PgConnection, lease: &StreamLease) -> TxResult<Option<LeasedEvent>> {
    let row = sqlx::query(
        "SELECT e.stream, e.sequence, e.sale, e.kind, e.data, e.at, s.attempts, s.failing_since
         FROM outbox e JOIN outbox_stream s ON s.stream = e.stream
         WHERE e.stream = $1 AND e.pending ORDER BY e.sequence LIMIT 1",
    )
    .bind(&lease.stream)
    .fetch_optional(db)
    .await?;
    let leased = |row: PgRow| {
        Ok(LeasedEvent {
            lease: lease.clone(),
            event: event_of(&row)?,
            attempts: attempts(&row)?,
            failing_since: row
                .try_get::<Option<i64>, _>("failing_since")?
                .map(Timestamp::from_millis),
        })
    };
    row.map(leased).transpose()
}

pub(super) fn attempts(row: &PgRow) -> TxResult<u32> {
    Ok(u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX))
}

pub(super) fn event_of(row: &PgRow) -> TxResult<OutboxEvent> {
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
    db: &mut PgConnection,
    lease: StreamLease,
    sequence: i64,
    at: Timestamp,
    lease_until: Timestamp,
) -> TxResult<Option<LeasedEvent>> {
    let held = sqlx::query(
        "UPDATE outbox_stream SET attempts = 0, failing_since = NULL, last_error = NULL, due_at = $3
         WHERE stream = $1 AND lease = $2 AND dead_at IS NULL",
    )
    .bind(&lease.stream)
    .bind(lease.fence)
    .bind(lease_until.as_millis())
    .execute(&mut *db)
    .await?;
    if held.rows_affected() == 0 {
        return Ok(None);
    }
    sqlx::query("UPDATE outbox SET pending = FALSE, delivered_at = $3 WHERE stream = $1 AND sequence = $2")
        .bind(&lease.stream)
        .bind(sequence)
        .bind(at.as_millis())
        .execute(&mut *db)
        .await?;
    // The row is locked: an event that another transaction adds is either seen here, or makes the stream due.
    let next = next_event(db, &lease).await?;
    if next.is_none() {
        sqlx::query("UPDATE outbox_stream SET due_at = NULL WHERE stream = $1")
            .bind(&lease.stream)
            .execute(db)
            .await?;
    }
    Ok(next)
}

pub(super) async fn record_failure(
    db: &mut PgConnection,
    lease: StreamLease,
    error: String,
    after: AfterFailure,
    at: Timestamp,
) -> TxResult<()> {
    let (retry_at, dead_at) = match after {
        AfterFailure::RetryAt(retry_at) => (Some(retry_at), None),
        AfterFailure::Dead => (None, Some(at)),
        AfterFailure::Expired => return expire_first(db, lease, at).await,
    };
    sqlx::query(
        "UPDATE outbox_stream SET attempts = attempts + 1, failing_since = COALESCE(failing_since, $6),
         last_error = $3, due_at = $4, dead_at = $5, lease = lease + 1
         WHERE stream = $1 AND lease = $2",
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
async fn expire_first(db: &mut PgConnection, lease: StreamLease, at: Timestamp) -> TxResult<()> {
    let expired = sqlx::query(
        "UPDATE outbox SET pending = FALSE, skipped_by = 'expired' WHERE stream = $1
         AND sequence = (SELECT MIN(sequence) FROM outbox WHERE stream = $1 AND pending)
         AND EXISTS (SELECT 1 FROM outbox_stream WHERE stream = $1 AND lease = $2)",
    );
    expired
        .bind(&lease.stream)
        .bind(lease.fence)
        .execute(&mut *db)
        .await?;
    sqlx::query(
        "UPDATE outbox_stream SET attempts = 0, failing_since = NULL, last_error = NULL, lease = lease + 1,
         due_at = CASE WHEN EXISTS (SELECT 1 FROM outbox WHERE stream = $1 AND pending) THEN $3 END
         WHERE stream = $1 AND lease = $2",
    )
    .bind(lease.stream)
    .bind(lease.fence)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn release_stream(db: &mut PgConnection, lease: StreamLease, at: Timestamp) -> TxResult<()> {
    sqlx::query(
        "UPDATE outbox_stream SET due_at = $3, lease = lease + 1
         WHERE stream = $1 AND lease = $2 AND dead_at IS NULL",
    )
    .bind(lease.stream)
    .bind(lease.fence)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(())
}

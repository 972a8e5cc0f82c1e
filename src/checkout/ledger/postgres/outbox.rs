//! The outbox of many nodes. A transaction that writes an event of a stream, or records a delivery, locks the
//! stream's row first, so that neither misses what the other has written.

use async_trait::async_trait;
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    ledger::PostgresLedger,
    rows::{parse, time},
    transaction::TxResult,
};
use crate::{
    checkout::{
        ledger::port::{LedgerError, NewEvent},
        outbox::port::{
            AfterFailure, DeadLetter, EventId, LeasedEvent, Outbox, OutboxCounts, OutboxEvent, ReplayRange,
            ReplayStep, StreamLease,
        },
    },
    kernel::{SaleId, Timestamp},
};

/// Events numbered in one transaction; the rest is numbered by the next call.
const NUMBERED_MAX: i64 = 2_000;
/// Key of the advisory lock under which events are numbered and marked for a replay.
const NUMBER_LOCK: i64 = 0x6f75_7462_6f78;

/// Appends to the stream of the order, whose saga row is locked.
pub(super) async fn append_event(
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

async fn record_sale_event(
    db: &mut PgConnection,
    sale: SaleId,
    sequence: i64,
    event: NewEvent,
    at: Timestamp,
) -> TxResult<()> {
    // The row exists from now on, and is locked; it is due only if this transaction adds an event.
    sqlx::query(
        "INSERT INTO outbox_stream AS s (stream, last_sequence) VALUES ($1, $2)
         ON CONFLICT (stream) DO UPDATE SET last_sequence = GREATEST(s.last_sequence, $2)",
    )
    .bind(sale.as_str())
    .bind(sequence)
    .execute(&mut *db)
    .await?;
    let recorded = sqlx::query(
        "INSERT INTO outbox (stream, sequence, sale, kind, data, at) VALUES ($1, $2, $1, $3, $4, $5)
         ON CONFLICT DO NOTHING",
    )
    .bind(sale.as_str())
    .bind(sequence)
    .bind(event.kind)
    .bind(event.data)
    .bind(at.as_millis())
    .execute(&mut *db)
    .await?;
    if recorded.rows_affected() == 1 {
        sqlx::query(
            "UPDATE outbox_stream SET due_at = COALESCE(due_at, $2) WHERE stream = $1 AND dead_at IS NULL",
        )
        .bind(sale.as_str())
        .bind(at.as_millis())
        .execute(db)
        .await?;
    }
    Ok(())
}

/// Skips streams that are locked: another node is leasing them, or one of their events is being written.
async fn lease_streams(
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
async fn next_event(db: &mut PgConnection, lease: &StreamLease) -> TxResult<Option<LeasedEvent>> {
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

fn attempts(row: &PgRow) -> TxResult<u32> {
    Ok(u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX))
}

fn event_of(row: &PgRow) -> TxResult<OutboxEvent> {
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

async fn record_accepted(
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

async fn record_failure(
    db: &mut PgConnection,
    lease: StreamLease,
    error: String,
    after: AfterFailure,
    at: Timestamp,
) -> TxResult<()> {
    let (retry_at, dead_at) = match after {
        AfterFailure::RetryAt(retry_at) => (Some(retry_at), None),
        AfterFailure::Dead => (None, Some(at)),
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

async fn release_stream(db: &mut PgConnection, lease: StreamLease, at: Timestamp) -> TxResult<()> {
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

async fn dead_letters(db: &mut PgConnection, after: String, limit: u32) -> TxResult<Vec<DeadLetter>> {
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

/// Ends the stop of a stream that this dead letter stops. Returns whether it did.
async fn revive(db: &mut PgConnection, id: &EventId, at: Timestamp) -> TxResult<bool> {
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

async fn skip(db: &mut PgConnection, id: EventId, operator: String, at: Timestamp) -> TxResult<bool> {
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

async fn lock_numbering(db: &mut PgConnection) -> TxResult<()> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(NUMBER_LOCK)
        .execute(db)
        .await?;
    Ok(())
}

async fn replay(
    db: &mut PgConnection,
    range: ReplayRange,
    after: i64,
    limit: u32,
    at: Timestamp,
) -> TxResult<ReplayStep> {
    lock_numbering(db).await?;
    let rows = sqlx::query(
        "SELECT position, stream FROM outbox WHERE position > $1 AND at >= $2 AND at < $3
         AND ($4::text IS NULL OR sale = $4) ORDER BY position LIMIT $5",
    )
    .bind(after)
    .bind(range.from.as_millis())
    .bind(range.until.as_millis())
    .bind(range.sale.as_ref().map(SaleId::as_str))
    .bind(i64::from(limit))
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
    let marked = sqlx::query(
        "UPDATE outbox SET pending = TRUE, skipped_by = NULL
         WHERE position = ANY($1) AND stream = ANY($2) AND NOT pending",
    )
    .bind(positions)
    .bind(&live)
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "UPDATE outbox_stream s SET due_at = COALESCE(due_at, $2) WHERE stream = ANY($1)
         AND EXISTS (SELECT 1 FROM outbox e WHERE e.stream = s.stream AND e.pending)",
    )
    .bind(live)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(ReplayStep {
        events: marked.rows_affected(),
        next,
    })
}

/// Numbers the events that are visible now. An event that is committed later gets a higher position,
/// whichever transaction began first.
async fn number_events(db: &mut PgConnection) -> TxResult<u64> {
    lock_numbering(db).await?;
    // A new snapshot after the lock, so that it includes what the previous holder committed.
    let numbered = sqlx::query(
        "WITH unnumbered AS (SELECT stream, sequence FROM outbox WHERE position IS NULL
                             ORDER BY stream, sequence LIMIT $1),
         last AS (SELECT COALESCE(MAX(position), 0) AS position FROM outbox),
         numbered AS (SELECT u.stream, u.sequence,
                             last.position + ROW_NUMBER() OVER (ORDER BY u.stream, u.sequence) AS position
                      FROM unnumbered u, last)
         UPDATE outbox e SET position = n.position FROM numbered n
         WHERE e.stream = n.stream AND e.sequence = n.sequence",
    )
    .bind(NUMBERED_MAX)
    .execute(db)
    .await?;
    Ok(numbered.rows_affected())
}

async fn events_after(db: &mut PgConnection, after: i64, limit: u32) -> TxResult<Vec<(i64, OutboxEvent)>> {
    let rows = sqlx::query(
        "SELECT position, stream, sequence, sale, kind, data, at FROM outbox
         WHERE position > $1 ORDER BY position LIMIT $2",
    )
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| Ok((row.try_get("position")?, event_of(row)?)))
        .collect()
}

async fn counts(db: &mut PgConnection) -> TxResult<OutboxCounts> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS undelivered, MIN(at) AS oldest_at,
                (SELECT COUNT(*) FROM outbox_stream WHERE dead_at IS NOT NULL) AS dead
         FROM outbox WHERE pending",
    )
    .fetch_one(db)
    .await?;
    let count = |column| Ok::<u64, sqlx::Error>(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0));
    Ok(OutboxCounts {
        undelivered: count("undelivered")?,
        dead: count("dead")?,
        oldest_at: row
            .try_get::<Option<i64>, _>("oldest_at")?
            .map(Timestamp::from_millis),
    })
}

#[async_trait]
impl Outbox for PostgresLedger {
    async fn record_sale_event(
        &self,
        sale: &SaleId,
        sequence: i64,
        event: NewEvent,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let given = (sale.clone(), sequence, event, at);
        let recorded = self.db.write(given, |db, (sale, sequence, event, at)| {
            Box::pin(record_sale_event(db, sale, sequence, event, at))
        });
        Ok(recorded.await?)
    }

    async fn lease_streams(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<LeasedEvent>, LedgerError> {
        // Not repeated after an unknown outcome: a second run would lease others.
        let leased = self
            .db
            .write_once((now, until, limit), |db, (now, until, limit)| {
                Box::pin(lease_streams(db, now, until, limit))
            });
        Ok(leased.await?)
    }

    async fn record_accepted(
        &self,
        lease: &StreamLease,
        sequence: i64,
        at: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<LeasedEvent>, LedgerError> {
        let given = (lease.clone(), sequence, at, lease_until);
        let recorded = self.db.write(given, |db, (lease, sequence, at, lease_until)| {
            Box::pin(record_accepted(db, lease, sequence, at, lease_until))
        });
        Ok(recorded.await?)
    }

    async fn record_failure(
        &self,
        lease: &StreamLease,
        error: &str,
        after: AfterFailure,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let given = (lease.clone(), error.to_owned(), after, at);
        let recorded = self.db.write(given, |db, (lease, error, after, at)| {
            Box::pin(record_failure(db, lease, error, after, at))
        });
        Ok(recorded.await?)
    }

    async fn release_stream(&self, lease: &StreamLease, at: Timestamp) -> Result<(), LedgerError> {
        let released = self.db.write((lease.clone(), at), |db, (lease, at)| {
            Box::pin(release_stream(db, lease, at))
        });
        Ok(released.await?)
    }

    async fn dead_letters(&self, after: &str, limit: u32) -> Result<Vec<DeadLetter>, LedgerError> {
        let read = self.db.read((after.to_owned(), limit), |db, (after, limit)| {
            Box::pin(dead_letters(db, after, limit))
        });
        Ok(read.await?)
    }

    async fn resend_dead_letter(&self, id: &EventId, at: Timestamp) -> Result<bool, LedgerError> {
        // Not repeated after an unknown outcome: a second run would find no dead letter.
        let revived = self.db.write_once((id.clone(), at), |db, (id, at)| {
            Box::pin(async move { revive(db, &id, at).await })
        });
        Ok(revived.await?)
    }

    async fn skip_dead_letter(
        &self,
        id: &EventId,
        operator: &str,
        at: Timestamp,
    ) -> Result<bool, LedgerError> {
        let given = (id.clone(), operator.to_owned(), at);
        // Not repeated after an unknown outcome, as above.
        let skipped = self.db.write_once(given, |db, (id, operator, at)| {
            Box::pin(skip(db, id, operator, at))
        });
        Ok(skipped.await?)
    }

    async fn replay(
        &self,
        range: &ReplayRange,
        after: i64,
        limit: u32,
        at: Timestamp,
    ) -> Result<ReplayStep, LedgerError> {
        let given = (range.clone(), after, limit, at);
        let replayed = self.db.write(given, |db, (range, after, limit, at)| {
            Box::pin(replay(db, range, after, limit, at))
        });
        Ok(replayed.await?)
    }

    async fn number_events(&self) -> Result<u64, LedgerError> {
        Ok(self.db.write((), |db, ()| Box::pin(number_events(db))).await?)
    }

    async fn events_after(&self, after: i64, limit: u32) -> Result<Vec<(i64, OutboxEvent)>, LedgerError> {
        let read = self.db.read((after, limit), |db, (after, limit)| {
            Box::pin(events_after(db, after, limit))
        });
        Ok(read.await?)
    }

    async fn outbox_counts(&self) -> Result<OutboxCounts, LedgerError> {
        Ok(self.db.read((), |db, ()| Box::pin(counts(db))).await?)
    }
}

//! The outbox of a single node. Its one writer numbers events as it writes them.

use async_trait::async_trait;
use sqlx::{Row, SqliteConnection, SqlitePool, sqlite::SqliteRow};

use super::{
    ledger::SqliteLedger,
    rows::{parse, time},
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

/// Appends to the order's stream.
pub(super) async fn append_event(
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

async fn record_sale_event(
    db: &mut SqliteConnection,
    sale: String,
    sequence: i64,
    event: NewEvent,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let recorded = sqlx::query(
        "INSERT INTO outbox (stream, sequence, sale, kind, data, at) VALUES (?1, ?2, ?1, ?3, ?4, ?5)
         ON CONFLICT DO NOTHING",
    )
    .bind(&sale)
    .bind(sequence)
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
    .bind(sale)
    .bind(sequence)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(())
}

async fn lease_streams(
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
async fn next_event(
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

fn event_of(row: &SqliteRow) -> Result<OutboxEvent, LedgerError> {
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

async fn record_failure(
    db: &mut SqliteConnection,
    lease: StreamLease,
    error: String,
    after: AfterFailure,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let (retry_at, dead_at) = match after {
        AfterFailure::RetryAt(retry_at) => (Some(retry_at), None),
        AfterFailure::Dead => (None, Some(at)),
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

async fn release_stream(
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

async fn dead_letters(db: &SqlitePool, after: &str, limit: u32) -> Result<Vec<DeadLetter>, LedgerError> {
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

/// Ends the stop of a stream that this dead letter stops. Returns whether it did.
async fn revive(db: &mut SqliteConnection, id: &EventId, at: Timestamp) -> Result<bool, LedgerError> {
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

async fn skip(
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

async fn replay(
    db: &mut SqliteConnection,
    range: ReplayRange,
    after: i64,
    limit: u32,
    at: Timestamp,
) -> Result<ReplayStep, LedgerError> {
    let positions: Vec<i64> = sqlx::query_scalar(
        "SELECT position FROM outbox WHERE position > ?1 AND at >= ?2 AND at < ?3
         AND (?4 IS NULL OR sale = ?4) ORDER BY position LIMIT ?5",
    )
    .bind(after)
    .bind(range.from.as_millis())
    .bind(range.until.as_millis())
    .bind(range.sale.as_ref().map(SaleId::as_str))
    .bind(limit)
    .fetch_all(&mut *db)
    .await?;
    let next = positions.last().copied();
    let positions = serde_json::to_string(&positions).expect("numbers are JSON");
    let marked = sqlx::query(
        "UPDATE outbox SET pending = 1, skipped_by = NULL
         WHERE position IN (SELECT value FROM json_each(?1)) AND pending = 0
         AND EXISTS (SELECT 1 FROM outbox_stream s WHERE s.stream = outbox.stream AND s.dead_at IS NULL)",
    )
    .bind(&positions)
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "UPDATE outbox_stream SET due_at = COALESCE(due_at, ?2)
         WHERE dead_at IS NULL AND stream IN (SELECT e.stream FROM outbox e
               JOIN json_each(?1) p ON p.value = e.position WHERE e.pending = 1)",
    )
    .bind(&positions)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(ReplayStep {
        events: marked.rows_affected(),
        next,
    })
}

async fn events_after(
    db: &SqlitePool,
    after: i64,
    limit: u32,
) -> Result<Vec<(i64, OutboxEvent)>, LedgerError> {
    let rows = sqlx::query(
        "SELECT position, stream, sequence, sale, kind, data, at FROM outbox
         WHERE position > ?1 ORDER BY position LIMIT ?2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| Ok((row.try_get("position")?, event_of(row)?)))
        .collect()
}

async fn counts(db: &SqlitePool) -> Result<OutboxCounts, LedgerError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS undelivered, MIN(at) AS oldest_at,
                (SELECT COUNT(*) FROM outbox_stream WHERE dead_at IS NOT NULL) AS dead
         FROM outbox WHERE pending = 1",
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
impl Outbox for SqliteLedger {
    async fn record_sale_event(
        &self,
        sale: &SaleId,
        sequence: i64,
        event: NewEvent,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let sale = sale.to_string();
        self.write(move |db| Box::pin(record_sale_event(db, sale, sequence, event, at)))
            .await
    }

    async fn lease_streams(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<LeasedEvent>, LedgerError> {
        // A write costs a flush of the disk, so there is none while nothing is due.
        let is_due = sqlx::query("SELECT 1 FROM outbox_stream WHERE due_at <= ?1 LIMIT 1")
            .bind(now.as_millis())
            .fetch_optional(self.reader())
            .await?
            .is_some();
        if !is_due {
            return Ok(Vec::new());
        }
        self.write(move |db| Box::pin(lease_streams(db, now, until, limit)))
            .await
    }

    async fn record_accepted(
        &self,
        lease: &StreamLease,
        sequence: i64,
        at: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<LeasedEvent>, LedgerError> {
        let lease = lease.clone();
        self.write(move |db| Box::pin(record_accepted(db, lease, sequence, at, lease_until)))
            .await
    }

    async fn record_failure(
        &self,
        lease: &StreamLease,
        error: &str,
        after: AfterFailure,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let (lease, error) = (lease.clone(), error.to_owned());
        self.write(move |db| Box::pin(record_failure(db, lease, error, after, at)))
            .await
    }

    async fn release_stream(&self, lease: &StreamLease, at: Timestamp) -> Result<(), LedgerError> {
        let lease = lease.clone();
        self.write(move |db| Box::pin(release_stream(db, lease, at)))
            .await
    }

    async fn dead_letters(&self, after: &str, limit: u32) -> Result<Vec<DeadLetter>, LedgerError> {
        dead_letters(self.reader(), after, limit).await
    }

    async fn resend_dead_letter(&self, id: &EventId, at: Timestamp) -> Result<bool, LedgerError> {
        let id = id.clone();
        self.write(move |db| Box::pin(async move { revive(db, &id, at).await }))
            .await
    }

    async fn skip_dead_letter(
        &self,
        id: &EventId,
        operator: &str,
        at: Timestamp,
    ) -> Result<bool, LedgerError> {
        let (id, operator) = (id.clone(), operator.to_owned());
        self.write(move |db| Box::pin(skip(db, id, operator, at))).await
    }

    async fn replay(
        &self,
        range: &ReplayRange,
        after: i64,
        limit: u32,
        at: Timestamp,
    ) -> Result<ReplayStep, LedgerError> {
        let range = range.clone();
        self.write(move |db| Box::pin(replay(db, range, after, limit, at)))
            .await
    }

    /// The single writer numbers each event as it writes it, so there is nothing left to do.
    async fn number_events(&self) -> Result<u64, LedgerError> {
        Ok(0)
    }

    async fn events_after(&self, after: i64, limit: u32) -> Result<Vec<(i64, OutboxEvent)>, LedgerError> {
        events_after(self.reader(), after, limit).await
    }

    async fn outbox_counts(&self) -> Result<OutboxCounts, LedgerError> {
        counts(self.reader()).await
    }
}

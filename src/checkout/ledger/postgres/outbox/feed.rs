//! The feed, and what is not delivered.

use sqlx::{PgConnection, Row};

use super::delivery::event_of;
use crate::{
    checkout::{
        ledger::postgres::transaction::TxResult,
        outbox::port::{OutboxCounts, OutboxEvent},
    },
    kernel::Timestamp,
};

/// Events numbered in one transaction; the rest is numbered by the next call.
const NUMBERED_MAX: i64 = 2_000;
/// Key of the advisory lock under which events are numbered and marked for a replay.
const NUMBER_LOCK: i64 = 0x6f75_7462_6f78;

pub(super) async fn lock_numbering(db: &mut PgConnection) -> TxResult<()> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(NUMBER_LOCK)
        .execute(db)
        .await?;
    Ok(())
}

/// Numbers the events that are visible now. An event that is committed later gets a higher position,
/// whichever transaction began first.
pub(super) async fn number_events(db: &mut PgConnection) -> TxResult<u64> {
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

pub(super) async fn events_after(
    db: &mut PgConnection,
    after: i64,
    limit: u32,
) -> TxResult<Vec<(i64, OutboxEvent)>> {
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

pub(super) async fn counts(db: &mut PgConnection) -> TxResult<OutboxCounts> {
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

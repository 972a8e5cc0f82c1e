//! The feed, and what is not delivered.

use sqlx::{Row, SqlitePool};

use super::delivery::event_of;
use crate::{
    checkout::{
        ledger::port::LedgerError,
        outbox::port::{OutboxCounts, OutboxEvent},
    },
    kernel::Timestamp,
};

pub(super) async fn events_after(
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

pub(super) async fn counts(db: &SqlitePool) -> Result<OutboxCounts, LedgerError> {
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

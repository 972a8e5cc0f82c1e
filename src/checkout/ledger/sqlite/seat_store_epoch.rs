//! The epochs of the seat stores.

use sqlx::{Row, SqliteConnection, SqliteExecutor};

use crate::checkout::{
    ledger::port::{LedgerError, SeatStoreEpoch},
    types::PerformanceKey,
};

pub(super) async fn current(
    db: impl SqliteExecutor<'_>,
    performance_key: &PerformanceKey,
) -> Result<SeatStoreEpoch, LedgerError> {
    let row =
        sqlx::query("SELECT epoch, identity FROM seat_store_epoch WHERE sale = ?1 AND performance = ?2")
            .bind(performance_key.sale.as_str())
            .bind(performance_key.performance.as_str())
            .fetch_optional(db)
            .await?;
    let Some(row) = row else {
        return Ok(SeatStoreEpoch::default());
    };
    let epoch = u64::try_from(row.try_get::<i64, _>("epoch")?).unwrap_or(0);
    Ok(SeatStoreEpoch {
        epoch,
        identity: row.try_get("identity")?,
    })
}

pub(super) async fn advance(
    db: &mut SqliteConnection,
    performance_key: PerformanceKey,
    seen: u64,
    identity: String,
) -> Result<SeatStoreEpoch, LedgerError> {
    sqlx::query(
        "INSERT INTO seat_store_epoch (sale, performance, epoch, identity) VALUES (?1, ?2, 0, '')
        ON CONFLICT DO NOTHING",
    )
    .bind(performance_key.sale.as_str())
    .bind(performance_key.performance.as_str())
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "UPDATE seat_store_epoch SET epoch = epoch + 1, identity = ?4 WHERE sale = ?1
        AND performance = ?2 AND epoch = ?3",
    )
    .bind(performance_key.sale.as_str())
    .bind(performance_key.performance.as_str())
    .bind(i64::try_from(seen).unwrap_or(i64::MAX))
    .bind(identity)
    .execute(&mut *db)
    .await?;
    current(db, &performance_key).await
}

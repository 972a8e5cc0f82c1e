//! Single rows: webhooks received, payments to look up, epochs of the seat stores.

use sqlx::{PgConnection, Row};

use super::transaction::TxResult;
use crate::{
    checkout::{ledger::port::SeatStoreEpoch, types::PerformanceKey},
    kernel::{OrderId, Timestamp},
};

pub(crate) async fn record_webhook(
    db: &mut PgConnection,
    gateway: String,
    event: String,
    at: Timestamp,
) -> TxResult<bool> {
    let done =
        sqlx::query("INSERT INTO inbox (gateway, event, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(gateway)
            .bind(event)
            .bind(at.as_millis())
            .execute(db)
            .await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) async fn schedule_payment_check(
    db: &mut PgConnection,
    order: OrderId,
    payment_check_at: Option<Timestamp>,
) -> TxResult<()> {
    sqlx::query("UPDATE orders SET payment_check_at = $2 WHERE id = $1")
        .bind(order.to_string())
        .bind(payment_check_at.map(Timestamp::as_millis))
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) async fn seat_store_epoch(
    db: &mut PgConnection,
    performance_key: PerformanceKey,
) -> TxResult<SeatStoreEpoch> {
    let row =
        sqlx::query("SELECT epoch, identity FROM seat_store_epoch WHERE sale = $1 AND performance = $2")
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

pub(crate) async fn advance_epoch(
    db: &mut PgConnection,
    performance_key: PerformanceKey,
    seen: u64,
    identity: String,
) -> TxResult<SeatStoreEpoch> {
    sqlx::query(
        "INSERT INTO seat_store_epoch (sale, performance, epoch, identity) VALUES ($1, $2, 0, '')
        ON CONFLICT DO NOTHING",
    )
    .bind(performance_key.sale.as_str())
    .bind(performance_key.performance.as_str())
    .execute(&mut *db)
    .await?;
    // Of two nodes that saw the same epoch, the second waits for the first and then finds a later epoch.
    sqlx::query(
        "UPDATE seat_store_epoch SET epoch = epoch + 1, identity = $4 WHERE sale = $1
        AND performance = $2 AND epoch = $3",
    )
    .bind(performance_key.sale.as_str())
    .bind(performance_key.performance.as_str())
    .bind(i64::try_from(seen).unwrap_or(i64::MAX))
    .bind(identity)
    .execute(&mut *db)
    .await?;
    seat_store_epoch(db, performance_key).await
}

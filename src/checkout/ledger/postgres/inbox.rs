//! Single rows: messages taken in, events delivered, payments to look up, the count of the engine's memories.

use sqlx::{PgConnection, Row};

use crate::checkout::ledger::postgres::Work;
use crate::{
    checkout::{ledger::SeatStoreEpoch, seats::Show},
    kernel::{OrderId, Timestamp},
};

pub(crate) async fn record_webhook(
    db: &mut PgConnection,
    gateway: String,
    event: String,
    at: Timestamp,
) -> Work<bool> {
    let done =
        sqlx::query("INSERT INTO inbox (gateway, event, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(gateway)
            .bind(event)
            .bind(at.as_millis())
            .execute(db)
            .await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) async fn record_event_delivery(
    db: &mut PgConnection,
    order: OrderId,
    sequence: i64,
    at: Timestamp,
) -> Work<()> {
    sqlx::query(
        "UPDATE outbox SET delivered_at = $3 WHERE order_id = $1 AND sequence = $2 AND delivered_at IS NULL",
    )
    .bind(order.to_string())
    .bind(sequence)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn schedule_payment_check(
    db: &mut PgConnection,
    order: OrderId,
    payment_check_at: Option<Timestamp>,
) -> Work<()> {
    sqlx::query("UPDATE orders SET check_at = $2 WHERE id = $1")
        .bind(order.to_string())
        .bind(payment_check_at.map(Timestamp::as_millis))
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) async fn seat_store_epoch(db: &mut PgConnection, performance_key: PerformanceKey) -> Work<SeatStoreEpoch> {
    let row = sqlx::query("SELECT epoch, identity FROM engine_memory WHERE sale = $1 AND performance = $2")
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
) -> Work<SeatStoreEpoch> {
    sqlx::query("INSERT INTO engine_memory (sale, performance, epoch, identity) VALUES ($1, $2, 0, '') ON CONFLICT DO NOTHING")
        .bind(performance_key.sale.as_str())
        .bind(performance_key.performance.as_str())
        .execute(&mut *db)
        .await?;
    // Of two that saw the same, the second waits for the first and then finds another epoch.
    sqlx::query("UPDATE engine_memory SET epoch = epoch + 1, identity = $4 WHERE sale = $1 AND performance = $2 AND epoch = $3")
        .bind(performance_key.sale.as_str())
        .bind(performance_key.performance.as_str())
        .bind(i64::try_from(seen).unwrap_or(i64::MAX))
        .bind(identity)
        .execute(&mut *db)
        .await?;
    seat_store_epoch(db, performance_key).await
}

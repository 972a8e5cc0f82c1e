//! Single rows: webhooks received, events to deliver and delivered, payments to look up.

use sqlx::SqliteConnection;

use crate::{
    checkout::ledger::port::{LedgerError, NewEvent},
    kernel::{OrderId, Timestamp},
};

pub(super) async fn record_webhook(
    db: &mut SqliteConnection,
    gateway: String,
    event: String,
    at: Timestamp,
) -> Result<bool, LedgerError> {
    let inserted =
        sqlx::query("INSERT INTO inbox (gateway, event, at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")
            .bind(gateway)
            .bind(event)
            .bind(at.as_millis())
            .execute(db)
            .await?;
    Ok(inserted.rows_affected() == 1)
}

pub(super) async fn record_event_delivery(
    db: &mut SqliteConnection,
    order: OrderId,
    sequence: i64,
    at: Timestamp,
) -> Result<(), LedgerError> {
    sqlx::query(
        "UPDATE outbox SET delivered_at = ?3 WHERE order_id = ?1 AND sequence = ?2 AND delivered_at IS NULL",
    )
    .bind(order.to_string())
    .bind(sequence)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn schedule_payment_check(
    db: &mut SqliteConnection,
    order: OrderId,
    payment_check_at: Option<Timestamp>,
) -> Result<(), LedgerError> {
    sqlx::query("UPDATE orders SET payment_check_at = ?2 WHERE id = ?1")
        .bind(order.to_string())
        .bind(payment_check_at.map(Timestamp::as_millis))
        .execute(db)
        .await?;
    Ok(())
}

/// Appends to the order's outbox.
pub(super) async fn append_event(
    db: &mut SqliteConnection,
    order: &str,
    event: &NewEvent,
    at: Timestamp,
) -> Result<(), LedgerError> {
    sqlx::query(
        "INSERT INTO outbox (order_id, sequence, kind, data, at)
         SELECT ?1, COALESCE(MAX(sequence), 0) + 1, ?2, ?3, ?4 FROM outbox WHERE order_id = ?1",
    )
    .bind(order)
    .bind(event.kind)
    .bind(&event.data)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(())
}

//! Single rows: webhooks received, payments to look up.

use sqlx::SqliteConnection;

use crate::{
    checkout::ledger::port::LedgerError,
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

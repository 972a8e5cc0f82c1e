//! Queries, on connections that cannot write.

use sqlx::{Row, SqlitePool};

use super::rows::{order_of, parse, subject, time};
use crate::{
    checkout::{
        ledger::port::{IdempotencyRecord, LedgerError, SagaLogEntry, TicketRow},
        order::Order,
        types::{ClaimedSeats, PerformanceKey},
    },
    kernel::{HoldId, OrderId, SaleId, Subject, Timestamp},
};

const ORDERS_MAX: u32 = 200;

pub(super) async fn order(db: &SqlitePool, id: OrderId) -> Result<Option<Order>, LedgerError> {
    let row = sqlx::query(
        "SELECT o.*, (SELECT json_group_array(json(info) ORDER BY position) FROM order_seat
         WHERE order_id = o.id) AS seats
         FROM orders o WHERE o.id = ?1",
    )
    .bind(id.to_string())
    .fetch_optional(db)
    .await?;
    row.as_ref().map(order_of).transpose()
}

pub(super) async fn orders_of(
    db: &SqlitePool,
    sale: &SaleId,
    buyer: &Subject,
) -> Result<Vec<Order>, LedgerError> {
    let rows = sqlx::query(
        "SELECT o.*, (SELECT json_group_array(json(info) ORDER BY position) FROM order_seat
         WHERE order_id = o.id) AS seats
         FROM orders o WHERE o.buyer = ?1 AND o.sale = ?2 ORDER BY o.id DESC LIMIT ?3",
    )
    .bind(buyer.as_str())
    .bind(sale.as_str())
    .bind(ORDERS_MAX)
    .fetch_all(db)
    .await?;
    rows.iter().map(order_of).collect()
}

pub(super) async fn order_by_payment_key(
    db: &SqlitePool,
    payment_key: &str,
) -> Result<Option<OrderId>, LedgerError> {
    let row = sqlx::query("SELECT id FROM orders WHERE payment_key = ?1")
        .bind(payment_key)
        .fetch_optional(db)
        .await?;
    row.as_ref().map(|row| parse(row, "id")).transpose()
}

pub(super) async fn idempotency_record(
    db: &SqlitePool,
    buyer: &Subject,
    key: &str,
) -> Result<Option<IdempotencyRecord>, LedgerError> {
    let row = sqlx::query("SELECT request_hash, order_id FROM idempotency_key WHERE buyer = ?1 AND key = ?2")
        .bind(buyer.as_str())
        .bind(key)
        .fetch_optional(db)
        .await?;
    row.map(|row| {
        Ok(IdempotencyRecord {
            request_hash: row.try_get("request_hash")?,
            order: parse(&row, "order_id")?,
        })
    })
    .transpose()
}

pub(super) async fn first_failure_at(
    db: &SqlitePool,
    hold: HoldId,
) -> Result<Option<Timestamp>, LedgerError> {
    let first: Option<i64> = sqlx::query_scalar("SELECT MIN(closed_at) FROM closed_attempt WHERE hold = ?1")
        .bind(hold.to_string())
        .fetch_one(db)
        .await?;
    Ok(first.map(Timestamp::from_millis))
}

pub(super) async fn saga_log(db: &SqlitePool, id: OrderId) -> Result<Vec<SagaLogEntry>, LedgerError> {
    let rows =
        sqlx::query("SELECT at, saga, step, state FROM saga_log WHERE order_id = ?1 ORDER BY sequence")
            .bind(id.to_string())
            .fetch_all(db)
            .await?;
    rows.iter()
        .map(|row| {
            Ok(SagaLogEntry {
                at: time(row, "at")?,
                saga: row.try_get("saga")?,
                step: row.try_get("step")?,
                state: row.try_get("state")?,
            })
        })
        .collect()
}

pub(super) async fn tickets(db: &SqlitePool, id: OrderId) -> Result<Vec<TicketRow>, LedgerError> {
    let rows = sqlx::query(
        "SELECT t.id, t.seat, t.issued_at FROM ticket t JOIN order_seat s ON s.order_id = t.order_id
         AND s.seat = t.seat
         WHERE t.order_id = ?1 AND t.voided_at IS NULL ORDER BY s.position",
    )
    .bind(id.to_string())
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(TicketRow {
                id: row.try_get("id")?,
                seat: row.try_get("seat")?,
                issued_at: time(row, "issued_at")?,
            })
        })
        .collect()
}

pub(super) async fn claims(
    db: &SqlitePool,
    only: Option<(&PerformanceKey, &[String])>,
    keep_until: Timestamp,
) -> Result<Vec<ClaimedSeats>, LedgerError> {
    let seats = only.map(|(_, seats)| serde_json::to_string(seats).expect("texts are JSON"));
    let rows = sqlx::query(
        "SELECT o.sale, o.performance, o.hold, o.buyer, o.visit, json_group_array(c.seat) AS seats,
         MIN(c.state = 'booked') AS booked,
         CASE o.state WHEN 'awaiting_payment' THEN o.payment_deadline ELSE ?4 END AS until
         FROM seat_claim c JOIN orders o ON o.id = c.order_id
         WHERE ?1 IS NULL OR c.order_id IN (SELECT k.order_id FROM seat_claim k
               WHERE k.sale = ?1 AND k.performance = ?2 AND k.seat IN (SELECT value FROM json_each(?3)))
         GROUP BY o.id",
    )
    .bind(only.map(|(performance_key, _)| performance_key.sale.as_str()))
    .bind(only.map(|(performance_key, _)| performance_key.performance.as_str()))
    .bind(seats)
    .bind(keep_until.as_millis())
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            let seats: String = row.try_get("seats")?;
            Ok(ClaimedSeats {
                performance_key: PerformanceKey {
                    sale: parse(row, "sale")?,
                    performance: parse(row, "performance")?,
                },
                hold: parse(row, "hold")?,
                buyer: subject(row)?,
                visit: parse(row, "visit")?,
                seats: serde_json::from_str(&seats)
                    .map_err(|e| LedgerError::Unavailable(format!("stored seats: {e}")))?,
                booked: row.try_get("booked")?,
                until: time(row, "until")?,
            })
        })
        .collect()
}

pub(super) async fn payments_to_check(
    db: &SqlitePool,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<OrderId>, LedgerError> {
    let rows =
        sqlx::query("SELECT id FROM orders WHERE payment_check_at <= ?1 ORDER BY payment_check_at LIMIT ?2")
            .bind(now.as_millis())
            .bind(limit)
            .fetch_all(db)
            .await?;
    rows.iter().map(|row| parse(row, "id")).collect()
}

pub(super) async fn stuck_count(db: &SqlitePool) -> Result<u64, LedgerError> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM orders WHERE stuck = 1")
        .fetch_one(db)
        .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

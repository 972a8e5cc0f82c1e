//! Queries.

use sqlx::{PgConnection, Row};

use super::{
    rows::{claimed, order_of, parse, time},
    transaction::{BULK_TIMEOUT, TxResult},
};
use crate::{
    checkout::{
        ledger::port::{IdempotencyRecord, SagaLogEntry, TicketRow},
        order::Order,
        types::{ClaimedSeats, PerformanceKey},
    },
    kernel::{HoldId, OrderId, SaleId, Subject, Timestamp},
};

const ORDERS_MAX: i64 = 200;

/// Query of the orders that meet the condition, with their seats.
macro_rules! orders {
    ($condition:literal) => {
        concat!(
            "SELECT o.id, o.sale, o.performance, o.buyer, o.visit, o.hold, o.state, o.reason, o.stuck,
             o.amount, o.currency,
                    o.payment_key, o.payment_url, o.payment_deadline, o.created_at,
                    (SELECT json_agg(s.info ORDER BY s.position)::text FROM order_seat s
                    WHERE s.order_id = o.id) AS seats
             FROM orders o ",
            $condition
        )
    };
}

pub(super) async fn order(db: &mut PgConnection, id: OrderId) -> TxResult<Option<Order>> {
    let row = sqlx::query(orders!("WHERE o.id = $1"))
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    row.as_ref().map(order_of).transpose()
}

pub(super) async fn orders_of(db: &mut PgConnection, sale: SaleId, buyer: Subject) -> TxResult<Vec<Order>> {
    let rows = sqlx::query(orders!(
        "WHERE o.buyer = $1 AND o.sale = $2 ORDER BY o.id DESC LIMIT $3"
    ))
    .bind(buyer.as_str())
    .bind(sale.as_str())
    .bind(ORDERS_MAX)
    .fetch_all(db)
    .await?;
    rows.iter().map(order_of).collect()
}

pub(super) async fn order_by_payment_key(
    db: &mut PgConnection,
    payment_key: String,
) -> TxResult<Option<OrderId>> {
    let row = sqlx::query("SELECT id FROM orders WHERE payment_key = $1")
        .bind(payment_key)
        .fetch_optional(db)
        .await?;
    row.as_ref().map(|row| parse(row, "id")).transpose()
}

pub(super) async fn idempotency_record(
    db: &mut PgConnection,
    buyer: Subject,
    key: String,
) -> TxResult<Option<IdempotencyRecord>> {
    let row = sqlx::query("SELECT request_hash, order_id FROM idempotency_key WHERE buyer = $1 AND key = $2")
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

pub(super) async fn first_failure_at(db: &mut PgConnection, hold: HoldId) -> TxResult<Option<Timestamp>> {
    let first: Option<i64> = sqlx::query_scalar("SELECT MIN(closed_at) FROM closed_attempt WHERE hold = $1")
        .bind(hold.to_string())
        .fetch_one(db)
        .await?;
    Ok(first.map(Timestamp::from_millis))
}

pub(super) async fn saga_log(db: &mut PgConnection, id: OrderId) -> TxResult<Vec<SagaLogEntry>> {
    let rows =
        sqlx::query("SELECT at, saga, step, state FROM saga_log WHERE order_id = $1 ORDER BY sequence")
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

pub(super) async fn tickets(db: &mut PgConnection, id: OrderId) -> TxResult<Vec<TicketRow>> {
    let rows = sqlx::query(
        "SELECT t.id, t.seat, t.issued_at FROM ticket t JOIN order_seat s ON s.order_id = t.order_id
         AND s.seat = t.seat
         WHERE t.order_id = $1 AND t.voided_at IS NULL ORDER BY s.position",
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

/// The claims that have one of these seats, each with all its seats.
pub(super) async fn claims(
    db: &mut PgConnection,
    performance_key: PerformanceKey,
    seats: Vec<String>,
    keep_until: Timestamp,
) -> TxResult<Vec<ClaimedSeats>> {
    let rows = sqlx::query(
        "SELECT o.sale, o.performance, o.hold, o.buyer, o.visit, array_agg(c.seat) AS seats,
         bool_and(c.state = 'booked') AS booked,
         CASE o.state WHEN 'awaiting_payment' THEN o.payment_deadline ELSE $4 END AS until
         FROM seat_claim c JOIN orders o ON o.id = c.order_id
         WHERE c.order_id IN (SELECT k.order_id FROM seat_claim k WHERE k.sale = $1 AND k.performance = $2
         AND k.seat = ANY($3))
         GROUP BY o.id",
    )
    .bind(performance_key.sale.as_str())
    .bind(performance_key.performance.as_str())
    .bind(seats)
    .bind(keep_until.as_millis())
    .fetch_all(db)
    .await?;
    rows.iter().map(claimed).collect()
}

/// All live claims. There may be very many, so the statement timeout of the session, meant for a buyer's
/// call, is raised.
pub(super) async fn all_claims(db: &mut PgConnection, keep_until: Timestamp) -> TxResult<Vec<ClaimedSeats>> {
    sqlx::query("SELECT set_config('statement_timeout', $1, true)")
        .bind(format!("{}ms", BULK_TIMEOUT.as_millis()))
        .execute(&mut *db)
        .await?;
    let rows = sqlx::query(
        "SELECT o.sale, o.performance, o.hold, o.buyer, o.visit, array_agg(c.seat) AS seats,
         bool_and(c.state = 'booked') AS booked,
         CASE o.state WHEN 'awaiting_payment' THEN o.payment_deadline ELSE $1 END AS until
         FROM seat_claim c JOIN orders o ON o.id = c.order_id GROUP BY o.id",
    )
    .bind(keep_until.as_millis())
    .fetch_all(db)
    .await?;
    rows.iter().map(claimed).collect()
}

pub(super) async fn payments_to_check(
    db: &mut PgConnection,
    now: Timestamp,
    limit: u32,
) -> TxResult<Vec<OrderId>> {
    let rows =
        sqlx::query("SELECT id FROM orders WHERE payment_check_at <= $1 ORDER BY payment_check_at LIMIT $2")
            .bind(now.as_millis())
            .bind(i64::from(limit))
            .fetch_all(db)
            .await?;
    rows.iter().map(|row| parse(row, "id")).collect()
}

pub(super) async fn stuck_count(db: &mut PgConnection) -> TxResult<u64> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM orders WHERE stuck")
        .fetch_one(db)
        .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

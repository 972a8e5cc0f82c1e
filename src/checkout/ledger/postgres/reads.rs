//! What is read.

use std::{fmt::Display, str::FromStr};

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{BULK_DEADLINE, Work};
use crate::{
    checkout::{
        ledger::{IdempotencyRecord, LedgerError, SagaLogEntry, OutboxRow, TicketRow},
        order::{Order, OrderState, Reason},
        seats::{ClaimedSeats, SeatInfo, PerformanceKey},
    },
    kernel::{Money, OrderId, SaleId, Subject, Timestamp},
};

const ORDERS_MAX: i64 = 200;

/// Orders with their seats, those that the condition names.
macro_rules! orders {
    ($condition:literal) => {
        concat!(
            "SELECT o.id, o.sale, o.performance, o.buyer, o.visit, o.hold, o.state, o.reason, o.stuck, o.amount, o.currency,
                    o.payment_key, o.action, o.pay_by, o.created_at,
                    (SELECT json_agg(s.info ORDER BY s.position)::text FROM order_seat s WHERE s.order_id = o.id) AS seats
             FROM orders o ",
            $condition
        )
    };
}

fn unreadable(what: &str, why: impl Display) -> LedgerError {
    LedgerError::Unavailable(format!("the stored {what}: {why}"))
}

fn parse<T: FromStr<Err: Display>>(row: &PgRow, column: &str) -> Work<T> {
    Ok(row
        .try_get::<String, _>(column)?
        .parse()
        .map_err(|e| unreadable(column, e))?)
}

fn time(row: &PgRow, column: &str) -> Work<Timestamp> {
    Ok(Timestamp::from_millis(row.try_get(column)?))
}

fn subject(row: &PgRow) -> Work<Subject> {
    Ok(Subject::from_stored(row.try_get("buyer")?).map_err(|e| unreadable("buyer", e))?)
}

fn order_of(row: &PgRow) -> Work<Order> {
    let state: String = row.try_get("state")?;
    let seats: Vec<SeatInfo> =
        serde_json::from_str(row.try_get("seats")?).map_err(|e| unreadable("seats of an order", e))?;
    Ok(Order {
        id: parse(row, "id")?,
        performance_key: PerformanceKey {
            sale: parse(row, "sale")?,
            performance: parse(row, "performance")?,
        },
        buyer: subject(row)?,
        visit: parse(row, "visit")?,
        hold: parse(row, "hold")?,
        state: OrderState::from_stored(&state).ok_or_else(|| unreadable("state", state))?,
        reason: row
            .try_get::<Option<String>, _>("reason")?
            .as_deref()
            .and_then(Reason::from_stored),
        stuck: row.try_get("stuck")?,
        seats,
        total: Money::new(row.try_get("amount")?, parse(row, "currency")?),
        payment_key: row.try_get("payment_key")?,
        action: row.try_get("action")?,
        payment_deadline: time(row, "pay_by")?,
        created_at: time(row, "created_at")?,
    })
}

pub(super) async fn order(db: &mut PgConnection, id: OrderId) -> Work<Option<Order>> {
    let row = sqlx::query(orders!("WHERE o.id = $1"))
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    row.as_ref().map(order_of).transpose()
}

pub(super) async fn orders_of(db: &mut PgConnection, sale: SaleId, buyer: Subject) -> Work<Vec<Order>> {
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

pub(super) async fn order_by_payment_key(db: &mut PgConnection, payment_key: String) -> Work<Option<OrderId>> {
    let row = sqlx::query("SELECT id FROM orders WHERE payment_key = $1")
        .bind(payment_key)
        .fetch_optional(db)
        .await?;
    row.as_ref().map(|it| parse(it, "id")).transpose()
}

pub(super) async fn idempotency_record(db: &mut PgConnection, buyer: Subject, key: String) -> Work<Option<IdempotencyRecord>> {
    let row = sqlx::query("SELECT request_hash, order_id FROM idempotency WHERE scope = $1 AND key = $2")
        .bind(buyer.as_str())
        .bind(key)
        .fetch_optional(db)
        .await?;
    row.map(|it| {
        Ok(IdempotencyRecord {
            request_hash: it.try_get("request_hash")?,
            order: parse(&it, "order_id")?,
        })
    })
    .transpose()
}

pub(super) async fn log(db: &mut PgConnection, id: OrderId) -> Work<Vec<SagaLogEntry>> {
    let rows = sqlx::query("SELECT at, saga, step, state FROM saga_log WHERE order_id = $1 ORDER BY n")
        .bind(id.to_string())
        .fetch_all(db)
        .await?;
    rows.iter()
        .map(|it| {
            Ok(SagaLogEntry {
                at: time(it, "at")?,
                saga: it.try_get("saga")?,
                step: it.try_get("step")?,
                state: it.try_get("state")?,
            })
        })
        .collect()
}

pub(super) async fn tickets(db: &mut PgConnection, id: OrderId) -> Work<Vec<TicketRow>> {
    let rows = sqlx::query(
        "SELECT t.id, t.seat, t.issued_at FROM ticket t JOIN order_seat s ON s.order_id = t.order_id AND s.seat = t.seat
         WHERE t.order_id = $1 AND t.withdrawn_at IS NULL ORDER BY s.position",
    )
    .bind(id.to_string())
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|it| {
            Ok(TicketRow {
                id: it.try_get("id")?,
                seat: it.try_get("seat")?,
                issued_at: time(it, "issued_at")?,
            })
        })
        .collect()
}

/// The claims that have one of these seats, each with all of its seats.
pub(super) async fn claims(
    db: &mut PgConnection,
    performance_key: PerformanceKey,
    seats: Vec<String>,
    keep_until: Timestamp,
) -> Work<Vec<ClaimedSeats>> {
    let rows = sqlx::query(
        "SELECT o.sale, o.performance, o.hold, o.buyer, o.visit, array_agg(c.seat) AS seats, bool_and(c.state = 'booked') AS booked
         FROM seat_claim c JOIN orders o ON o.id = c.order_id
         WHERE c.order_id IN (SELECT k.order_id FROM seat_claim k WHERE k.sale = $1 AND k.performance = $2 AND k.seat = ANY($3))
         GROUP BY o.id",
    )
    .bind(performance_key.sale.as_str())
    .bind(performance_key.performance.as_str())
    .bind(seats)
    .fetch_all(db)
    .await?;
    rows.iter().map(|it| claimed(it, keep_until)).collect()
}

/// All live claims, of however many seats: the session's own deadline is for a buyer's call and too short for that.
pub(super) async fn all_claims(db: &mut PgConnection, keep_until: Timestamp) -> Work<Vec<ClaimedSeats>> {
    sqlx::query("SELECT set_config('statement_timeout', $1, true)")
        .bind(format!("{}ms", BULK_DEADLINE.as_millis()))
        .execute(&mut *db)
        .await?;
    let rows = sqlx::query(
        "SELECT o.sale, o.performance, o.hold, o.buyer, o.visit, array_agg(c.seat) AS seats, bool_and(c.state = 'booked') AS booked
         FROM seat_claim c JOIN orders o ON o.id = c.order_id GROUP BY o.id",
    )
    .fetch_all(db)
    .await?;
    rows.iter().map(|it| claimed(it, keep_until)).collect()
}

fn claimed(row: &PgRow, keep_until: Timestamp) -> Work<ClaimedSeats> {
    Ok(ClaimedSeats {
        performance_key: PerformanceKey {
            sale: parse(row, "sale")?,
            performance: parse(row, "performance")?,
        },
        hold: parse(row, "hold")?,
        buyer: subject(row)?,
        visit: parse(row, "visit")?,
        seats: row.try_get("seats")?,
        booked: row.try_get("booked")?,
        until: keep_until,
    })
}

pub(super) async fn undelivered_events(db: &mut PgConnection, id: OrderId) -> Work<Vec<OutboxRow>> {
    let rows = sqlx::query("SELECT sequence, kind, data, at FROM outbox WHERE order_id = $1 AND delivered_at IS NULL ORDER BY sequence")
        .bind(id.to_string())
        .fetch_all(db)
        .await?;
    rows.iter()
        .map(|it| {
            Ok(OutboxRow {
                order: id,
                sequence: it.try_get("sequence")?,
                kind: it.try_get("kind")?,
                data: it.try_get("data")?,
                at: time(it, "at")?,
            })
        })
        .collect()
}

pub(super) async fn payments_to_check(db: &mut PgConnection, now: Timestamp, limit: u32) -> Work<Vec<OrderId>> {
    let rows = sqlx::query("SELECT id FROM orders WHERE check_at <= $1 ORDER BY check_at LIMIT $2")
        .bind(now.as_millis())
        .bind(i64::from(limit))
        .fetch_all(db)
        .await?;
    rows.iter().map(|it| parse(it, "id")).collect()
}

pub(super) async fn stuck_count(db: &mut PgConnection) -> Work<u64> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM orders WHERE stuck")
        .fetch_one(db)
        .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

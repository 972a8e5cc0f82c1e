//! What is read, on connections that cannot write.

use std::{fmt::Display, str::FromStr};

use sqlx::{Row, SqlitePool, sqlite::SqliteRow};

use crate::{
    checkout::{
        ledger::{IdempotencyRecord, LedgerError, SagaLogEntry, OutboxRow, TicketRow},
        order::{Order, OrderState, Reason},
        seats::{ClaimedSeats, SeatInfo, PerformanceKey},
    },
    kernel::{Money, OrderId, SaleId, Subject, Timestamp},
};

const ORDERS_MAX: u32 = 200;

fn parse<T: FromStr<Err: Display>>(row: &SqliteRow, column: &str) -> Result<T, LedgerError> {
    row.try_get::<String, _>(column)?
        .parse()
        .map_err(|e| LedgerError::Unavailable(format!("the stored {column}: {e}")))
}

fn time(row: &SqliteRow, column: &str) -> Result<Timestamp, LedgerError> {
    Ok(Timestamp::from_millis(row.try_get(column)?))
}

fn subject(row: &SqliteRow) -> Result<Subject, LedgerError> {
    Subject::from_stored(row.try_get("buyer")?)
        .map_err(|e| LedgerError::Unavailable(format!("the stored buyer: {e}")))
}

fn order_of(row: &SqliteRow) -> Result<Order, LedgerError> {
    let state: String = row.try_get("state")?;
    let seats: String = row.try_get("seats")?;
    let seats: Vec<SeatInfo> = serde_json::from_str(&seats)
        .map_err(|e| LedgerError::Unavailable(format!("the stored seats of an order: {e}")))?;
    Ok(Order {
        id: parse(row, "id")?,
        performance_key: PerformanceKey {
            sale: parse(row, "sale")?,
            performance: parse(row, "performance")?,
        },
        buyer: subject(row)?,
        visit: parse(row, "visit")?,
        hold: parse(row, "hold")?,
        state: OrderState::from_stored(&state)
            .ok_or_else(|| LedgerError::Unavailable(format!("the stored state {state}")))?,
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

pub(super) async fn order(db: &SqlitePool, id: OrderId) -> Result<Option<Order>, LedgerError> {
    let row = sqlx::query(
        "SELECT o.*, (SELECT json_group_array(json(info) ORDER BY position) FROM order_seat WHERE order_id = o.id) AS seats
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
        "SELECT o.*, (SELECT json_group_array(json(info) ORDER BY position) FROM order_seat WHERE order_id = o.id) AS seats
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
    row.as_ref().map(|it| parse(it, "id")).transpose()
}

pub(super) async fn idempotency_record(
    db: &SqlitePool,
    buyer: &Subject,
    key: &str,
) -> Result<Option<IdempotencyRecord>, LedgerError> {
    let row = sqlx::query("SELECT request_hash, order_id FROM idempotency WHERE scope = ?1 AND key = ?2")
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

pub(super) async fn log(db: &SqlitePool, id: OrderId) -> Result<Vec<SagaLogEntry>, LedgerError> {
    let rows = sqlx::query("SELECT at, saga, step, state FROM saga_log WHERE order_id = ?1 ORDER BY n")
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

pub(super) async fn tickets(db: &SqlitePool, id: OrderId) -> Result<Vec<TicketRow>, LedgerError> {
    let rows = sqlx::query(
        "SELECT t.id, t.seat, t.issued_at FROM ticket t JOIN order_seat s ON s.order_id = t.order_id AND s.seat = t.seat
         WHERE t.order_id = ?1 AND t.withdrawn_at IS NULL ORDER BY s.position",
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

pub(super) async fn claims(
    db: &SqlitePool,
    only: Option<(&PerformanceKey, &[String])>,
    keep_until: Timestamp,
) -> Result<Vec<ClaimedSeats>, LedgerError> {
    let seats = only.map(|(_, seats)| serde_json::to_string(seats).expect("texts are JSON"));
    let rows = sqlx::query(
        "SELECT o.sale, o.performance, o.hold, o.buyer, o.visit, json_group_array(c.seat) AS seats, MIN(c.state = 'booked') AS booked
         FROM seat_claim c JOIN orders o ON o.id = c.order_id
         WHERE ?1 IS NULL OR c.order_id IN (SELECT k.order_id FROM seat_claim k
               WHERE k.sale = ?1 AND k.performance = ?2 AND k.seat IN (SELECT value FROM json_each(?3)))
         GROUP BY o.id",
    )
    .bind(only.map(|(performance_key, _)| performance_key.sale.as_str()))
    .bind(only.map(|(performance_key, _)| performance_key.performance.as_str()))
    .bind(seats)
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|it| {
            let seats: String = it.try_get("seats")?;
            Ok(ClaimedSeats {
                performance_key: PerformanceKey {
                    sale: parse(it, "sale")?,
                    performance: parse(it, "performance")?,
                },
                hold: parse(it, "hold")?,
                buyer: subject(it)?,
                visit: parse(it, "visit")?,
                seats: serde_json::from_str(&seats)
                    .map_err(|e| LedgerError::Unavailable(format!("stored seats: {e}")))?,
                booked: it.try_get("booked")?,
                until: keep_until,
            })
        })
        .collect()
}

pub(super) async fn undelivered_events(db: &SqlitePool, id: OrderId) -> Result<Vec<OutboxRow>, LedgerError> {
    let rows = sqlx::query("SELECT sequence, kind, data, at FROM outbox WHERE order_id = ?1 AND delivered_at IS NULL ORDER BY sequence")
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

pub(super) async fn payments_to_check(
    db: &SqlitePool,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<OrderId>, LedgerError> {
    let rows = sqlx::query("SELECT id FROM orders WHERE check_at <= ?1 ORDER BY check_at LIMIT ?2")
        .bind(now.as_millis())
        .bind(limit)
        .fetch_all(db)
        .await?;
    rows.iter().map(|it| parse(it, "id")).collect()
}

pub(super) async fn stuck_count(db: &SqlitePool) -> Result<u64, LedgerError> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM orders WHERE stuck = 1")
        .fetch_one(db)
        .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

//! The first transaction of an attempt to buy.

use sqlx::{Row, SqliteConnection};

use super::{journal, rows::parse};
use crate::{
    checkout::ledger::port::{FencedLease, LeaseRequest, LedgerError, NewOrder, OpenOutcome},
    kernel::OrderId,
};

pub(super) async fn open_order(
    db: &mut SqliteConnection,
    order: NewOrder,
    request: LeaseRequest,
) -> Result<OpenOutcome, LedgerError> {
    let id = order.id.to_string();
    let used =
        sqlx::query("SELECT request_hash, order_id FROM idempotency_key WHERE buyer = ?1 AND key = ?2")
            .bind(order.buyer.as_str())
            .bind(&order.idempotency_key)
            .fetch_optional(&mut *db)
            .await?;
    if let Some(row) = used {
        if row.try_get::<String, _>("request_hash")? != order.request_hash {
            return Ok(OpenOutcome::KeyReused);
        }
        return Ok(OpenOutcome::Existing(parse(&row, "order_id")?));
    }
    let open = open_attempt(db, &order).await?;
    if let Some((open, true)) = open {
        return Ok(OpenOutcome::AwaitingBuyer(open));
    }
    let open = open.map(|(open, _)| open);
    sqlx::query(
        "INSERT INTO idempotency_key (buyer, key, request_hash, order_id, at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )
    .bind(order.buyer.as_str())
    .bind(&order.idempotency_key)
    .bind(&order.request_hash)
    .bind(open.map_or_else(|| id.clone(), |open| open.to_string()))
    .bind(request.now.as_millis())
    .execute(&mut *db)
    .await?;
    if let Some(open) = open {
        return Ok(OpenOutcome::Existing(open));
    }
    insert_order(db, &id, &order, &request).await?;
    journal::append(db, &id, "opened", request.now).await?;
    Ok(OpenOutcome::New(FencedLease {
        order: order.id,
        fence: 1,
    }))
}

/// The open attempt on the same hold, and whether it awaits its buyer at the gateway's page.
async fn open_attempt(
    db: &mut SqliteConnection,
    order: &NewOrder,
) -> Result<Option<(OrderId, bool)>, LedgerError> {
    let row = sqlx::query(
        "SELECT id, state = 'awaiting_payment' AS waits FROM orders WHERE hold = ?1 AND attempt_open = 1",
    )
    .bind(order.hold.to_string())
    .fetch_optional(db)
    .await?;
    row.map(|row| Ok((parse(&row, "id")?, row.try_get("waits")?)))
        .transpose()
}

/// Inserts the order with its seats and its saga, leased to the caller, in one round trip.
async fn insert_order(
    db: &mut SqliteConnection,
    id: &str,
    order: &NewOrder,
    request: &LeaseRequest,
) -> Result<(), LedgerError> {
    sqlx::query(
        "INSERT INTO orders (id, sale, performance, buyer, visit, hold, state, amount, currency, method,
         payment_deadline, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, 'in_progress', $7, $8, $9, $10, $11, $11);
         INSERT INTO order_seat (order_id, seat, position, info)
         SELECT $1, value ->> 'guid', key, value FROM json_each($12);
         INSERT INTO saga (order_id, saga, step, step_started_at, lease_owner, lease_until, fence)
         VALUES ($1, $13, $14, $15, $16, $17, 1);
         INSERT INTO saga_log (order_id, sequence, at, saga, step, state)
             VALUES ($1, 1, $11, $13, $14, 'started')",
    )
    .bind(id)
    .bind(order.held_seats.performance_key.sale.as_str())
    .bind(order.held_seats.performance_key.performance.as_str())
    .bind(order.buyer.as_str())
    .bind(order.visit.to_string())
    .bind(order.hold.to_string())
    .bind(order.held_seats.total.amount)
    .bind(order.held_seats.total.currency.as_str())
    .bind(&order.method)
    .bind(order.payment_deadline.as_millis())
    .bind(request.now.as_millis())
    .bind(serde_json::to_string(&order.held_seats.seats).expect("seats are JSON"))
    .bind(&order.position.saga)
    .bind(&order.position.step)
    .bind(order.position.step_started_at.as_millis())
    .bind(&request.owner)
    .bind(request.until.as_millis())
    .execute(&mut *db)
    .await?;
    Ok(())
}

//! The first transaction of an attempt to buy.

use sqlx::{PgConnection, Row};

use super::{journal, rows::parse, transaction::TxResult};
use crate::{
    checkout::ledger::port::{FencedLease, LeaseRequest, LedgerError, NewOrder, OpenOutcome},
    kernel::OrderId,
};

/// Tries to find or create the one open attempt on a hold, while other attempts on it are closed.
const TRIES_MAX: u32 = 5;

pub(crate) async fn open_order(
    db: &mut PgConnection,
    order: NewOrder,
    request: LeaseRequest,
) -> TxResult<OpenOutcome> {
    let id = order.id.to_string();
    // A concurrent request with the same key waits here until this transaction commits, and then finds the
    // row.
    let is_new_key = sqlx::query(
        "INSERT INTO idempotency_key (buyer, key, request_hash, order_id, at)
            VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(order.buyer.as_str())
    .bind(&order.idempotency_key)
    .bind(&order.request_hash)
    .bind(&id)
    .bind(request.now.as_millis())
    .execute(&mut *db)
    .await?
    .rows_affected()
        == 1;
    if !is_new_key {
        return used_key(db, &order).await;
    }
    if let Some((open, waits)) = find_or_insert(db, &order, &request).await? {
        if waits {
            forget_key(db, &order).await?;
            return Ok(OpenOutcome::AwaitingBuyer(open));
        }
        sqlx::query("UPDATE idempotency_key SET order_id = $3 WHERE buyer = $1 AND key = $2")
            .bind(order.buyer.as_str())
            .bind(&order.idempotency_key)
            .bind(open.to_string())
            .execute(&mut *db)
            .await?;
        return Ok(OpenOutcome::Existing(open));
    }
    insert_saga(db, &order, &request).await?;
    journal::append(db, &id, "opened", request.now).await?;
    Ok(OpenOutcome::New(FencedLease {
        order: order.id,
        fence: 1,
    }))
}

/// Inserts the order's seats and its saga, leased to the caller.
async fn insert_saga(db: &mut PgConnection, order: &NewOrder, request: &LeaseRequest) -> TxResult<()> {
    let id = order.id.to_string();
    let seats = serde_json::to_string(&order.held_seats.seats).expect("seats are JSON");
    sqlx::query(
        "INSERT INTO order_seat (order_id, seat, position, info)
         SELECT $1, value ->> 'guid', place - 1, value
             FROM json_array_elements($2::json) WITH ORDINALITY AS it (value, place)",
    )
    .bind(&id)
    .bind(seats)
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "INSERT INTO saga (order_id, saga, step, step_started_at, lease_owner, lease_until, fence)
        VALUES ($1, $2, $3, $4, $5, $6, 1)",
    )
    .bind(&id)
    .bind(&order.position.saga)
    .bind(&order.position.step)
    .bind(order.position.step_started_at.as_millis())
    .bind(&request.owner)
    .bind(request.until.as_millis())
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "INSERT INTO saga_log (order_id, sequence, at, saga, step, state)
         VALUES ($1, 1, $2, $3, $4, 'started')",
    )
    .bind(&id)
    .bind(request.now.as_millis())
    .bind(&order.position.saga)
    .bind(&order.position.step)
    .execute(&mut *db)
    .await?;
    Ok(())
}

/// The outcome for an idempotency key that was used before.
async fn used_key(db: &mut PgConnection, order: &NewOrder) -> TxResult<OpenOutcome> {
    let row = sqlx::query(
        "SELECT k.request_hash, k.order_id, s.fence FROM idempotency_key k LEFT
         JOIN saga s ON s.order_id = k.order_id
         WHERE k.buyer = $1 AND k.key = $2",
    )
    .bind(order.buyer.as_str())
    .bind(&order.idempotency_key)
    .fetch_one(db)
    .await?;
    if row.try_get::<String, _>("request_hash")? != order.request_hash {
        return Ok(OpenOutcome::KeyReused);
    }
    let known = parse(&row, "order_id")?;
    // The commit of this very order was not answered. The caller still has the lease, unless it was taken
    // over.
    if known == order.id && row.try_get::<Option<i64>, _>("fence")? == Some(1) {
        return Ok(OpenOutcome::New(FencedLease {
            order: known,
            fence: 1,
        }));
    }
    Ok(OpenOutcome::Existing(known))
}

async fn forget_key(db: &mut PgConnection, order: &NewOrder) -> TxResult<()> {
    sqlx::query("DELETE FROM idempotency_key WHERE buyer = $1 AND key = $2")
        .bind(order.buyer.as_str())
        .bind(&order.idempotency_key)
        .execute(db)
        .await?;
    Ok(())
}

/// Inserts the order, or returns the one that is still open on the same hold, and whether that one awaits its
/// buyer at the gateway's page.
async fn find_or_insert(
    db: &mut PgConnection,
    order: &NewOrder,
    request: &LeaseRequest,
) -> TxResult<Option<(OrderId, bool)>> {
    for _ in 0..TRIES_MAX {
        let inserted = sqlx::query(
            "INSERT INTO orders (id, sale, performance, buyer, visit, hold, state, amount, currency,
             method, payment_deadline, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, 'in_progress', $7, $8, $9, $10, $11, $11)
             ON CONFLICT (hold) WHERE attempt_open DO NOTHING",
        )
        .bind(order.id.to_string())
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
        .execute(&mut *db)
        .await?;
        if inserted.rows_affected() == 1 {
            return Ok(None);
        }
        let open = sqlx::query(
            "SELECT id, state = 'awaiting_payment' AS waits FROM orders WHERE hold = $1 AND attempt_open",
        )
        .bind(order.hold.to_string())
        .fetch_optional(&mut *db)
        .await?;
        if let Some(row) = open {
            return Ok(Some((parse(&row, "id")?, row.try_get("waits")?)));
        }
    }
    Err(LedgerError::Unavailable("attempts on one hold keep opening and closing".into()).into())
}

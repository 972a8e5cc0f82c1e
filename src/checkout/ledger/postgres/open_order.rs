//! The first transaction of an attempt to buy.

use sqlx::{PgConnection, Row};

use crate::checkout::ledger::postgres::{Work, audit};
use crate::{
    checkout::ledger::{LeaseRequest, LedgerError, NewOrder, OpenOutcome, FencedLease},
    kernel::OrderId,
};

/// How often it is tried to find or make the one open attempt on a hold, while others close theirs.
const TRIES_MAX: u32 = 5;

pub(crate) async fn open_order(db: &mut PgConnection, order: NewOrder, lease_request: LeaseRequest) -> Work<OpenOutcome> {
    let id = order.id.to_string();
    // Whoever uses the same key at the same time waits here until this is committed, and then finds it.
    let is_new_key =
        sqlx::query("INSERT INTO idempotency (scope, key, request_hash, order_id, at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING")
            .bind(order.buyer.as_str())
            .bind(&order.idempotency_key)
            .bind(&order.request_hash)
            .bind(&id)
            .bind(lease_request.now.as_millis())
            .execute(&mut *db)
            .await?
            .rows_affected()
            == 1;
    if !is_new_key {
        return used_key(db, &order).await;
    }
    if let Some(open) = find_or_insert(db, &order, &lease_request).await? {
        sqlx::query("UPDATE idempotency SET order_id = $3 WHERE scope = $1 AND key = $2")
            .bind(order.buyer.as_str())
            .bind(&order.idempotency_key)
            .bind(&open)
            .execute(&mut *db)
            .await?;
        return Ok(OpenOutcome::Existing(parse_order_id(&open)?));
    }
    let seats = serde_json::to_string(&order.held_seats.seats).expect("seats are JSON");
    sqlx::query(
        "INSERT INTO order_seat (order_id, seat, position, info)
         SELECT $1, value ->> 'guid', place - 1, value FROM json_array_elements($2::json) WITH ORDINALITY AS it (value, place)",
    )
    .bind(&id)
    .bind(seats)
    .execute(&mut *db)
    .await?;
    sqlx::query("INSERT INTO saga (order_id, saga, step, since, lease_owner, lease_until, fence) VALUES ($1, $2, $3, $4, $5, $6, 1)")
        .bind(&id)
        .bind(&order.position.saga)
        .bind(&order.position.step)
        .bind(order.position.since.as_millis())
        .bind(&lease_request.owner)
        .bind(lease_request.until.as_millis())
        .execute(&mut *db)
        .await?;
    sqlx::query(
        "INSERT INTO saga_log (order_id, n, at, saga, step, state) VALUES ($1, 1, $2, $3, $4, 'started')",
    )
    .bind(&id)
    .bind(lease_request.now.as_millis())
    .bind(&order.position.saga)
    .bind(&order.position.step)
    .execute(&mut *db)
    .await?;
    audit::append(db, &id, "opened", lease_request.now).await?;
    Ok(OpenOutcome::New(FencedLease {
        order: order.id,
        fence: 1,
    }))
}

/// What an idempotency key that is there already stands for.
async fn used_key(db: &mut PgConnection, order: &NewOrder) -> Work<OpenOutcome> {
    let row = sqlx::query(
        "SELECT k.request_hash, k.order_id, s.fence FROM idempotency k LEFT JOIN saga s ON s.order_id = k.order_id
         WHERE k.scope = $1 AND k.key = $2",
    )
    .bind(order.buyer.as_str())
    .bind(&order.idempotency_key)
    .fetch_one(db)
    .await?;
    if row.try_get::<String, _>("request_hash")? != order.request_hash {
        return Ok(OpenOutcome::KeyReused);
    }
    let known = parse_order_id(row.try_get("order_id")?)?;
    // This very order, whose commit was not answered: it is still this caller's to drive, if nobody took it over.
    if known == order.id && row.try_get::<Option<i64>, _>("fence")? == Some(1) {
        return Ok(OpenOutcome::New(FencedLease {
            order: known,
            fence: 1,
        }));
    }
    Ok(OpenOutcome::Existing(known))
}

/// Inserts the order, or finds the one that is still open on the same hold.
async fn find_or_insert(db: &mut PgConnection, order: &NewOrder, lease_request: &LeaseRequest) -> Work<Option<String>> {
    for _ in 0..TRIES_MAX {
        let inserted = sqlx::query(
            "INSERT INTO orders (id, sale, performance, buyer, visit, hold, state, amount, currency, method, pay_by, created_at, updated_at)
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
        .bind(lease_request.now.as_millis())
        .execute(&mut *db)
        .await?;
        if inserted.rows_affected() == 1 {
            return Ok(None);
        }
        let open: Option<String> =
            sqlx::query_scalar("SELECT id FROM orders WHERE hold = $1 AND attempt_open")
                .bind(order.hold.to_string())
                .fetch_optional(&mut *db)
                .await?;
        if open.is_some() {
            return Ok(open);
        }
    }
    Err(LedgerError::Unavailable("attempts on one hold come and go".into()).into())
}

pub(crate) fn parse_order_id(text: &str) -> Result<OrderId, LedgerError> {
    text.parse()
        .map_err(|e| LedgerError::Unavailable(format!("the stored order id {text}: {e}")))
}

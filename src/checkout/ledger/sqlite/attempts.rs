//! The transactions of one attempt to buy: open, claim, pin, book, close.

use sqlx::{Row, SqliteConnection};

use super::{audit, check, put_event};
use crate::{
    checkout::{
        ledger::{ClaimOutcome, LeaseRequest, LedgerError, NewEvent, NewOrder, NewTicket, OpenOutcome, FencedLease},
        order::OrderState,
    },
    kernel::{OrderId, Timestamp},
};

pub(super) async fn open_order(
    db: &mut SqliteConnection,
    order: NewOrder,
    lease_request: LeaseRequest,
) -> Result<OpenOutcome, LedgerError> {
    let id = order.id.to_string();
    let used = sqlx::query("SELECT request_hash, order_id FROM idempotency WHERE scope = ?1 AND key = ?2")
        .bind(order.buyer.as_str())
        .bind(&order.idempotency_key)
        .fetch_optional(&mut *db)
        .await?;
    if let Some(row) = used {
        if row.try_get::<String, _>("request_hash")? != order.request_hash {
            return Ok(OpenOutcome::KeyReused);
        }
        return Ok(OpenOutcome::Existing(parse_order_id(row.try_get("order_id")?)?));
    }
    let open: Option<String> =
        sqlx::query_scalar("SELECT id FROM orders WHERE hold = ?1 AND attempt_open = 1")
            .bind(order.hold.to_string())
            .fetch_optional(&mut *db)
            .await?;
    sqlx::query(
        "INSERT INTO idempotency (scope, key, request_hash, order_id, at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )
    .bind(order.buyer.as_str())
    .bind(&order.idempotency_key)
    .bind(&order.request_hash)
    .bind(open.as_ref().unwrap_or(&id))
    .bind(lease_request.now.as_millis())
    .execute(&mut *db)
    .await?;
    if let Some(open) = open {
        return Ok(OpenOutcome::Existing(parse_order_id(&open)?));
    }
    sqlx::query(
        "INSERT INTO orders (id, sale, performance, buyer, visit, hold, state, amount, currency, method, pay_by, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, 'in_progress', $7, $8, $9, $10, $11, $11);
         INSERT INTO order_seat (order_id, seat, position, info)
         SELECT $1, value ->> 'guid', key, value FROM json_each($12);
         INSERT INTO saga (order_id, saga, step, since, lease_owner, lease_until, fence) VALUES ($1, $13, $14, $15, $16, $17, 1);
         INSERT INTO saga_log (order_id, n, at, saga, step, state) VALUES ($1, 1, $11, $13, $14, 'started')",
    )
    .bind(&id)
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
    .bind(serde_json::to_string(&order.held_seats.seats).expect("seats are JSON"))
    .bind(&order.position.saga)
    .bind(&order.position.step)
    .bind(order.position.since.as_millis())
    .bind(&lease_request.owner)
    .bind(lease_request.until.as_millis())
    .execute(&mut *db)
    .await?;
    audit(db, &id, "opened", lease_request.now).await?;
    Ok(OpenOutcome::New(FencedLease {
        order: order.id,
        fence: 1,
    }))
}

pub(super) async fn claim(
    db: &mut SqliteConnection,
    lease: FencedLease,
    seats_per_fan: u8,
    at: Timestamp,
) -> Result<ClaimOutcome, LedgerError> {
    let id = lease.order.to_string();
    let row = sqlx::query(
        "SELECT sale, buyer,
                (SELECT COUNT(*) FROM order_seat WHERE order_id = id) AS wanted,
                (SELECT COUNT(*) FROM seat_claim WHERE order_id = id) AS has,
                EXISTS (SELECT 1 FROM closed_attempt c WHERE c.hold = orders.hold AND c.order_id = id) AS closed
         FROM orders WHERE id = ?1 AND EXISTS (SELECT 1 FROM saga WHERE order_id = ?1 AND fence = ?2)",
    )
    .bind(&id)
    .bind(lease.fence)
    .fetch_optional(&mut *db)
    .await?
    .ok_or(LedgerError::LeaseLost)?;
    let (sale, buyer): (String, String) = (row.try_get("sale")?, row.try_get("buyer")?);
    let (wanted, has): (i64, i64) = (row.try_get("wanted")?, row.try_get("has")?);
    if row.try_get::<bool, _>("closed")? {
        return Ok(ClaimOutcome::AttemptClosed);
    }
    if has == wanted {
        return Ok(ClaimOutcome::Claimed);
    }
    let inserted = sqlx::query(
        "INSERT INTO seat_claim (sale, performance, seat, order_id, fence, state, claimed_at)
         SELECT o.sale, o.performance, s.seat, o.id, COALESCE(f.last, 0) + 1, 'claimed', ?2
         FROM orders o JOIN order_seat s ON s.order_id = o.id
         LEFT JOIN seat_fence f ON f.sale = o.sale AND f.performance = o.performance AND f.seat = s.seat
         WHERE o.id = ?1
         ON CONFLICT DO NOTHING",
    )
    .bind(&id)
    .bind(at.as_millis())
    .execute(&mut *db)
    .await?
    .rows_affected();
    let complete = i64::try_from(inserted).is_ok_and(|n| n == wanted);
    if !complete || !within_quota(db, &sale, &buyer, wanted, i64::from(seats_per_fan)).await? {
        sqlx::query("DELETE FROM seat_claim WHERE order_id = ?1")
            .bind(&id)
            .execute(&mut *db)
            .await?;
        return Ok(if complete {
            ClaimOutcome::QuotaReached
        } else {
            ClaimOutcome::SeatsTaken
        });
    }
    // The key of a payment that may already be under way is kept: money is only ever asked for once per order.
    sqlx::query(
        "INSERT INTO seat_fence (sale, performance, seat, last)
         SELECT sale, performance, seat, fence FROM seat_claim WHERE order_id = $1
         ON CONFLICT DO UPDATE SET last = excluded.last;
         UPDATE order_seat SET fence = (SELECT c.fence FROM seat_claim c WHERE c.order_id = $1 AND c.seat = order_seat.seat)
         WHERE order_id = $1;
         UPDATE orders SET payment_key = COALESCE(payment_key, id || ':' || (SELECT MAX(fence) FROM order_seat WHERE order_id = $1)),
                           updated_at = $2
         WHERE id = $1",
    )
    .bind(&id)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(ClaimOutcome::Claimed)
}

async fn within_quota(
    db: &mut SqliteConnection,
    sale: &str,
    buyer: &str,
    wanted: i64,
    max: i64,
) -> Result<bool, LedgerError> {
    let counted = sqlx::query(
        "INSERT INTO customer_quota (sale, buyer, seats) SELECT ?1, ?2, ?3 WHERE ?3 <= ?4
         ON CONFLICT DO UPDATE SET seats = seats + ?3 WHERE seats + ?3 <= ?4",
    )
    .bind(sale)
    .bind(buyer)
    .bind(wanted)
    .bind(max)
    .execute(db)
    .await?;
    Ok(counted.rows_affected() == 1)
}

/// Moves all claims of the order from one state to another by their fences; how many then are in the new state.
async fn move_claims(
    db: &mut SqliteConnection,
    lease: FencedLease,
    from: &str,
    to: &str,
) -> Result<(i64, bool), LedgerError> {
    let row = sqlx::query(
        "UPDATE seat_claim SET state = $4
         WHERE order_id = $1 AND state = $3 AND EXISTS (SELECT 1 FROM saga WHERE order_id = $1 AND fence = $2)
         AND fence = (SELECT s.fence FROM order_seat s WHERE s.order_id = $1 AND s.seat = seat_claim.seat);
         SELECT changes() AS moved,
                (SELECT COUNT(*) FROM seat_claim WHERE order_id = $1 AND state IN ($4, 'booked'))
              = (SELECT COUNT(*) FROM order_seat WHERE order_id = $1) AS whole
         WHERE EXISTS (SELECT 1 FROM saga WHERE order_id = $1 AND fence = $2)",
    )
    .bind(lease.order.to_string())
    .bind(lease.fence)
    .bind(from)
    .bind(to)
    .fetch_optional(db)
    .await?
    .ok_or(LedgerError::LeaseLost)?;
    Ok((row.try_get("moved")?, row.try_get("whole")?))
}

pub(super) async fn lock_claims(db: &mut SqliteConnection, lease: FencedLease) -> Result<bool, LedgerError> {
    let (_, all) = move_claims(db, lease, "claimed", "paying").await?;
    Ok(all)
}

pub(super) async fn await_payment(
    db: &mut SqliteConnection,
    lease: FencedLease,
    url: String,
    until: Timestamp,
    at: Timestamp,
) -> Result<(), LedgerError> {
    check(db, lease).await?;
    // The deadline is set once: a buyer who comes back for the page again gets no longer than the first time.
    sqlx::query(
        "UPDATE orders SET action = ?2, state = 'awaiting_payment', updated_at = ?4,
                           pay_by = CASE WHEN state = 'awaiting_payment' THEN pay_by ELSE ?3 END
         WHERE id = ?1 AND state IN ('in_progress', 'awaiting_payment')",
    )
    .bind(lease.order.to_string())
    .bind(url)
    .bind(until.as_millis())
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn book(
    db: &mut SqliteConnection,
    lease: FencedLease,
    tickets: Vec<NewTicket>,
    event: NewEvent,
    at: Timestamp,
) -> Result<bool, LedgerError> {
    let id = lease.order.to_string();
    let (moved, all) = move_claims(db, lease, "paying", "booked").await?;
    if !all {
        // Some claims moved and some were gone cannot be: they are claimed and dropped together. Refuse and undo.
        return if moved == 0 {
            Ok(false)
        } else {
            Err(LedgerError::Unavailable("claims of one order differ".into()))
        };
    }
    if moved == 0 {
        return Ok(true);
    }
    let tickets: Vec<(String, String)> = tickets.into_iter().map(|it| (it.id, it.seat)).collect();
    sqlx::query(
        "INSERT INTO ticket (id, order_id, seat, issued_at) SELECT value ->> 0, $1, value ->> 1, $2 FROM json_each($3);
         UPDATE orders SET state = 'in_progress', action = NULL, updated_at = $2 WHERE id = $1",
    )
    .bind(&id)
    .bind(at.as_millis())
    .bind(serde_json::to_string(&tickets).expect("tickets are JSON"))
    .execute(&mut *db)
    .await?;
    put_event(db, &id, &event, at).await?;
    audit(db, &id, "booked", at).await?;
    Ok(true)
}

pub(super) async fn record_capture(
    db: &mut SqliteConnection,
    lease: FencedLease,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let id = lease.order.to_string();
    let done = sqlx::query(
        "UPDATE orders SET state = 'paid', stuck = 0, updated_at = ?3
         WHERE id = ?1 AND state = 'in_progress' AND EXISTS (SELECT 1 FROM saga WHERE order_id = ?1 AND fence = ?2)",
    )
    .bind(&id)
    .bind(lease.fence)
    .bind(at.as_millis())
    .execute(&mut *db)
    .await?;
    if done.rows_affected() == 0 {
        check(db, lease).await
    } else {
        audit(db, &id, "captured", at).await
    }
}

pub(super) async fn record_delivery(
    db: &mut SqliteConnection,
    lease: FencedLease,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let done = sqlx::query(
        "UPDATE ticket SET delivered_at = ?3
         WHERE order_id = ?1 AND delivered_at IS NULL AND EXISTS (SELECT 1 FROM saga WHERE order_id = ?1 AND fence = ?2)",
    )
    .bind(lease.order.to_string())
    .bind(lease.fence)
    .bind(at.as_millis())
    .execute(&mut *db)
    .await?;
    if done.rows_affected() == 0 {
        check(db, lease).await
    } else {
        Ok(())
    }
}

pub(super) async fn void_tickets(
    db: &mut SqliteConnection,
    lease: FencedLease,
    at: Timestamp,
) -> Result<(), LedgerError> {
    check(db, lease).await?;
    let id = lease.order.to_string();
    sqlx::query("UPDATE ticket SET withdrawn_at = ?2 WHERE order_id = ?1 AND withdrawn_at IS NULL")
        .bind(&id)
        .bind(at.as_millis())
        .execute(&mut *db)
        .await?;
    let done = sqlx::query(
        "UPDATE orders SET state = 'refunding', updated_at = ?2 WHERE id = ?1 AND state != 'refunding'",
    )
    .bind(&id)
    .bind(at.as_millis())
    .execute(&mut *db)
    .await?;
    if done.rows_affected() == 1 {
        audit(db, &id, "withdrawn", at).await?;
    }
    Ok(())
}

pub(super) async fn release_claims(
    db: &mut SqliteConnection,
    lease: FencedLease,
    at: Timestamp,
) -> Result<(), LedgerError> {
    check(db, lease).await?;
    let id = lease.order.to_string();
    let dropped = sqlx::query("DELETE FROM seat_claim WHERE order_id = ?1")
        .bind(&id)
        .execute(&mut *db)
        .await?
        .rows_affected();
    if dropped > 0 {
        sqlx::query(
            "UPDATE customer_quota SET seats = seats - ?2
             WHERE (sale, buyer) = (SELECT sale, buyer FROM orders WHERE id = ?1)",
        )
        .bind(&id)
        .bind(i64::try_from(dropped).unwrap_or(i64::MAX))
        .execute(&mut *db)
        .await?;
        audit(db, &id, "claims dropped", at).await?;
    }
    Ok(())
}

pub(super) async fn close_order(
    db: &mut SqliteConnection,
    lease: FencedLease,
    state: OrderState,
    event: Option<NewEvent>,
    payment_check_at: Option<Timestamp>,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let id = lease.order.to_string();
    let closed = sqlx::query(
        "UPDATE orders SET state = ?3, stuck = 0, action = NULL, attempt_open = 0, check_at = ?4, updated_at = ?5
         WHERE id = ?1 AND state != ?3 AND EXISTS (SELECT 1 FROM saga WHERE order_id = ?1 AND fence = ?2)",
    )
    .bind(&id)
    .bind(lease.fence)
    .bind(state.as_str())
    .bind(payment_check_at.map(Timestamp::as_millis))
    .bind(at.as_millis())
    .execute(&mut *db)
    .await?;
    if closed.rows_affected() == 0 {
        return check(db, lease).await;
    }
    sqlx::query(
        "INSERT INTO closed_attempt (hold, order_id, closed_at) SELECT hold, id, ?2 FROM orders WHERE id = ?1 ON CONFLICT DO NOTHING",
    )
    .bind(&id)
    .bind(at.as_millis())
    .execute(&mut *db)
    .await?;
    if let Some(event) = event {
        put_event(db, &id, &event, at).await?;
    }
    audit(db, &id, state.as_str(), at).await
}

pub(super) fn parse_order_id(text: &str) -> Result<OrderId, LedgerError> {
    text.parse()
        .map_err(|e| LedgerError::Unavailable(format!("the stored order id {text}: {e}")))
}

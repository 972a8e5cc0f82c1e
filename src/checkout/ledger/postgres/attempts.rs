//! The transactions of one attempt to buy, after it was opened: claim, lock, book, capture, refund, close.

use sqlx::{PgConnection, Row};

use super::{journal, leases::check_lease, outbox::append_event, transaction::TxResult};
use crate::{
    checkout::{
        ledger::port::{ClaimOutcome, FencedLease, LedgerError, NewEvent, NewTicket},
        order::OrderState,
    },
    kernel::Timestamp,
};

pub(super) async fn claim(
    db: &mut PgConnection,
    lease: FencedLease,
    seats_per_customer_max: u8,
    at: Timestamp,
) -> TxResult<ClaimOutcome> {
    check_lease(db, lease).await?;
    let id = lease.order.to_string();
    let row = sqlx::query(
        "SELECT sale, buyer,
                (SELECT COUNT(*) FROM order_seat WHERE order_id = id) AS wanted,
                (SELECT COUNT(*) FROM seat_claim WHERE order_id = id) AS has,
                EXISTS (SELECT 1 FROM closed_attempt c WHERE c.hold = orders.hold
                AND c.order_id = id) AS closed
         FROM orders WHERE id = $1",
    )
    .bind(&id)
    .fetch_one(&mut *db)
    .await?;
    let (sale, buyer): (String, String) = (row.try_get("sale")?, row.try_get("buyer")?);
    let (wanted, has): (i64, i64) = (row.try_get("wanted")?, row.try_get("has")?);
    if row.try_get::<bool, _>("closed")? {
        return Ok(ClaimOutcome::AttemptClosed);
    }
    if has == wanted {
        return Ok(ClaimOutcome::Claimed);
    }
    // In the order of the seats, so that two orders that want the same seats cannot deadlock.
    let inserted = sqlx::query(
        "INSERT INTO seat_claim (sale, performance, seat, order_id, fence, state, claimed_at)
         SELECT o.sale, o.performance, s.seat, o.id, 0, 'claimed', $2
         FROM orders o JOIN order_seat s ON s.order_id = o.id
         WHERE o.id = $1 ORDER BY s.seat
         ON CONFLICT DO NOTHING",
    )
    .bind(&id)
    .bind(at.as_millis())
    .execute(&mut *db)
    .await?
    .rows_affected();
    let complete = i64::try_from(inserted).is_ok_and(|n| n == wanted);
    if !complete || !within_quota(db, &sale, &buyer, wanted, i64::from(seats_per_customer_max)).await? {
        sqlx::query("DELETE FROM seat_claim WHERE order_id = $1")
            .bind(&id)
            .execute(&mut *db)
            .await?;
        return Ok(if complete {
            ClaimOutcome::QuotaReached
        } else {
            ClaimOutcome::SeatsTaken
        });
    }
    issue_fences(db, &id, at).await?;
    Ok(ClaimOutcome::Claimed)
}

/// Gives each claim of the order its seat's next fence, and the order its payment key.
async fn issue_fences(db: &mut PgConnection, id: &str, at: Timestamp) -> TxResult<()> {
    // Fences are read only after the claims: while they waited for other orders, another order may have
    // claimed and released a seat, and used up the fence that was next before.
    sqlx::query(
        "WITH issued AS (
             INSERT INTO seat_fence AS f (sale, performance, seat, last)
             SELECT sale, performance, seat, 1 FROM seat_claim WHERE order_id = $1 ORDER BY seat
             ON CONFLICT (sale, performance, seat) DO UPDATE SET last = f.last + 1
             RETURNING seat, last),
         claimed AS (UPDATE seat_claim c SET fence = issued.last FROM issued WHERE c.order_id = $1
         AND c.seat = issued.seat)
         UPDATE order_seat s SET fence = issued.last FROM issued WHERE s.order_id = $1
             AND s.seat = issued.seat",
    )
    .bind(id)
    .execute(&mut *db)
    .await?;
    // An existing key is kept, because its payment may be in progress: an order requests money under one key
    // only.
    sqlx::query(
        "UPDATE orders SET payment_key = COALESCE(payment_key, id || ':' || (SELECT MAX(fence)
         FROM order_seat WHERE order_id = $1)),
                           updated_at = $2
         WHERE id = $1",
    )
    .bind(id)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(())
}

async fn within_quota(
    db: &mut PgConnection,
    sale: &str,
    buyer: &str,
    wanted: i64,
    max: i64,
) -> TxResult<bool> {
    let counted = sqlx::query(
        "INSERT INTO customer_quota AS q (sale, buyer, seats) SELECT $1, $2, $3 WHERE $3 <= $4
         ON CONFLICT (sale, buyer) DO UPDATE SET seats = q.seats + $3 WHERE q.seats + $3 <= $4",
    )
    .bind(sale)
    .bind(buyer)
    .bind(wanted)
    .bind(max)
    .execute(db)
    .await?;
    Ok(counted.rows_affected() == 1)
}

/// Moves the order's claims from one state to another by their fences. Returns how many moved, and whether
/// all of the order's seats are in the new state now.
async fn move_claims(db: &mut PgConnection, id: &str, from: &str, to: &str) -> TxResult<(u64, bool)> {
    let moved = sqlx::query(
        "UPDATE seat_claim SET state = $3 WHERE order_id = $1 AND state = $2
         AND fence = (SELECT s.fence FROM order_seat s WHERE s.order_id = $1 AND s.seat = seat_claim.seat)",
    )
    .bind(id)
    .bind(from)
    .bind(to)
    .execute(&mut *db)
    .await?
    .rows_affected();
    let all: bool = sqlx::query_scalar(
        "SELECT (SELECT COUNT(*) FROM seat_claim WHERE order_id = $1 AND state IN ($2, 'booked'))
              = (SELECT COUNT(*) FROM order_seat WHERE order_id = $1)",
    )
    .bind(id)
    .bind(to)
    .fetch_one(db)
    .await?;
    Ok((moved, all))
}

pub(super) async fn lock_claims(db: &mut PgConnection, lease: FencedLease) -> TxResult<bool> {
    check_lease(db, lease).await?;
    let (_, all) = move_claims(db, &lease.order.to_string(), "claimed", "paying").await?;
    Ok(all)
}

pub(super) async fn await_payment(
    db: &mut PgConnection,
    lease: FencedLease,
    url: String,
    until: Timestamp,
    at: Timestamp,
) -> TxResult<()> {
    check_lease(db, lease).await?;
    // The deadline is set once: opening the page again does not extend it.
    sqlx::query(
        "UPDATE orders SET payment_url = $2, state = 'awaiting_payment', updated_at = $4,
                           payment_deadline = CASE WHEN state = 'awaiting_payment'
                                              THEN payment_deadline ELSE $3 END
         WHERE id = $1 AND state IN ('in_progress', 'awaiting_payment')",
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
    db: &mut PgConnection,
    lease: FencedLease,
    tickets: Vec<NewTicket>,
    event: NewEvent,
    at: Timestamp,
) -> TxResult<bool> {
    check_lease(db, lease).await?;
    let id = lease.order.to_string();
    let (moved, all) = move_claims(db, &id, "paying", "booked").await?;
    if !all {
        // Claims of one order are made and released together, so a partial move means corruption. The error
        // rolls back.
        return if moved == 0 {
            Ok(false)
        } else {
            Err(LedgerError::Unavailable("claims of one order differ".into()).into())
        };
    }
    if moved == 0 {
        return Ok(true);
    }
    for ticket in tickets {
        sqlx::query("INSERT INTO ticket (id, order_id, seat, issued_at) VALUES ($1, $2, $3, $4)")
            .bind(ticket.id)
            .bind(&id)
            .bind(ticket.seat)
            .bind(at.as_millis())
            .execute(&mut *db)
            .await?;
    }
    append_event(db, &id, &event, at).await?;
    sqlx::query("UPDATE orders SET state = 'in_progress', payment_url = NULL, updated_at = $2 WHERE id = $1")
        .bind(&id)
        .bind(at.as_millis())
        .execute(&mut *db)
        .await?;
    journal::append(db, &id, "booked", at).await?;
    Ok(true)
}

pub(super) async fn record_capture(
    db: &mut PgConnection,
    lease: FencedLease,
    event: NewEvent,
    at: Timestamp,
) -> TxResult<()> {
    check_lease(db, lease).await?;
    let id = lease.order.to_string();
    let done = sqlx::query(
        "UPDATE orders SET state = 'paid', stuck = FALSE, updated_at = $2 WHERE id = $1
        AND state = 'in_progress'",
    )
    .bind(&id)
    .bind(at.as_millis())
    .execute(&mut *db)
    .await?;
    if done.rows_affected() == 1 {
        append_event(db, &id, &event, at).await?;
        journal::append(db, &id, "captured", at).await?;
    }
    Ok(())
}

pub(super) async fn record_delivery(
    db: &mut PgConnection,
    lease: FencedLease,
    at: Timestamp,
) -> TxResult<()> {
    check_lease(db, lease).await?;
    sqlx::query("UPDATE ticket SET delivered_at = $2 WHERE order_id = $1 AND delivered_at IS NULL")
        .bind(lease.order.to_string())
        .bind(at.as_millis())
        .execute(db)
        .await?;
    Ok(())
}

pub(super) async fn void_tickets(
    db: &mut PgConnection,
    lease: FencedLease,
    events: Vec<NewEvent>,
    at: Timestamp,
) -> TxResult<()> {
    check_lease(db, lease).await?;
    let id = lease.order.to_string();
    let voided = sqlx::query("UPDATE ticket SET voided_at = $2 WHERE order_id = $1 AND voided_at IS NULL")
        .bind(&id)
        .bind(at.as_millis())
        .execute(&mut *db)
        .await?;
    if voided.rows_affected() > 0 {
        for event in &events {
            append_event(db, &id, event, at).await?;
        }
    }
    let done = sqlx::query(
        "UPDATE orders SET state = 'refunding', updated_at = $2 WHERE id = $1 AND state != 'refunding'",
    )
    .bind(&id)
    .bind(at.as_millis())
    .execute(&mut *db)
    .await?;
    if done.rows_affected() == 1 {
        journal::append(db, &id, "withdrawn", at).await?;
    }
    Ok(())
}

pub(super) async fn release_claims(db: &mut PgConnection, lease: FencedLease, at: Timestamp) -> TxResult<()> {
    check_lease(db, lease).await?;
    let id = lease.order.to_string();
    let dropped = sqlx::query("DELETE FROM seat_claim WHERE order_id = $1")
        .bind(&id)
        .execute(&mut *db)
        .await?
        .rows_affected();
    if dropped > 0 {
        sqlx::query(
            "UPDATE customer_quota SET seats = seats - $2
             WHERE (sale, buyer) = (SELECT sale, buyer FROM orders WHERE id = $1)",
        )
        .bind(&id)
        .bind(i64::try_from(dropped).unwrap_or(i64::MAX))
        .execute(&mut *db)
        .await?;
        journal::append(db, &id, "claims dropped", at).await?;
    }
    Ok(())
}

pub(super) async fn close_order(
    db: &mut PgConnection,
    lease: FencedLease,
    state: OrderState,
    event: Option<NewEvent>,
    payment_check_at: Option<Timestamp>,
    at: Timestamp,
) -> TxResult<()> {
    check_lease(db, lease).await?;
    let id = lease.order.to_string();
    let closed = sqlx::query(
        "UPDATE orders SET state = $2, stuck = FALSE, payment_url = NULL, attempt_open = FALSE,
         payment_check_at = $3, updated_at = $4
         WHERE id = $1 AND state != $2",
    )
    .bind(&id)
    .bind(state.as_str())
    .bind(payment_check_at.map(Timestamp::as_millis))
    .bind(at.as_millis())
    .execute(&mut *db)
    .await?;
    if closed.rows_affected() == 0 {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO closed_attempt (hold, order_id, closed_at) SELECT hold, id, $2 FROM orders
         WHERE id = $1 ON CONFLICT DO NOTHING",
    )
    .bind(&id)
    .bind(at.as_millis())
    .execute(&mut *db)
    .await?;
    if let Some(event) = event {
        append_event(db, &id, &event, at).await?;
    }
    journal::append(db, &id, state.as_str(), at).await
}

//! The transactions of one attempt to buy, after it was opened: claim, lock, book, capture, refund, close.

use sqlx::{Row, SqliteConnection};

use super::{journal, leases::check_lease, outbox::append_event};
use crate::{
    checkout::{
        ledger::port::{ClaimOutcome, FencedLease, LedgerError, NewEvent, NewTicket},
        order::OrderState,
    },
    kernel::Timestamp,
};

pub(super) async fn claim(
    db: &mut SqliteConnection,
    lease: FencedLease,
    seats_per_customer_max: u8,
    at: Timestamp,
) -> Result<ClaimOutcome, LedgerError> {
    let id = lease.order.to_string();
    let row = sqlx::query(
        "SELECT sale, buyer,
                (SELECT COUNT(*) FROM order_seat WHERE order_id = id) AS wanted,
                (SELECT COUNT(*) FROM seat_claim WHERE order_id = id) AS has,
                EXISTS (SELECT 1 FROM closed_attempt c WHERE c.hold = orders.hold
                AND c.order_id = id) AS closed
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
    if !complete || !within_quota(db, &sale, &buyer, wanted, i64::from(seats_per_customer_max)).await? {
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
    issue_fences(db, &id, at).await?;
    Ok(ClaimOutcome::Claimed)
}

/// Records the fences of the order's claims as issued, and gives the order its payment key.
async fn issue_fences(db: &mut SqliteConnection, id: &str, at: Timestamp) -> Result<(), LedgerError> {
    // An existing key is kept, because its payment may be in progress: an order requests money under one key
    // only.
    sqlx::query(
        "INSERT INTO seat_fence (sale, performance, seat, last)
         SELECT sale, performance, seat, fence FROM seat_claim WHERE order_id = $1
         ON CONFLICT DO UPDATE SET last = excluded.last;
         UPDATE order_seat SET fence = (SELECT c.fence FROM seat_claim c WHERE c.order_id = $1
         AND c.seat = order_seat.seat)
         WHERE order_id = $1;
         UPDATE orders SET payment_key = COALESCE(payment_key, id || ':' || (SELECT MAX(fence)
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

/// Moves the order's claims from one state to another by their fences. Returns how many moved, and whether
/// all of the order's seats are in the new state now.
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
    check_lease(db, lease).await?;
    // The deadline is set once: opening the page again does not extend it.
    sqlx::query(
        "UPDATE orders SET payment_url = ?2, state = 'awaiting_payment', updated_at = ?4,
                           payment_deadline = CASE WHEN state = 'awaiting_payment'
                                              THEN payment_deadline ELSE ?3 END
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
        // Claims of one order are made and released together, so a partial move means corruption. The error
        // rolls back.
        return if moved == 0 {
            Ok(false)
        } else {
            Err(LedgerError::Unavailable("claims of one order differ".into()))
        };
    }
    if moved == 0 {
        return Ok(true);
    }
    let tickets: Vec<(String, String)> = tickets
        .into_iter()
        .map(|ticket| (ticket.id, ticket.seat))
        .collect();
    sqlx::query(
        "INSERT INTO ticket (id, order_id, seat, issued_at) SELECT value ->> 0, $1, value ->> 1, $2
         FROM json_each($3);
         UPDATE orders SET state = 'in_progress', payment_url = NULL, updated_at = $2 WHERE id = $1",
    )
    .bind(&id)
    .bind(at.as_millis())
    .bind(serde_json::to_string(&tickets).expect("tickets are JSON"))
    .execute(&mut *db)
    .await?;
    append_event(db, &id, &event, at).await?;
    journal::append(db, &id, "booked", at).await?;
    Ok(true)
}

pub(super) async fn record_capture(
    db: &mut SqliteConnection,
    lease: FencedLease,
    event: NewEvent,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let id = lease.order.to_string();
    let done = sqlx::query(
        "UPDATE orders SET state = 'paid', stuck = 0, updated_at = ?3
         WHERE id = ?1 AND state = 'in_progress' AND EXISTS (SELECT 1 FROM saga WHERE order_id = ?1
             AND fence = ?2)",
    )
    .bind(&id)
    .bind(lease.fence)
    .bind(at.as_millis())
    .execute(&mut *db)
    .await?;
    if done.rows_affected() == 0 {
        check_lease(db, lease).await
    } else {
        append_event(db, &id, &event, at).await?;
        journal::append(db, &id, "captured", at).await
    }
}

pub(super) async fn record_delivery(
    db: &mut SqliteConnection,
    lease: FencedLease,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let done = sqlx::query(
        "UPDATE ticket SET delivered_at = ?3
         WHERE order_id = ?1 AND delivered_at IS NULL AND EXISTS (SELECT 1 FROM saga WHERE order_id = ?1
             AND fence = ?2)",
    )
    .bind(lease.order.to_string())
    .bind(lease.fence)
    .bind(at.as_millis())
    .execute(&mut *db)
    .await?;
    if done.rows_affected() == 0 {
        check_lease(db, lease).await
    } else {
        Ok(())
    }
}

pub(super) async fn void_tickets(
    db: &mut SqliteConnection,
    lease: FencedLease,
    events: Vec<NewEvent>,
    at: Timestamp,
) -> Result<(), LedgerError> {
    check_lease(db, lease).await?;
    let id = lease.order.to_string();
    let voided = sqlx::query("UPDATE ticket SET voided_at = ?2 WHERE order_id = ?1 AND voided_at IS NULL")
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
        "UPDATE orders SET state = 'refunding', updated_at = ?2 WHERE id = ?1 AND state != 'refunding'",
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

pub(super) async fn release_claims(
    db: &mut SqliteConnection,
    lease: FencedLease,
    at: Timestamp,
) -> Result<(), LedgerError> {
    check_lease(db, lease).await?;
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
        journal::append(db, &id, "claims dropped", at).await?;
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
        "UPDATE orders SET state = ?3, stuck = 0, payment_url = NULL, attempt_open = 0,
         payment_check_at = ?4, updated_at = ?5
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
        return check_lease(db, lease).await;
    }
    sqlx::query(
        "INSERT INTO closed_attempt (hold, order_id, closed_at) SELECT hold, id, ?2 FROM orders
         WHERE id = ?1 ON CONFLICT DO NOTHING",
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

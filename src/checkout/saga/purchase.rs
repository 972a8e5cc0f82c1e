//! The purchase saga: from a hold to tickets, or back to a hold.

use std::sync::atomic::Ordering;

use crate::checkout::{
    ledger::port::{ClaimOutcome, LedgerError},
    order::{Order, OrderState, Reason},
    outbox::event::{ORDER_BOOKED, ORDER_PAID, order_event},
    payment::{AuthorizeOutcome, CardToken, Charge, LookupOutcome, PaymentState, SettleOutcome},
    saga::{
        engine::{SagaTable, Step, StepOutcome, StepResult},
        refund::{REFUND, refund_or_void},
        step_context::StepContext,
    },
    seats::port::{BeginOutcome, SeatsError},
    tickets,
};
use crate::kernel::Timestamp;

pub(crate) static PURCHASE: SagaTable<StepContext> = SagaTable {
    name: "purchase",
    steps: &[
        Step {
            name: "begin",
            action: |step| Box::pin(begin(step)),
            undo: Some(|step| Box::pin(release_hold(step))),
            history_keys: ["history.beginning", "history.begun", "history.hold_released"],
        },
        Step {
            name: "claim",
            action: |step| Box::pin(claim(step)),
            undo: Some(|step| Box::pin(release_claims(step))),
            history_keys: ["history.claiming", "history.claimed", "history.claim_released"],
        },
        AUTHORIZE,
        BOOK,
        CAPTURE,
        DELIVER,
    ],
};

pub(super) const AUTHORIZE: Step<StepContext> = Step {
    name: "authorize",
    action: |step| Box::pin(authorize(step)),
    undo: Some(|step| Box::pin(refund_or_void(step))),
    history_keys: [
        "history.authorizing",
        "history.authorized",
        "history.authorization_voided",
    ],
};
pub(super) const BOOK: Step<StepContext> = Step {
    name: "book",
    action: |step| Box::pin(book(step)),
    undo: None,
    history_keys: ["history.booking", "history.booked", "history.booking"],
};
pub(super) const CAPTURE: Step<StepContext> = Step {
    name: "capture",
    action: |step| Box::pin(capture(step)),
    undo: None,
    history_keys: ["history.capturing", "history.captured", "history.capturing"],
};
pub(super) const DELIVER: Step<StepContext> = Step {
    name: "deliver",
    action: |step| Box::pin(deliver(step)),
    undo: None,
    history_keys: ["history.delivering", "history.delivered", "history.delivering"],
};

/// Seat store: held -> paying, for as long as a payment may take.
async fn begin(step: &StepContext) -> StepResult {
    let order = step.order().await?;
    let until = step.checkout.payment_page_deadline();
    match step
        .checkout
        .seats
        .begin_checkout(&order.performance_key, order.hold, &order.buyer, until)
        .await
    {
        Ok(BeginOutcome::Begun { seats }) => {
            // The buyer may have exchanged seats since the order was placed; then the order is not about this
            // hold.
            let is_same =
                seats.len() == order.seats.len() && order.seats.iter().all(|seat| seats.contains(&seat.guid));
            Ok(if is_same {
                StepOutcome::Done
            } else {
                StepOutcome::Compensate(Reason::HoldGone)
            })
        }
        Ok(BeginOutcome::Gone) => Ok(StepOutcome::Compensate(Reason::HoldGone)),
        Err(error) => {
            tracing::warn!(order = %order.id, %error, "could not reserve the hold for payment; retrying");
            Ok(StepOutcome::Retry)
        }
    }
}

/// Takes the seats out of payment and closes the attempt.
async fn release_hold(step: &StepContext) -> StepResult {
    let order = step.order().await?;
    if order.state.is_final() {
        // By an earlier run of this step. The hold may be in another payment by now.
        return Ok(StepOutcome::Done);
    }
    let (checkout, now) = (&step.checkout, step.now());
    let reason = order.reason.clone().unwrap_or(Reason::HoldGone);
    if let Err(error) = release_seats(step, &order, &reason).await? {
        tracing::warn!(order = %order.id, %error, "could not return the seats of a failed order; retrying");
        return Ok(StepOutcome::Retry);
    }
    // Money can still arrive unless it was never requested or was declined for good.
    let is_settled = order.is_free() || order.payment_key.is_none() || matches!(reason, Reason::Declined(_));
    let payment_check_at = (!is_settled).then(|| now.plus(checkout.config.payment_timeout));
    checkout
        .ledger
        .close_order(step.lease, reason.final_state(), None, payment_check_at, now)
        .await?;
    Ok(StepOutcome::Done)
}

/// Frees the seats of a buyer who gave them up, stayed away or has used up the time for other cards, and
/// those of an order that an operator canceled. Other buyers keep their hold, for another card.
///
/// A seat store that misses this call would keep the seats for a payment that has ended.
async fn release_seats(
    step: &StepContext,
    order: &Order,
    reason: &Reason,
) -> Result<Result<(), SeatsError>, LedgerError> {
    let (seats, key) = (&step.checkout.seats, &order.performance_key);
    Ok(match reason {
        Reason::SeatsTaken => restore_rival_claims(step, order).await?,
        Reason::CanceledBeforePayment
        | Reason::CanceledByOperatorBeforePayment
        | Reason::PaymentPageTimedOut => seats.release(key, order.hold, &order.seat_ids()).await,
        _ => {
            let until = hold_deadline(step, order).await?;
            if until > step.now() {
                seats.return_to_hold(key, order.hold, until).await
            } else {
                seats.release(key, order.hold, &order.seat_ids()).await
            }
        }
    })
}

/// Until when the hold of a failed payment lasts. A buyer who was at the gateway's page keeps the deadline
/// that they were told; further failures do not prolong what the first left.
async fn hold_deadline(step: &StepContext, order: &Order) -> Result<Timestamp, LedgerError> {
    let until = if order.payment_url.is_some() {
        order.payment_deadline
    } else {
        step.checkout.payment_page_deadline()
    };
    let retries_end = step.checkout.retry_deadline(order.hold).await?;
    Ok(retries_end.map_or(until, |end| end.min(until)))
}

/// The seat store granted seats that the ledger has given to other orders, so it has lost data. Tells it the
/// owners, so that it grants the seats to no one else.
async fn restore_rival_claims(
    step: &StepContext,
    order: &Order,
) -> Result<Result<(), SeatsError>, LedgerError> {
    let checkout = &step.checkout;
    let (key, seats) = (&order.performance_key, order.seat_ids());
    let keep_until = checkout.payment_page_deadline();
    let rivals = checkout.ledger.claims(Some((key, &seats)), keep_until).await?;
    let restored = async {
        checkout.seats.release(key, order.hold, &seats).await?;
        checkout.seats.restore(rivals).await
    };
    Ok(restored.await)
}

/// Claims the seats in the ledger, which gives each seat to one order whatever the seat store says.
async fn claim(step: &StepContext) -> StepResult {
    let order = step.order().await?;
    let seats_max = step.checkout.seats_per_customer_max(&order.performance_key.sale);
    let claimed = step
        .checkout
        .ledger
        .claim(step.lease, seats_max, step.now())
        .await?;
    Ok(match claimed {
        ClaimOutcome::Claimed => StepOutcome::Done,
        ClaimOutcome::SeatsTaken => StepOutcome::Compensate(Reason::SeatsTaken),
        ClaimOutcome::QuotaReached => StepOutcome::Compensate(Reason::QuotaReached),
        ClaimOutcome::AttemptClosed => StepOutcome::Compensate(Reason::HoldGone),
    })
}

async fn release_claims(step: &StepContext) -> StepResult {
    step.checkout
        .ledger
        .release_claims(step.lease, step.now())
        .await?;
    Ok(StepOutcome::Done)
}

/// Reserves the money. A missing answer is looked up by key; its outcome is never assumed.
async fn authorize(step: &StepContext) -> StepResult {
    if !step.checkout.ledger.lock_claims(step.lease).await? {
        return Ok(StepOutcome::Compensate(Reason::HoldGone));
    }
    let order = step.order().await?;
    if order.is_free() {
        return Ok(StepOutcome::Skipped);
    }
    let key = payment_key(&order)?;
    let card = step.card.lock().clone();
    if let Some(card) = card
        .clone()
        .filter(|_| !step.authorization_sent.swap(true, Ordering::Relaxed))
    {
        return request_authorization(step, &order, key, card).await;
    }
    let payment = step
        .checkout
        .call_with_timeout(step.checkout.gateway.lookup(key), LookupOutcome::Unknown)
        .await;
    match payment {
        LookupOutcome::Found(PaymentState::Authorized { .. } | PaymentState::Captured) => {
            Ok(StepOutcome::Done)
        }
        LookupOutcome::Found(PaymentState::Declined { reason }) => {
            Ok(StepOutcome::Compensate(Reason::Declined(reason)))
        }
        LookupOutcome::Found(PaymentState::Voided | PaymentState::Refunded) => {
            Ok(StepOutcome::Compensate(Reason::TimedOut))
        }
        _ if step.now() >= order.payment_deadline => Ok(StepOutcome::Compensate(overdue(&order))),
        LookupOutcome::Found(PaymentState::AwaitingBuyer { url }) => await_buyer(step, &order, &url).await,
        LookupOutcome::NotFound => match card {
            Some(card) => request_authorization(step, &order, key, card).await,
            None => Ok(StepOutcome::Compensate(Reason::Interrupted)),
        },
        // A growing pause would miss the deadline that the buyer was told.
        LookupOutcome::Unknown if order.state == OrderState::AwaitingPayment => {
            Ok(StepOutcome::AwaitBuyer(order.payment_deadline))
        }
        LookupOutcome::Unknown => Ok(StepOutcome::Retry),
    }
}

async fn request_authorization(step: &StepContext, order: &Order, key: &str, token: CardToken) -> StepResult {
    let issuer = step.checkout.config.issuer.trim_end_matches('/');
    let charge = Charge {
        key: key.to_owned(),
        amount: order.total,
        token,
        description: step.checkout.sale_title(&order.performance_key.sale),
        return_url: format!("{issuer}/v1/orders/{}/return", order.id),
    };
    let authorizing = step.checkout.gateway.authorize(&charge);
    let outcome = step
        .checkout
        .call_with_timeout(authorizing, AuthorizeOutcome::Unknown)
        .await;
    if outcome != AuthorizeOutcome::Unknown {
        step.card.lock().take();
    }
    match outcome {
        AuthorizeOutcome::Authorized { .. } => Ok(StepOutcome::Done),
        AuthorizeOutcome::Declined { reason } => Ok(StepOutcome::Compensate(Reason::Declined(reason))),
        AuthorizeOutcome::Redirect { url } => await_buyer(step, order, &url).await,
        AuthorizeOutcome::Unknown => Ok(StepOutcome::Retry),
    }
}

fn overdue(order: &Order) -> Reason {
    if order.state == OrderState::AwaitingPayment {
        Reason::PaymentPageTimedOut
    } else {
        Reason::TimedOut
    }
}

async fn await_buyer(step: &StepContext, order: &Order, url: &str) -> StepResult {
    let (checkout, waits) = (&step.checkout, order.state == OrderState::AwaitingPayment);
    let deadline = if waits {
        order.payment_deadline
    } else {
        checkout.payment_page_deadline()
    };
    if !waits {
        show_deadline(step, order, deadline).await;
    }
    if !waits || order.payment_url.as_deref() != Some(url) {
        let (lease, now) = (step.lease, step.now());
        checkout.ledger.await_payment(lease, url, deadline, now).await?;
    }
    step.running.notify_changed();
    Ok(StepOutcome::AwaitBuyer(deadline))
}

/// The hold shows when it ends. It lasts until the ledger ends it, so the payment does not wait for this.
async fn show_deadline(step: &StepContext, order: &Order, deadline: Timestamp) {
    let (seats, key) = (&step.checkout.seats, &order.performance_key);
    let shown = seats.begin_checkout(key, order.hold, &order.buyer, deadline);
    if let Err(error) = shown.await {
        tracing::warn!(order = %order.id, %error, "could not show the payment's deadline; continuing");
    }
}

/// The pivot: tickets and event are written in the transaction that sells the seats. From here the saga only
/// moves forward.
async fn book(step: &StepContext) -> StepResult {
    let order = step.order().await?;
    let tickets = tickets::new_tickets(&order, step.checkout.entropy.as_ref());
    let event = order_event(&order, ORDER_BOOKED);
    if !step
        .checkout
        .ledger
        .book(step.lease, tickets, event, step.now())
        .await?
    {
        return Ok(StepOutcome::Compensate(Reason::SeatsTaken));
    }
    if let Err(error) = step
        .checkout
        .seats
        .book(
            &order.performance_key,
            order.hold,
            &order.seat_ids(),
            &order.buyer,
        )
        .await
    {
        // The ledger has sold the seats already. A seat store that misses this call keeps them for the
        // payment, or learns of the sale from the ledger; the capture does not wait for it.
        tracing::warn!(order = %order.id, %error, "could not mark sold seats in the seat store; continuing");
    }
    Ok(StepOutcome::Done)
}

async fn capture(step: &StepContext) -> StepResult {
    let order = step.order().await?;
    if order.is_free() {
        record_paid(step, &order).await?;
        return Ok(StepOutcome::Skipped);
    }
    let key = payment_key(&order)?;
    let capturing = step.checkout.gateway.capture(key, order.total);
    match step
        .checkout
        .call_with_timeout(capturing, SettleOutcome::Unknown)
        .await
    {
        SettleOutcome::Done => {
            record_paid(step, &order).await?;
            Ok(StepOutcome::Done)
        }
        SettleOutcome::Refused { reason } => {
            Ok(StepOutcome::SwitchTo(REFUND.name, Reason::CaptureRefused(reason)))
        }
        SettleOutcome::Unknown => Ok(StepOutcome::Retry),
    }
}

async fn record_paid(step: &StepContext, order: &Order) -> Result<(), LedgerError> {
    let (checkout, now) = (&step.checkout, step.now());
    let event = order_event(order, ORDER_PAID);
    checkout.ledger.record_capture(step.lease, event, now).await?;
    checkout
        .counters
        .add(&order.performance_key.sale, |counts| counts.paid += 1);
    step.running.release_visit();
    step.running.notify_changed();
    Ok(())
}

/// Marks the tickets as delivered. They are signed each time the buyer requests them.
async fn deliver(step: &StepContext) -> StepResult {
    step.checkout
        .ledger
        .record_delivery(step.lease, step.now())
        .await?;
    Ok(StepOutcome::Done)
}

fn payment_key(order: &Order) -> Result<&str, LedgerError> {
    order
        .payment_key
        .as_deref()
        .ok_or_else(|| LedgerError::Unavailable("a claimed order has no payment key".into()))
}

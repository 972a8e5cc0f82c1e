//! Placing an order: idempotency, admission by the order limiter, the first ledger transaction, and the
//! answer.

use std::sync::Arc;

use crate::checkout::{
    context::{CheckoutContext, RUNNING_ORDERS_MAX},
    errors::CheckoutError,
    ledger::port::{IdempotencyRecord, LeasedSaga, LedgerError, NewOrder, OpenOutcome},
    order::{Order, OrderState, Reason},
    outcomes::{PlaceOrder, PlaceOutcome},
    payment::CardToken,
    saga::{cancellation, purchase::PURCHASE, runner},
    types::HeldSeats,
};
use crate::{
    kernel::OrderId,
    platform::signing::{base64url, sha256},
};

/// Places an order for the content of a hold and waits for its outcome as long as configured.
pub(super) async fn place_order(
    context: &Arc<CheckoutContext>,
    request: PlaceOrder,
) -> Result<PlaceOutcome, CheckoutError> {
    if context.sale(&request.sale).is_none() {
        return Err(CheckoutError::UnknownSale);
    }
    // A full queue rejects first, before any query, and also a repeated request: the outcome of an order that
    // already runs is available by its id.
    let busy = || CheckoutError::Busy {
        retry_after: context.order_limiter.retry_after(),
    };
    let queued = context.order_limiter.enqueue().ok_or_else(busy)?;
    let request_hash = request_hash(context, &request);
    if let Some(IdempotencyRecord {
        request_hash: known,
        order,
    }) = context
        .ledger
        .idempotency_record(&request.buyer, &request.idempotency_key)
        .await?
    {
        drop(queued);
        return if known == request_hash {
            outcome_of(context, order).await
        } else {
            Ok(PlaceOutcome::KeyReused)
        };
    }
    if context.running_orders.count() >= RUNNING_ORDERS_MAX {
        return Err(busy());
    }
    let permit = context.order_limiter.acquire(queued).await.ok_or_else(busy)?;
    let held_seats = context
        .seats
        .held_seats(request.hold, &request.buyer)
        .await?
        .filter(|held| held.performance_key.sale == request.sale && !held.seats.is_empty());
    let Some(held_seats) = held_seats else {
        return Ok(PlaceOutcome::HoldGone {
            alternatives: Vec::new(),
        });
    };
    if context.are_doors_open(&held_seats.performance_key) {
        return Ok(PlaceOutcome::DoorsOpen);
    }
    let is_free = held_seats.total.amount == 0;
    let card = request.token.clone().filter(|_| !is_free).map(CardToken::new);
    if card.is_none() && !is_free {
        return Ok(PlaceOutcome::PaymentRequired);
    }
    let visit = request.visit;
    let sale = request.sale.clone();
    let order = new_order(context, request, held_seats, request_hash);
    let position = order.position.clone();
    let id = match open(context, order).await? {
        OpenOutcome::New(lease) => {
            context.counters.add(&sale, |counts| counts.opened += 1);
            let saga = LeasedSaga {
                lease,
                visit,
                sale,
                position,
            };
            runner::start(context, saga, card);
            lease.order
        }
        OpenOutcome::Existing(order) | OpenOutcome::AwaitingBuyer(order) => order,
        OpenOutcome::KeyReused => return Ok(PlaceOutcome::KeyReused),
    };
    // The permit covers opening only; the running saga holds one of its own.
    drop(permit);
    outcome_of(context, id).await
}

/// Opens the order. A payment for the same hold that waits at the gateway's page is voided first, because its
/// buyer has left that page; while this is not confirmed, no second payment begins. Once the time for other
/// cards is over it is not voided: the buyer can still complete it.
async fn open(context: &Arc<CheckoutContext>, order: NewOrder) -> Result<OpenOutcome, CheckoutError> {
    let opened = context
        .ledger
        .open_order(order.clone(), context.lease_request())
        .await?;
    let OpenOutcome::AwaitingBuyer(former) = opened else {
        return Ok(opened);
    };
    if context.are_retries_over(order.hold).await? {
        return Ok(OpenOutcome::Existing(former));
    }
    cancellation::replace_waiting(context, former).await?;
    let closed = wait_until(context, former, |order| order.state != OrderState::Refunding);
    context.order_limiter.while_idle(closed).await?;
    Ok(context.ledger.open_order(order, context.lease_request()).await?)
}

/// Waits until `is_reached` holds for an order that runs in this process, at most for the configured response
/// time.
pub(super) async fn wait_until(
    context: &CheckoutContext,
    id: OrderId,
    is_reached: impl Fn(&Order) -> bool + Send,
) -> Result<(), CheckoutError> {
    let Some(running) = context.running_orders.get(id) else {
        return Ok(());
    };
    let mut changes = running.subscribe();
    let waiting = async {
        while context
            .ledger
            .order(id)
            .await?
            .is_some_and(|order| !is_reached(&order))
            && changes.changed().await.is_ok()
        {}
        Ok(())
    };
    tokio::time::timeout(context.config.order_response_wait, waiting)
        .await
        .unwrap_or(Ok(()))
}

/// The answer to a purchase, once the order has one or the response time is over.
pub(super) async fn outcome_of(
    context: &CheckoutContext,
    id: OrderId,
) -> Result<PlaceOutcome, CheckoutError> {
    wait_until(context, id, |order| {
        !matches!(order.state, OrderState::InProgress | OrderState::Refunding)
    })
    .await?;
    let order = context.ledger.order(id).await?;
    let order = order
        .ok_or_else(|| LedgerError::Unavailable("an order that was opened is not in the ledger".into()))?;
    let is_declined = order.state == OrderState::Declined;
    let is_hold_over = is_declined && context.are_retries_over(order.hold).await?;
    let declined = |order: &Order| PlaceOutcome::Declined {
        order: order.view(),
        is_hold_over,
        reason: order
            .reason
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
    };
    Ok(match order.state {
        OrderState::Canceled if order.reason.as_ref().is_some_and(Reason::is_unpaid) => declined(&order),
        // A later cancellation does not change the answer to the purchase: it was made.
        OrderState::Paid | OrderState::Canceled => PlaceOutcome::Paid(order.view()),
        OrderState::AwaitingPayment => PlaceOutcome::AwaitingPayment(order.view()),
        OrderState::InProgress | OrderState::Refunding | OrderState::Stuck => {
            PlaceOutcome::InProgress(order.view())
        }
        OrderState::Declined | OrderState::Refunded => declined(&order),
        OrderState::Expired if order.reason == Some(Reason::QuotaReached) => PlaceOutcome::QuotaReached {
            limit: context.seats_per_customer_max(&order.performance_key.sale),
        },
        OrderState::Expired => PlaceOutcome::HoldGone {
            alternatives: context
                .seats
                .alternatives(&order.performance_key, &order.seat_ids(), &order.buyer)
                .await,
        },
    })
}

/// Hash that tells two requests under one idempotency key apart. Keyed, so that the ledger does not reveal
/// the card.
fn request_hash(context: &CheckoutContext, request: &PlaceOrder) -> String {
    let body = format!(
        "{}\n{}\n{}\n{}",
        request.sale,
        request.hold,
        method(request),
        request.token.as_deref().unwrap_or_default()
    );
    let mut keyed = context
        .keys
        .session
        .keyed_hash(body.as_bytes())
        .to_be_bytes()
        .to_vec();
    keyed.extend_from_slice(request.idempotency_key.as_bytes());
    base64url(&sha256(&keyed))
}

fn method(request: &PlaceOrder) -> &'static str {
    if request.token.is_some() { "card" } else { "none" }
}

/// The order as the first ledger transaction writes it.
pub(super) fn new_order(
    context: &CheckoutContext,
    request: PlaceOrder,
    held_seats: HeldSeats,
    request_hash: String,
) -> NewOrder {
    let now = context.clock.now();
    NewOrder {
        method: method(&request).into(),
        id: OrderId::new(now, context.entropy.as_ref()),
        buyer: request.buyer,
        visit: request.visit,
        hold: request.hold,
        held_seats,
        idempotency_key: request.idempotency_key,
        request_hash,
        position: PURCHASE.start(now),
        payment_deadline: now.plus(context.config.payment_timeout),
    }
}

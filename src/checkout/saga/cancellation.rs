//! Cancels an order for its buyer: after it was paid, or while its payment waits at the gateway's page.
//!
//! One ledger transaction takes the order from the process that runs it and says what is undone. So nothing
//! can be booked after it, and a crash changes nothing about it.

use std::sync::Arc;

use crate::checkout::{
    context::CheckoutContext,
    ledger::port::{LedgerError, Position},
    order::{OrderState, Reason},
    saga::{
        purchase::{AUTHORIZE, PURCHASE},
        refund::REFUND,
        runner,
    },
};
use crate::kernel::OrderId;

/// Returns tickets, money and seats of a paid order.
pub(crate) async fn refund_paid(context: &Arc<CheckoutContext>, id: OrderId) -> Result<(), LedgerError> {
    let position = REFUND.start(context.clock.now());
    start(context, id, OrderState::Paid, Reason::CanceledByBuyer, position).await
}

/// Voids a payment that waits at the gateway's page. Does nothing once the payment has ended.
pub(crate) async fn void_waiting(
    context: &Arc<CheckoutContext>,
    id: OrderId,
    reason: Reason,
) -> Result<(), LedgerError> {
    let position = PURCHASE.undo_from(AUTHORIZE.name, context.clock.now());
    start(context, id, OrderState::AwaitingPayment, reason, position).await
}

async fn start(
    context: &Arc<CheckoutContext>,
    id: OrderId,
    from: OrderState,
    reason: Reason,
    position: Position,
) -> Result<(), LedgerError> {
    let (ledger, lease) = (&context.ledger, context.lease_request());
    let started = ledger.start_saga(id, from, OrderState::Refunding, reason, position, lease);
    let Some(saga) = started.await? else { return Ok(()) };
    if let Some(former) = context.running_orders.get(id) {
        // It finds its lease lost, and ends.
        former.wake.notify_one();
    }
    runner::start(context, saga, None);
    Ok(())
}

//! Cancels an order for its buyer or for an operator: after it was paid, or while its payment waits at the
//! gateway's page.
//!
//! One ledger transaction takes the order from the process that runs it and says what is undone. So nothing
//! can be booked after it, and a crash changes nothing about it.

use std::sync::Arc;

use crate::checkout::{
    context::CheckoutContext,
    ledger::port::{LedgerError, SagaStart},
    order::{Order, OrderState, Reason},
    outcomes::OperatorCancellation,
    saga::{
        purchase::{AUTHORIZE, PURCHASE},
        refund::REFUND,
        runner,
    },
};
use crate::kernel::OrderId;

/// Returns tickets, money and seats of a paid order, or voids a payment that waits at the gateway's page.
/// Does nothing to an order in another state. Without an operator it is the buyer who cancels.
pub(crate) async fn cancel(
    context: &Arc<CheckoutContext>,
    order: &Order,
    operator: Option<OperatorCancellation>,
) -> Result<(), LedgerError> {
    let is_waiting = order.state == OrderState::AwaitingPayment;
    let reason = match (is_waiting, operator.is_some()) {
        (false, false) => Reason::CanceledByBuyer,
        (false, true) => Reason::CanceledByOperator,
        (true, false) => Reason::CanceledBeforePayment,
        (true, true) => Reason::CanceledByOperatorBeforePayment,
    };
    let saga = if is_waiting {
        voiding(context, reason, operator)
    } else {
        SagaStart {
            from: OrderState::Paid,
            to: OrderState::Refunding,
            reason,
            position: REFUND.start(context.clock.now()),
            canceled_by: operator,
        }
    };
    start(context, order.id, saga).await
}

/// Voids a payment that waits at the gateway's page, since its buyer pays in another way. Does nothing once
/// the payment has ended.
pub(crate) async fn replace_waiting(context: &Arc<CheckoutContext>, id: OrderId) -> Result<(), LedgerError> {
    start(context, id, voiding(context, Reason::Replaced, None)).await
}

fn voiding(
    context: &CheckoutContext,
    reason: Reason,
    canceled_by: Option<OperatorCancellation>,
) -> SagaStart {
    SagaStart {
        from: OrderState::AwaitingPayment,
        to: OrderState::Refunding,
        reason,
        position: PURCHASE.undo_from(AUTHORIZE.name, context.clock.now()),
        canceled_by,
    }
}

async fn start(context: &Arc<CheckoutContext>, id: OrderId, saga: SagaStart) -> Result<(), LedgerError> {
    let started = context.ledger.start_saga(id, saga, context.lease_request());
    let Some(saga) = started.await? else { return Ok(()) };
    if let Some(former) = context.running_orders.get(id) {
        // It finds its lease lost, and ends.
        former.wake.notify_one();
    }
    runner::start(context, saga, None);
    Ok(())
}

//! The late money saga: a payment succeeded after its order had been closed.
//!
//! The buyer gets the same seats if they are still free, otherwise all of the money back. After an order that
//! was canceled or refunded only the money is returned.

use crate::checkout::{
    ledger::port::ClaimOutcome,
    order::{OrderState, Reason},
    outbox::event::{ORDER_REFUNDED, order_event},
    saga::{
        engine::{SagaTable, Step, StepOutcome, StepResult},
        purchase::{AUTHORIZE, BOOK, CAPTURE, DELIVER},
        refund::refund_or_void,
        step_context::StepContext,
    },
};

pub(crate) static LATE_MONEY: SagaTable<StepContext> = SagaTable {
    name: "late_money",
    steps: &[
        Step {
            name: "reclaim",
            action: |step| Box::pin(reclaim(step)),
            undo: Some(|step| Box::pin(refund_and_close(step))),
            history_keys: ["history.late_money", "history.reclaimed", "history.refunded"],
        },
        AUTHORIZE,
        BOOK,
        CAPTURE,
        DELIVER,
    ],
};

async fn reclaim(step: &StepContext) -> StepResult {
    let order = step.order().await?;
    if order.state == OrderState::Refunding {
        return Ok(StepOutcome::Compensate(order.reason.unwrap_or(Reason::LateMoney)));
    }
    let seats_max = step.checkout.seats_per_customer_max(&order.performance_key.sale);
    let claimed = step
        .checkout
        .ledger
        .claim(step.lease, seats_max, step.now())
        .await?;
    Ok(if claimed == ClaimOutcome::Claimed {
        StepOutcome::Done
    } else {
        StepOutcome::Compensate(Reason::LateMoney)
    })
}

async fn refund_and_close(step: &StepContext) -> StepResult {
    let refunded = refund_or_void(step).await?;
    if !matches!(refunded, StepOutcome::Done | StepOutcome::Skipped) {
        return Ok(refunded);
    }
    let order = step.order().await?;
    let ledger = &step.checkout.ledger;
    ledger.release_claims(step.lease, step.now()).await?;
    let event = Some(order_event(&order, ORDER_REFUNDED));
    let state = order.reason.unwrap_or(Reason::LateMoney).final_state();
    ledger
        .close_order(step.lease, state, event, None, step.now())
        .await?;
    Ok(refunded)
}

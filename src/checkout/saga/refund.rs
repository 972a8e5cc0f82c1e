//! The refund saga: voids the tickets, returns the money, then releases the seats.
//!
//! It serves buyers and operators who cancel, and a gateway that refuses to capture what it had authorized.

use crate::checkout::{
    order::{OrderState, Reason},
    outbox::event::{ORDER_CANCELED, ORDER_REFUNDED, order_event, ticket_voided},
    payment::{LookupOutcome, PaymentState, SettleOutcome},
    saga::{
        engine::{SagaTable, Step, StepOutcome, StepResult},
        step_context::StepContext,
    },
};

pub(crate) static REFUND: SagaTable<StepContext> = SagaTable {
    name: "refund",
    steps: &[
        Step {
            name: "void_tickets",
            action: |step| Box::pin(void_tickets(step)),
            undo: None,
            history_keys: [
                "history.voiding_tickets",
                "history.tickets_voided",
                "history.voiding_tickets",
            ],
        },
        Step {
            name: "refund",
            action: |step| Box::pin(refund_or_void(step)),
            undo: None,
            history_keys: ["history.refunding", "history.refunded", "history.refunding"],
        },
        Step {
            name: "release",
            action: |step| Box::pin(release_seats(step)),
            undo: None,
            history_keys: ["history.releasing", "history.released", "history.releasing"],
        },
    ],
};

async fn void_tickets(step: &StepContext) -> StepResult {
    let ledger = &step.checkout.ledger;
    let order = step.order().await?;
    let events = ledger.tickets(order.id).await?;
    let events = events
        .into_iter()
        .map(|ticket| ticket_voided(&order, ticket.id, ticket.seat))
        .collect();
    ledger.void_tickets(step.lease, events, step.now()).await?;
    Ok(StepOutcome::Done)
}

/// Returns the buyer's money: whatever state the payment is in, it ends voided, refunded or declined. Skipped
/// when there never was any money: no payment, a declined one, or free seats.
pub(crate) async fn refund_or_void(step: &StepContext) -> StepResult {
    let order = step.order().await?;
    let Some(key) = order.payment_key.as_deref().filter(|_| !order.is_free()) else {
        return Ok(StepOutcome::Skipped);
    };
    let (checkout, gateway) = (&step.checkout, &step.checkout.gateway);
    let payment = checkout
        .call_with_timeout(gateway.lookup(key), LookupOutcome::Unknown)
        .await;
    let settled = match payment {
        LookupOutcome::Found(PaymentState::Declined { .. }) => return Ok(StepOutcome::Skipped),
        // Perhaps by an earlier run of this step.
        LookupOutcome::Found(PaymentState::Voided | PaymentState::Refunded) => return Ok(StepOutcome::Done),
        LookupOutcome::Found(PaymentState::Captured) => {
            checkout
                .call_with_timeout(gateway.refund(key, order.total), SettleOutcome::Unknown)
                .await
        }
        // A payment that was not found may still be on its way. Voiding the key makes sure that it cannot
        // succeed.
        LookupOutcome::Found(PaymentState::Authorized { .. } | PaymentState::AwaitingBuyer { .. })
        | LookupOutcome::NotFound => {
            checkout
                .call_with_timeout(gateway.void(key), SettleOutcome::Unknown)
                .await
        }
        LookupOutcome::Unknown => SettleOutcome::Unknown,
    };
    Ok(match settled {
        SettleOutcome::Done => StepOutcome::Done,
        SettleOutcome::Unknown => StepOutcome::Retry,
        SettleOutcome::Refused { reason } => {
            tracing::warn!(order = %order.id, reason, "the gateway refused to return the money; retrying");
            StepOutcome::Retry
        }
    })
}

/// Releases the claims before the seats: a seat store that loses its data in between is rebuilt from the
/// ledger.
async fn release_seats(step: &StepContext) -> StepResult {
    let order = step.order().await?;
    let checkout = &step.checkout;
    checkout.ledger.release_claims(step.lease, step.now()).await?;
    if let Err(error) = checkout
        .seats
        .release(&order.performance_key, order.hold, &order.seat_ids())
        .await
    {
        tracing::warn!(
            order = %order.id,
            %error,
            "could not release the seats of a refunded order; retrying"
        );
        return Ok(StepOutcome::Retry);
    }
    let reason = order.reason.clone().unwrap_or(Reason::CanceledByBuyer);
    let kind = if reason.final_state() == OrderState::Canceled {
        ORDER_CANCELED
    } else {
        ORDER_REFUNDED
    };
    let event = Some(order_event(&order, kind));
    checkout
        .ledger
        .close_order(step.lease, reason.final_state(), event, None, step.now())
        .await?;
    step.running.notify_changed();
    Ok(StepOutcome::Done)
}

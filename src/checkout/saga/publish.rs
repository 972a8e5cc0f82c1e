//! The last step of each saga: publishes the order's outbox.

use crate::checkout::saga::{
    engine::{Step, StepOutcome, StepResult},
    step_context::StepContext,
};

pub(crate) const PUBLISH: Step<StepContext> = Step {
    name: "publish",
    action: |step| Box::pin(publish(step)),
    undo: None,
    history_keys: ["history.publishing", "history.published", "history.publishing"],
};

/// Publishes the outbox rows in order and marks each one as delivered. Without a publisher the rows stay, for
/// readers of the outbox table, and the step is skipped: no receiver was told.
async fn publish(step: &StepContext) -> StepResult {
    let Some(publisher) = &step.checkout.publisher else {
        return Ok(StepOutcome::Skipped);
    };
    for event in step.checkout.ledger.undelivered_events(step.lease.order).await? {
        if !step
            .checkout
            .call_with_timeout(publisher.publish(&event), false)
            .await
        {
            return Ok(StepOutcome::Retry);
        }
        step.checkout
            .ledger
            .record_event_delivery(event.order, event.sequence, step.now())
            .await?;
    }
    Ok(StepOutcome::Done)
}

//! Runs a saga in a task of its own.

use std::sync::Arc;

use crate::checkout::{
    context::CheckoutContext,
    ledger::port::{FencedLease, LeasedSaga, Position},
    payment::CardToken,
    saga::{
        engine::{RunResult, SagaEngine, SagaTable},
        late_money::LATE_MONEY,
        purchase::PURCHASE,
        refund::REFUND,
        running_orders::RunningOrder,
        step_context::StepContext,
    },
};
use crate::kernel::OrderId;

/// All sagas of an order.
pub(crate) static SAGAS: [&SagaTable<StepContext>; 3] = [&PURCHASE, &REFUND, &LATE_MONEY];

/// Starts a task that runs the saga until it ends. `card` is present only for a new purchase that is not
/// free.
pub(crate) fn start(context: &Arc<CheckoutContext>, saga: LeasedSaga, card: Option<CardToken>) {
    let running = context
        .running_orders
        .insert(saga.lease.order, saga.visit, saga.sale.clone());
    let shared = Arc::clone(context);
    context.lifecycle.spawn(async move {
        // The inner task isolates a panic in a step: the order must not look as if it were still running.
        let outcome = tokio::spawn({
            let (context, running) = (Arc::clone(&shared), Arc::clone(&running));
            async move { run(context, saga.lease, saga.position, running, card).await }
        });
        if outcome.await.is_err() {
            tracing::error!(
                order = %saga.lease.order,
                "a saga step panicked; the reconciler resumes the order when its lease expires"
            );
        }
        shared.running_orders.remove(saga.lease.order, &running);
    });
}

async fn run(
    context: Arc<CheckoutContext>,
    lease: FencedLease,
    position: Position,
    running: Arc<RunningOrder>,
    card: Option<CardToken>,
) {
    let saga = position.saga.clone();
    let step_context = StepContext::new(Arc::clone(&context), lease, Arc::clone(&running), card);
    let engine = SagaEngine {
        ledger: context.ledger.as_ref(),
        clock: context.clock.as_ref(),
        entropy: context.entropy.as_ref(),
        lifecycle: &context.lifecycle,
        retry_policy: context.retry_policy,
        sagas: &SAGAS,
        wake: &running.wake,
        order_limiter: &context.order_limiter,
    };
    let _permit = context.order_limiter.permit();
    if engine.run(lease, position, &step_context).await == RunResult::Ended {
        count(&context, &saga, lease.order).await;
    }
}

/// Counts the end of a saga. A purchase that was paid is counted at its capture.
async fn count(context: &CheckoutContext, saga: &str, id: OrderId) {
    let Ok(Some(order)) = context.ledger.order(id).await else {
        return;
    };
    context.counters.add(&order.performance_key.sale, |counts| {
        counts.late_money += u64::from(saga == LATE_MONEY.name);
        match order.state {
            state if !state.is_final() => {}
            _ if order.reason.is_some_and(|reason| !reason.is_unpaid()) => counts.refunded += 1,
            _ => counts.unpaid += 1,
        }
    });
}

//! Brings every order to its end, whatever process died.
//!
//! Sagas whose lease expired are resumed, and the payments of closed orders are looked up once more for money
//! that arrives late.

use std::sync::Arc;

use crate::checkout::{
    context::CheckoutContext,
    errors::OpenError,
    ledger::port::{LedgerError, SagaStart},
    order::{OrderState, Reason},
    payment::{LookupOutcome, PaymentState},
    saga::{late_money::LATE_MONEY, runner},
    seats::recovery,
};
use crate::kernel::OrderId;

/// Sagas resumed, or payments checked, in one go.
const BATCH: u32 = 256;

/// Restores the state of the ledger before anything is served: the seat stores are made ready, this node's
/// own unfinished sagas are leased (which fences off whatever ran them before), the seats learn the ledger's
/// claims, and then the sagas resume. A claimed seat that the plan lacks is refused: its owner would stand
/// before a seat that does not exist, and nothing would display it.
pub(crate) async fn at_start(context: &Arc<CheckoutContext>) -> Result<(), OpenError> {
    let keep_until = context.payment_page_deadline();
    let claims = context.ledger.claims(None, keep_until).await?;
    let unknown = context.seats.not_in_plan(&claims);
    if !unknown.is_empty() {
        return Err(OpenError::SeatsNotInPlan(unknown));
    }
    recovery::at_start(context).await?;
    let unfinished = context
        .ledger
        .lease_due_sagas(context.lease_request(), true, u32::MAX)
        .await?;
    let claims = context
        .ledger
        .claims(None, context.payment_page_deadline())
        .await?;
    let (restored, resumed) = (claims.len(), unfinished.len());
    context
        .seats
        .restore(claims)
        .await
        .map_err(|e| LedgerError::Unavailable(e.to_string()))?;
    for saga in unfinished {
        runner::start(context, saga, None);
    }
    if restored + resumed > 0 {
        tracing::info!(
            claims = restored,
            sagas = resumed,
            "restored claims from the ledger and resumed unfinished orders"
        );
    }
    Ok(())
}

/// The reconciler: periodic, idempotent, without input.
pub(crate) async fn reconcile(context: Arc<CheckoutContext>) {
    let mut failures = 0;
    loop {
        tokio::select! {
            () = context.lifecycle.stopping() => return,
            () = tokio::time::sleep(context.retry_policy.reconcile_pause(failures)) => {}
        }
        match reconcile_once(&context).await {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                tracing::warn!(%error, failures, "the checkout reconciler failed; it runs again shortly");
            }
        }
    }
}

async fn reconcile_once(context: &Arc<CheckoutContext>) -> Result<(), LedgerError> {
    for saga in context
        .ledger
        .lease_due_sagas(context.lease_request(), false, BATCH)
        .await?
    {
        tracing::warn!(
            order = %saga.lease.order,
            step = saga.position.step,
            "the lease of a running order expired; this node resumes it"
        );
        runner::start(context, saga, None);
    }
    context.ledger.chain_journal().await?;
    for order in context
        .ledger
        .payments_to_check(context.clock.now(), BATCH)
        .await?
    {
        check_late_money(context, order).await?;
    }
    Ok(())
}

/// Looks up the payment of a closed order. If the gateway has money after all, the order is opened again: it
/// ends with the same seats or with a refund.
pub(crate) async fn check_late_money(context: &Arc<CheckoutContext>, id: OrderId) -> Result<(), LedgerError> {
    let Some(order) = context.ledger.order(id).await? else {
        return Ok(());
    };
    let may_have_money = order.state.is_final() && !order.is_free();
    let Some(key) = order.payment_key.as_deref().filter(|_| may_have_money) else {
        return Ok(());
    };
    let now = context.clock.now();
    let _permit = context.order_limiter.permit();
    match context
        .call_with_timeout(context.gateway.lookup(key), LookupOutcome::Unknown)
        .await
    {
        LookupOutcome::Found(PaymentState::Authorized { .. } | PaymentState::Captured) => {
            tracing::warn!(
                order = %id,
                "money arrived after its order was closed; the order is opened again"
            );
            // The seats of an order that was canceled or refunded were given up: only its money is returned.
            let (to, reason) = match order.state {
                OrderState::Declined | OrderState::Expired => (OrderState::InProgress, Reason::LateMoney),
                OrderState::Canceled => (
                    OrderState::Refunding,
                    order.reason.unwrap_or(Reason::CanceledByBuyer),
                ),
                _ => (OrderState::Refunding, Reason::LateMoney),
            };
            let start = SagaStart {
                from: order.state,
                to,
                reason,
                position: LATE_MONEY.start(now),
                canceled_by: None,
            };
            let started = context.ledger.start_saga(id, start, context.lease_request());
            if let Some(saga) = started.await? {
                runner::start(context, saga, None);
            }
            Ok(())
        }
        LookupOutcome::Unknown => {
            context
                .ledger
                .schedule_payment_check(id, Some(now.plus(context.config.payment_timeout)))
                .await
        }
        LookupOutcome::NotFound | LookupOutcome::Found(_) => {
            context.ledger.schedule_payment_check(id, None).await
        }
    }
}

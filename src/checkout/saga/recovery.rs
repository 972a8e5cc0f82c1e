//! What brings every order to its end, whoever died: leases that ran out are taken over, and closed orders' payments are
//! looked up once more for money that came late.

use std::sync::Arc;

use crate::checkout::{
    House,
    ledger::LedgerError,
    order::{OrderState, Reason},
    payment::{LookupOutcome, PaymentState},
    saga::{purchase::LATE_MONEY, refund::RETURN},
    seats::recovery,
};
use crate::kernel::OrderId;

/// Sagas taken over in one go.
const BATCH: u32 = 256;

/// Before anything is served: this node's own unfinished sagas are leased, which takes the right from whoever drove them;
/// the seats learn what the ledger knows; then the sagas go on.
pub(crate) async fn at_start(house: &Arc<House>) -> Result<(), LedgerError> {
    recovery::at_start(house).await?;
    let unfinished = house.ledger.lease_due(house.lease(), true, u32::MAX).await?;
    let claims = house
        .ledger
        .claims(None, house.clock.now().plus(house.redirect_within()))
        .await?;
    let (restored, resumed) = (claims.len(), unfinished.len());
    house
        .seats
        .restore(claims)
        .await
        .map_err(|e| LedgerError::Unavailable(e.to_string()))?;
    for saga in unfinished {
        house.start(saga, None);
    }
    if restored + resumed > 0 {
        tracing::info!(
            claims = restored,
            sagas = resumed,
            "the ledger's claims are restored, unfinished orders go on"
        );
    }
    Ok(())
}

/// The reconciler: periodic, idempotent, no input.
pub(crate) async fn reconcile(house: Arc<House>) {
    loop {
        tokio::select! {
            () = house.life.stopping() => return,
            () = tokio::time::sleep(house.pace.sweep) => {}
        }
        if let Err(error) = look_round(&house).await {
            tracing::warn!(%error, "the reconciler could not look round");
        }
    }
}

async fn look_round(house: &Arc<House>) -> Result<(), LedgerError> {
    for saga in house.ledger.lease_due(house.lease(), false, BATCH).await? {
        tracing::warn!(order = %saga.right.order, step = saga.position.step, "an order's driver died; another goes on");
        house.start(saga, None);
    }
    house.ledger.link_audit().await?;
    for order in house.ledger.to_check(house.clock.now(), BATCH).await? {
        look_for_late_money(house, order).await?;
    }
    Ok(())
}

/// A closed order whose payment the gateway has, after all, is opened again: seats or refund.
pub(crate) async fn look_for_late_money(house: &Arc<House>, id: OrderId) -> Result<(), LedgerError> {
    let Some(order) = house.ledger.order(id).await? else {
        return Ok(());
    };
    let Some(key) = order.payment_key.as_deref().filter(|_| order.state.is_final()) else {
        return Ok(());
    };
    let now = house.clock.now();
    let _work = house.till.work();
    match house.ask(house.gateway.lookup(key), LookupOutcome::Unknown).await {
        LookupOutcome::Found(PaymentState::Authorised { .. } | PaymentState::Captured) => {
            tracing::warn!(order = %id, "money came after its order was closed");
            let lost = matches!(order.state, OrderState::Declined | OrderState::Expired);
            let (to, table) = if lost {
                (OrderState::InProgress, &LATE_MONEY)
            } else {
                (OrderState::Refunding, &RETURN)
            };
            let reason = if order.state == OrderState::Cancelled {
                Reason::CancelledByBuyer
            } else {
                Reason::LateMoney
            };
            if let Some(saga) = house
                .ledger
                .start_saga(id, order.state, to, reason, table.start(now), house.lease())
                .await?
            {
                house.start(saga, None);
            }
            Ok(())
        }
        LookupOutcome::Unknown => {
            house
                .ledger
                .check_again(id, Some(now.plus(house.config.authorise_within)))
                .await
        }
        LookupOutcome::NotFound | LookupOutcome::Found(_) => house.ledger.check_again(id, None).await,
    }
}

//! The outbox: events for the shop, written in the transaction that makes them true, sent after it, in order per order.

use async_trait::async_trait;

use crate::checkout::{
    ledger::OutboxRow,
    saga::{
        engine::{Act, Verdict},
        purchase::Attempt,
    },
};

/// Where events go. At least once: whoever receives them drops what it knows by order and sequence.
#[async_trait]
pub trait Announcer: Send + Sync + 'static {
    /// True when the receiver has it.
    async fn announce(&self, event: &OutboxRow) -> bool;
}

/// Sends what the order's outbox holds, in order, and marks each as it is received. Without an announcer the rows stay
/// where they are, for whoever reads the outbox.
pub(super) async fn announce(a: &Attempt) -> Verdict {
    let Some(announcer) = &a.house.announcer else {
        return Ok(Act::Done);
    };
    for event in a.house.ledger.undelivered(a.right.order).await? {
        if !a.house.ask(announcer.announce(&event), false).await {
            return Ok(Act::Again);
        }
        a.house
            .ledger
            .event_delivered(event.order, event.sequence, a.now())
            .await?;
    }
    Ok(Act::Done)
}

//! The outbox port: where events about orders are published.
//!
//! An event is written in the transaction that makes it true and published after the commit, in order per
//! order.

use async_trait::async_trait;

use crate::checkout::ledger::port::OutboxRow;

/// Receiver of order events. Delivery is at least once: receivers deduplicate by order and sequence.
#[async_trait]
pub trait EventPublisher: Send + Sync + 'static {
    /// Publishes one event. Returns true once the receiver has accepted it; otherwise it is sent again later.
    async fn publish(&self, event: &OutboxRow) -> bool;
}

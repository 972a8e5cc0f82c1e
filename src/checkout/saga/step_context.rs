//! What the steps of one order share while a saga runs.

use std::sync::{Arc, atomic::AtomicBool};

use parking_lot::Mutex;

use crate::checkout::{
    context::CheckoutContext,
    ledger::port::{FencedLease, LedgerError},
    order::Order,
    payment::CardToken,
    saga::running_orders::RunningOrder,
};
use crate::kernel::Timestamp;

/// Context of the steps of one order.
pub(crate) struct StepContext {
    pub(crate) checkout: Arc<CheckoutContext>,
    pub(crate) lease: FencedLease,
    pub(crate) running: Arc<RunningOrder>,
    /// Kept in memory only. After a crash the card is gone, and a payment that had not reached the gateway is
    /// given up.
    pub(super) card: Mutex<Option<CardToken>>,
    /// Whether this run has sent the authorization already, so that its outcome must be looked up first.
    pub(super) authorization_sent: AtomicBool,
}

impl StepContext {
    pub(crate) fn new(
        checkout: Arc<CheckoutContext>,
        lease: FencedLease,
        running: Arc<RunningOrder>,
        card: Option<CardToken>,
    ) -> Self {
        Self {
            checkout,
            lease,
            running,
            card: Mutex::new(card),
            authorization_sent: AtomicBool::new(false),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.checkout.clock.now()
    }

    /// The order as the ledger has it now.
    pub(crate) async fn order(&self) -> Result<Order, LedgerError> {
        let order = self.checkout.ledger.order(self.lease.order).await?;
        order.ok_or_else(|| LedgerError::Unavailable("an order in progress is not in the ledger".into()))
    }
}

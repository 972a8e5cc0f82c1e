//! What the facade, the saga steps and the recovery share.

use std::{collections::BTreeMap, future::Future, sync::Arc};

use parking_lot::Mutex;

use crate::checkout::{
    ledger::port::{LeaseRequest, Ledger, LedgerError},
    order_limiter::OrderLimiter,
    payment::PaymentGateway,
    saga::{retry_policy::RetryPolicy, running_orders::RunningOrders},
    seats::port::Seats,
    types::{CheckoutStats, Config, PerformanceKey, SaleConfig},
};
use crate::{
    kernel::{Clock, Entropy, HoldId, SaleId, Timestamp},
    platform::{keys::Keys, shutdown::Lifecycle},
};

/// Orders in progress at a time, most of them waiting for a gateway or a buyer. Beyond that new orders are
/// refused.
pub(crate) const RUNNING_ORDERS_MAX: usize = 20_000;

/// Counts of orders since the start of the process, by sale.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<BTreeMap<SaleId, CheckoutStats>>);

impl Counters {
    pub(crate) fn add(&self, sale: &SaleId, count: impl FnOnce(&mut CheckoutStats)) {
        count(self.0.lock().entry(sale.clone()).or_default());
    }

    /// The counts so far; their `in_progress` is 0.
    pub(crate) fn snapshot(&self) -> BTreeMap<SaleId, CheckoutStats> {
        self.0.lock().clone()
    }
}

/// Configuration, ports and shared state of one checkout.
pub(crate) struct CheckoutContext {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) keys: Keys,
    pub(crate) seats: Arc<dyn Seats>,
    pub(crate) gateway: Arc<dyn PaymentGateway>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) retry_policy: RetryPolicy,
    pub(crate) running_orders: RunningOrders,
    pub(crate) order_limiter: OrderLimiter,
    pub(crate) counters: Counters,
}

impl CheckoutContext {
    /// Makes an outward call of a running order, limited by the configured timeout. `unknown` is the result
    /// when the call does not finish in time. The order counts as idle for the length of the call.
    pub(crate) async fn call_with_timeout<T>(&self, call: impl Future<Output = T> + Send, unknown: T) -> T {
        self.order_limiter
            .while_idle(tokio::time::timeout(self.config.gateway_timeout, call))
            .await
            .unwrap_or(unknown)
    }

    /// When a buyer who is sent to the gateway's page now, or asked for another card, loses the seats.
    pub(crate) fn payment_page_deadline(&self) -> Timestamp {
        self.clock.now().plus(self.config.payment_page_timeout)
    }

    /// Until when a hold of which a payment failed may be paid in another way. Counted from the first
    /// failure, so that declined cards do not keep seats for ever. `None` while none failed.
    pub(crate) async fn retry_deadline(&self, hold: HoldId) -> Result<Option<Timestamp>, LedgerError> {
        let failed_at = self.ledger.first_failure_at(hold).await?;
        Ok(failed_at.map(|failed_at| failed_at.plus(self.config.payment_page_timeout)))
    }

    /// Whether no further payment for the hold may begin.
    pub(crate) async fn are_retries_over(&self, hold: HoldId) -> Result<bool, LedgerError> {
        let deadline = self.retry_deadline(hold).await?;
        Ok(deadline.is_some_and(|deadline| self.clock.now() >= deadline))
    }

    pub(crate) fn sale(&self, sale: &SaleId) -> Option<&SaleConfig> {
        self.config.sales.iter().find(|config| config.sale == *sale)
    }

    /// Whether the doors of a performance are open, so that nothing of it is sold or canceled by its buyer. A
    /// performance that is no longer configured counts as over.
    pub(crate) fn are_doors_open(&self, key: &PerformanceKey) -> bool {
        self.sale(&key.sale)
            .and_then(|config| config.doors_open_at.get(&key.performance))
            .is_none_or(|doors| self.clock.now() >= *doors)
    }

    /// Zero for a sale that is no longer configured: its old orders can end, but nothing new can be claimed.
    pub(crate) fn seats_per_customer_max(&self, sale: &SaleId) -> u8 {
        self.sale(sale).map_or(0, |config| config.seats_per_customer_max)
    }

    /// The sale's title; its id when it is no longer configured.
    pub(crate) fn sale_title(&self, sale: &SaleId) -> String {
        self.sale(sale)
            .map_or_else(|| sale.to_string(), |config| config.title.clone())
    }

    /// A request of this node for an order's lease, from now on.
    pub(crate) fn lease_request(&self) -> LeaseRequest {
        let now = self.clock.now();
        LeaseRequest {
            owner: self.ledger.owner(),
            now,
            until: now.plus(self.retry_policy.lease_duration()),
        }
    }
}

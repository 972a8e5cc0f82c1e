//! What the facade, the steps and the recovery share, and how an order comes to be driven.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::checkout::{
    Config, SaleConfig,
    ledger::{Lease, LeasedSaga, Ledger, Position, Right},
    order::OrderState,
    order_limiter::Till,
    outbox::Announcer,
    payment::{CardToken, PaymentGateway},
    saga::{
        engine::{Driver, Drove, Pace, Table},
        purchase::{Attempt, LATE_MONEY, PURCHASE},
        refund::RETURN,
        running_orders::{Drivers, Run},
    },
    seats::Seats,
};
use crate::{
    kernel::{Clock, Entropy, OrderId, SaleId},
    platform::{keys::Keys, shutdown::Lifecycle},
};

/// Counts since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) opened: AtomicU64,
    pub(crate) paid: AtomicU64,
    pub(crate) unpaid: AtomicU64,
    pub(crate) returned: AtomicU64,
    pub(crate) late_money: AtomicU64,
}

/// Orders under way at a time, most of them waiting for a gateway or a buyer; beyond that new ones are refused.
pub(crate) const RUNNING_MAX: usize = 20_000;

pub(crate) static TABLES: [&Table<Attempt>; 3] = [&PURCHASE, &RETURN, &LATE_MONEY];

/// What facade, steps and recovery share.
pub(crate) struct House {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) keys: Keys,
    pub(crate) seats: Arc<dyn Seats>,
    pub(crate) gateway: Arc<dyn PaymentGateway>,
    pub(crate) announcer: Option<Arc<dyn Announcer>>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) life: Lifecycle,
    pub(crate) pace: Pace,
    pub(crate) drivers: Drivers,
    pub(crate) till: Till,
    pub(crate) tally: Tally,
}

impl House {
    /// One outward call of an order at work, under the configured deadline.
    pub(crate) async fn ask<T>(&self, call: impl Future<Output = T> + Send, unknown: T) -> T {
        self.till
            .meanwhile(tokio::time::timeout(self.config.gateway_deadline, call))
            .await
            .unwrap_or(unknown)
    }

    /// How long a buyer has on the gateway's page, and how long the seats are kept for a payment.
    pub(crate) fn redirect_within(&self) -> Duration {
        self.config.authorise_within * 5
    }

    /// How long she keeps her seats after a declined card, to try another.
    pub(crate) fn retry_within(&self) -> Duration {
        self.config.authorise_within.max(Duration::from_mins(2))
    }

    pub(crate) fn sale(&self, sale: &SaleId) -> Option<&SaleConfig> {
        self.config.sales.iter().find(|it| it.sale == *sale)
    }

    /// Zero for a sale that is no longer configured: its old orders can end, new claims cannot be made.
    pub(crate) fn seats_per_fan(&self, sale: &SaleId) -> u8 {
        self.sale(sale).map_or(0, |it| it.seats_per_fan)
    }

    pub(crate) fn title(&self, sale: &SaleId) -> String {
        self.sale(sale)
            .map_or_else(|| sale.to_string(), |it| it.title.clone())
    }

    pub(crate) fn lease(&self) -> Lease {
        let now = self.clock.now();
        Lease {
            owner: self.ledger.owner(),
            now,
            until: now.plus(self.pace.lease()),
        }
    }

    /// Drives a saga in a task of its own, to its end.
    pub(crate) fn start(self: &Arc<Self>, saga: LeasedSaga, card: Option<CardToken>) {
        let run = self.drivers.enter(saga.right.order, saga.visit);
        let house = Arc::clone(self);
        self.life.spawn(async move {
            // A panic in a step must not leave the order looking as if it were driven.
            let driven = tokio::spawn({
                let (house, run) = (Arc::clone(&house), Arc::clone(&run));
                async move { house.drive(saga.right, saga.position, run, card).await }
            });
            if driven.await.is_err() {
                tracing::error!(order = %saga.right.order, "an order's driver panicked; the reconciler takes it over");
            }
            house.drivers.leave(saga.right.order, &run);
        });
    }

    async fn drive(
        self: Arc<Self>,
        right: Right,
        position: Position,
        run: Arc<Run>,
        card: Option<CardToken>,
    ) {
        let saga = position.saga.clone();
        let attempt = Attempt::new(Arc::clone(&self), right, Arc::clone(&run), card);
        let driver = Driver {
            ledger: self.ledger.as_ref(),
            clock: self.clock.as_ref(),
            entropy: self.entropy.as_ref(),
            life: &self.life,
            pace: self.pace,
            tables: &TABLES,
            wake: &run.wake,
            till: &self.till,
        };
        let _work = self.till.work();
        if driver.drive(right, position, &attempt).await == Drove::Ended {
            self.count(&saga, right.order).await;
        }
    }

    async fn count(&self, saga: &str, id: OrderId) {
        let Ok(Some(order)) = self.ledger.order(id).await else {
            return;
        };
        if saga == LATE_MONEY.name {
            self.tally.late_money.fetch_add(1, Ordering::Relaxed);
        }
        let counter = match order.state {
            OrderState::Declined | OrderState::Expired => &self.tally.unpaid,
            OrderState::Refunded | OrderState::Cancelled => &self.tally.returned,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

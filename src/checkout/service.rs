//! The facade of checkout.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use crate::checkout::{
    context::{CheckoutContext, Counters},
    errors::{CheckoutError, OpenError},
    history::history,
    ledger::{port::Ledger, postgres::PostgresLedger, sqlite::SqliteLedger},
    order::{HistoryEntry, Order, OrderState, OrderView},
    order_limiter::OrderLimiter,
    outbox::{
        port::Outbox,
        service::{EventDelivery, Events},
    },
    outcomes::{CancelOutcome, OperatorCancellation, PlaceOrder, PlaceOutcome, WebhookOutcome},
    payment::PaymentGateway,
    placement,
    saga::{cancellation, recovery, retry_policy::RetryPolicy, running_orders::RunningOrders},
    seats::port::Seats,
    tickets::{self, Ticket},
    types::{CheckoutStats, Config},
};
use crate::{
    kernel::{Clock, Entropy, OrderId, SaleId, Subject, VisitId},
    platform::{keys::Keys, shutdown::Lifecycle},
};

/// What checkout is built from.
pub struct Deps {
    /// Source of time.
    pub clock: Arc<dyn Clock>,
    /// Source of randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Keys that sign tickets and hash requests.
    pub keys: Keys,
    /// Where the ledger is.
    pub ledger: LedgerLocation,
    /// This node's name: unique among the nodes and stable over restarts.
    pub node_name: String,
    /// The seats.
    pub seats: Arc<dyn Seats>,
    /// The payment gateway.
    pub gateway: Arc<dyn PaymentGateway>,
    /// Where events are sent; without it they wait, and can be read in the feed.
    pub events: Option<EventDelivery>,
    /// Lifecycle of running orders and of the reconciler.
    pub lifecycle: Lifecycle,
    /// Lifecycle of the ledger's writer, which must end after the running orders.
    pub ledger_lifecycle: Lifecycle,
}

/// Where the ledger is kept.
#[derive(Clone)]
pub enum LedgerLocation {
    /// A SQLite file, for a single node.
    File(PathBuf),
    /// A PostgreSQL database that all nodes share.
    Postgres {
        /// Connection URL.
        url: String,
    },
}

/// Checkout of a box office: places, tracks and cancels orders.
pub struct Checkout {
    pub(super) context: Arc<CheckoutContext>,
    events: Arc<Events>,
}

impl Checkout {
    /// Opens the ledger, restores its claims into the seats, resumes unfinished orders, and starts the
    /// reconciler.
    ///
    /// # Errors
    /// [`OpenError`]: the ledger cannot be opened, or its content cannot be restored.
    pub async fn open(config: Config, deps: Deps) -> Result<Arc<Self>, OpenError> {
        match &deps.ledger {
            LedgerLocation::File(file) => {
                let ledger = SqliteLedger::open(file, &deps.node_name, &deps.ledger_lifecycle).await?;
                let ledger = Arc::new(ledger);
                Self::open_on(config, deps, Arc::clone(&ledger) as _, ledger).await
            }
            LedgerLocation::Postgres { url } => {
                let ledger = PostgresLedger::open(url, &deps.node_name, Arc::clone(&deps.entropy)).await?;
                let ledger = Arc::new(ledger);
                Self::open_on(config, deps, Arc::clone(&ledger) as _, ledger).await
            }
        }
    }

    /// As [`Checkout::open`], on a ledger that is already open.
    pub(super) async fn open_on(
        config: Config,
        deps: Deps,
        ledger: Arc<dyn Ledger>,
        outbox: Arc<dyn Outbox>,
    ) -> Result<Arc<Self>, OpenError> {
        let events = Arc::new(Events::new(
            outbox,
            Arc::clone(&deps.clock),
            config.issuer.clone(),
            deps.events.is_some(),
        ));
        let context = Arc::new(CheckoutContext {
            retry_policy: RetryPolicy::from_timeouts(config.gateway_timeout, config.payment_timeout),
            config,
            clock: deps.clock,
            entropy: deps.entropy,
            keys: deps.keys,
            seats: deps.seats,
            gateway: deps.gateway,
            ledger,
            lifecycle: deps.lifecycle,
            running_orders: RunningOrders::default(),
            order_limiter: OrderLimiter::default(),
            counters: Counters::default(),
        });
        recovery::at_start(&context).await?;
        let reconciled = Arc::clone(&context);
        context.lifecycle.supervise(
            "checkout reconciler",
            context.retry_policy.reconcile_interval,
            move || recovery::reconcile(Arc::clone(&reconciled)),
        );
        events.start(deps.events, &context.entropy, &context.lifecycle);
        Ok(Arc::new(Self { context, events }))
    }

    /// The events for the shop.
    #[must_use]
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// Buys the content of a hold. Waits for the outcome as long as configured; the order continues in any
    /// case.
    ///
    /// # Errors
    /// [`CheckoutError`]; after [`CheckoutError::Ledger`] the same key may be sent again.
    pub async fn place_order(&self, request: PlaceOrder) -> Result<PlaceOutcome, CheckoutError> {
        placement::place_order(&self.context, request).await
    }

    /// The sale of the order that this buyer placed under this idempotency key; `None` when there is none.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`]
    pub async fn sale_of_purchase(
        &self,
        buyer: &Subject,
        key: &str,
    ) -> Result<Option<SaleId>, CheckoutError> {
        let ledger = &self.context.ledger;
        let Some(record) = ledger.idempotency_record(buyer, key).await? else {
            return Ok(None);
        };
        let order = ledger.order(record.order).await?;
        Ok(order.map(|order| order.performance_key.sale))
    }

    /// Asks the gateway now for the outcome of an order that awaits payment, for instance when the buyer
    /// returns from the gateway's page. `None` if the buyer has no such order.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`].
    pub async fn confirm(&self, id: OrderId, buyer: &Subject) -> Result<Option<PlaceOutcome>, CheckoutError> {
        let Some(order) = self.owned_order(id, buyer).await? else {
            return Ok(None);
        };
        if let Some(running) = self
            .context
            .running_orders
            .get(id)
            .filter(|_| order.state == OrderState::AwaitingPayment)
        {
            let mut changes = running.subscribe();
            running.wake.notify_one();
            let _ = tokio::time::timeout(self.context.config.order_response_wait, changes.changed()).await;
        }
        placement::outcome_of(&self.context, id).await.map(Some)
    }

    /// The buyer's order, or `None` if they have no such order.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`].
    pub async fn order(&self, id: OrderId, buyer: &Subject) -> Result<Option<OrderView>, CheckoutError> {
        Ok(self.owned_order(id, buyer).await?.map(|order| order.view()))
    }

    /// The buyer's orders of one sale, newest first.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`].
    pub async fn orders_of(&self, sale: &SaleId, buyer: &Subject) -> Result<Vec<OrderView>, CheckoutError> {
        let orders = self.context.ledger.orders_of(sale, buyer).await?;
        Ok(orders.iter().map(Order::view).collect())
    }

    /// The history of the buyer's order, oldest entry first. The start of a step is left out once its end is
    /// known.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`].
    pub async fn history(
        &self,
        id: OrderId,
        buyer: &Subject,
    ) -> Result<Option<Vec<HistoryEntry>>, CheckoutError> {
        if self.owned_order(id, buyer).await?.is_none() {
            return Ok(None);
        }
        Ok(Some(history(&self.context, id).await?))
    }

    /// The order's tickets; empty before it is paid and after it was refunded.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`].
    pub async fn tickets(&self, id: OrderId, buyer: &Subject) -> Result<Option<Vec<Ticket>>, CheckoutError> {
        let Some(order) = self.owned_order(id, buyer).await? else {
            return Ok(None);
        };
        if order.state != OrderState::Paid {
            return Ok(Some(Vec::new()));
        }
        let rows = self.context.ledger.tickets(id).await?;
        Ok(Some(tickets::sign_tickets(
            &self.context.keys,
            &self.context.config.issuer,
            &order,
            rows,
        )))
    }

    /// Cancels an order at once. Voids the tickets of a paid one, refunds the money, releases the seats; that
    /// is refused once the doors of its performance are open. Voids the payment of one whose buyer is at the
    /// gateway's page, and releases the seats.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`]; repeating the call is safe.
    pub async fn cancel(&self, id: OrderId, buyer: &Subject) -> Result<CancelOutcome, CheckoutError> {
        let context = &self.context;
        let Some(order) = self.owned_order(id, buyer).await? else {
            return Ok(CancelOutcome::NotFound);
        };
        if order.state == OrderState::Paid && context.are_doors_open(&order.performance_key) {
            return Ok(CancelOutcome::DoorsOpen(order.view()));
        }
        self.cancel_for(&order, None).await
    }

    /// Cancels an order of this sale for an operator: as [`Checkout::cancel`], but also once the doors are
    /// open.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`]; repeating the call is safe.
    pub async fn cancel_by_operator(
        &self,
        sale: &SaleId,
        id: OrderId,
        operator: OperatorCancellation,
    ) -> Result<CancelOutcome, CheckoutError> {
        let order = self.context.ledger.order(id).await?;
        match order.filter(|order| order.performance_key.sale == *sale) {
            Some(order) => self.cancel_for(&order, Some(operator)).await,
            None => Ok(CancelOutcome::NotFound),
        }
    }

    async fn cancel_for(
        &self,
        order: &Order,
        operator: Option<OperatorCancellation>,
    ) -> Result<CancelOutcome, CheckoutError> {
        let (context, id) = (&self.context, order.id);
        cancellation::cancel(context, order, operator).await?;
        placement::wait_until(context, id, |order| order.state != OrderState::Refunding).await?;
        let Some(order) = context.ledger.order(id).await? else {
            return Ok(CancelOutcome::NotFound);
        };
        Ok(match order.state {
            OrderState::Canceled => CancelOutcome::Canceled(order.view()),
            OrderState::Refunding => CancelOutcome::InProgress(order.view()),
            _ => CancelOutcome::NotCancelable(order.view()),
        })
    }

    /// Accepts a gateway's webhook. It is only a hint: checkout reads the payment back before it acts.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`]; the gateway sends it again.
    pub async fn webhook(
        &self,
        gateway: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<WebhookOutcome, CheckoutError> {
        let context = &self.context;
        if gateway != context.gateway.name() {
            return Ok(WebhookOutcome::Refused);
        }
        let Ok(webhook) = context.gateway.verify_webhook(headers, body, context.clock.now()) else {
            return Ok(WebhookOutcome::Refused);
        };
        let is_new = context
            .ledger
            .record_webhook(gateway, &webhook.event, context.clock.now())
            .await?;
        if !is_new {
            return Ok(WebhookOutcome::Ignored);
        }
        let Some(id) = context.ledger.order_by_payment_key(&webhook.key).await? else {
            return Ok(WebhookOutcome::Ignored);
        };
        match context.running_orders.get(id) {
            Some(running) => running.wake.notify_one(),
            None => recovery::check_late_money(context, id).await?,
        }
        Ok(WebhookOutcome::Accepted)
    }

    /// Visits with a payment in progress, which must not end in the meantime.
    #[must_use]
    pub fn visits_with_payment(&self) -> Vec<VisitId> {
        self.context.running_orders.visits_with_payment()
    }

    /// When the queue of new orders is full: after how long to try again. Counts as one rejection, so call it
    /// once for each order that arrives.
    #[must_use]
    pub fn reject_if_full(&self) -> Option<Duration> {
        let limiter = &self.context.order_limiter;
        limiter.reject_if_full().then(|| limiter.retry_after())
    }

    /// Whether new orders could not start promptly since the last call. Expects ten calls a second.
    #[must_use]
    pub fn is_saturated(&self) -> bool {
        self.context.order_limiter.is_saturated()
    }

    /// Counts of orders since the start of the process, by sale; each configured sale is there.
    #[must_use]
    pub fn stats(&self) -> BTreeMap<SaleId, CheckoutStats> {
        let mut stats = self.context.counters.snapshot();
        for config in &self.context.config.sales {
            stats.entry(config.sale.clone()).or_default();
        }
        for sale in self.context.running_orders.sales() {
            stats.entry(sale).or_default().in_progress += 1;
        }
        stats
    }

    /// Number of orders that take far longer than they should. Anything above zero is an alarm.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`].
    pub async fn stuck_count(&self) -> Result<u64, CheckoutError> {
        Ok(self.context.ledger.stuck_count().await?)
    }

    async fn owned_order(&self, id: OrderId, buyer: &Subject) -> Result<Option<Order>, CheckoutError> {
        let order = self.context.ledger.order(id).await?;
        Ok(order.filter(|order| order.buyer == *buyer))
    }
}

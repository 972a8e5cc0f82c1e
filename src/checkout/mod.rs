//! Turns a hold into tickets, or into nothing.
//!
//! An order is a saga (`saga`): a table of steps (`purchase`, `cancellation`) of which each is written down before
//! it is done and may be done twice. Who owns a seat is decided by one row of the ledger (`ledger`), whatever the seats'
//! engine says; whether money moved is decided by the gateway's own book (`payment`), asked by key until it answers.
//!
//! What always holds: a seat has at most one live claim; captured money means tickets or a refund; after faults stop,
//! every order ends.

mod context;
pub mod gateways;
pub mod ledger;
mod order;
mod order_limiter;
mod outbox;
pub mod payment;
pub(crate) mod saga;
pub mod seats;
#[cfg(test)]
mod tests;
mod tickets;
pub mod webhooks;

use crate::checkout::saga::recovery;
use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use self::{
    context::{House, RUNNING_MAX, TABLES, Tally},
    ledger::{
        KeyUse, LeasedSaga, Ledger, LedgerError, LogEntry, NewOrder, Opened, postgres::PostgresLedger,
        sqlite::SqliteLedger,
    },
    order::{Order, Reason},
    order_limiter::Till,
    payment::{CardToken, PaymentGateway},
    saga::{engine::Pace, purchase::PURCHASE, refund::RETURN, running_orders::Drivers},
    seats::{Basket, Seats, SeatsError},
};
pub use self::{
    order::{
        CancelOutcome, HistoryEntry, OrderState, OrderView, PaymentAction, PlaceOrder, PlaceOutcome,
        WebhookOutcome,
    },
    outbox::Announcer,
    tickets::{Ticket, TicketClaims, qr_png, qr_svg, verify_ticket},
};
use crate::{
    kernel::{Clock, Entropy, OrderId, SaleId, Subject, VisitId},
    platform::{
        keys::Keys,
        shutdown::Lifecycle,
        signing::{base64url, sha256},
        sql,
    },
};

/// What the house decides about checkout.
#[derive(Clone, Debug)]
pub struct Config {
    pub sales: Vec<SaleConfig>,
    /// Issuer of tickets: the public base URL.
    pub issuer: String,
    /// How long a request waits for its saga before it answers "in progress".
    pub answer_within: Duration,
    /// Deadline of one gateway call.
    pub gateway_deadline: Duration,
    /// How long an authorisation may stay unknown before it is voided.
    pub authorise_within: Duration,
}

/// Limits of one sale.
#[derive(Clone, Debug)]
pub struct SaleConfig {
    pub sale: SaleId,
    pub title: String,
    /// Seats that one fan may own over all performances of the sale.
    pub seats_per_fan: u8,
}

/// What checkout is given.
pub struct Deps {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub keys: Keys,
    pub ledger: LedgerPlace,
    /// This node's name, which differs from every other's and outlives a restart.
    pub node: String,
    pub seating: Arc<dyn Seats>,
    pub gateway: Arc<dyn PaymentGateway>,
    /// Where events for the shop go, if anywhere.
    pub announcer: Option<Arc<dyn Announcer>>,
    pub life: Lifecycle,
    /// Of the ledger's writer, which outlives the orders under way.
    pub books: Lifecycle,
}

/// Where the ledger is.
#[derive(Clone)]
pub enum LedgerPlace {
    /// `ledger.db`, for one node.
    File(PathBuf),
    /// A database that the nodes share.
    Postgres { url: String },
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Ledger(#[from] sql::OpenError),
    #[error("cannot bring back what the ledger knows: {0}")]
    Recover(#[from] LedgerError),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum CheckoutError {
    #[error("there is no such sale")]
    UnknownSale,
    /// Nothing was begun; come again.
    #[error("too many orders are under way")]
    Busy { again: Duration },
    /// Nothing was begun; come again.
    #[error(transparent)]
    Seats(#[from] SeatsError),
    /// Whether something was begun is known by asking again with the same key.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Counts since the start of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Orders being driven now.
    pub running: u64,
    pub opened: u64,
    pub paid: u64,
    /// Ended without tickets, for whatever reason.
    pub unpaid: u64,
    pub returned: u64,
    pub late_money: u64,
}

/// The box office's till.
pub struct Checkout {
    house: Arc<House>,
}

impl Checkout {
    /// Opens the ledger, restores its claims into the seats, resumes what was under way, and starts the reconciler.
    ///
    /// # Errors
    /// [`OpenError`]: the ledger cannot be opened, or what it knows cannot be brought back.
    pub async fn open(config: Config, deps: Deps) -> Result<Arc<Self>, OpenError> {
        let ledger: Arc<dyn Ledger> = match &deps.ledger {
            LedgerPlace::File(file) => Arc::new(SqliteLedger::open(file, &deps.node, &deps.books).await?),
            LedgerPlace::Postgres { url } => {
                Arc::new(PostgresLedger::open(url, &deps.node, Arc::clone(&deps.entropy)).await?)
            }
        };
        Ok(Self::open_on(config, deps, ledger).await?)
    }

    async fn open_on(config: Config, deps: Deps, ledger: Arc<dyn Ledger>) -> Result<Arc<Self>, LedgerError> {
        let house = Arc::new(House {
            pace: Pace::of(config.gateway_deadline, config.authorise_within),
            config,
            clock: deps.clock,
            entropy: deps.entropy,
            keys: deps.keys,
            seats: deps.seating,
            gateway: deps.gateway,
            announcer: deps.announcer,
            ledger,
            life: deps.life,
            drivers: Drivers::default(),
            till: Till::default(),
            tally: Tally::default(),
        });
        recovery::at_start(&house).await?;
        let reconciled = Arc::clone(&house);
        house
            .life
            .supervise("checkout reconciler", house.pace.sweep, move || {
                recovery::reconcile(Arc::clone(&reconciled))
            });
        Ok(Arc::new(Self { house }))
    }

    /// Buys what is held. Waits for the outcome as long as configured; the order goes on in any case.
    ///
    /// # Errors
    /// [`CheckoutError`]; after [`CheckoutError::Ledger`] the same key may be sent again.
    pub async fn place_order(&self, wish: PlaceOrder) -> Result<PlaceOutcome, CheckoutError> {
        let house = &self.house;
        if house.sale(&wish.sale).is_none() {
            return Err(CheckoutError::UnknownSale);
        }
        // Whoever would wait in vain is told so first, also of an order that goes on already: its outcome is asked for by its id.
        let busy = || CheckoutError::Busy {
            again: house.till.again(),
        };
        let place = house.till.line_up().ok_or_else(busy)?;
        let request_hash = self.request_hash(&wish);
        if let Some(KeyUse {
            request_hash: known,
            order,
        }) = house.ledger.key_use(&wish.buyer, &wish.idempotency_key).await?
        {
            drop(place);
            return if known == request_hash {
                self.answer(order).await
            } else {
                Ok(PlaceOutcome::KeyReused)
            };
        }
        if house.drivers.count() >= RUNNING_MAX {
            return Err(busy());
        }
        let work = house.till.turn(place).await.ok_or_else(busy)?;
        let basket = house
            .seats
            .basket(wish.hold, &wish.buyer)
            .await?
            .filter(|it| it.show.sale == wish.sale && !it.seats.is_empty());
        let Some(basket) = basket else {
            return Ok(PlaceOutcome::HoldGone {
                alternatives: Vec::new(),
            });
        };
        let (card, visit) = (CardToken::new(wish.token.clone()), wish.visit);
        let order = self.new_order(wish, basket, request_hash);
        let position = order.position.clone();
        let id = match house.ledger.open_order(order, house.lease()).await? {
            Opened::New(right) => {
                house.tally.opened.fetch_add(1, Ordering::Relaxed);
                house.start(
                    LeasedSaga {
                        right,
                        visit,
                        position,
                    },
                    Some(card),
                );
                right.order
            }
            Opened::Same(order) => order,
            Opened::KeyReused => return Ok(PlaceOutcome::KeyReused),
        };
        drop(work);
        self.answer(id).await
    }

    /// The buyer came back from the gateway's page, or asks whether it is done: the gateway is asked now.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`].
    pub async fn confirm(&self, id: OrderId, who: &Subject) -> Result<Option<PlaceOutcome>, CheckoutError> {
        let Some(order) = self.own(id, who).await? else {
            return Ok(None);
        };
        if let Some(run) = self
            .house
            .drivers
            .of(id)
            .filter(|_| order.state == OrderState::AwaitingPayment)
        {
            let mut moves = run.watch();
            run.wake.notify_one();
            let _ = tokio::time::timeout(self.house.config.answer_within, moves.changed()).await;
        }
        self.answer(id).await.map(Some)
    }

    /// Her order, or none.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`].
    pub async fn order(&self, id: OrderId, who: &Subject) -> Result<Option<OrderView>, CheckoutError> {
        Ok(self.own(id, who).await?.map(|it| it.view()))
    }

    /// Her orders of one sale, newest first.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`].
    pub async fn orders_of(&self, sale: &SaleId, who: &Subject) -> Result<Vec<OrderView>, CheckoutError> {
        Ok(self
            .house
            .ledger
            .orders_of(sale, who)
            .await?
            .iter()
            .map(Order::view)
            .collect())
    }

    /// What happened to her order so far. A step's beginning is told only until its outcome is there.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`].
    pub async fn history(
        &self,
        id: OrderId,
        who: &Subject,
    ) -> Result<Option<Vec<HistoryEntry>>, CheckoutError> {
        if self.own(id, who).await?.is_none() {
            return Ok(None);
        }
        let log = self.house.ledger.log(id).await?;
        let told = log.iter().enumerate().filter(|(at, entry)| {
            entry.state != "started"
                || !log[at + 1..]
                    .iter()
                    .any(|it| it.step == entry.step && it.state == "done")
        });
        Ok(Some(told.filter_map(|(_, entry)| history_entry(entry)).collect()))
    }

    /// Her tickets; none before the order is paid and after it was returned.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`].
    pub async fn tickets(&self, id: OrderId, who: &Subject) -> Result<Option<Vec<Ticket>>, CheckoutError> {
        let Some(order) = self.own(id, who).await? else {
            return Ok(None);
        };
        if order.state != OrderState::Paid {
            return Ok(Some(Vec::new()));
        }
        let rows = self.house.ledger.tickets(id).await?;
        Ok(Some(tickets::signed(
            &self.house.keys,
            &self.house.config.issuer,
            &order,
            rows,
        )))
    }

    /// Gives a paid order back: tickets withdrawn, money refunded, seats freed.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`]; asking again is safe.
    pub async fn cancel(&self, id: OrderId, who: &Subject) -> Result<CancelOutcome, CheckoutError> {
        let house = &self.house;
        if self.own(id, who).await?.is_none() {
            return Ok(CancelOutcome::NotFound);
        }
        let position = RETURN.start(house.clock.now());
        let (from, to, reason) = (OrderState::Paid, OrderState::Refunding, Reason::CancelledByBuyer);
        if let Some(saga) = house
            .ledger
            .start_saga(id, from, to, reason, position, house.lease())
            .await?
        {
            house.start(saga, None);
        }
        self.settled(id, |order| order.state != OrderState::Refunding)
            .await?;
        let Some(order) = self.own(id, who).await? else {
            return Ok(CancelOutcome::NotFound);
        };
        Ok(match order.state {
            OrderState::Cancelled => CancelOutcome::Cancelled(order.view()),
            OrderState::Refunding => CancelOutcome::InProgress(order.view()),
            _ => CancelOutcome::NotPaid(order.view()),
        })
    }

    /// A gateway's message. It is only a hint: the payment is read back before anything is believed.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`]; the gateway sends it again.
    pub async fn webhook(
        &self,
        gateway: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<WebhookOutcome, CheckoutError> {
        let house = &self.house;
        if gateway != house.gateway.name() {
            return Ok(WebhookOutcome::Refused);
        }
        let Ok(webhook) = house.gateway.read_webhook(headers, body, house.clock.now()) else {
            return Ok(WebhookOutcome::Refused);
        };
        if !house
            .ledger
            .take_in(gateway, &webhook.event, house.clock.now())
            .await?
        {
            return Ok(WebhookOutcome::Ignored);
        }
        let Some(id) = house.ledger.order_by_payment(&webhook.key).await? else {
            return Ok(WebhookOutcome::Ignored);
        };
        match house.drivers.of(id) {
            Some(run) => run.wake.notify_one(),
            None => recovery::look_for_late_money(house, id).await?,
        }
        Ok(WebhookOutcome::Accepted)
    }

    /// Visits with a payment under way, which must not end meanwhile.
    pub fn visits_kept(&self) -> Vec<VisitId> {
        self.house.drivers.visits_kept()
    }

    /// So many orders wait to begin that one more would only be told to come again: after how long. To be asked once for each
    /// that comes.
    #[must_use]
    pub fn sends_away(&self) -> Option<Duration> {
        let till = &self.house.till;
        till.sends_away().then(|| till.again())
    }

    /// Whether no new order could have begun at once since this was last asked.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.house.till.is_pressed()
    }

    pub fn figures(&self) -> Figures {
        let tally = &self.house.tally;
        Figures {
            running: self.house.drivers.count() as u64,
            opened: tally.opened.load(Ordering::Relaxed),
            paid: tally.paid.load(Ordering::Relaxed),
            unpaid: tally.unpaid.load(Ordering::Relaxed),
            returned: tally.returned.load(Ordering::Relaxed),
            late_money: tally.late_money.load(Ordering::Relaxed),
        }
    }

    /// Orders that a person should look at; more than none is an alarm.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`].
    pub async fn stuck_count(&self) -> Result<u64, CheckoutError> {
        Ok(self.house.ledger.stuck_count().await?)
    }

    async fn own(&self, id: OrderId, who: &Subject) -> Result<Option<Order>, CheckoutError> {
        Ok(self.house.ledger.order(id).await?.filter(|it| it.buyer == *who))
    }

    /// Waits until the order, driven here, is as wished; at most as long as a request waits.
    async fn settled(
        &self,
        id: OrderId,
        wished: impl Fn(&Order) -> bool + Send,
    ) -> Result<(), CheckoutError> {
        let Some(run) = self.house.drivers.of(id) else {
            return Ok(());
        };
        let mut moves = run.watch();
        let waiting = async {
            while self.house.ledger.order(id).await?.is_some_and(|it| !wished(&it))
                && moves.changed().await.is_ok()
            {}
            Ok(())
        };
        tokio::time::timeout(self.house.config.answer_within, waiting)
            .await
            .unwrap_or(Ok(()))
    }

    async fn answer(&self, id: OrderId) -> Result<PlaceOutcome, CheckoutError> {
        self.settled(id, |order| {
            !matches!(order.state, OrderState::InProgress | OrderState::Refunding)
        })
        .await?;
        let order = self.house.ledger.order(id).await?;
        let order = order.ok_or_else(|| {
            LedgerError::Unavailable("an order that was opened is not in the ledger".into())
        })?;
        let declined = |order: &Order| PlaceOutcome::Declined {
            order: order.view(),
            reason: order
                .reason
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
        };
        Ok(match order.state {
            // Cancelled later by herself: the answer to her purchase stays that it was made.
            OrderState::Paid | OrderState::Cancelled => PlaceOutcome::Paid(order.view()),
            OrderState::AwaitingPayment => PlaceOutcome::AwaitingPayment(order.view()),
            OrderState::InProgress | OrderState::Refunding | OrderState::Stuck => {
                PlaceOutcome::InProgress(order.view())
            }
            OrderState::Declined | OrderState::Refunded => declined(&order),
            OrderState::Expired if order.reason == Some(Reason::QuotaReached) => PlaceOutcome::QuotaReached {
                limit: self.house.seats_per_fan(&order.show.sale),
            },
            OrderState::Expired => PlaceOutcome::HoldGone {
                alternatives: self
                    .house
                    .seats
                    .alternatives(&order.show, &order.guids(), &order.buyer)
                    .await,
            },
        })
    }

    /// Keyed, so that the ledger tells nobody which card was used.
    fn request_hash(&self, wish: &PlaceOrder) -> String {
        let body = format!("{}\n{}\n{}\n{}", wish.sale, wish.hold, wish.method, wish.token);
        let mut keyed = self
            .house
            .keys
            .session
            .keyed_hash(body.as_bytes())
            .to_be_bytes()
            .to_vec();
        keyed.extend_from_slice(wish.idempotency_key.as_bytes());
        base64url(&sha256(&keyed))
    }

    fn new_order(&self, wish: PlaceOrder, basket: Basket, request_hash: String) -> NewOrder {
        let now = self.house.clock.now();
        NewOrder {
            id: OrderId::new(now, self.house.entropy.as_ref()),
            buyer: wish.buyer,
            visit: wish.visit,
            hold: wish.hold,
            basket,
            method: wish.method,
            idempotency_key: wish.idempotency_key,
            request_hash,
            position: PURCHASE.start(now),
            pay_by: now.plus(self.house.config.authorise_within),
        }
    }
}

/// The sentence's key by table, step and state. Steps that this version does not know are not told.
fn history_entry(entry: &LogEntry) -> Option<HistoryEntry> {
    let step = TABLES
        .iter()
        .find(|it| it.name == entry.saga)?
        .steps
        .iter()
        .find(|it| it.name == entry.step)?;
    let [begun, done, undone] = step.told;
    let (state, text_key) = match entry.state.as_str() {
        "started" => ("started", begun),
        "done" => ("done", done),
        "undone" => ("undone", undone),
        "waiting" => ("waiting", "history.waiting_for_buyer"),
        "retrying" => ("retrying", "history.retrying"),
        "refused" => ("refused", "history.refused"),
        _ => return None,
    };
    Some(HistoryEntry {
        at: entry.at,
        step: step.name,
        state,
        text_key,
    })
}

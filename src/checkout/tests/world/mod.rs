//! The world around checkout: a ledger, a gateway, and processes that come and go.

mod crash_point;
mod gateway;
mod ledger;
mod seats;
mod timing;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use testkit::Postgres;

pub(super) use self::{
    crash_point::CrashPoint,
    gateway::{CrashingGateway, FakeGateway},
    timing::{DOORS_OPEN_IN, PAYMENT_PAGE_TIMEOUT},
};
use self::{
    gateway::GatewayPayment,
    ledger::CrashingLedger,
    seats::{CrashingSeats, FakeSeats},
    timing::Timing,
};
use crate::{
    checkout::{
        Checkout, Config, Deps, LedgerLocation, PlaceOrder, PlaceOutcome, SaleConfig,
        ledger::{
            conformance::fixtures::performance_key, port::Ledger, postgres::PostgresLedger,
            sqlite::SqliteLedger,
        },
        order::{Order, OrderState},
        outbox::port::Outbox,
        payment::PaymentState,
    },
    kernel::{Clock, HoldId, OrderId, OsEntropy, SaleId, Subject, Timestamp, VisitId},
    platform::{keys::Keys, shutdown::Lifecycle},
};

/// Where the world's ledger is kept, which outlives its processes.
enum LedgerHome {
    File(TempDir),
    Shared { server: Arc<Postgres>, database: String },
}

impl LedgerHome {
    fn shared(server: &Arc<Postgres>) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        Self::Shared {
            server: Arc::clone(server),
            database: format!("world_{}", MADE.fetch_add(1, Ordering::SeqCst)),
        }
    }

    async fn created(self) -> Self {
        if let Self::Shared { server, database } = &self {
            server.create_database(database).await.unwrap();
        }
        self
    }

    async fn open(&self, node: &str, lifecycle: &Lifecycle) -> (Arc<dyn Ledger>, Arc<dyn Outbox>) {
        match self {
            Self::File(dir) => {
                let file = dir.path().join("ledger.db");
                let ledger = Arc::new(SqliteLedger::open(&file, node, lifecycle).await.unwrap());
                (Arc::clone(&ledger) as _, ledger)
            }
            Self::Shared { server, database } => {
                let (url, entropy) = (server.url(database), Arc::new(OsEntropy));
                let ledger = Arc::new(PostgresLedger::open(&url, node, entropy).await.unwrap());
                (Arc::clone(&ledger) as _, ledger)
            }
        }
    }

    /// Closes the connections of the dead process, as its operating system would.
    async fn close_connections(&self) {
        if let Self::Shared { server, database } = self {
            let end = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
            );
            server.run("postgres", &end).await.unwrap();
        }
    }
}

/// One ledger and one gateway, and processes that come and go.
pub(crate) struct World {
    ledger_home: LedgerHome,
    node: &'static str,
    keys: Keys,
    pub(crate) gateway: Arc<FakeGateway>,
    pub(crate) seats: Arc<FakeSeats>,
    pub(crate) checkout: Arc<Checkout>,
    lifecycle: Lifecycle,
    crash_point: Arc<CrashPoint>,
    buyers: u32,
    timing: Timing,
}

pub(crate) fn buyer(n: u32) -> Subject {
    Subject::customer(&n.to_string()).unwrap()
}

pub(crate) fn request(customer: u32, hold: HoldId, card: &str, key: &str) -> PlaceOrder {
    PlaceOrder {
        sale: performance_key().sale,
        buyer: buyer(customer),
        visit: VisitId::random(&OsEntropy),
        hold,
        token: Some(card.into()),
        idempotency_key: key.into(),
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(CrashPoint::never(), Duration::from_millis(1_500)).await
    }

    pub(crate) async fn with(crash_point: Arc<CrashPoint>, payment_timeout: Duration) -> Self {
        Self::on(
            LedgerHome::File(tempfile::tempdir().unwrap()),
            crash_point,
            Timing::real(payment_timeout),
        )
        .await
    }

    /// A world whose time the test moves.
    pub(crate) async fn by_clock(clock: Arc<dyn Clock>, server: Option<&Arc<Postgres>>) -> Self {
        let ledger_home = match server {
            Some(server) => LedgerHome::shared(server).created().await,
            None => LedgerHome::File(tempfile::tempdir().unwrap()),
        };
        let payment_timeout = PAYMENT_PAGE_TIMEOUT / 5;
        let timing = Timing {
            doors_open_at: clock.now().plus(DOORS_OPEN_IN),
            clock,
            payment_timeout,
        };
        Self::on(ledger_home, CrashPoint::never(), timing).await
    }

    /// A world whose ledger is shared by several nodes, in a database of its own.
    pub(crate) async fn shared(
        server: &Arc<Postgres>,
        crash_point: Arc<CrashPoint>,
        payment_timeout: Duration,
    ) -> Self {
        let ledger_home = LedgerHome::shared(server).created().await;
        Self::on(ledger_home, crash_point, Timing::real(payment_timeout)).await
    }

    async fn on(ledger_home: LedgerHome, crash_point: Arc<CrashPoint>, timing: Timing) -> Self {
        let (gateway, keys) = (Arc::new(FakeGateway::default()), Keys::ephemeral(&OsEntropy));
        let (seats, lifecycle, node) = (Arc::new(FakeSeats::default()), Lifecycle::new(), "a");
        let ledger = ledger_home.open(node, &lifecycle).await;
        let checkout = open(
            ledger,
            &keys,
            &gateway,
            &seats,
            &lifecycle,
            Arc::clone(&crash_point),
            &timing,
        )
        .await;
        Self {
            ledger_home,
            node,
            keys,
            gateway,
            seats,
            checkout,
            lifecycle,
            crash_point,
            buyers: 8,
            timing,
        }
    }

    /// The process dies; another one opens the same ledger, with an empty seat store.
    pub(crate) async fn restart(&mut self, crash_point: Arc<CrashPoint>) {
        self.crash_point.kill().await;
        self.lifecycle.stop();
        self.ledger_home.close_connections().await;
        self.crash_point = Arc::clone(&crash_point);
        self.lifecycle = Lifecycle::new();
        self.seats = Arc::new(FakeSeats::default());
        let ledger = self.ledger_home.open(self.node, &self.lifecycle).await;
        self.checkout = open(
            ledger,
            &self.keys,
            &self.gateway,
            &self.seats,
            &self.lifecycle,
            crash_point,
            &self.timing,
        )
        .await;
    }

    /// The process dies for good, and another node takes over.
    pub(crate) async fn fail_over(&mut self, node: &'static str, crash_point: Arc<CrashPoint>) {
        self.node = node;
        self.restart(crash_point).await;
    }

    /// Leaves no connection open on a server that other worlds use.
    pub(crate) async fn shut_down(self) {
        self.lifecycle.stop();
        self.ledger_home.close_connections().await;
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) async fn pay(&self, customer: u32, hold: HoldId, card: &str, key: &str) -> PlaceOutcome {
        self.checkout
            .place_order(request(customer, hold, card, key))
            .await
            .unwrap()
    }

    pub(crate) async fn orders(&self) -> Vec<Order> {
        let mut all = Vec::new();
        for n in 0..self.buyers {
            all.extend(
                self.checkout
                    .context
                    .ledger
                    .orders_of(&performance_key().sale, &buyer(n))
                    .await
                    .unwrap(),
            );
        }
        all
    }

    /// I11: once faults stop, everything ends.
    pub(crate) async fn wait_until_settled(&self) {
        let settled = async {
            loop {
                let running = self.checkout.context.running_orders.count();
                let open = self
                    .orders()
                    .await
                    .iter()
                    .filter(|order| order.state != OrderState::Paid && !order.state.is_final())
                    .count();
                if running + open == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let outcome = tokio::time::timeout(Duration::from_mins(1), settled).await;
        assert!(
            outcome.is_ok(),
            "I11: unfinished orders: {:?}",
            self.orders().await
        );
    }

    /// I1, I2 and I8, from the gateway's statement and the tickets, sharing nothing with the code under test.
    pub(crate) async fn check_invariants(&self) {
        let ledger = &self.checkout.context.ledger;
        let mut sold: BTreeMap<String, OrderId> = BTreeMap::new();
        let mut money: BTreeMap<String, GatewayPayment> = self.gateway.payments.lock().clone();
        for order in self.orders().await {
            let tickets = ledger.tickets(order.id).await.unwrap();
            for ticket in &tickets {
                let other = sold.insert(ticket.seat.clone(), order.id);
                assert_eq!(other, None, "I1: seat {} is on two tickets", ticket.seat);
            }
            let paid = order.payment_key.as_ref().and_then(|key| money.remove(key));
            let state = paid.as_ref().map(|payment| payment.state.clone());
            if order.is_free() {
                assert_eq!(state, None, "I2: a free order reached the gateway");
                assert_eq!(tickets.is_empty(), order.state != OrderState::Paid);
                continue;
            }
            let captured = state == Some(PaymentState::Captured);
            let reserved = matches!(
                state,
                Some(PaymentState::Authorized { .. } | PaymentState::AwaitingBuyer { .. })
            );
            assert!(!reserved, "I2: money of {} is still reserved", order.id);
            assert_eq!(
                captured,
                !tickets.is_empty(),
                "I2: money and tickets of {} differ ({:?}, {:?})",
                order.id,
                state,
                order.state
            );
            assert_eq!(
                captured,
                order.state == OrderState::Paid,
                "I2: {:?} with {state:?}",
                order.state
            );
            if captured {
                let paid = paid.unwrap();
                assert_eq!(paid.amount, Some(order.total), "I2: the amount");
                assert_eq!(paid.captures, 1, "I2: captured once");
                assert_eq!(tickets.len(), order.seats.len(), "I2: a ticket for each seat");
            }
        }
        assert!(
            money.values().all(|payment| payment.amount.is_none()),
            "I2: money that belongs to no order: {money:?}"
        );
        let claims = ledger.claims(None, Timestamp::from_millis(0)).await.unwrap();
        assert!(
            claims.iter().all(|claim| claim.booked),
            "a claim outlived its order: {claims:?}"
        );
        let mut booked: Vec<String> = claims.into_iter().flat_map(|claim| claim.seats).collect();
        booked.sort();
        assert_eq!(
            booked,
            sold.into_keys().collect::<Vec<_>>(),
            "claims and tickets differ"
        );
        assert_eq!(booked, self.seats.booked(), "I8: seat store and ledger differ");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.lifecycle.stop();
    }
}

async fn open(
    (ledger, outbox): (Arc<dyn Ledger>, Arc<dyn Outbox>),
    keys: &Keys,
    gateway: &Arc<FakeGateway>,
    seats: &Arc<FakeSeats>,
    lifecycle: &Lifecycle,
    crash_point: Arc<CrashPoint>,
    timing: &Timing,
) -> Arc<Checkout> {
    let node = ledger.owner();
    let ledger = CrashingLedger(ledger, Arc::clone(&crash_point));
    let config = Config {
        sales: vec![SaleConfig {
            sale: performance_key().sale,
            title: "Spring".into(),
            seats_per_customer_max: 4,
            doors_open_at: [(performance_key().performance, timing.doors_open_at)].into(),
        }],
        issuer: "https://tickets.example".into(),
        order_response_wait: Duration::from_secs(20),
        gateway_timeout: Duration::from_millis(500),
        payment_timeout: timing.payment_timeout,
        payment_page_timeout: timing.payment_timeout * 5,
    };
    let deps = Deps {
        clock: Arc::clone(&timing.clock),
        entropy: Arc::new(OsEntropy),
        keys: keys.clone(),
        // The ledger is opened above, behind the crash point.
        ledger: LedgerLocation::File(PathBuf::new()),
        node_name: node,
        seats: Arc::new(CrashingSeats(Arc::clone(seats), Arc::clone(&crash_point))),
        gateway: Arc::new(CrashingGateway(Arc::clone(gateway), Arc::clone(&crash_point))),
        events: None,
        lifecycle: lifecycle.clone(),
        ledger_lifecycle: lifecycle.clone(),
    };
    let checkout = Checkout::open_on(config, deps, Arc::new(ledger), outbox)
        .await
        .unwrap();
    crash_point.armed.store(true, Ordering::SeqCst);
    checkout
}

pub(crate) fn sale_id() -> SaleId {
    performance_key().sale
}

//! The world around checkout, and the fuse that kills the process at any of its outward calls.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::{
    checkout::{
        Checkout, Config, Deps, LedgerLocation, PlaceOrder, PlaceOutcome, SaleConfig,
        ledger::{
            ClaimOutcome, SeatStoreEpoch, IdempotencyRecord, LeaseRequest, LeasedSaga, Ledger, LedgerError, SagaLogEntry, NewEvent,
            NewOrder, NewTicket, OpenOutcome, OutboxRow, Position, Progress, FencedLease, TicketRow,
            conformance::{TempDir, held_seats, performance_key},
            postgres::PostgresLedger,
            sqlite::SqliteLedger,
        },
        order::{Order, OrderState, Reason},
        payment::{
            AuthorizeOutcome, Charge, LookupOutcome, InvalidSignature, PaymentGateway, PaymentState, SettleOutcome,
            Webhook,
        },
        seats::{HeldSeats, BeginOutcome, ClaimedSeats, Seats, SeatsError, PerformanceKey, volatile::VolatileSeatStore},
    },
    kernel::{HoldId, Money, OrderId, OsEntropy, SaleId, Subject, SystemClock, Timestamp, VisitId},
    platform::{keys::Keys, shutdown::Lifecycle},
};
use testkit::Postgres;

/// Kills the process at its nth outward call: before the call has its effect, or after it and before the answer.
pub(super) struct Fuse {
    calls: AtomicU64,
    blows_at: u64,
    after: bool,
    blown: AtomicBool,
    /// Calls that have begun and not ended.
    under_way: AtomicU64,
    /// Opening is not what is tested: the fuse is put in once the process serves.
    armed: AtomicBool,
}

/// Counts a call as long as its future lives, also when it is dropped half-way.
struct UnderWay<'a>(&'a AtomicU64);

impl<'a> UnderWay<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fuse {
    pub(super) fn none() -> Arc<Self> {
        Self::at(u64::MAX, false)
    }

    pub(super) fn at(call: u64, after: bool) -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicU64::new(0),
            blows_at: call,
            after,
            blown: AtomicBool::new(false),
            armed: AtomicBool::new(false),
            under_way: AtomicU64::new(0),
        })
    }

    pub(super) fn is_blown(&self) -> bool {
        self.blown.load(Ordering::SeqCst)
    }

    async fn guard<T>(&self, call: impl Future<Output = T>) -> T {
        let under_way = UnderWay::new(&self.under_way);
        let answer = self.call(call).await;
        drop(under_way);
        match answer {
            Some(answer) if !self.is_blown() => answer,
            _ => std::future::pending().await,
        }
    }

    async fn call<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        if !self.armed.load(Ordering::SeqCst) {
            return Some(call.await);
        }
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        if number == self.blows_at && !self.after {
            self.blown.store(true, Ordering::SeqCst);
        }
        if self.is_blown() {
            return None;
        }
        let answer = call.await;
        if number == self.blows_at {
            self.blown.store(true, Ordering::SeqCst);
        }
        Some(answer)
    }

    /// Nothing that the process does has any effect from now on; what had begun is over.
    async fn kill(&self) {
        self.blown.store(true, Ordering::SeqCst);
        while self.under_way.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// The seats' engine: knows holds, forgets everything when told to.
#[derive(Default)]
pub(super) struct FakeSeats {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    holds: HashMap<HoldId, (Subject, Vec<String>, bool)>,
    owner: BTreeMap<String, (HoldId, bool)>,
}

impl FakeSeats {
    /// All or none.
    pub(super) fn hold(&self, who: &Subject, seats: &[&str]) -> Option<HoldId> {
        let mut known = self.known.lock();
        if seats.iter().any(|it| known.owner.contains_key(*it)) {
            return None;
        }
        let id = HoldId::random(&OsEntropy);
        known
            .owner
            .extend(seats.iter().map(|it| ((*it).to_owned(), (id, false))));
        known.holds.insert(
            id,
            (
                who.clone(),
                seats.iter().map(|it| (*it).to_owned()).collect(),
                false,
            ),
        );
        Some(id)
    }

    pub(super) fn is_paying(&self, hold: HoldId) -> Option<bool> {
        self.known.lock().holds.get(&hold).map(|it| it.2)
    }

    /// Power failure in the engine; holds are still believed by those who have them.
    pub(super) fn forget_owners(&self) {
        self.known.lock().owner.clear();
    }

    pub(super) fn booked(&self) -> Vec<String> {
        self.known
            .lock()
            .owner
            .iter()
            .filter(|(_, (_, booked))| *booked)
            .map(|(seat, _)| seat.clone())
            .collect()
    }
}

struct FusedSeats(Arc<FakeSeats>, Arc<Fuse>);

#[async_trait]
impl Seats for FusedSeats {
    async fn held_seats(&self, hold: HoldId, who: &Subject) -> Result<Option<HeldSeats>, SeatsError> {
        let known = self.0.known.lock();
        let hers = known.holds.get(&hold).filter(|(holder, ..)| holder == who);
        Ok(hers.map(|(_, seats, _)| held_seats(&seats.iter().map(String::as_str).collect::<Vec<_>>())))
    }

    async fn begin_checkout(
        &self,
        _: &PerformanceKey,
        hold: HoldId,
        _: &Subject,
        _: Timestamp,
    ) -> Result<BeginOutcome, SeatsError> {
        let call = async {
            let mut known = self.0.known.lock();
            let Some((_, seats, paying)) = known.holds.get_mut(&hold) else {
                return Ok(BeginOutcome::Gone);
            };
            *paying = true;
            Ok(BeginOutcome::Begun { seats: seats.clone() })
        };
        self.1.guard(call).await
    }

    async fn return_to_hold(&self, _: &PerformanceKey, hold: HoldId, _: Timestamp) -> Result<(), SeatsError> {
        let call = async {
            if let Some((_, _, paying)) = self.0.known.lock().holds.get_mut(&hold) {
                *paying = false;
            }
        };
        self.1.guard(call).await;
        Ok(())
    }

    async fn book(&self, _: &PerformanceKey, hold: HoldId, seats: &[String], _: &Subject) -> Result<(), SeatsError> {
        let call = async {
            let mut known = self.0.known.lock();
            known.holds.remove(&hold);
            known
                .owner
                .extend(seats.iter().map(|it| (it.clone(), (hold, true))));
        };
        self.1.guard(call).await;
        Ok(())
    }

    async fn free(&self, _: &PerformanceKey, hold: HoldId, seats: &[String]) -> Result<(), SeatsError> {
        let call = async {
            let mut known = self.0.known.lock();
            known.holds.remove(&hold);
            known
                .owner
                .retain(|seat, (owner, _)| *owner != hold || !seats.contains(seat));
        };
        self.1.guard(call).await;
        Ok(())
    }

    async fn restore(&self, claims: Vec<ClaimedSeats>) -> Result<(), SeatsError> {
        let mut known = self.0.known.lock();
        for claim in claims {
            known.owner.extend(
                claim
                    .seats
                    .iter()
                    .map(|it| (it.clone(), (claim.hold, claim.booked))),
            );
            if !claim.booked {
                known.holds.insert(claim.hold, (claim.buyer, claim.seats, true));
            }
        }
        Ok(())
    }

    async fn alternatives(&self, _: &PerformanceKey, _: &[String], _: &Subject) -> Vec<Vec<String>> {
        vec![vec!["Z-1".into()]]
    }

    fn forgetful(&self) -> Vec<Arc<dyn VolatileSeatStore>> {
        Vec::new()
    }
}

/// One payment in the gateway's own book.
#[derive(Clone, Debug)]
pub(super) struct Paid {
    pub(super) state: PaymentState,
    pub(super) amount: Option<Money>,
    card: String,
    captures: u32,
}

/// The gateway. `deaf:` before a card makes its first answers vanish.
#[derive(Default)]
pub(super) struct FakeGateway {
    pub(super) book: Mutex<BTreeMap<String, Paid>>,
    authorize_calls: AtomicU64,
    refuses_to_answer: AtomicBool,
}

impl FakeGateway {
    pub(super) fn state(&self, key: &str) -> Option<PaymentState> {
        self.book.lock().get(key).map(|it| it.state.clone())
    }

    pub(super) fn set(&self, key: &str, state: PaymentState) {
        self.book.lock().get_mut(key).unwrap().state = state;
    }

    pub(super) fn authorize_calls(&self) -> u64 {
        self.authorize_calls.load(Ordering::SeqCst)
    }

    pub(super) fn is_silent(&self, silent: bool) {
        self.refuses_to_answer.store(silent, Ordering::SeqCst);
    }
}

pub(super) struct FusedGateway(pub(super) Arc<FakeGateway>, pub(super) Arc<Fuse>);

impl FusedGateway {
    fn silent(&self) -> bool {
        self.0.refuses_to_answer.load(Ordering::SeqCst)
    }

    async fn settle(&self, key: &str, change: impl FnOnce(&mut Paid) -> SettleOutcome + Send) -> SettleOutcome {
        let call = async {
            let mut book = self.0.book.lock();
            let unknown = || Paid {
                state: PaymentState::Voided,
                amount: None,
                card: String::new(),
                captures: 0,
            };
            let settled = change(book.entry(key.to_owned()).or_insert_with(unknown));
            if self.silent() { SettleOutcome::Unknown } else { settled }
        };
        self.1.guard(call).await
    }
}

fn not_now() -> SettleOutcome {
    SettleOutcome::Refused {
        reason: "not_in_this_state".into(),
    }
}

#[async_trait]
impl PaymentGateway for FusedGateway {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn authorize(&self, charge: &Charge) -> AuthorizeOutcome {
        let call = async {
            self.0.authorize_calls.fetch_add(1, Ordering::SeqCst);
            let card = charge.token.expose();
            let reference = || PaymentState::Authorized {
                reference: "ref".into(),
            };
            let state = match card {
                "tok_ok" | "tok_timeout_after_success" | "tok_capture_fails" => reference(),
                "tok_redirect" => PaymentState::AwaitingBuyer {
                    url: "https://bank/page".into(),
                },
                "tok_never_arrives" => return AuthorizeOutcome::Unknown,
                _ => PaymentState::Declined {
                    reason: "card_declined".into(),
                },
            };
            let fresh = Paid {
                state,
                amount: Some(charge.amount),
                card: card.into(),
                captures: 0,
            };
            let mut book = self.0.book.lock();
            let paid = book.entry(charge.key.clone()).or_insert(fresh).clone();
            if card == "tok_timeout_after_success" || self.silent() {
                return AuthorizeOutcome::Unknown;
            }
            match paid.state {
                PaymentState::Authorized { reference } => AuthorizeOutcome::Authorized { reference },
                PaymentState::AwaitingBuyer { url } => AuthorizeOutcome::Redirect { url },
                PaymentState::Declined { reason } => AuthorizeOutcome::Declined { reason },
                _ => AuthorizeOutcome::Unknown,
            }
        };
        self.1.guard(call).await
    }

    async fn lookup(&self, key: &str) -> LookupOutcome {
        let call = async {
            if self.silent() {
                return LookupOutcome::Unknown;
            }
            self.0
                .state(key)
                .map_or(LookupOutcome::NotFound, LookupOutcome::Found)
        };
        self.1.guard(call).await
    }

    async fn capture(&self, key: &str, amount: Money) -> SettleOutcome {
        let change = |paid: &mut Paid| match &paid.state {
            PaymentState::Captured => SettleOutcome::Done,
            PaymentState::Authorized { .. }
                if paid.card != "tok_capture_fails" && paid.amount == Some(amount) =>
            {
                paid.state = PaymentState::Captured;
                paid.captures += 1;
                SettleOutcome::Done
            }
            _ => not_now(),
        };
        self.settle(key, change).await
    }

    async fn void(&self, key: &str) -> SettleOutcome {
        let change = |paid: &mut Paid| match &paid.state {
            PaymentState::Voided | PaymentState::Declined { .. } => SettleOutcome::Done,
            PaymentState::Authorized { .. } | PaymentState::AwaitingBuyer { .. } => {
                paid.state = PaymentState::Voided;
                SettleOutcome::Done
            }
            _ => not_now(),
        };
        self.settle(key, change).await
    }

    async fn refund(&self, key: &str, amount: Money) -> SettleOutcome {
        let change = |paid: &mut Paid| match &paid.state {
            PaymentState::Refunded => SettleOutcome::Done,
            PaymentState::Captured if paid.amount == Some(amount) => {
                paid.state = PaymentState::Refunded;
                SettleOutcome::Done
            }
            _ => not_now(),
        };
        self.settle(key, change).await
    }

    fn verify_webhook(
        &self,
        headers: &[(String, String)],
        body: &[u8],
        _: Timestamp,
    ) -> Result<Webhook, InvalidSignature> {
        let event = headers
            .iter()
            .find(|(name, _)| name == "signed-by-fake")
            .ok_or(InvalidSignature)?
            .1
            .clone();
        Ok(Webhook {
            event,
            key: String::from_utf8(body.to_vec()).map_err(|_| InvalidSignature)?,
        })
    }
}

macro_rules! fused {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        #[async_trait]
        impl Ledger for FusedLedger {
            fn owner(&self) -> String {
                self.0.owner()
            }
            $(async fn $name(&self, $($arg: $ty),*) -> Result<$out, LedgerError> {
                self.1.guard(self.0.$name($($arg),*)).await
            })*
        }
    };
}

struct FusedLedger(Arc<dyn Ledger>, Arc<Fuse>);

fused! {
    fn open_order(order: NewOrder, lease_request: LeaseRequest) -> OpenOutcome;
    fn claim(lease: FencedLease, seats_per_fan: u8, at: Timestamp) -> ClaimOutcome;
    fn lock_claims(lease: FencedLease) -> bool;
    fn await_payment(lease: FencedLease, url: &str, until: Timestamp, at: Timestamp) -> ();
    fn book(lease: FencedLease, tickets: Vec<NewTicket>, event: NewEvent, at: Timestamp) -> bool;
    fn record_capture(lease: FencedLease, at: Timestamp) -> ();
    fn record_delivery(lease: FencedLease, at: Timestamp) -> ();
    fn void_tickets(lease: FencedLease, at: Timestamp) -> ();
    fn release_claims(lease: FencedLease, at: Timestamp) -> ();
    fn close_order(lease: FencedLease, state: OrderState, event: Option<NewEvent>, payment_check_at: Option<Timestamp>, at: Timestamp) -> ();
    fn record_progress(lease: FencedLease, progress: Progress) -> ();
    fn start_saga(order: OrderId, from: OrderState, to: OrderState, reason: Reason, position: Position, lease_request: LeaseRequest) -> Option<LeasedSaga>;
    fn lease_due_sagas(lease_request: LeaseRequest, include_own: bool, limit: u32) -> Vec<LeasedSaga>;
    fn record_webhook(gateway: &str, event: &str, at: Timestamp) -> bool;
    fn record_event_delivery(order: OrderId, sequence: i64, at: Timestamp) -> ();
    fn schedule_payment_check(order: OrderId, payment_check_at: Option<Timestamp>) -> ();
    fn seat_store_epoch(performance_key: &PerformanceKey) -> SeatStoreEpoch;
    fn advance_epoch(performance_key: &PerformanceKey, seen: u64, identity: &str) -> SeatStoreEpoch;
    fn chain_journal() -> u64;
    fn order(id: OrderId) -> Option<Order>;
    fn order_by_payment_key(payment_key: &str) -> Option<OrderId>;
    fn idempotency_record(buyer: &Subject, key: &str) -> Option<IdempotencyRecord>;
    fn orders_of(sale: &SaleId, buyer: &Subject) -> Vec<Order>;
    fn log(id: OrderId) -> Vec<SagaLogEntry>;
    fn tickets(id: OrderId) -> Vec<TicketRow>;
    fn claims(only: Option<(&PerformanceKey, &[String])>, keep_until: Timestamp) -> Vec<ClaimedSeats>;
    fn undelivered_events(id: OrderId) -> Vec<OutboxRow>;
    fn payments_to_check(now: Timestamp, limit: u32) -> Vec<OrderId>;
    fn stuck_count() -> u64;
}

/// Where the world's ledger is, which outlives its processes.
enum Kept {
    File(TempDir),
    Shared { server: Arc<Postgres>, database: String },
}

impl Kept {
    fn shared(server: &Arc<Postgres>) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        Self::Shared {
            server: Arc::clone(server),
            database: format!("world_{}", MADE.fetch_add(1, Ordering::SeqCst)),
        }
    }

    async fn open(&self, node: &str, life: &Lifecycle) -> Arc<dyn Ledger> {
        match self {
            Self::File(dir) => Arc::new(
                SqliteLedger::open(&dir.file("ledger.db"), node, life)
                    .await
                    .unwrap(),
            ),
            Self::Shared { server, database } => Arc::new(
                PostgresLedger::open(&server.url(database), node, Arc::new(OsEntropy))
                    .await
                    .unwrap(),
            ),
        }
    }

    /// What the death of a process does to its connections.
    async fn hang_up(&self) {
        if let Self::Shared { server, database } = self {
            let end = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
            );
            server.run("postgres", &end).await.unwrap();
        }
    }
}

/// One ledger and one gateway, and processes that come and go.
pub(super) struct World {
    kept: Kept,
    node: &'static str,
    keys: Keys,
    pub(super) gateway: Arc<FakeGateway>,
    pub(super) seats: Arc<FakeSeats>,
    pub(super) checkout: Arc<Checkout>,
    life: Lifecycle,
    fuse: Arc<Fuse>,
    buyers: u32,
    pub(super) payment_timeout: Duration,
}

pub(super) fn buyer(n: u32) -> Subject {
    Subject::customer(&n.to_string()).unwrap()
}

pub(super) fn wish(who: u32, hold: HoldId, card: &str, key: &str) -> PlaceOrder {
    PlaceOrder {
        sale: performance_key().sale,
        buyer: buyer(who),
        visit: VisitId::random(&OsEntropy),
        hold,
        method: "card".into(),
        token: card.into(),
        idempotency_key: key.into(),
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(Fuse::none(), Duration::from_millis(1_500)).await
    }

    pub(super) async fn with(fuse: Arc<Fuse>, payment_timeout: Duration) -> Self {
        Self::on(Kept::File(TempDir::new("checkout")), fuse, payment_timeout).await
    }

    /// With a ledger that nodes share, in a database of its own.
    pub(super) async fn shared(server: &Arc<Postgres>, fuse: Arc<Fuse>, payment_timeout: Duration) -> Self {
        let kept = Kept::shared(server);
        if let Kept::Shared { server, database } = &kept {
            server.create_database(database).await.unwrap();
        }
        Self::on(kept, fuse, payment_timeout).await
    }

    async fn on(kept: Kept, fuse: Arc<Fuse>, payment_timeout: Duration) -> Self {
        let (gateway, keys) = (Arc::new(FakeGateway::default()), Keys::ephemeral(&OsEntropy));
        let (seats, life, node) = (Arc::new(FakeSeats::default()), Lifecycle::new(), "a");
        let ledger = kept.open(node, &life).await;
        let checkout = open(
            ledger,
            &keys,
            &gateway,
            &seats,
            &life,
            Arc::clone(&fuse),
            payment_timeout,
        )
        .await;
        Self {
            kept,
            node,
            keys,
            gateway,
            seats,
            checkout,
            life,
            fuse,
            buyers: 8,
            payment_timeout,
        }
    }

    /// The process dies; another one opens the same ledger, with an engine that knows nothing.
    pub(super) async fn restart(&mut self, fuse: Arc<Fuse>) {
        self.fuse.kill().await;
        self.life.stop();
        self.kept.hang_up().await;
        self.fuse = Arc::clone(&fuse);
        self.life = Lifecycle::new();
        self.seats = Arc::new(FakeSeats::default());
        let ledger = self.kept.open(self.node, &self.life).await;
        self.checkout = open(
            ledger,
            &self.keys,
            &self.gateway,
            &self.seats,
            &self.life,
            fuse,
            self.payment_timeout,
        )
        .await;
    }

    /// The process dies for good, and another node of the house, which knows nothing of its orders, goes on.
    pub(super) async fn hand_over(&mut self, node: &'static str, fuse: Arc<Fuse>) {
        self.node = node;
        self.restart(fuse).await;
    }

    /// Leaves nothing open at a server that others use after this.
    pub(super) async fn end(self) {
        self.life.stop();
        self.kept.hang_up().await;
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) async fn pay(&self, who: u32, hold: HoldId, card: &str, key: &str) -> PlaceOutcome {
        self.checkout
            .place_order(wish(who, hold, card, key))
            .await
            .unwrap()
    }

    pub(super) async fn orders(&self) -> Vec<Order> {
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

    /// I11: with the faults over, everything ends.
    pub(super) async fn comes_to_rest(&self) {
        let at_rest = async {
            loop {
                let running = self.checkout.context.running_orders.count();
                let open = self
                    .orders()
                    .await
                    .iter()
                    .filter(|it| it.state != OrderState::Paid && !it.state.is_final())
                    .count();
                if running + open == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let rested = tokio::time::timeout(Duration::from_mins(1), at_rest).await;
        assert!(rested.is_ok(), "I11: not at rest: {:?}", self.orders().await);
    }

    /// I1, I2 and I8, from the gateway's own book and the tickets, sharing nothing with the code under test.
    pub(super) async fn is_honest(&self) {
        let ledger = &self.checkout.context.ledger;
        let mut sold: BTreeMap<String, OrderId> = BTreeMap::new();
        let mut money: BTreeMap<String, Paid> = self.gateway.book.lock().clone();
        for order in self.orders().await {
            let tickets = ledger.tickets(order.id).await.unwrap();
            for ticket in &tickets {
                let other = sold.insert(ticket.seat.clone(), order.id);
                assert_eq!(other, None, "I1: seat {} is on two tickets", ticket.seat);
            }
            let paid = order.payment_key.as_ref().and_then(|it| money.remove(it));
            let state = paid.as_ref().map(|it| it.state.clone());
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
            money.values().all(|it| it.amount.is_none()),
            "I2: money that no order knows: {money:?}"
        );
        let claims = ledger.claims(None, Timestamp::from_millis(0)).await.unwrap();
        assert!(
            claims.iter().all(|it| it.booked),
            "a claim outlived its order: {claims:?}"
        );
        let mut booked: Vec<String> = claims.into_iter().flat_map(|it| it.seats).collect();
        booked.sort();
        assert_eq!(
            booked,
            sold.into_keys().collect::<Vec<_>>(),
            "claims and tickets differ"
        );
        assert_eq!(booked, self.seats.booked(), "I8: engine and ledger differ");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.life.stop();
    }
}

async fn open(
    ledger: Arc<dyn Ledger>,
    keys: &Keys,
    gateway: &Arc<FakeGateway>,
    seats: &Arc<FakeSeats>,
    life: &Lifecycle,
    fuse: Arc<Fuse>,
    payment_timeout: Duration,
) -> Arc<Checkout> {
    let node = ledger.owner();
    let ledger = FusedLedger(ledger, Arc::clone(&fuse));
    let config = Config {
        sales: vec![SaleConfig {
            sale: performance_key().sale,
            title: "Spring".into(),
            seats_per_fan: 4,
        }],
        issuer: "https://tickets.example".into(),
        order_response_wait: Duration::from_secs(20),
        gateway_timeout: Duration::from_millis(500),
        payment_timeout,
    };
    let deps = Deps {
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(OsEntropy),
        keys: keys.clone(),
        // Opened above, so that it can be fused.
        ledger: LedgerLocation::File(PathBuf::new()),
        node,
        seating: Arc::new(FusedSeats(Arc::clone(seats), Arc::clone(&fuse))),
        gateway: Arc::new(FusedGateway(Arc::clone(gateway), Arc::clone(&fuse))),
        publisher: None,
        life: life.clone(),
        books: life.clone(),
    };
    let checkout = Checkout::open_on(config, deps, Arc::new(ledger)).await.unwrap();
    fuse.armed.store(true, Ordering::SeqCst);
    checkout
}

pub(super) fn buyer_sale() -> SaleId {
    performance_key().sale
}

//! The ledger port: the only authority on who owns a seat, and the record of every saga.
//!
//! Each method is one transaction, durable when it returns. Where a method takes a [`FencedLease`], the write
//! counts only while that lease is the order's latest. So a process that was presumed dead and wakes up again
//! is refused with [`LedgerError::LeaseLost`]. The same conformance suite runs on each implementation.

use async_trait::async_trait;

pub use super::saga_start::SagaStart;
use crate::checkout::{
    order::{Order, OrderState, Reason},
    types::{ClaimedSeats, HeldSeats, PerformanceKey},
};
use crate::kernel::{HoldId, OrderId, SaleId, Subject, Timestamp, VisitId};

/// Why the ledger did not do what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process has leased the order since.
    #[error("another process has leased this order")]
    LeaseLost,
    /// The write queue is full.
    #[error("the ledger's write queue is full")]
    Busy,
    /// The database failed; the text says how.
    #[error("the ledger is not available: {0}")]
    Unavailable(String),
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// The right to change an order: the fence of a lease, valid while it is the order's latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FencedLease {
    /// The leased order.
    pub order: OrderId,
    /// Grows by one with every lease of the order.
    pub fence: i64,
}

/// A request for leases.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    /// Name of the requesting node.
    pub owner: String,
    /// The current time.
    pub now: Timestamp,
    /// When the lease expires.
    pub until: Timestamp,
}

/// Where a saga stands. Saga and step are names, not numbers, so that a table may grow between two versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Name of the saga.
    pub saga: String,
    /// Name of the step.
    pub step: String,
    /// True while compensating: this step is the next to be undone.
    pub undoing: bool,
    /// Failed tries of this step.
    pub attempts: u32,
    /// When this step started.
    pub step_started_at: Timestamp,
}

/// A saga that the holder of its lease may run.
#[derive(Clone, Debug)]
pub struct LeasedSaga {
    /// The lease of the order.
    pub lease: FencedLease,
    /// The visit in which the order was placed.
    pub visit: VisitId,
    /// The order's sale.
    pub sale: SaleId,
    /// Where the saga continues.
    pub position: Position,
}

/// What the engine records between two actions of a saga.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Where the saga continues.
    pub position: Position,
    /// Whether the saga has ended.
    pub ended: bool,
    /// Whether the current step takes far longer than it should.
    pub stuck: bool,
    /// Why the order is being undone; `None` leaves the recorded reason unchanged.
    pub reason: Option<Reason>,
    /// New log entries as step and state, in order.
    pub log: Vec<(String, &'static str)>,
    /// Time of the log entries.
    pub at: Timestamp,
    /// New end of the lease.
    pub lease_until: Timestamp,
}

/// An order to be opened.
#[derive(Clone, Debug)]
pub struct NewOrder {
    /// Id of the order.
    pub id: OrderId,
    /// The buyer.
    pub buyer: Subject,
    /// The visit in which the order is placed.
    pub visit: VisitId,
    /// The hold that is bought.
    pub hold: HoldId,
    /// Content of the hold.
    pub held_seats: HeldSeats,
    /// Payment method, for instance `card`.
    pub method: String,
    /// Idempotency key of the request, unique per buyer.
    pub idempotency_key: String,
    /// Hash that tells two requests under one key apart.
    pub request_hash: String,
    /// First position of the saga.
    pub position: Position,
    /// When an authorization that is still unknown is given up.
    pub payment_deadline: Timestamp,
}

/// Outcome of opening an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenOutcome {
    /// The order is open, and leased to the caller.
    New(FencedLease),
    /// This order already has the key, or is the open attempt on the same hold.
    Existing(OrderId),
    /// The open attempt on the same hold awaits its buyer at the gateway's page. Nothing was written.
    AwaitingBuyer(OrderId),
    /// The key was used with another request.
    KeyReused,
}

/// Outcome of claiming the seats of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The order has all its seats, from now on or since an earlier call.
    Claimed,
    /// Another order has at least one of the seats.
    SeatsTaken,
    /// The buyer would own more seats than the sale allows.
    QuotaReached,
    /// The attempt has been closed; nothing may be claimed for it.
    AttemptClosed,
}

/// A ticket to be issued.
#[derive(Clone, Debug)]
pub struct NewTicket {
    /// Random id of the ticket.
    pub id: String,
    /// Seat id of the plan.
    pub seat: String,
}

/// An event for the shop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Type of the event, for instance `stagedoor.order.booked.v1`.
    pub kind: &'static str,
    /// JSON object.
    pub data: String,
}

/// One entry of an order's saga log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SagaLogEntry {
    /// When it was recorded.
    pub at: Timestamp,
    /// Name of the saga.
    pub saga: String,
    /// Name of the step.
    pub step: String,
    /// One of `started done waiting retrying refused canceled canceled_by_operator undone skipped
    /// undo_skipped`.
    pub state: String,
}

/// An issued ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketRow {
    /// Random id of the ticket.
    pub id: String,
    /// Seat id of the plan.
    pub seat: String,
    /// When the ticket was issued.
    pub issued_at: Timestamp,
}

/// The earlier use of an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// Hash of the request that used the key.
    pub request_hash: String,
    /// The order that the request opened or found.
    pub order: OrderId,
}

/// The epoch of a performance's seat store. It is advanced whenever the store lost its data or moved to a
/// server that does not have them; the store is then rebuilt from the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeatStoreEpoch {
    /// 0 before the first epoch.
    pub epoch: u64,
    /// Identity of the server that holds the data; empty before the first epoch.
    pub identity: String,
}

/// The ledger of all orders.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// This node's name in leases, stable over restarts.
    fn owner(&self) -> String;

    /// Writes an order with its seats, its idempotency key and its saga, and leases it.
    async fn open_order(&self, order: NewOrder, request: LeaseRequest) -> Result<OpenOutcome, LedgerError>;

    /// Claims all seats of the order or none. Each claim gets its seat's next fence, and the buyer's quota is
    /// charged.
    async fn claim(
        &self,
        lease: FencedLease,
        seats_per_customer_max: u8,
        at: Timestamp,
    ) -> Result<ClaimOutcome, LedgerError>;

    /// `claimed -> paying` for the order's claims. Returns false if a claim is gone. From here on only a
    /// terminal refusal or a confirmed void releases the seats.
    async fn lock_claims(&self, lease: FencedLease) -> Result<bool, LedgerError>;

    /// The buyer has to visit the page at `url`, until `until` at the latest.
    async fn await_payment(
        &self,
        lease: FencedLease,
        url: &str,
        until: Timestamp,
        at: Timestamp,
    ) -> Result<(), LedgerError>;

    /// The pivot: `paying -> booked` for the order's claims, with tickets and event. Returns false if a claim
    /// is gone, and true also when the order was booked before; nothing is written twice.
    async fn book(
        &self,
        lease: FencedLease,
        tickets: Vec<NewTicket>,
        event: NewEvent,
        at: Timestamp,
    ) -> Result<bool, LedgerError>;

    /// The money was captured: the order is paid, and the event is written.
    async fn record_capture(
        &self,
        lease: FencedLease,
        event: NewEvent,
        at: Timestamp,
    ) -> Result<(), LedgerError>;

    /// The tickets were delivered.
    async fn record_delivery(&self, lease: FencedLease, at: Timestamp) -> Result<(), LedgerError>;

    /// Voids the tickets, with an event for each; the order is being refunded. Nothing is written twice.
    async fn void_tickets(
        &self,
        lease: FencedLease,
        events: Vec<NewEvent>,
        at: Timestamp,
    ) -> Result<(), LedgerError>;

    /// Deletes the order's claims and restores the buyer's quota.
    async fn release_claims(&self, lease: FencedLease, at: Timestamp) -> Result<(), LedgerError>;

    /// Closes the attempt with its final state and an event. `payment_check_at`: when to look for late money.
    async fn close_order(
        &self,
        lease: FencedLease,
        state: OrderState,
        event: Option<NewEvent>,
        payment_check_at: Option<Timestamp>,
        at: Timestamp,
    ) -> Result<(), LedgerError>;

    /// Records the outcome of one action and the intent of the next, and renews the lease.
    async fn record_progress(&self, lease: FencedLease, progress: Progress) -> Result<(), LedgerError>;

    /// Starts a saga at `position` on an order in state `from`, which takes the lease from its present
    /// holder. `None` in another state.
    async fn start_saga(
        &self,
        order: OrderId,
        start: SagaStart,
        request: LeaseRequest,
    ) -> Result<Option<LeasedSaga>, LedgerError>;

    /// Leases unfinished sagas whose lease has expired; with `include_own` also those of this owner, left
    /// from before a restart.
    async fn lease_due_sagas(
        &self,
        request: LeaseRequest,
        include_own: bool,
        limit: u32,
    ) -> Result<Vec<LeasedSaga>, LedgerError>;

    /// Records a webhook. Returns true if it was not recorded before.
    async fn record_webhook(&self, gateway: &str, event: &str, at: Timestamp) -> Result<bool, LedgerError>;

    /// Sets when the payment of a closed order is looked up next; `None` for never.
    async fn schedule_payment_check(
        &self,
        order: OrderId,
        payment_check_at: Option<Timestamp>,
    ) -> Result<(), LedgerError>;

    /// The current epoch of the performance's seat store.
    async fn seat_store_epoch(&self, performance_key: &PerformanceKey)
    -> Result<SeatStoreEpoch, LedgerError>;

    /// Advances the epoch for the server `identity` if it is still `seen`, and returns the current one in
    /// either case. Of several nodes that find a store's data lost, one advances the epoch and the others
    /// learn of it.
    async fn advance_epoch(
        &self,
        performance_key: &PerformanceKey,
        seen: u64,
        identity: &str,
    ) -> Result<SeatStoreEpoch, LedgerError>;

    /// Gives journal rows that have none yet their sequence and hash in the chain, and returns how many. Any
    /// node may call this at any time.
    async fn chain_journal(&self) -> Result<u64, LedgerError>;

    /// The order of this id.
    async fn order(&self, id: OrderId) -> Result<Option<Order>, LedgerError>;

    /// The order whose payment has this key at the gateway.
    async fn order_by_payment_key(&self, payment_key: &str) -> Result<Option<OrderId>, LedgerError>;

    /// The earlier use of the buyer's idempotency key.
    async fn idempotency_record(
        &self,
        buyer: &Subject,
        key: &str,
    ) -> Result<Option<IdempotencyRecord>, LedgerError>;

    /// When the first of the hold's payments ended without tickets.
    async fn first_failure_at(&self, hold: HoldId) -> Result<Option<Timestamp>, LedgerError>;

    /// The buyer's orders of one sale, newest first, at most 200.
    async fn orders_of(&self, sale: &SaleId, buyer: &Subject) -> Result<Vec<Order>, LedgerError>;

    /// The order's saga log, oldest entry first.
    async fn saga_log(&self, id: OrderId) -> Result<Vec<SagaLogEntry>, LedgerError>;

    /// The order's valid tickets, in the order of its seats.
    async fn tickets(&self, id: OrderId) -> Result<Vec<TicketRow>, LedgerError>;

    /// All live claims, or those that have one of these seats, each with all its seats.
    /// [`ClaimedSeats::until`] is the deadline of an order that awaits its buyer at the gateway's page, and
    /// `keep_until` for the others.
    async fn claims(
        &self,
        only: Option<(&PerformanceKey, &[String])>,
        keep_until: Timestamp,
    ) -> Result<Vec<ClaimedSeats>, LedgerError>;

    /// Closed orders whose payment is due to be looked up.
    async fn payments_to_check(&self, now: Timestamp, limit: u32) -> Result<Vec<OrderId>, LedgerError>;

    /// Number of orders that take far longer than they should.
    async fn stuck_count(&self) -> Result<u64, LedgerError>;
}

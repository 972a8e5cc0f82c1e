//! The ledger's contract: the only authority on who owns a seat, and the memory of every saga.
//!
//! Each method is one transaction, on the disk when it answers. Where a method takes a [`Right`], the write counts only
//! while the caller's lease on the order is the latest: a driver that was presumed dead and wakes up again is refused
//! with [`LedgerError::Lost`]. The same suite runs on each engine (`contract`).

#[cfg(test)]
pub(super) mod conformance;
pub mod postgres;
pub mod sqlite;

use async_trait::async_trait;

use super::{
    order::{Order, OrderState, Reason},
    seats::{HeldSeats, ClaimedSeats, PerformanceKey},
};
use crate::kernel::{HoldId, OrderId, SaleId, Subject, Timestamp, VisitId};

#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    /// Somebody else drives this order now.
    #[error("the lease on this order is another's")]
    Lost,
    #[error("the ledger has too much to write")]
    Busy,
    #[error("the ledger is not available: {0}")]
    Unavailable(String),
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// The right to change an order: the fence of its latest lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FencedLease {
    pub order: OrderId,
    pub fence: i64,
}

/// Who asks for the right, and for how long.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    pub owner: String,
    pub now: Timestamp,
    pub until: Timestamp,
}

/// Where a saga stands. Names, not numbers, so that a table may grow between two versions of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub saga: String,
    pub step: String,
    /// Undoing: this step is the next to be undone.
    pub back: bool,
    /// Failed tries of this step.
    pub attempts: u32,
    /// When this step was begun.
    pub since: Timestamp,
}

/// A saga that its holder may drive.
#[derive(Clone, Debug)]
pub struct LeasedSaga {
    pub lease: FencedLease,
    pub visit: VisitId,
    pub position: Position,
}

/// What a driver writes down between two acts.
#[derive(Clone, Debug)]
pub struct Progress {
    pub position: Position,
    pub ended: bool,
    pub stuck: bool,
    pub reason: Option<Reason>,
    /// Step and state, in order.
    pub log: Vec<(String, &'static str)>,
    pub at: Timestamp,
    pub lease_until: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewOrder {
    pub id: OrderId,
    pub buyer: Subject,
    pub visit: VisitId,
    pub hold: HoldId,
    pub held_seats: HeldSeats,
    pub method: String,
    pub idempotency_key: String,
    pub request_hash: String,
    /// The saga's first position.
    pub position: Position,
    pub payment_deadline: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenOutcome {
    New(FencedLease),
    /// This key, or another attempt on the same hold that is still open, has this order.
    Same(OrderId),
    KeyReused,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// Also when they were claimed before.
    Claimed,
    SeatsTaken,
    QuotaReached,
    /// The attempt has been closed; nothing may be claimed for it.
    Closed,
}

#[derive(Clone, Debug)]
pub struct NewTicket {
    pub id: String,
    pub seat: String,
}

/// An event for the shop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    pub kind: &'static str,
    /// JSON.
    pub data: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    pub order: OrderId,
    /// Grows by one within its order.
    pub sequence: i64,
    pub kind: String,
    pub data: String,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SagaLogEntry {
    pub at: Timestamp,
    pub saga: String,
    pub step: String,
    pub state: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketRow {
    pub id: String,
    pub seat: String,
    pub issued_at: Timestamp,
}

/// An idempotency key's earlier use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyRecord {
    pub request_hash: String,
    pub order: OrderId,
}

/// Which memory of a performance's seats the engine is on: where that memory is lost, or is another server's, the epoch
/// is raised and the seats are rebuilt from the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeatStoreEpoch {
    /// 0 before the first.
    pub epoch: u64,
    /// Of the server that holds it; empty before the first.
    pub identity: String,
}

#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Who this node is in leases: after a restart it finds its own again.
    fn owner(&self) -> String;

    /// Order, its seats, its idempotency key and its saga, in one transaction.
    async fn open_order(&self, order: NewOrder, lease_request: LeaseRequest) -> Result<OpenOutcome, LedgerError>;

    /// One claim row per seat, all or none, each with its seat's next fence; the buyer's quota with them.
    async fn claim(&self, lease: FencedLease, seats_per_fan: u8, at: Timestamp) -> Result<ClaimOutcome, LedgerError>;

    /// `claimed -> paying` by claim and fence; false when a claim is not there any more. From here on only a terminal
    /// refusal or a confirmed void frees the seats.
    async fn lock_claims(&self, lease: FencedLease) -> Result<bool, LedgerError>;

    /// The buyer has to visit this page until then.
    async fn await_payment(
        &self,
        lease: FencedLease,
        url: &str,
        until: Timestamp,
        at: Timestamp,
    ) -> Result<(), LedgerError>;

    /// `paying -> booked` by claim and fence, with tickets and event: the pivot. False when a claim is not there any
    /// more; true also when it was booked before (nothing is written twice).
    async fn book(
        &self,
        lease: FencedLease,
        tickets: Vec<NewTicket>,
        event: NewEvent,
        at: Timestamp,
    ) -> Result<bool, LedgerError>;

    /// The money is there: the order is paid.
    async fn record_capture(&self, lease: FencedLease, at: Timestamp) -> Result<(), LedgerError>;

    async fn record_delivery(&self, lease: FencedLease, at: Timestamp) -> Result<(), LedgerError>;

    /// The tickets are worth nothing from now on; the order is being refunded.
    async fn void_tickets(&self, lease: FencedLease, at: Timestamp) -> Result<(), LedgerError>;

    /// Deletes the order's claims and gives the quota back.
    async fn release_claims(&self, lease: FencedLease, at: Timestamp) -> Result<(), LedgerError>;

    /// The attempt's end: state and event. `check_at`: when to look for money that comes late.
    async fn close_order(
        &self,
        lease: FencedLease,
        state: OrderState,
        event: Option<NewEvent>,
        payment_check_at: Option<Timestamp>,
        at: Timestamp,
    ) -> Result<(), LedgerError>;

    /// Between two acts of a saga: outcome of the one, intent of the next, the lease renewed.
    async fn record_progress(&self, lease: FencedLease, progress: Progress) -> Result<(), LedgerError>;

    /// Starts another saga on an order that is in `from`; whoever drove the order loses the right. None when it is in
    /// another state.
    async fn start_saga(
        &self,
        order: OrderId,
        from: OrderState,
        to: OrderState,
        reason: Reason,
        position: Position,
        lease_request: LeaseRequest,
    ) -> Result<Option<LeasedSaga>, LedgerError>;

    /// Unfinished sagas whose lease has run out (or, with `own_too`, is this owner's from before a restart).
    async fn lease_due_sagas(
        &self,
        lease_request: LeaseRequest,
        include_own: bool,
        limit: u32,
    ) -> Result<Vec<LeasedSaga>, LedgerError>;

    /// Whether this webhook is seen for the first time.
    async fn record_webhook(&self, gateway: &str, event: &str, at: Timestamp) -> Result<bool, LedgerError>;

    async fn record_event_delivery(&self, order: OrderId, sequence: i64, at: Timestamp) -> Result<(), LedgerError>;

    /// When this closed order's payment is looked up next; None: never again.
    async fn schedule_payment_check(&self, order: OrderId, payment_check_at: Option<Timestamp>) -> Result<(), LedgerError>;

    /// The engine's memory of this performance as last counted.
    async fn seat_store_epoch(&self, performance_key: &PerformanceKey) -> Result<SeatStoreEpoch, LedgerError>;

    /// Counts a new memory, held by this server, if the last one counted is still `seen`; what is counted afterwards in
    /// either case. Of several nodes that find a memory lost, one raises and the others learn of it.
    async fn advance_epoch(&self, performance_key: &PerformanceKey, seen: u64, identity: &str) -> Result<SeatStoreEpoch, LedgerError>;

    /// Gives audit rows that have none yet their place and hash in the chain; how many. Any node may, at any time.
    async fn chain_journal(&self) -> Result<u64, LedgerError>;

    async fn order(&self, id: OrderId) -> Result<Option<Order>, LedgerError>;
    async fn order_by_payment_key(&self, payment_key: &str) -> Result<Option<OrderId>, LedgerError>;
    async fn idempotency_record(&self, buyer: &Subject, key: &str) -> Result<Option<IdempotencyRecord>, LedgerError>;
    /// Newest first, at most 200.
    async fn orders_of(&self, sale: &SaleId, buyer: &Subject) -> Result<Vec<Order>, LedgerError>;
    async fn log(&self, id: OrderId) -> Result<Vec<SagaLogEntry>, LedgerError>;
    /// Those not withdrawn.
    async fn tickets(&self, id: OrderId) -> Result<Vec<TicketRow>, LedgerError>;
    /// All live claims, or those on these seats only. `until` is set to `keep_until` where the claim is not booked.
    async fn claims(
        &self,
        only: Option<(&PerformanceKey, &[String])>,
        keep_until: Timestamp,
    ) -> Result<Vec<ClaimedSeats>, LedgerError>;
    async fn undelivered_events(&self, id: OrderId) -> Result<Vec<OutboxRow>, LedgerError>;
    /// Closed orders whose payment should be looked up by now.
    async fn payments_to_check(&self, now: Timestamp, limit: u32) -> Result<Vec<OrderId>, LedgerError>;
    async fn stuck_count(&self) -> Result<u64, LedgerError>;
}

//! [`SeatStore`], the port to the state of one performance's seats. Each method is one atomic step.

use std::sync::Arc;

use async_trait::async_trait;

use crate::kernel::{HoldId, Subject, Timestamp, VisitId};

use crate::seating::{
    hold::{HoldState, RestoredClaim},
    seat::{SeatIx, SeatState, SeatStates},
    types::StoreError,
};

/// A request for all of `seats` or none. The seats are in the plan and distinct.
#[derive(Clone, Debug)]
pub struct StoreHold {
    /// Random id for the new hold. A request with the id of an existing hold is a retry of it.
    pub id: HoldId,
    /// The future owner.
    pub subject: Subject,
    /// The admitted visit of the owner.
    pub visit: VisitId,
    /// The requested seats.
    pub seats: Arc<[SeatIx]>,
    /// Makes the request safe to send again with another `id`.
    pub idempotency_key: Option<IdempotencyKey>,
}

/// Identifies a request that may be sent again: the same key and request give the same hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Hash of the subject and the key it sent.
    pub key_hash: [u8; 16],
    /// Hash of what was requested. The same key with a different hash is refused.
    pub request_hash: [u8; 16],
}

/// A hold as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRecord {
    /// The hold's id.
    pub id: HoldId,
    /// The owner.
    pub subject: Subject,
    /// The admitted visit of the owner.
    pub visit: VisitId,
    /// At least one seat.
    pub seats: Arc<[SeatIx]>,
    /// Deadline; informative only while the hold is in a checkout.
    pub expires_at: Timestamp,
    /// How often the deadline may still be extended.
    pub extensions_left: u8,
    /// Whether a checkout has the hold.
    pub state: HoldState,
}

/// Reply to [`SeatStore::hold`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldReply {
    /// Held as requested.
    Held {
        /// Deadline of the new hold.
        expires_at: Timestamp,
        /// How often the deadline may be extended.
        extensions_left: u8,
    },
    /// The idempotency key was used for the same request: its hold as it is now, or as it was made if it is
    /// over.
    Replayed(HoldRecord),
    /// The idempotency key was used for a different request.
    IdempotencyKeyReused,
    /// These requested seats are not free; nothing is held.
    Taken(Vec<SeatIx>),
    /// The subject would have more seats than allowed.
    LimitReached,
}

/// Reply to [`SeatStore::swap`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeReply {
    /// The hold has the new seats.
    Changed(HoldRecord),
    /// These requested seats are not free; the hold is unchanged.
    Taken(Vec<SeatIx>),
    /// The subject would have more seats than allowed; the hold is unchanged.
    LimitReached,
    /// No such live hold of this subject, or it is in a checkout.
    Gone,
}

/// Reply to [`SeatStore::extend`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtendReply {
    /// The hold has its new deadline.
    Extended(HoldRecord),
    /// All extensions are used, or the hold is in a checkout.
    NoMoreExtensions,
    /// No such live hold of this subject.
    Gone,
}

/// Reply to [`SeatStore::book`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BookReply {
    /// The seats are booked through this hold.
    Booked,
    /// These seats are booked through another hold; nothing was changed.
    Taken(Vec<SeatIx>),
}

/// One seat's new state, as of a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeatChange {
    /// Version of the step that changed the seat. All changes of one step share it.
    pub version: u64,
    /// The changed seat.
    pub seat: SeatIx,
    /// Its state from this version on.
    pub state: SeatState,
}

/// The seat state of one performance.
///
/// - A seat has at most one live holder. A hold is all or none.
/// - A hold in [`HoldState::Held`] is over at its deadline, whether it was expired or not. A hold in
///   [`HoldState::Paying`] is ended by its checkout only.
/// - A subject's limit counts seats held, being paid and booked, in the same step that takes more.
/// - Methods on a hold check its owner; another subject's hold does not exist.
/// - Every step that changes a seat has a version; versions only grow, also over a restart.
#[async_trait]
pub trait SeatStore: Send + Sync + 'static {
    /// Holds all requested seats or none.
    async fn hold(&self, request: &StoreHold) -> Result<HoldReply, StoreError>;

    /// What came of an earlier request with this key, if it is remembered: [`HoldReply::Replayed`] or
    /// [`HoldReply::IdempotencyKeyReused`].
    async fn find_completed(&self, key: &IdempotencyKey) -> Result<Option<HoldReply>, StoreError>;

    /// The subject's live hold with this id.
    async fn find(&self, id: HoldId, subject: &Subject) -> Result<Option<HoldRecord>, StoreError>;

    /// The subject's live holds, in no particular order.
    async fn holds_of(&self, subject: &Subject) -> Result<Vec<HoldRecord>, StoreError>;

    /// Replaces the seats of a hold; those it keeps are never free in between. The deadline stays.
    async fn swap(
        &self,
        id: HoldId,
        subject: &Subject,
        seats: &Arc<[SeatIx]>,
    ) -> Result<ChangeReply, StoreError>;

    /// Moves the deadline as far as a new hold's would be, and uses up one extension.
    async fn extend(&self, id: HoldId, subject: &Subject) -> Result<ExtendReply, StoreError>;

    /// Ends a hold. `false` when there was no such hold to end.
    async fn release(&self, id: HoldId, subject: &Subject) -> Result<bool, StoreError>;

    /// Moves a hold to [`HoldState::Paying`]; `None` when there is no such live hold. The deadline never
    /// moves back.
    async fn begin_checkout(
        &self,
        id: HoldId,
        subject: &Subject,
        until: Timestamp,
    ) -> Result<Option<HoldRecord>, StoreError>;

    /// Moves a hold from [`HoldState::Paying`] back to [`HoldState::Held`], with a new deadline.
    async fn return_to_hold(&self, id: HoldId, until: Timestamp) -> Result<(), StoreError>;

    /// Records a booking of the ledger: the seats are the subject's, unless booked through another hold.
    /// Other holds of these seats end; seats that the booked hold had besides become free.
    async fn book(&self, id: HoldId, subject: &Subject, seats: &[SeatIx]) -> Result<BookReply, StoreError>;

    /// Frees those of the seats that are held, being paid or booked through this hold.
    async fn free(&self, id: HoldId, seats: &[SeatIx]) -> Result<(), StoreError>;

    /// Applies claims of the ledger. Returns the seats that belong to another claim; the claims on them are
    /// left out.
    async fn restore(&self, claims: &[RestoredClaim]) -> Result<Vec<SeatIx>, StoreError>;

    /// Blocks free seats, or frees blocked ones; seats in other states stay as they are.
    async fn set_blocked(&self, seats: &[SeatIx], blocked: bool) -> Result<(), StoreError>;

    /// Ends at most `max` holds that are past their deadline; returns how many.
    async fn expire_holds(&self, max: usize) -> Result<usize, StoreError>;

    /// Appends the changes after a version, in order. Never waits: a remote store answers from what its
    /// change feed has brought. `false` when the log does not reach back that far; then [`SeatStore::load`]
    /// gives all states.
    fn changes_since(&self, after: u64, into: &mut Vec<SeatChange>) -> bool;

    /// All states, and the version that they belong to.
    async fn load(&self) -> Result<(u64, SeatStates), StoreError>;
}

//! Where seats change hands. Each verb is one atomic step of the engine behind the contract.

mod change_log;
#[cfg(test)]
mod conformance;
mod holder_counts;
mod holds;
mod index;
mod memory;
mod operations;
mod redis;
#[cfg(test)]
mod reference_model;
mod seat_table;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::kernel::{HoldId, Subject, Timestamp, VisitId};

use super::{
    hold::{HoldState, RestoredClaim},
    seat::{SeatIx, SeatState, SeatStates},
};

pub use self::redis::{DatasetStatus, RebuildOutcome, RedisStore};
pub use memory::MemoryStore;

/// What an engine must know of a performance.
#[derive(Clone, Copy, Debug)]
pub struct HoldTerms {
    pub hold_ttl: Duration,
    pub extensions_max: u8,
    pub seats_per_customer_max: u8,
}

/// All of `seats` for `subject`, or none. The seats are of the plan and distinct.
#[derive(Clone, Debug)]
pub struct StoreHold {
    /// Drawn at random by whoever asks.
    pub id: HoldId,
    pub subject: Subject,
    pub visit: VisitId,
    pub seats: Arc<[SeatIx]>,
    pub operation: Option<IdempotencyKey>,
}

/// A request that may be sent again: the same key and wish give the same hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Of the subject and her operation id.
    pub key: [u8; 16],
    /// Of what she asked for.
    pub request_hash: [u8; 16],
}

/// A hold as the engine keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRecord {
    pub id: HoldId,
    pub subject: Subject,
    pub visit: VisitId,
    pub seats: Arc<[SeatIx]>,
    pub expires_at: Timestamp,
    pub extensions_left: u8,
    pub state: HoldState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldReply {
    /// The rest is as requested.
    Held {
        expires_at: Timestamp,
        extensions_left: u8,
    },
    /// The operation had been done: its hold, as it is now or, when it is over, as it was.
    Replayed(HoldRecord),
    IdempotencyKeyReused,
    Taken(Vec<SeatIx>),
    LimitReached,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeReply {
    Changed(HoldRecord),
    Taken(Vec<SeatIx>),
    LimitReached,
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtendReply {
    Extended(HoldRecord),
    NoMoreExtensions,
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BookReply {
    Booked,
    /// Booked through another hold; nothing was changed.
    Taken(Vec<SeatIx>),
}

/// One seat's new state, as of a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeatChange {
    pub version: u64,
    pub seat: SeatIx,
    pub state: SeatState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It may or may not have been done; every verb can be sent again.
    #[error("the seat engine did not answer")]
    NoAnswer,
    /// Nobody answers there; what was sent may have been done.
    #[error("the seat engine is away")]
    Unavailable,
    /// It has lost its memory; nothing was done.
    #[error("the seats are being restored from the ledger")]
    Recovering,
}

/// The engine of one performance.
///
/// - A seat has at most one live holder. A hold is all or none.
/// - A hold in `Held` is over at its deadline, swept or not. A hold in `Paying` is ended by its checkout only.
/// - A fan's limit counts her seats held, being paid and booked, in the same step that takes more.
/// - Verbs on a hold ask for its owner; another's hold does not exist.
/// - Every change of a seat's state has a version; versions only grow, also over a restart.
#[async_trait]
pub trait SeatStore: Send + Sync + 'static {
    async fn hold(&self, request: &StoreHold) -> Result<HoldReply, StoreError>;
    /// What an operation has come to, if it is remembered: its reply would be `Again` or `OperationReused`.
    async fn find_completed(&self, operation: &IdempotencyKey) -> Result<Option<HoldReply>, StoreError>;
    async fn find(&self, id: HoldId, who: &Subject) -> Result<Option<HoldRecord>, StoreError>;
    /// The hold has these seats instead; those it keeps are never free in between.
    async fn swap(&self, id: HoldId, who: &Subject, seats: &Arc<[SeatIx]>)
    -> Result<ChangeReply, StoreError>;
    async fn extend(&self, id: HoldId, who: &Subject) -> Result<ExtendReply, StoreError>;
    /// Whether there was such a hold.
    async fn release(&self, id: HoldId, who: &Subject) -> Result<bool, StoreError>;
    async fn begin_checkout(
        &self,
        id: HoldId,
        who: &Subject,
        until: Timestamp,
    ) -> Result<Option<HoldRecord>, StoreError>;
    /// From `Paying` back to `Held`, with a fresh deadline.
    async fn return_to_hold(&self, id: HoldId, until: Timestamp) -> Result<(), StoreError>;
    /// The ledger has booked the seats: they are `who`'s whatever the engine thought, unless booked through another hold.
    /// A hold that stands in the way ends; what the booked hold had besides becomes free.
    async fn book(&self, id: HoldId, who: &Subject, seats: &[SeatIx]) -> Result<BookReply, StoreError>;
    /// Seats held, being paid or booked through this hold become free.
    async fn free(&self, id: HoldId, seats: &[SeatIx]) -> Result<(), StoreError>;
    /// Seats that are somebody else's already are named, and their claims left out.
    async fn restore(&self, claims: &[RestoredClaim]) -> Result<Vec<SeatIx>, StoreError>;
    /// Keeps free seats back, or gives kept-back ones free; seats in other states stay as they are.
    async fn set_blocked(&self, seats: &[SeatIx], blocked: bool) -> Result<(), StoreError>;
    /// Ends holds past their deadline, at most `max`; says how many.
    async fn expire_holds(&self, max: usize) -> Result<usize, StoreError>;

    /// Appends what changed after a version, in order, without asking anybody: an engine elsewhere answers from what its
    /// stream has brought. `false` when so much is not remembered; then [`SeatStore::load`] tells all.
    fn changes_since(&self, after: u64, into: &mut Vec<SeatChange>) -> bool;
    async fn load(&self) -> Result<(u64, SeatStates), StoreError>;
}

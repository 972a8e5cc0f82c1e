//! The words of holding seats: what is wished, what comes of it.

use crate::kernel::{HoldId, Money, Subject, Timestamp, VisitId};

use super::{seat::SeatIx, store::StoreError};

/// Seats that one fan has for herself until a deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub id: HoldId,
    pub subject: Subject,
    pub visit: VisitId,
    pub seats: Vec<SeatIx>,
    pub expires_at: Timestamp,
    /// Face prices of all seats.
    pub total: Money,
    pub extensions_left: u8,
    pub state: HoldState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldState {
    Held,
    /// A checkout has it: it does not run out until the checkout ends it.
    Paying,
}

/// What a fan asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldSpec {
    Seats(Vec<SeatIx>),
    /// `quantity` seats of one price zone, `accessible` of them with room for a wheelchair.
    BestAvailable {
        quantity: u8,
        zone: Option<String>,
        section: Option<String>,
        accessible: u8,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldOutcome {
    Held(Hold),
    /// `taken` of the wished seats are somebody's; each alternative is as many seats together, in the same zone, near the wish.
    Taken {
        taken: Vec<SeatIx>,
        alternatives: Vec<Vec<SeatIx>>,
    },
    LimitReached {
        limit: u8,
    },
    /// No such seats are free, not even apart.
    NoMatchingSeats,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeOutcome {
    Changed(Hold),
    Taken {
        taken: Vec<SeatIx>,
        alternatives: Vec<Vec<SeatIx>>,
    },
    LimitReached {
        limit: u8,
    },
    /// Not hers, run out, or in a checkout.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtendOutcome {
    Extended(Hold),
    /// Extended as often as may be, or in a checkout, which extends it by itself.
    NoMoreExtensions,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseOutcome {
    Released,
    /// Not hers, run out, or in a checkout.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BeginOutcome {
    /// Also when it was in a checkout already.
    Begun(Hold),
    Gone,
}

/// A claim that the ledger knows of, given back to the seats at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredClaim {
    pub hold: HoldId,
    pub subject: Subject,
    pub visit: VisitId,
    pub seats: Vec<SeatIx>,
    /// Booked, or still being paid.
    pub booked: bool,
    pub until: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeatingError {
    #[error("the plan has no seat number {}", .0.0)]
    UnknownSeat(SeatIx),
    #[error("seat number {} is named twice", .0.0)]
    DuplicateSeat(SeatIx),
    #[error("no seat is asked for")]
    NoSeats,
    #[error("more accessible seats than seats are asked for")]
    TooManyAccessible,
    #[error("the plan has no price zone {0:?}")]
    UnknownZone(String),
    #[error("the plan has no section {0:?}")]
    UnknownSection(String),
    /// The same operation id came with another wish.
    #[error("the operation id belongs to another wish")]
    IdempotencyKeyReused,
    /// Booked for somebody else already: the ledger and the seats disagree.
    #[error("seats are booked for somebody else: {0:?}")]
    Conflict(Vec<SeatIx>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

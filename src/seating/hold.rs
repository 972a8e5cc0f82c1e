//! Holds as callers see them: the request, the hold, and every outcome.

use crate::kernel::{HoldId, Money, Subject, Timestamp, VisitId};

use crate::seating::{seat::SeatIx, types::StoreError};

/// Seats reserved for one subject until a deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Random; unique across all performances.
    pub id: HoldId,
    /// The customer who owns the hold.
    pub subject: Subject,
    /// The admitted visit during which the hold was made.
    pub visit: VisitId,
    /// At least one seat, in the order of the request.
    pub seats: Vec<SeatIx>,
    /// While `state` is [`HoldState::Paying`] this is informative only.
    pub expires_at: Timestamp,
    /// Sum of the seats' face prices.
    pub total: Money,
    /// How often the deadline may still be extended.
    pub extensions_left: u8,
    /// Whether a checkout has taken the hold over.
    pub state: HoldState,
}

/// Whether a hold expires by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldState {
    /// Expires at its deadline.
    Held,
    /// A checkout has taken the hold over: it lasts until that checkout ends it.
    Paying,
}

/// Which seats a customer requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldSpec {
    /// Exactly these seats.
    Seats(Vec<SeatIx>),
    /// The best free seats, together where possible.
    BestAvailable {
        /// Number of seats, at least 1.
        quantity: u8,
        /// Price zone by name; any zone when `None`.
        zone: Option<String>,
        /// Section by name; any section when `None`.
        section: Option<String>,
        /// How many of the seats must be wheelchair spaces; at most `quantity`.
        accessible: u8,
    },
}

impl HoldSpec {
    /// How many seats it requests.
    #[must_use]
    pub fn seat_count(&self) -> usize {
        match self {
            Self::Seats(seats) => seats.len(),
            Self::BestAvailable { quantity, .. } => usize::from(*quantity),
        }
    }
}

/// Outcome of a hold request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldOutcome {
    /// All requested seats are held.
    Held(Hold),
    /// Some of the requested seats are not free; nothing is held.
    Taken {
        /// The requested seats that are not free.
        taken: Vec<SeatIx>,
        /// Up to three free groups of the same size and zone, near the requested seats.
        alternatives: Vec<Vec<SeatIx>>,
    },
    /// The customer would have more seats than allowed.
    LimitReached {
        /// Seats that one customer may hold or own.
        limit: u8,
    },
    /// Not enough free seats match the query, not even apart.
    NoMatchingSeats,
    /// A request with this idempotency key was done before, and its hold is over.
    Gone,
}

/// Outcome of replacing the seats of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// The hold has exactly the new seats.
    Changed(Hold),
    /// Some of the new seats are not free; the hold is unchanged.
    Taken {
        /// The requested seats that are not free.
        taken: Vec<SeatIx>,
        /// Up to three free groups of the same size and zone, near the requested seats.
        alternatives: Vec<Vec<SeatIx>>,
    },
    /// The customer would have more seats than allowed; the hold is unchanged.
    LimitReached {
        /// Seats that one customer may hold or own.
        limit: u8,
    },
    /// No such hold of this customer, or it is expired or in a checkout.
    Gone,
}

/// Outcome of extending a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtendOutcome {
    /// The hold has its new deadline.
    Extended(Hold),
    /// All extensions are used, or a checkout has the hold and keeps it alive.
    NoMoreExtensions,
    /// No such hold of this customer, or it is expired.
    Gone,
}

/// Outcome of releasing a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseOutcome {
    /// The hold is over and its seats are free.
    Released,
    /// No such hold of this customer, or it is expired or in a checkout.
    Gone,
}

/// Outcome of starting a checkout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BeginOutcome {
    /// The checkout has the hold, also when it had it before.
    Begun(Hold),
    /// No such hold of this customer, or it is expired.
    Gone,
}

/// A claim from the ledger that must be put back into the seat store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredClaim {
    /// The hold through which the seats were claimed.
    pub hold: HoldId,
    /// The customer who owns the claim.
    pub subject: Subject,
    /// The visit during which the hold was made.
    pub visit: VisitId,
    /// The claimed seats.
    pub seats: Vec<SeatIx>,
    /// `true` when the seats are sold, `false` while they are being paid.
    pub booked: bool,
    /// The deadline to show while the seats are being paid.
    pub until: Timestamp,
}

/// Why a call on a performance failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeatingError {
    /// A seat index is not in the plan.
    #[error("the plan has no seat number {}", .0.0)]
    UnknownSeat(SeatIx),
    /// One request names the same seat twice.
    #[error("seat number {} is named twice", .0.0)]
    DuplicateSeat(SeatIx),
    /// The request names no seat, or its quantity is zero.
    #[error("the request is for no seat")]
    NoSeats,
    /// `accessible` is larger than `quantity`.
    #[error("more accessible seats than seats are requested")]
    TooManyAccessible,
    /// A price zone is not in the plan.
    #[error("the plan has no price zone {0:?}")]
    UnknownZone(String),
    /// A section is not in the plan.
    #[error("the plan has no section {0:?}")]
    UnknownSection(String),
    /// The doors of the performance are open: nothing is sold any more.
    #[error("the doors of the performance are open")]
    DoorsOpen,
    /// The same idempotency key came with a different request.
    #[error("the idempotency key belongs to a different request")]
    IdempotencyKeyReused,
    /// These seats are booked through another hold: the ledger and the seat store disagree.
    #[error("seats are already booked through another hold: {0:?}")]
    Conflict(Vec<SeatIx>),
    /// The seat store did not do it, or its answer is unknown.
    #[error(transparent)]
    Store(#[from] StoreError),
}

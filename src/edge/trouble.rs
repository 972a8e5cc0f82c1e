//! What is answered while a part of the house is away or overrun: 503 with a type that says which part, and a moment to
//! come again that differs from caller to caller. An outage itself is logged where it is noticed, so that a crowd of
//! callers does not write it down again and again.

use super::{
    House,
    problem::{Kind, Problem},
};
use crate::{
    checkout::CheckoutError,
    seating::{SeatingError, StoreError as SeatStoreError},
    waiting_room::{StoreError as QueueStoreError, WaitingRoomError},
};

impl House {
    /// The waiting room cannot do it now.
    pub(super) fn no_door(&self, what: &'static str, error: &WaitingRoomError) -> Problem {
        match error {
            WaitingRoomError::Busy => self.away(Kind::Overloaded, what, error),
            WaitingRoomError::Journal => self.away(Kind::JournalAway, what, error),
            WaitingRoomError::Store(QueueStoreError::Away) => self.away(Kind::EngineAway, what, error),
            WaitingRoomError::Store(QueueStoreError::Rebuilding) => self.away(Kind::EngineRebuilding, what, error),
            WaitingRoomError::Store(QueueStoreError::Parted(_)) => self.unwell(what, error),
        }
    }

    /// The seats cannot do it now.
    pub(super) fn no_seats(&self, what: &'static str, error: &SeatingError) -> Problem {
        match error {
            SeatingError::Store(SeatStoreError::NoAnswer | SeatStoreError::Away) => self.away(Kind::EngineAway, what, error),
            SeatingError::Store(SeatStoreError::Rebuilding) => self.away(Kind::EngineRebuilding, what, error),
            _ => self.unwell(what, error),
        }
    }

    /// The checkout cannot do it now.
    pub(super) fn no_till(&self, what: &'static str, error: &CheckoutError) -> Problem {
        match error {
            CheckoutError::UnknownSale => Problem::new(Kind::NotFound).detail("there is no such sale"),
            CheckoutError::Busy => self.away(Kind::Overloaded, what, error),
            CheckoutError::Seats(_) => self.away(Kind::EngineAway, what, error),
            CheckoutError::Ledger(_) => self.away(Kind::LedgerAway, what, error),
        }
    }

    fn away(&self, kind: Kind, what: &'static str, error: &dyn std::fmt::Display) -> Problem {
        tracing::debug!(what, error = %error, "not possible at this moment");
        Problem::new(kind).retry_after_s(self.soon_s(2, 6))
    }

    fn unwell(&self, what: &'static str, error: &dyn std::fmt::Display) -> Problem {
        Problem::unavailable(what, error).retry_after_s(self.soon_s(2, 6))
    }
}

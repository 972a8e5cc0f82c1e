//! What is answered while a part of the house is away or overrun: 503 with a type that says which part, and a moment to
//! come again that differs from caller to caller. An outage itself is logged where it is noticed, so that a crowd of
//! callers does not write it down again and again.

use crate::edge::{
    House,
    errors::problem::{Kind, Problem},
};
use crate::{
    checkout::CheckoutError,
    seating::{SeatingError, StoreError as SeatStoreError},
    waiting_room::{StoreError as QueueStoreError, WaitingRoomError},
};

impl House {
    /// The waiting room cannot do it now.
    pub(crate) fn no_door(&self, what: &'static str, error: &WaitingRoomError) -> Problem {
        self.trouble(of_the_door(error), what, error)
    }

    /// The seats cannot do it now.
    pub(crate) fn no_seats(&self, what: &'static str, error: &SeatingError) -> Problem {
        self.trouble(of_the_seats(error), what, error)
    }

    /// The checkout cannot do it now.
    pub(crate) fn no_till(&self, what: &'static str, error: &CheckoutError) -> Problem {
        let problem = self.trouble(of_the_till(error), what, error);
        match error {
            // So many were sent away that they would be sent away again.
            CheckoutError::Busy { again } => problem.retry_after_s(self.no_sooner_s(*again)),
            _ => problem,
        }
    }

    fn trouble(&self, kind: Kind, what: &'static str, error: &dyn std::fmt::Display) -> Problem {
        if kind == Kind::TemporarilyUnavailable {
            return Problem::unavailable(what, error).retry_after_s(self.soon_s(2, 6));
        }
        tracing::debug!(what, error = %error, "not possible at this moment");
        Problem::new(kind).retry_after_s(self.soon_s(2, 6))
    }
}

fn of_the_door(error: &WaitingRoomError) -> Kind {
    match error {
        WaitingRoomError::Busy => Kind::Overloaded,
        WaitingRoomError::Journal => Kind::JournalAway,
        WaitingRoomError::Store(QueueStoreError::Away) => Kind::EngineAway,
        WaitingRoomError::Store(QueueStoreError::Rebuilding) => Kind::EngineRebuilding,
        WaitingRoomError::Store(QueueStoreError::Parted(_)) => Kind::TemporarilyUnavailable,
    }
}

fn of_the_seats(error: &SeatingError) -> Kind {
    match error {
        SeatingError::Store(SeatStoreError::NoAnswer | SeatStoreError::Unavailable) => Kind::EngineAway,
        SeatingError::Store(SeatStoreError::Recovering) => Kind::EngineRebuilding,
        _ => Kind::TemporarilyUnavailable,
    }
}

fn of_the_till(error: &CheckoutError) -> Kind {
    match error {
        CheckoutError::UnknownSale => Kind::TemporarilyUnavailable,
        CheckoutError::Busy { .. } => Kind::Overloaded,
        CheckoutError::Seats(_) => Kind::EngineAway,
        CheckoutError::Ledger(_) => Kind::LedgerAway,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::checkout::seats::SeatsError;

    #[test]
    fn each_outage_has_its_name_and_may_be_asked_about_again() {
        let (door, seats) = (WaitingRoomError::Store, SeatingError::Store);
        for (kind, slug) in [
            (of_the_door(&WaitingRoomError::Busy), "overloaded"),
            (of_the_door(&WaitingRoomError::Journal), "journal-away"),
            (of_the_door(&door(QueueStoreError::Away)), "engine-away"),
            (
                of_the_door(&door(QueueStoreError::Rebuilding)),
                "engine-rebuilding",
            ),
            (of_the_seats(&seats(SeatStoreError::NoAnswer)), "engine-away"),
            (of_the_seats(&seats(SeatStoreError::Unavailable)), "engine-away"),
            (
                of_the_seats(&seats(SeatStoreError::Recovering)),
                "engine-rebuilding",
            ),
            (
                of_the_till(&CheckoutError::Seats(SeatsError("no answer".into()))),
                "engine-away",
            ),
            (
                of_the_till(&CheckoutError::Busy {
                    again: Duration::ZERO,
                }),
                "overloaded",
            ),
        ] {
            assert_eq!(
                (kind.slug(), kind.status().as_u16()),
                (format!("/problems/{slug}").as_str(), 503)
            );
        }
    }
}

//! Translation between the ledger's words and the seating context's.

use crate::checkout::{
    seats::port::SeatsError,
    types::{ClaimedSeats, PerformanceKey},
};
use crate::seating::{Performance, RestoredClaim, SeatIx, SeatingError};

pub(super) fn key_of(performance: &Performance) -> PerformanceKey {
    let config = performance.config();
    PerformanceKey {
        sale: config.sale.clone(),
        performance: config.performance.clone(),
    }
}

pub(super) fn as_restored(performance: &Performance, claims: Vec<ClaimedSeats>) -> Vec<RestoredClaim> {
    claims
        .into_iter()
        .map(|claim| RestoredClaim {
            hold: claim.hold,
            subject: claim.buyer,
            visit: claim.visit,
            seats: indexes(performance, &claim.seats),
            booked: claim.booked,
            until: claim.until,
        })
        .collect()
}

/// Seat indexes of these ids. Ids that the plan does not have are left out and logged.
pub(super) fn indexes(performance: &Performance, guids: &[String]) -> Vec<SeatIx> {
    let index = |guid: &String| {
        let index = performance.plan().index_of(guid);
        if index.is_none() {
            tracing::error!(
                guid,
                "the ledger has a seat that the seating plan does not; ignoring it"
            );
        }
        index
    };
    guids.iter().filter_map(index).collect()
}

pub(super) fn guids(performance: &Performance, seats: &[SeatIx]) -> Vec<String> {
    seats
        .iter()
        .map(|seat| performance.plan().guid(*seat).to_owned())
        .collect()
}

/// Treats a conflict as success. The ledger is right, and waiting for the seat store to agree would keep a
/// buyer's money for nothing. The mismatch is logged; recovery or the next restart removes it.
pub(super) fn ledger_prevails(
    performance_key: &PerformanceKey,
    outcome: Result<(), SeatingError>,
) -> Result<(), SeatsError> {
    match outcome {
        Err(SeatingError::Conflict(seats)) => {
            tracing::error!(
                performance = %performance_key.performance,
                seats = seats.len(),
                "the seat store contradicts the ledger; following the ledger"
            );
            Ok(())
        }
        other => Ok(other?),
    }
}

impl From<SeatingError> for SeatsError {
    fn from(error: SeatingError) -> Self {
        Self(error.to_string())
    }
}

//! I8: seat store and ledger agree on booked seats.

use crate::audit::{
    evidence::Evidence,
    findings::{Findings, Invariant},
};

/// I8 in both directions.
pub(crate) fn matches_ledger(evidence: &Evidence, found: &mut Findings) {
    let Some(store_booked) = &evidence.store_booked else {
        return;
    };
    for (performance, seat) in store_booked.difference(&evidence.ledger_booked) {
        found.add(
            Invariant::SeatStoreMatchesLedger,
            format!("the seat store has {seat} of {performance} as booked, the ledger does not"),
        );
    }
    for (performance, seat) in evidence.ledger_booked.difference(store_booked) {
        found.add(
            Invariant::SeatStoreMatchesLedger,
            format!("the ledger has {seat} of {performance} as booked, the seat store does not"),
        );
    }
}

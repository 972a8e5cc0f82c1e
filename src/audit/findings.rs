//! Invariants and their violations.

use std::fmt;

/// The invariants that the audit checks, numbered as in its reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// I1: a seat has at most one live claim.
    OneClaimPerSeat = 1,
    /// I2: captured money if and only if tickets or a refund.
    MoneyMatchesTickets = 2,
    /// I3: no admission while the limit of active visits is reached.
    ActiveVisitsLimit = 3,
    /// I4: admissions in any window stay within rate and burst.
    AdmissionRate = 4,
    /// I5: visitors are admitted in the order of their numbers.
    QueueOrder = 5,
    /// I6: one subject, one number; one number, one subject.
    OneNumber = 6,
    /// I7: nothing acknowledged is lost.
    NothingLost = 7,
    /// I8: seat store and ledger agree on booked seats.
    SeatStoreMatchesLedger = 8,
    /// I9: a call without its proof changes nothing.
    ProofRequired = 9,
    /// I10: the shop's database is used within its budget.
    ShopBudget = 10,
    /// I11: once faults stop, everything ends.
    EverythingEnds = 11,
}

/// One violation of an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The violated invariant.
    pub invariant: Invariant,
    /// What was found, in a sentence.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{}: {}", self.invariant as u8, self.found)
    }
}

/// What the checks have found so far.
#[derive(Default)]
pub(crate) struct Findings(pub(crate) Vec<Violation>);

impl Findings {
    pub(crate) fn add(&mut self, invariant: Invariant, found: String) {
        self.0.push(Violation { invariant, found });
    }
}

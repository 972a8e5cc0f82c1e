//! Judges a sale by what its clients were told and by what its books say in the end.
//!
//! It is simpler than, and independent of, the code it judges: it shares no types with it, and each check is the
//! invariant's sentence written down a second time. [`audit`] wants [`Evidence`]; whoever runs a sale gathers it.

pub mod books;
mod door;
mod evidence;
mod money;
#[cfg(test)]
mod tests;

use std::fmt;

pub use evidence::*;

/// The house's invariants, by the numbers that are used everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// I1: a seat has at most one live claim.
    OneClaimASeat = 1,
    /// I2: captured money if and only if tickets or a refund.
    MoneyForTickets = 2,
    /// I3: no entry while the house is full.
    Capacity = 3,
    /// I4: entries in any window stay within rate and burst.
    Rate = 4,
    /// I5: no one overtakes.
    Order = 5,
    /// I6: one subject, one number.
    OneNumber = 6,
    /// I7: nothing acknowledged is lost.
    NothingLost = 7,
    /// I8: engine and ledger agree on booked seats.
    EngineAgrees = 8,
    /// I9: a call without its proof changes nothing.
    ProofNeeded = 9,
    /// I10: the shop's database is used within its budget.
    ShopBudget = 10,
    /// I11: after faults stop everything comes to an end.
    ComesToRest = 11,
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub invariant: Invariant,
    /// What was found, in a sentence.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{}: {}", self.invariant as u8, self.found)
    }
}

/// Everything in `evidence` that must not be; empty when all is well.
#[must_use]
pub fn audit(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Findings::default();
    money::one_claim_a_seat(evidence, &mut found);
    money::money_for_tickets(evidence, &mut found);
    door::capacity(evidence, &mut found);
    door::rate(evidence, &mut found);
    door::calls_only_grow(evidence, &mut found);
    door::lowest_claimant_first(evidence, &mut found);
    door::returners_within_their_share(evidence, &mut found);
    door::one_number_each(evidence, &mut found);
    door::no_place_lost(evidence, &mut found);
    money::no_order_lost(evidence, &mut found);
    money::engine_agrees(evidence, &mut found);
    proofs_needed(evidence, &mut found);
    shop_within_budget(evidence, &mut found);
    money::sagas_and_holds_end(evidence, &mut found);
    door::queue_moves(evidence, &mut found);
    found.0
}

/// What the checks have found so far.
#[derive(Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn add(&mut self, invariant: Invariant, found: String) {
        self.0.push(Violation { invariant, found });
    }
}

/// I9, twice: by calls made to try it, and by orders of visits that never were.
fn proofs_needed(evidence: &Evidence, found: &mut Findings) {
    for probe in &evidence.probes {
        if !(400..500).contains(&probe.status) {
            found.add(
                Invariant::ProofNeeded,
                format!("{} was answered {}", probe.what, probe.status),
            );
        }
        if probe.before != probe.after {
            found.add(
                Invariant::ProofNeeded,
                format!("{} changed {:?} into {:?}", probe.what, probe.before, probe.after),
            );
        }
    }
    let visits: std::collections::HashSet<&str> = evidence.entries.iter().map(|e| e.visit.as_str()).collect();
    for order in evidence
        .orders
        .iter()
        .filter(|o| !visits.contains(o.visit.as_str()))
    {
        found.add(
            Invariant::ProofNeeded,
            format!(
                "order {} is of visit {}, which never entered",
                order.id, order.visit
            ),
        );
    }
}

fn shop_within_budget(evidence: &Evidence, found: &mut Findings) {
    let Some(shop) = evidence.shop else { return };
    if shop.connections_seen_max > shop.connections_max {
        let (seen, max) = (shop.connections_seen_max, shop.connections_max);
        found.add(
            Invariant::ShopBudget,
            format!("{seen} connections to the shop's database, {max} are allowed"),
        );
    }
    if shop.queries_per_second_seen_max > shop.queries_per_second_max {
        let (seen, max) = (shop.queries_per_second_seen_max, shop.queries_per_second_max);
        found.add(
            Invariant::ShopBudget,
            format!("{seen} queries a second on the shop's database, {max} are allowed"),
        );
    }
}

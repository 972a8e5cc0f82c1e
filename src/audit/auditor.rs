//! Runs all checks.

use crate::audit::{
    checks::{
        admission, claims, durability, numbers, payments, proofs, queue_order, seat_store, shop_budget,
        termination,
    },
    evidence::Evidence,
    findings::{Findings, Violation},
};

/// All violations in the evidence; empty if there are none.
#[must_use]
pub fn audit(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Findings::default();
    claims::one_claim_per_seat(evidence, &mut found);
    payments::money_matches_tickets(evidence, &mut found);
    admission::active_visits_limit(evidence, &mut found);
    admission::rate(evidence, &mut found);
    queue_order::calls_only_grow(evidence, &mut found);
    queue_order::lowest_claimant_first(evidence, &mut found);
    queue_order::late_arrivals_within_share(evidence, &mut found);
    numbers::one_number_each(evidence, &mut found);
    durability::no_entry_lost(evidence, &mut found);
    durability::no_order_lost(evidence, &mut found);
    seat_store::matches_ledger(evidence, &mut found);
    proofs::required(evidence, &mut found);
    shop_budget::within_budget(evidence, &mut found);
    termination::orders_and_holds_end(evidence, &mut found);
    termination::queue_moves(evidence, &mut found);
    found.0
}

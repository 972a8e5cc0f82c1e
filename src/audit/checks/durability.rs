//! I7: nothing acknowledged is lost.

use std::collections::{HashMap, HashSet};

use crate::audit::{
    evidence::{Evidence, Order, OrderState},
    findings::{Findings, Invariant},
};

/// I7 for queue entries and admissions.
pub(crate) fn no_entry_lost(evidence: &Evidence, found: &mut Findings) {
    let journal: HashSet<u64> = evidence.journal_joins.iter().map(|join| join.number).collect();
    for join in &evidence.acknowledged_joins {
        if let Some(number) = join.number
            && !journal.contains(&number)
        {
            let at = join.acknowledged_at;
            found.add(
                Invariant::NothingLost,
                format!("number {number}, acknowledged at {at}, is not in the journal"),
            );
        }
    }
    let without_number = evidence
        .acknowledged_joins
        .iter()
        .filter(|join| join.number.is_none())
        .count();
    if evidence.acknowledged_joins.len() > evidence.journal_joins.len() {
        let (acknowledged, recorded) = (evidence.acknowledged_joins.len(), evidence.journal_joins.len());
        found.add(
            Invariant::NothingLost,
            format!(
                "{acknowledged} joins were acknowledged ({without_number} of them unnumbered), \
                     the journal has {recorded}"
            ),
        );
    }
    for subject in &evidence.lost_entries {
        found.add(
            Invariant::NothingLost,
            format!("the queue token of {subject} was no longer accepted"),
        );
    }
    let admitted: HashSet<u64> = evidence
        .admissions
        .iter()
        .map(|admission| admission.number)
        .collect();
    for admission in evidence
        .acknowledged_admissions
        .iter()
        .filter(|admission| !admitted.contains(&admission.number))
    {
        let (number, at) = (admission.number, admission.at);
        found.add(
            Invariant::NothingLost,
            format!("the admission of number {number}, acknowledged at {at}, is not in the journal"),
        );
    }
}

/// I7 for orders: an acknowledged order is in the ledger, with the same seats and the same total.
pub(crate) fn no_order_lost(evidence: &Evidence, found: &mut Findings) {
    let ledger: HashMap<&str, &Order> = evidence
        .orders
        .iter()
        .map(|order| (order.id.as_str(), order))
        .collect();
    for acknowledged in &evidence.acknowledged_orders {
        let Some(order) = ledger.get(acknowledged.id.as_str()) else {
            found.add(
                Invariant::NothingLost,
                format!(
                    "order {} was acknowledged as {:?} and is not in the ledger",
                    acknowledged.id, acknowledged.state
                ),
            );
            continue;
        };
        if acknowledged.state != OrderState::Paid {
            continue;
        }
        // Its buyer or an operator may have canceled it since.
        if !matches!(
            order.state,
            OrderState::Paid | OrderState::Ended | OrderState::Open
        ) {
            found.add(
                Invariant::NothingLost,
                format!(
                    "order {} was acknowledged as paid and is {:?}",
                    acknowledged.id, order.state
                ),
            );
        }
        let sorted = |seats: &[String]| {
            let mut seats = seats.to_vec();
            seats.sort_unstable();
            seats
        };
        if sorted(&acknowledged.seats) != sorted(&order.seats) || acknowledged.total != order.total {
            let (acknowledged_seats, seats) = (&acknowledged.seats, &order.seats);
            found.add(
                Invariant::NothingLost,
                format!(
                    "order {} was acknowledged with {acknowledged_seats:?} for {}, the ledger says \
                        {seats:?} for {}",
                    acknowledged.id, acknowledged.total, order.total
                ),
            );
        }
    }
}

//! I1: a seat has at most one live claim.

use std::collections::{BTreeMap, HashMap};

use crate::audit::{
    evidence::{Evidence, OrderState},
    findings::{Findings, Invariant},
};

/// I1 in the ledger's claims, in the tickets, and in the acknowledged orders.
pub(crate) fn one_claim_per_seat(evidence: &Evidence, found: &mut Findings) {
    let mut claimed = BTreeMap::new();
    for claim in evidence.claims.iter().filter(|claim| claim.live) {
        if let Some(first) = claimed.insert((&claim.performance, &claim.seat), &claim.order) {
            let (seat, second) = (&claim.seat, &claim.order);
            found.add(
                Invariant::OneClaimPerSeat,
                format!(
                    "seat {seat} of {} is claimed by {first} and {second}",
                    claim.performance
                ),
            );
        }
    }
    let mut ticketed = BTreeMap::new();
    for ticket in evidence.tickets.iter().filter(|ticket| ticket.valid) {
        if let Some(first) = ticketed.insert((&ticket.performance, &ticket.seat), &ticket.order) {
            let (seat, second) = (&ticket.seat, &ticket.order);
            found.add(
                Invariant::OneClaimPerSeat,
                format!(
                    "seat {seat} of {} has tickets of {first} and {second}",
                    ticket.performance
                ),
            );
        }
    }
    let performance_of: HashMap<&str, &str> = evidence
        .orders
        .iter()
        .map(|order| (order.id.as_str(), order.performance.as_str()))
        .collect();
    let ended: HashMap<&str, OrderState> = evidence
        .orders
        .iter()
        .map(|order| (order.id.as_str(), order.state))
        .collect();
    let mut acknowledged = BTreeMap::new();
    for order in &evidence.acknowledged_orders {
        // An order that was canceled later has given its seats back.
        if order.state != OrderState::Paid || ended.get(order.id.as_str()) == Some(&OrderState::Ended) {
            continue;
        }
        for seat in &order.seats {
            let performance = performance_of.get(order.id.as_str()).copied().unwrap_or_default();
            if let Some(first) = acknowledged.insert((performance, seat), &order.id)
                && first != &order.id
            {
                found.add(
                    Invariant::OneClaimPerSeat,
                    format!("{first} and {} were both acknowledged with seat {seat}", order.id),
                );
            }
        }
    }
}

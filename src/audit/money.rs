//! Seats, money, tickets: I1, I2, I8, and the parts of I7 and I11 that are about orders.

use std::collections::{BTreeMap, HashMap};

use crate::audit::{Evidence, Findings, Invariant, Order, OrderState};

/// I1 in the ledger's claims, in the tickets, and in what buyers were told.
pub(crate) fn one_claim_a_seat(evidence: &Evidence, found: &mut Findings) {
    let mut claimed = BTreeMap::new();
    for claim in evidence.claims.iter().filter(|c| c.live) {
        if let Some(first) = claimed.insert((&claim.performance, &claim.seat), &claim.order) {
            let (seat, second) = (&claim.seat, &claim.order);
            found.add(
                Invariant::OneClaimASeat,
                format!(
                    "seat {seat} of {} is claimed by {first} and {second}",
                    claim.performance
                ),
            );
        }
    }
    let mut ticketed = BTreeMap::new();
    for ticket in evidence.tickets.iter().filter(|t| t.valid) {
        if let Some(first) = ticketed.insert((&ticket.performance, &ticket.seat), &ticket.order) {
            let (seat, second) = (&ticket.seat, &ticket.order);
            found.add(
                Invariant::OneClaimASeat,
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
        .map(|o| (o.id.as_str(), o.performance.as_str()))
        .collect();
    let ended: HashMap<&str, OrderState> = evidence.orders.iter().map(|o| (o.id.as_str(), o.state)).collect();
    let mut told = BTreeMap::new();
    for order in &evidence.acknowledged_orders {
        // An order that its buyer cancelled later has given its seats back.
        if order.state != OrderState::Paid || ended.get(order.id.as_str()) == Some(&OrderState::Ended) {
            continue;
        }
        for seat in &order.seats {
            let performance = performance_of.get(order.id.as_str()).copied().unwrap_or_default();
            if let Some(first) = told.insert((performance, seat), &order.id)
                && first != &order.id
            {
                found.add(
                    Invariant::OneClaimASeat,
                    format!(
                        "{first} and {} were both told that seat {seat} is theirs",
                        order.id
                    ),
                );
            }
        }
    }
}

/// I2, from the gateway's book towards the ledger and back.
pub(crate) fn money_for_tickets(evidence: &Evidence, found: &mut Findings) {
    let mut kept: HashMap<&str, i64> = HashMap::new();
    let mut reserved: HashMap<&str, i64> = HashMap::new();
    for payment in &evidence.payments {
        *kept.entry(&payment.order).or_default() += payment.captured - payment.refunded;
        *reserved.entry(&payment.order).or_default() += payment.reserved;
        if payment.refunded > payment.captured {
            let (back, taken) = (payment.refunded, payment.captured);
            found.add(
                Invariant::MoneyForTickets,
                format!("order {} got back {back} of {taken}", payment.order),
            );
        }
    }
    let mut tickets: HashMap<&str, Vec<&str>> = HashMap::new();
    for ticket in evidence.tickets.iter().filter(|t| t.valid) {
        tickets.entry(&ticket.order).or_default().push(&ticket.seat);
    }
    for order in &evidence.orders {
        let money = kept.remove(order.id.as_str()).unwrap_or(0);
        let held_back = reserved.remove(order.id.as_str()).unwrap_or(0);
        let mut seats = tickets.remove(order.id.as_str()).unwrap_or_default();
        seats.sort_unstable();
        for fault in one_order(order, money, held_back, &seats, evidence.settled) {
            found.add(
                Invariant::MoneyForTickets,
                format!("order {} ({:?}): {fault}", order.id, order.state),
            );
        }
    }
    for (order, money) in kept.into_iter().filter(|(_, money)| *money != 0) {
        found.add(
            Invariant::MoneyForTickets,
            format!("the gateway keeps {money} for order {order}, which the ledger does not know"),
        );
    }
    for (order, seats) in tickets {
        found.add(
            Invariant::MoneyForTickets,
            format!("tickets for {seats:?} of order {order}, which the ledger does not know"),
        );
    }
}

fn one_order(order: &Order, kept: i64, reserved: i64, ticketed: &[&str], settled: bool) -> Vec<String> {
    let mut faults = Vec::new();
    match order.state {
        OrderState::Paid => {
            let mut seats: Vec<&str> = order.seats.iter().map(String::as_str).collect();
            seats.sort_unstable();
            if seats != ticketed {
                faults.push(format!("its seats are {seats:?}, its tickets {ticketed:?}"));
            }
            // Capture follows the tickets; until all has come to rest the money may still be only reserved.
            let paid = kept == order.total || (!settled && kept == 0 && reserved == order.total);
            if !paid {
                faults.push(format!("it costs {}, the gateway keeps {kept}", order.total));
            }
        }
        OrderState::Ended => {
            if !ticketed.is_empty() {
                faults.push(format!("it ended, and yet there are tickets for {ticketed:?}"));
            }
            if kept != 0 {
                faults.push(format!("it ended, and yet the gateway keeps {kept}"));
            }
            if settled && reserved != 0 {
                faults.push(format!("it ended, and yet {reserved} is still reserved"));
            }
        }
        // On its way money may be anywhere but in tickets' company of another amount; I11 asks that it arrives.
        OrderState::Open | OrderState::Stuck => {
            if kept != 0 && kept != order.total {
                faults.push(format!("it costs {}, the gateway keeps {kept}", order.total));
            }
        }
    }
    faults
}

/// I7 for orders: what a buyer was told stands in the ledger, with the same seats and the same sum.
pub(crate) fn no_order_lost(evidence: &Evidence, found: &mut Findings) {
    let ledger: HashMap<&str, &Order> = evidence.orders.iter().map(|o| (o.id.as_str(), o)).collect();
    for told in &evidence.acknowledged_orders {
        let Some(order) = ledger.get(told.id.as_str()) else {
            found.add(
                Invariant::NothingLost,
                format!(
                    "order {} was acknowledged as {:?} and is not in the ledger",
                    told.id, told.state
                ),
            );
            continue;
        };
        if told.state != OrderState::Paid {
            continue;
        }
        // A buyer may cancel what she paid; nothing else takes a paid order back.
        if !matches!(
            order.state,
            OrderState::Paid | OrderState::Ended | OrderState::Open
        ) {
            found.add(
                Invariant::NothingLost,
                format!(
                    "order {} was acknowledged as paid and is {:?}",
                    told.id, order.state
                ),
            );
        }
        let sorted = |seats: &[String]| {
            let mut seats = seats.to_vec();
            seats.sort_unstable();
            seats
        };
        if sorted(&told.seats) != sorted(&order.seats) || told.total != order.total {
            let (told_seats, seats) = (&told.seats, &order.seats);
            found.add(
                Invariant::NothingLost,
                format!(
                    "order {} was acknowledged with {told_seats:?} for {}, the ledger says {seats:?} for {}",
                    told.id, told.total, order.total
                ),
            );
        }
    }
}

/// I8.
pub(crate) fn engine_agrees(evidence: &Evidence, found: &mut Findings) {
    for (performance, seat) in evidence.engine_booked.difference(&evidence.ledger_booked) {
        found.add(
            Invariant::EngineAgrees,
            format!("the engine says that {seat} of {performance} is booked, the ledger does not"),
        );
    }
    for (performance, seat) in evidence.ledger_booked.difference(&evidence.engine_booked) {
        found.add(
            Invariant::EngineAgrees,
            format!("the ledger says that {seat} of {performance} is booked, the engine does not"),
        );
    }
}

/// I11 for orders and holds.
pub(crate) fn sagas_and_holds_end(evidence: &Evidence, found: &mut Findings) {
    if evidence.settled {
        for order in evidence
            .orders
            .iter()
            .filter(|o| matches!(o.state, OrderState::Open | OrderState::Stuck))
        {
            found.add(
                Invariant::ComesToRest,
                format!("order {} is still {:?}", order.id, order.state),
            );
        }
    }
    for hold in &evidence.holds {
        if hold.expires_at.plus(evidence.sweep_every) < evidence.observed_at
            && (!hold.paying || evidence.settled)
        {
            let (id, expired, now) = (&hold.id, hold.expires_at, evidence.observed_at);
            found.add(
                Invariant::ComesToRest,
                format!("hold {id} expired at {expired} and was still there at {now}"),
            );
        }
    }
}

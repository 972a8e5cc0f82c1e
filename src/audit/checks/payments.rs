//! I2: captured money if and only if tickets or a refund.

use std::collections::HashMap;

use crate::audit::{
    evidence::{Evidence, Order, OrderState},
    findings::{Findings, Invariant},
};

/// I2, from the gateway's statement to the ledger and back.
pub(crate) fn money_matches_tickets(evidence: &Evidence, found: &mut Findings) {
    let mut kept: HashMap<&str, i64> = HashMap::new();
    let mut reserved: HashMap<&str, i64> = HashMap::new();
    for payment in evidence.payments.iter().flatten() {
        *kept.entry(&payment.order).or_default() += payment.captured - payment.refunded;
        *reserved.entry(&payment.order).or_default() += payment.reserved;
        if payment.refunded > payment.captured {
            let (back, taken) = (payment.refunded, payment.captured);
            found.add(
                Invariant::MoneyMatchesTickets,
                format!("order {} was refunded {back} of {taken}", payment.order),
            );
        }
    }
    let mut tickets: HashMap<&str, Vec<&str>> = HashMap::new();
    for ticket in evidence.tickets.iter().filter(|ticket| ticket.valid) {
        tickets.entry(&ticket.order).or_default().push(&ticket.seat);
    }
    for order in &evidence.orders {
        let money = evidence.payments.is_some().then(|| Money {
            kept: kept.remove(order.id.as_str()).unwrap_or(0),
            reserved: reserved.remove(order.id.as_str()).unwrap_or(0),
        });
        let mut seats = tickets.remove(order.id.as_str()).unwrap_or_default();
        seats.sort_unstable();
        for fault in faults_of(order, money, &seats, evidence.settled) {
            found.add(
                Invariant::MoneyMatchesTickets,
                format!("order {} ({:?}): {fault}", order.id, order.state),
            );
        }
    }
    for (order, money) in kept.into_iter().filter(|(_, money)| *money != 0) {
        found.add(
            Invariant::MoneyMatchesTickets,
            format!("the gateway keeps {money} for order {order}, which the ledger does not know"),
        );
    }
    for (order, seats) in tickets {
        found.add(
            Invariant::MoneyMatchesTickets,
            format!("tickets for {seats:?} of order {order}, which the ledger does not know"),
        );
    }
}

/// What the gateway says of an order's money.
#[derive(Clone, Copy)]
struct Money {
    kept: i64,
    reserved: i64,
}

/// `money` is `None` when the gateway's statement was not read: then only tickets are judged.
fn faults_of(order: &Order, money: Option<Money>, ticketed: &[&str], settled: bool) -> Vec<String> {
    let mut faults = Vec::new();
    if order.state == OrderState::Paid {
        let mut seats: Vec<&str> = order.seats.iter().map(String::as_str).collect();
        seats.sort_unstable();
        if seats != ticketed {
            faults.push(format!("its seats are {seats:?}, its tickets {ticketed:?}"));
        }
    }
    if order.state == OrderState::Ended && !ticketed.is_empty() {
        faults.push(format!("it ended, and yet there are tickets for {ticketed:?}"));
    }
    let Some(Money { kept, reserved }) = money else {
        return faults;
    };
    match order.state {
        OrderState::Paid => {
            // Capture follows the tickets, so until everything is settled the money may still be reserved
            // only.
            let paid = kept == order.total || (!settled && kept == 0 && reserved == order.total);
            if !paid {
                faults.push(format!("it costs {}, the gateway keeps {kept}", order.total));
            }
        }
        OrderState::Ended => {
            if kept != 0 {
                faults.push(format!("it ended, and yet the gateway keeps {kept}"));
            }
            if settled && reserved != 0 {
                faults.push(format!("it ended, and yet {reserved} is still reserved"));
            }
        }
        // The money of an open order may be anywhere, but never another amount. I11 checks that the order
        // ends.
        OrderState::Open | OrderState::Stuck => {
            if kept != 0 && kept != order.total {
                faults.push(format!("it costs {}, the gateway keeps {kept}", order.total));
            }
        }
    }
    faults
}

//! Reads the ledger: orders, claims and tickets.

use std::collections::{HashMap, HashSet};

use super::source::{ReadError, Source};
use crate::{
    audit::evidence::{Claim, Evidence, Order, OrderState, Ticket},
    kernel::SaleId,
};

/// Reads orders, claims and tickets of one sale.
pub(super) async fn read_ledger(
    source: &Source,
    sale: &SaleId,
    evidence: &mut Evidence,
) -> Result<(), ReadError> {
    let performance_of = read_orders(source, sale, evidence).await?;
    read_claims(source, sale, evidence).await?;
    read_tickets(source, &performance_of, evidence).await
}

/// Reads the orders, and returns the performance of each one.
async fn read_orders(
    source: &Source,
    sale: &SaleId,
    evidence: &mut Evidence,
) -> Result<HashMap<String, String>, ReadError> {
    let mut seats: HashMap<String, Vec<String>> = HashMap::new();
    for (order, seat) in source
        .all::<(String, String)>("SELECT order_id, seat FROM order_seat")
        .await?
    {
        seats.entry(order).or_default().push(seat);
    }
    let mut performance_of: HashMap<String, String> = HashMap::new();
    let orders: Vec<(String, String, String, String, i64, bool)> = source
        .rows(
            "SELECT id, performance, visit, state, amount, stuck FROM orders WHERE sale = $1",
            sale,
        )
        .await?;
    for (id, performance, visit, state, total, stuck) in orders {
        let state = match state.as_str() {
            "paid" => OrderState::Paid,
            "declined" | "expired" | "refunded" | "canceled" => OrderState::Ended,
            _ if stuck => OrderState::Stuck,
            _ => OrderState::Open,
        };
        performance_of.insert(id.clone(), performance.clone());
        evidence.orders.push(Order {
            seats: seats.remove(&id).unwrap_or_default(),
            id,
            state,
            visit,
            performance,
            total,
        });
    }
    Ok(performance_of)
}

async fn read_claims(source: &Source, sale: &SaleId, evidence: &mut Evidence) -> Result<(), ReadError> {
    let claims: Vec<(String, String, String, String)> = source
        .rows(
            "SELECT performance, seat, order_id, state FROM seat_claim WHERE sale = $1",
            sale,
        )
        .await?;
    for (performance, seat, order, state) in claims {
        if state == "booked" {
            evidence.ledger_booked.insert((performance.clone(), seat.clone()));
        }
        // A row is a live claim; releasing a seat deletes it.
        evidence.claims.push(Claim {
            performance,
            seat,
            order,
            live: true,
        });
    }
    Ok(())
}

async fn read_tickets(
    source: &Source,
    performance_of: &HashMap<String, String>,
    evidence: &mut Evidence,
) -> Result<(), ReadError> {
    let tickets: Vec<(String, String, Option<i64>)> =
        source.all("SELECT order_id, seat, voided_at FROM ticket").await?;
    for (order, seat, voided_at) in tickets {
        let Some(performance) = performance_of.get(&order).cloned() else {
            continue;
        };
        evidence.tickets.push(Ticket {
            order,
            performance,
            seat,
            valid: voided_at.is_none(),
        });
    }
    Ok(())
}

/// Orders of other sales, whose payments are in the same source.
pub(super) async fn read_other_orders(source: &Source, sale: &SaleId) -> Result<HashSet<String>, ReadError> {
    let rows: Vec<(String,)> = source
        .rows("SELECT id FROM orders WHERE sale <> $1", sale)
        .await?;
    Ok(rows.into_iter().map(|(id,)| id).collect())
}

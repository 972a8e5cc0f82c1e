//! Reads the sandbox gateway's statement.

use std::collections::HashSet;

use serde_json::Value;

use super::source::{ReadError, Source};
use crate::audit::evidence::{Evidence, Payment};

/// Reads the payments, except those of `others`.
pub(super) async fn read_statement(
    source: &Source,
    others: &HashSet<String>,
    evidence: &mut Evidence,
) -> Result<(), ReadError> {
    let payments = evidence.payments.get_or_insert_default();
    for (key, state, body) in source
        .all::<(String, String, String)>("SELECT key, state, body FROM payment")
        .await?
    {
        let state = state.as_str();
        // The key of a payment: the order, a colon, a fence.
        let order = key.split(':').next().unwrap_or_default().to_owned();
        if others.contains(&order) {
            continue;
        }
        let body: Value =
            serde_json::from_str(&body).map_err(|e| source.invalid(format!("a payment: {e}")))?;
        // A payment that was voided before it arrived has no amount, and needs none.
        let moved = ["authorized", "captured", "refunded"].contains(&state);
        let amount = match body["amount"]["amount"].as_i64() {
            None if moved => return Err(source.invalid("a payment without an amount")),
            amount => amount.unwrap_or(0),
        };
        let when = |states: &[&str]| if states.contains(&state) { amount } else { 0 };
        payments.push(Payment {
            order,
            captured: when(&["captured", "refunded"]),
            refunded: when(&["refunded"]),
            reserved: when(&["authorized"]),
        });
    }
    Ok(())
}

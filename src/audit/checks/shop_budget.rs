//! I10: the shop's database is used within its budget.

use crate::audit::{
    evidence::Evidence,
    findings::{Findings, Invariant},
};

/// I10.
pub(crate) fn within_budget(evidence: &Evidence, found: &mut Findings) {
    let Some(shop) = evidence.shop else { return };
    if shop.connections_seen_max > shop.connections_max {
        let (seen, max) = (shop.connections_seen_max, shop.connections_max);
        found.add(
            Invariant::ShopBudget,
            format!("the shop's database had {seen} connections, {max} are allowed"),
        );
    }
    if shop.queries_per_second_seen_max > shop.queries_per_second_max {
        let (seen, max) = (shop.queries_per_second_seen_max, shop.queries_per_second_max);
        found.add(
            Invariant::ShopBudget,
            format!("the shop's database had {seen} queries a second, {max} are allowed"),
        );
    }
}

//! I9: a call without its proof changes nothing.

use std::collections::HashSet;

use crate::audit::{
    evidence::Evidence,
    findings::{Findings, Invariant},
};

/// I9, by calls made without their proof, and by orders of visits that were never admitted.
pub(crate) fn required(evidence: &Evidence, found: &mut Findings) {
    for probe in &evidence.probes {
        if !(400..500).contains(&probe.status) {
            found.add(
                Invariant::ProofRequired,
                format!("{} was answered {}", probe.what, probe.status),
            );
        }
        if probe.before != probe.after {
            found.add(
                Invariant::ProofRequired,
                format!("{} changed {:?} into {:?}", probe.what, probe.before, probe.after),
            );
        }
    }
    let visits: HashSet<&str> = evidence
        .admissions
        .iter()
        .map(|admission| admission.visit.as_str())
        .collect();
    for order in evidence
        .orders
        .iter()
        .filter(|order| !visits.contains(order.visit.as_str()))
    {
        found.add(
            Invariant::ProofRequired,
            format!(
                "order {} belongs to visit {}, which was never admitted",
                order.id, order.visit
            ),
        );
    }
}

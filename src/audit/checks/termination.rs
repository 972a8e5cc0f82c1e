//! I11: once faults stop, everything ends.

use crate::audit::{
    checks::timeline::{admissions_allowed, settings_at},
    evidence::{Evidence, OrderState},
    findings::{Findings, Invariant},
};

/// I11 for orders and holds.
pub(crate) fn orders_and_holds_end(evidence: &Evidence, found: &mut Findings) {
    if evidence.settled {
        for order in evidence
            .orders
            .iter()
            .filter(|order| matches!(order.state, OrderState::Open | OrderState::Stuck))
        {
            found.add(
                Invariant::EverythingEnds,
                format!("order {} is still {:?}", order.id, order.state),
            );
        }
    }
    for hold in &evidence.holds {
        if hold.expires_at.plus(evidence.sweep_interval) < evidence.observed_at
            && (!hold.paying || evidence.settled)
        {
            let (id, expired, now) = (&hold.id, hold.expires_at, evidence.observed_at);
            found.add(
                Invariant::EverythingEnds,
                format!("hold {id} expired at {expired} and was still there at {now}"),
            );
        }
    }
}

/// I11 for the queue: while visitors wait and the limit is not reached, visitors are admitted.
pub(crate) fn queue_moves(evidence: &Evidence, found: &mut Findings) {
    let Some(watched) = evidence.progress else { return };
    let Some(settings) = settings_at(&evidence.admission_settings, watched.since) else {
        return;
    };
    let active = evidence
        .admissions
        .iter()
        .filter(|admission| {
            admission.admitted_at <= watched.since && admission.ended_at.is_none_or(|end| end > watched.until)
        })
        .count();
    let long_enough = admissions_allowed(&evidence.admission_settings, watched.since, watched.until) >= 2.0;
    let any_admitted = evidence
        .admissions
        .iter()
        .any(|admission| admission.admitted_at > watched.since && admission.admitted_at <= watched.until);
    if watched.waiting > 0 && active < settings.active_visits_max as usize && long_enough && !any_admitted {
        let (since, until, waiting) = (watched.since, watched.until, watched.waiting);
        found.add(
            Invariant::EverythingEnds,
            format!(
                "no visitor was admitted between {since} and {until} although {waiting} waited \
                     and {active} visits were active"
            ),
        );
    }
}

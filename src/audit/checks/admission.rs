//! I3 and I4: the limit of active visits and the rate of admissions.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::audit::{
    checks::timeline::{admissions_allowed, in_time_order, settings_at},
    evidence::Evidence,
    findings::{Findings, Invariant},
};
use crate::kernel::Timestamp;

/// I3: counts the active visits at each admission. A visit that ended in the same millisecond has ended.
pub(crate) fn active_visits_limit(evidence: &Evidence, found: &mut Findings) {
    let mut ends: BinaryHeap<Reverse<Timestamp>> = BinaryHeap::new();
    let mut unended = 0_usize;
    for admission in in_time_order(&evidence.admissions) {
        while ends
            .peek()
            .is_some_and(|Reverse(end)| *end <= admission.admitted_at)
        {
            ends.pop();
        }
        let active = ends.len() + unended;
        if let Some(settings) = settings_at(&evidence.admission_settings, admission.admitted_at)
            && active >= settings.active_visits_max as usize
        {
            let (at, number) = (admission.admitted_at, admission.number);
            found.add(
                Invariant::ActiveVisitsLimit,
                format!(
                    "number {number} was admitted at {at} with {active} active visits, the limit is {}",
                    settings.active_visits_max
                ),
            );
        }
        match admission.ended_at {
            Some(end) => ends.push(Reverse(end)),
            None => unended += 1,
        }
    }
}

/// I4 for all windows at once: a bucket that drains at the rate must never hold more than the burst allows.
///
/// Times are whole milliseconds, so two admissions may be up to one millisecond further apart than they look.
pub(crate) fn rate(evidence: &Evidence, found: &mut Findings) {
    let mut level = 0.0_f64;
    let mut last: Option<Timestamp> = None;
    for admission in in_time_order(&evidence.admissions) {
        let Some(settings) = settings_at(&evidence.admission_settings, admission.admitted_at) else {
            continue;
        };
        if let Some(before) = last {
            level = (level - admissions_allowed(&evidence.admission_settings, before, admission.admitted_at))
                .max(0.0);
        }
        last = Some(admission.admitted_at);
        level += 1.0;
        let slack = f64::from(settings.rate_per_minute) / 60_000.0;
        if level > f64::from(settings.burst) + slack + 1e-6 {
            let (at, number, allowed) = (admission.admitted_at, admission.number, settings.burst);
            found.add(
                Invariant::AdmissionRate,
                format!(
                    "the admission of number {number} at {at} fills the bucket to {level:.2}, \
                         the burst is {allowed}"
                ),
            );
        }
    }
}

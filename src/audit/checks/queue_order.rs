//! I5: visitors are admitted in the order of their numbers, and late arrivals within their share.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::audit::{
    evidence::{AcknowledgedAdmission, Evidence, Refusal},
    findings::{Findings, Invariant},
};
use crate::kernel::Timestamp;

/// I5, first part: the number called only grows, and no visitor is admitted before the call.
pub(crate) fn calls_only_grow(evidence: &Evidence, found: &mut Findings) {
    for pair in evidence.calls.windows(2) {
        if pair[1].now_serving < pair[0].now_serving {
            let (before, after, at) = (pair[0].now_serving, pair[1].now_serving, pair[1].at);
            found.add(
                Invariant::QueueOrder,
                format!("now serving fell from {before} to {after} at {at}"),
            );
        }
    }
    for admission in &evidence.admissions {
        // The number called only grows, so the value seen after an admission bounds the value at it.
        let after = evidence
            .calls
            .partition_point(|call| call.at < admission.admitted_at);
        if let Some(seen) = evidence.calls.get(after)
            && admission.number > seen.now_serving
        {
            let (number, called, at) = (admission.number, seen.now_serving, seen.at);
            found.add(
                Invariant::QueueOrder,
                format!("number {number} was admitted, and at {at} only {called} was called"),
            );
        }
    }
}

/// I5, second part: a claimant that was refused, asked again in time and was refused again must not have been
/// overtaken in between.
///
/// A claimant whose slot is kept may be admitted after a higher number without any loss, so a single refusal
/// proves nothing. The journal says when an admission was recorded, which may be later than it was decided,
/// so only admissions count that were requested and answered within the stretch. Nor has a claimant been
/// overtaken if its kept slot went to a visitor with precedence that came just then: a lower number, or a
/// late arrival.
pub(crate) fn lowest_claimant_first(evidence: &Evidence, found: &mut Findings) {
    let admissions = acknowledged_with_lane(evidence);
    for (number, from, until) in waiting_stretches(evidence) {
        let first = admissions.partition_point(|(e, _)| e.at <= from);
        let within = admissions[first..]
            .iter()
            .take_while(|(e, _)| e.at < until)
            .filter(|(e, _)| e.asked_at > from);
        for (overtaker, _) in within.filter(|(e, is_late_arrival)| e.number > number && !is_late_arrival) {
            let has_precedence =
                |(e, is_late_arrival): &(&AcknowledgedAdmission, bool)| e.number < number || *is_late_arrival;
            if admissions.iter().any(|other| {
                has_precedence(other) && other.0.at >= overtaker.asked_at && other.0.asked_at <= until
            }) {
                continue;
            }
            let (other, at) = (overtaker.number, overtaker.at);
            found.add(
                Invariant::QueueOrder,
                format!(
                    "number {other} was admitted at {at} while number {number} waited and was \
                         refused at {until}"
                ),
            );
        }
    }
}

/// I5, third part: the admissions that late arrivals took while others provably waited stay within their
/// share of all admissions so far, give or take one.
pub(crate) fn late_arrivals_within_share(evidence: &Evidence, found: &mut Findings) {
    let mut stretches: Vec<_> = waiting_stretches(evidence)
        .into_iter()
        .map(|(_, from, until)| (from, until))
        .collect();
    stretches.sort_unstable();
    let another_waited = |admission: &AcknowledgedAdmission| {
        let begun = stretches.partition_point(|(from, _)| *from < admission.asked_at);
        stretches[..begun].iter().any(|(_, until)| *until > admission.at)
    };
    let (mut all, mut late) = (0.0_f64, 0.0_f64);
    for (admission, is_late_arrival) in acknowledged_with_lane(evidence) {
        all += 1.0;
        if !is_late_arrival || !another_waited(admission) {
            continue;
        }
        late += 1.0;
        if late > all * evidence.late_arrival_share + 1.0 + 1e-9 {
            let (number, share) = (admission.number, evidence.late_arrival_share);
            found.add(
                Invariant::QueueOrder,
                format!(
                    "with number {number} late arrivals took {late} of {all} admissions while \
                         others waited, their share is {share}"
                ),
            );
            return;
        }
    }
}

/// Acknowledged admissions by the time of their answer, each with whether it was a late arrival.
fn acknowledged_with_lane(evidence: &Evidence) -> Vec<(&AcknowledgedAdmission, bool)> {
    let late: HashSet<u64> = evidence
        .admissions
        .iter()
        .filter(|admission| admission.is_late_arrival)
        .map(|admission| admission.number)
        .collect();
    let mut admissions: Vec<_> = evidence
        .acknowledged_admissions
        .iter()
        .map(|admission| (admission, late.contains(&admission.number)))
        .collect();
    admissions.sort_by_key(|(e, _)| e.at);
    admissions
}

/// From each refusal of a claimant to its next one, if that came before the claim lapsed: in between the
/// claimant was waiting all the time. Late arrivals wait in a lane of their own.
fn waiting_stretches(evidence: &Evidence) -> Vec<(u64, Timestamp, Timestamp)> {
    let mut by_number: HashMap<u64, Vec<&Refusal>> = HashMap::new();
    for refusal in evidence
        .refusals
        .iter()
        .filter(|refusal| !refusal.is_late_arrival)
    {
        by_number.entry(refusal.number).or_default().push(refusal);
    }
    let mut stretches = Vec::new();
    for (number, mut refusals) in by_number {
        refusals.sort_by_key(|refusal| refusal.asked_at);
        for pair in refusals.windows(2) {
            let claim_timeout: Duration = evidence.claim_timeout;
            let (from, until) = (pair[0].answered_at, pair[1].asked_at);
            let interrupted = evidence
                .outages
                .iter()
                .any(|(down, up)| *down < until && *up > from);
            if pair[1].answered_at.since(pair[0].asked_at) <= claim_timeout && from < until && !interrupted {
                stretches.push((number, from, until));
            }
        }
    }
    stretches
}

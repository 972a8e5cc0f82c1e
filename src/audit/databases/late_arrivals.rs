//! Who arrived late and who came in time.

use crate::audit::evidence::Evidence;

/// Clears the late arrival mark of visitors that came in time and have been waiting since: they stay in the
/// lane of called visitors. The journal does not record when they came; only the clients' refusals do.
pub fn reclassify_late_arrivals(evidence: &mut Evidence) {
    let claim_timeout = evidence.claim_timeout;
    for admission in evidence
        .admissions
        .iter_mut()
        .filter(|admission| admission.is_late_arrival)
    {
        let last = evidence
            .refusals
            .iter()
            .filter(|refusal| {
                refusal.number == admission.number && refusal.answered_at <= admission.admitted_at
            })
            .max_by_key(|refusal| refusal.answered_at);
        if last.is_some_and(|refusal| {
            !refusal.is_late_arrival && admission.admitted_at.since(refusal.asked_at) <= claim_timeout
        }) {
            admission.is_late_arrival = false;
        }
    }
}

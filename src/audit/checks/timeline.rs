//! Admissions and settings over time.

use crate::audit::evidence::{Admission, AdmissionSettings};
use crate::kernel::Timestamp;

/// Admissions by time; those of one millisecond keep the order in which they were granted.
pub(super) fn in_time_order(admissions: &[Admission]) -> Vec<&Admission> {
    let mut sorted: Vec<&Admission> = admissions.iter().collect();
    sorted.sort_by_key(|admission| admission.admitted_at);
    sorted
}

/// The settings in force at a moment; before the first ones begin, the first ones.
pub(super) fn settings_at(settings: &[AdmissionSettings], at: Timestamp) -> Option<AdmissionSettings> {
    settings
        .iter()
        .rev()
        .find(|settings| settings.from <= at)
        .or_else(|| settings.first())
        .copied()
}

/// Admissions that the rate allows between two moments, over all settings in between.
pub(super) fn admissions_allowed(settings: &[AdmissionSettings], from: Timestamp, until: Timestamp) -> f64 {
    let mut sum = 0.0;
    for (index, current) in settings.iter().enumerate() {
        let begins = if index == 0 { from } else { current.from.max(from) };
        let ends = settings.get(index + 1).map_or(until, |next| next.from.min(until));
        sum += ends.since(begins).as_secs_f64() * f64::from(current.rate_per_minute) / 60.0;
    }
    sum
}

//! How long visits last: measured, so that one can say when slots come back.
//!
//! Pure. The unit of measure is the hazard of each age (visits that end per second and visitor of that age), estimated
//! by occurrence over exposure, with old observations fading. It uses those who are still inside as well as those who
//! have gone, so a house that has just filled up is not taken for one where all visits are short (censoring; Aalen,
//! Borgan and Gjessing, Survival and Event History Analysis, ch. 5).

use std::{collections::VecDeque, time::Duration};

use crate::kernel::Timestamp;

/// Ends of the age classes in seconds; the longest visit there may be closes the last one that it reaches.
const EDGES_S: [f64; 11] = [20.0, 40.0, 60.0, 90.0, 120.0, 180.0, 240.0, 360.0, 540.0, 900.0, 1_800.0];
const AGES: usize = EDGES_S.len() + 1;
/// The longest visit there may be is looked at in so many steps.
const STEPS: usize = 180;
/// Before anything is measured the median visit takes this share of the longest there may be, and the logarithms of
/// visits are spread about it like this (log-logistic: hardly anybody is done at once, and who has stayed for long stays
/// on; service times are so wherever they were measured, as in Brown and others 2005).
const PRIOR_MEDIAN: f64 = 0.14;
const PRIOR_SHAPE: f64 = 2.0;
/// An age is taken to differ from what was assumed of it as the one before it did, by so much at most, when as many ends
/// were seen there.
const LIKE_BEFORE: f64 = 0.5;
const LIKE_BEFORE_ENDS: f64 = 20.0;
/// As many observed ends outweigh the assumption.
const PRIOR_WEIGHT: f64 = 3.0;
/// How uncertain the logarithm of an assumed hazard is. Ages that nobody has reached yet are wrong together.
const ASSUMED_DEVIATION: f64 = 0.6;
/// Observations fade so that each age remembers about so many ends.
const MEMORY: f64 = 800.0;

#[derive(Clone, Copy, Debug, Default)]
struct Age {
    exposure_s: f64,
    ended: f64,
}

/// Those who entered within the same second.
#[derive(Clone, Copy, Debug)]
struct Cohort {
    entered_at_s: i64,
    inside: u32,
}

#[derive(Debug)]
pub(super) struct VisitLengths {
    longest_s: f64,
    ages: [Age; AGES],
    cohorts: VecDeque<Cohort>,
    /// Until when exposure has been counted.
    counted_to_s: Option<i64>,
}

/// What is expected of visits, by steps of `step_s` since the entry; at the end of the last one everybody must leave.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct VisitsOutlook {
    pub step_s: f64,
    /// Of the visitors of each step, the share that leaves before the next.
    pub leaving: Vec<f64>,
    /// Visitors of each step now.
    pub inside: Vec<f64>,
    pub mean_s: f64,
    /// Relative uncertainty of the mean visit.
    pub drift: f64,
}

impl VisitLengths {
    pub(super) fn new(longest: Duration) -> Self {
        let longest_s = longest.as_secs_f64().max(1.0);
        Self { longest_s, ages: [Age::default(); AGES], cohorts: VecDeque::new(), counted_to_s: None }
    }

    pub(super) fn entered(&mut self, at: Timestamp) {
        let entered_at_s = at.as_secs();
        let after = self.cohorts.partition_point(|c| c.entered_at_s <= entered_at_s);
        match after.checked_sub(1).and_then(|last| self.cohorts.get_mut(last)) {
            Some(cohort) if cohort.entered_at_s == entered_at_s => cohort.inside += 1,
            _ => self.cohorts.insert(after, Cohort { entered_at_s, inside: 1 }),
        }
    }

    /// A visit that began at `entered` is over.
    pub(super) fn ended(&mut self, entered: Timestamp, at: Timestamp) {
        let after = self.cohorts.partition_point(|c| c.entered_at_s <= entered.as_secs());
        if let Some(cohort) = after.checked_sub(1).and_then(|last| self.cohorts.get_mut(last)) {
            cohort.inside = cohort.inside.saturating_sub(1);
        }
        let age_s = at.since(entered).as_secs_f64();
        // Who had to leave does not say who would have.
        if age_s < self.longest_s {
            self.ages[class_of(age_s)].ended += 1.0;
        }
    }

    /// Time has passed: who is inside has been so for another second.
    pub(super) fn observe(&mut self, now: Timestamp) {
        let now_s = now.as_secs();
        let since_s = self.counted_to_s.replace(now_s).unwrap_or(now_s);
        if now_s <= since_s {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "seconds between two ticks")]
        let passed_s = (now_s - since_s) as f64;
        for cohort in &self.cohorts {
            let age_s = now.since(Timestamp::from_secs(cohort.entered_at_s)).as_secs_f64();
            if age_s < self.longest_s {
                self.ages[class_of(age_s)].exposure_s += f64::from(cohort.inside) * passed_s;
            }
        }
        for age in &mut self.ages {
            if age.ended > MEMORY {
                let keep = MEMORY / age.ended;
                age.exposure_s *= keep;
                age.ended *= keep;
            }
        }
        self.cohorts.retain(|cohort| cohort.inside > 0);
    }

    /// After a restart nobody knows what has passed meanwhile: nothing is learnt from it.
    pub(super) fn resume(&mut self, now: Timestamp) {
        self.counted_to_s = Some(now.as_secs());
        self.ages = [Age::default(); AGES];
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few steps, and seconds that are not negative"
    )]
    pub(super) fn outlook(&self, now: Timestamp) -> VisitsOutlook {
        let (per_s, weight) = self.hazards();
        let step_s = self.longest_s / STEPS as f64;
        let middle_s = |step: usize| (step as f64 + 0.5) * step_s;
        let mut leaving: Vec<f64> = (0..STEPS).map(|step| 1.0 - (-per_s[class_of(middle_s(step))] * step_s).exp()).collect();
        leaving[STEPS - 1] = 1.0;
        let mut inside = vec![0.0; STEPS];
        for cohort in &self.cohorts {
            let age_s = now.since(Timestamp::from_secs(cohort.entered_at_s)).as_secs_f64();
            inside[((age_s / step_s) as usize).min(STEPS - 1)] += f64::from(cohort.inside);
        }
        // What is still to be stayed by those who have come so far, from the last step back; and by how much the mean
        // changes when the hazard of an age does (the delta method).
        let mut reaching = vec![1.0; STEPS];
        for step in 1..STEPS {
            reaching[step] = reaching[step - 1] * (1.0 - leaving[step - 1]);
        }
        let (mut remaining_s, mut shift_s) = (0.0, [0.0; AGES]);
        for step in (0..STEPS).rev() {
            let hazard = per_s[class_of(middle_s(step))] * step_s;
            shift_s[class_of(middle_s(step))] += reaching[step] * hazard * (remaining_s + step_s / 2.0);
            let staying = (-hazard).exp();
            remaining_s = step_s * (1.0 + staying) / 2.0 + staying * remaining_s;
        }
        let drift = drift(&shift_s, &weight, remaining_s);
        VisitsOutlook { step_s, leaving, inside, mean_s: remaining_s, drift }
    }

    /// Ends per second and visitor of each age, and how many ends say so.
    fn hazards(&self) -> ([f64; AGES], [f64; AGES]) {
        let (mut per_s, mut weight) = ([0.0; AGES], [PRIOR_WEIGHT; AGES]);
        let staying = |age_s: f64| 1.0 / (1.0 + (age_s / (self.longest_s * PRIOR_MEDIAN)).powf(PRIOR_SHAPE));
        let mut liveliness = 1.0;
        for at in 0..AGES {
            let from = at.checked_sub(1).map_or(0.0, |before| EDGES_S[before]);
            let to = EDGES_S.get(at).copied().unwrap_or(from * 2.0);
            let Age { exposure_s, ended } = self.ages[at];
            let usual_per_s = (staying(from) / staying(to)).ln() / (to - from);
            per_s[at] = (ended + PRIOR_WEIGHT) / (exposure_s + PRIOR_WEIGHT / (usual_per_s * liveliness));
            weight[at] += ended;
            let like_before = LIKE_BEFORE * f64::min(ended / LIKE_BEFORE_ENDS, 1.0);
            liveliness = (per_s[at] / usual_per_s).powf(like_before);
        }
        (per_s, weight)
    }
}

fn class_of(age_s: f64) -> usize {
    EDGES_S.partition_point(|&edge| edge <= age_s)
}

/// The logarithm of a hazard that was measured on `w` ends is uncertain by `1 / sqrt(w)`, each for itself; what is
/// assumed is wrong together.
fn drift(shift_s: &[f64; AGES], weight: &[f64; AGES], mean_s: f64) -> f64 {
    let (mut variance, mut assumed) = (0.0, 0.0);
    for (shift_s, weight) in shift_s.iter().zip(weight) {
        let shift = shift_s / mean_s;
        variance += shift * shift * (weight - PRIOR_WEIGHT) / (weight * weight);
        assumed += shift * PRIOR_WEIGHT / weight * ASSUMED_DEVIATION;
    }
    (variance + assumed * assumed).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Entropy, SeededEntropy};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn the_mean_visit_is_learnt_also_while_most_are_still_inside() {
        let entropy = SeededEntropy::new(4);
        let mut lengths = VisitLengths::new(Duration::from_mins(15));
        let mut inside: Vec<(i64, i64)> = Vec::new();
        for now in 0..1_200 {
            for _ in 0..3 {
                lengths.entered(at(now));
                #[expect(clippy::cast_possible_truncation, reason = "minutes")]
                inside.push((now, now + (-200.0 * (1.0 - entropy.unit()).ln()).min(900.0) as i64));
            }
            inside.retain(|&(entered, ends)| {
                if ends <= now {
                    lengths.ended(at(entered), at(now));
                }
                ends > now
            });
            lengths.observe(at(now));
            if now == 120 {
                // Of those who have gone by now the longest stayed two minutes.
                assert!((140.0..260.0).contains(&lengths.outlook(at(now)).mean_s), "{:?}", lengths.outlook(at(now)));
            }
        }
        let outlook = lengths.outlook(at(1_200));
        assert!((180.0..215.0).contains(&outlook.mean_s) && outlook.drift < 0.1, "{outlook:?}");
        #[expect(clippy::cast_precision_loss, reason = "hundreds")]
        let counted = inside.len() as f64;
        assert!((outlook.inside.iter().sum::<f64>() - counted).abs() < 1e-9);
    }

    #[test]
    fn before_anything_is_known_a_visit_is_a_part_of_the_longest() {
        let outlook = VisitLengths::new(Duration::from_mins(10)).outlook(at(0));
        assert!((100.0..200.0).contains(&outlook.mean_s) && outlook.drift > 0.15, "{} {outlook:?}", outlook.mean_s);
    }
}

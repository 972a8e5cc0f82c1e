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
pub(super) const AGES: usize = EDGES_S.len() + 1;
/// Before anything is measured a visit takes this share of the longest there may be.
const PRIOR_SHARE: f64 = 0.21;
const PRIOR_EARLY: f64 = 1.3;
const PRIOR_TAIL: f64 = 0.45;
/// The ages are wrong together: relative uncertainty of the assumed visit, and how many ends halve its square.
const PRIOR_DRIFT: f64 = 0.35;
const PRIOR_DRIFT_ENDS: f64 = 80.0;
/// An age is taken to be as lively as the one before it, by so much at most, when as many ends were seen there: few go at
/// once, and that says nothing about those who stay.
const LIKE_BEFORE: f64 = 0.5;
const LIKE_BEFORE_ENDS: f64 = 20.0;
/// As many observed ends outweigh the assumption.
const PRIOR_WEIGHT: f64 = 3.0;
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

/// What is expected of visits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct VisitsOutlook {
    /// Mean time that a visitor spends in each age class that she reaches, and the share whose visit ends in it.
    pub stay_s: [f64; AGES],
    pub ending: [f64; AGES],
    /// Visitors of each age now.
    pub inside: [f64; AGES],
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
        let age = self.age(at.since(entered).as_secs_f64());
        self.ages[age].ended += 1.0;
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
        let census = self.census(now);
        for (age, inside) in self.ages.iter_mut().zip(census) {
            age.exposure_s += inside * passed_s;
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

    pub(super) fn outlook(&self, now: Timestamp) -> VisitsOutlook {
        let (mut stay_s, mut ending, mut weight) = ([0.0; AGES], [1.0; AGES], [0.0; AGES]);
        // Visits have long tails: who has stayed for long stays on.
        let usual_per_s = |from: f64| PRIOR_EARLY / (self.longest_s * PRIOR_SHARE) * (-from / (self.longest_s * PRIOR_TAIL)).exp();
        let mut prior_per_s = usual_per_s(0.0);
        for at in 0..AGES {
            let (from, to) = self.bounds(at);
            let Age { exposure_s, ended } = self.ages[at];
            let per_s = (ended + PRIOR_WEIGHT) / (exposure_s + PRIOR_WEIGHT / prior_per_s);
            let length_s = to - from;
            let surviving = (-per_s * length_s).exp();
            stay_s[at] = (1.0 - surviving) / per_s;
            // At the end of the last age everybody must leave.
            ending[at] = if to >= self.longest_s { 1.0 } else { 1.0 - surviving };
            weight[at] = ended + PRIOR_WEIGHT;
            let like_before = LIKE_BEFORE * f64::min(ended / LIKE_BEFORE_ENDS, 1.0);
            prior_per_s = usual_per_s(to.min(self.longest_s)).powf(1.0 - like_before) * per_s.powf(like_before);
        }
        let drift = drift(&stay_s, &ending, &weight);
        VisitsOutlook { stay_s, ending, inside: self.census(now), drift }
    }

    fn census(&self, now: Timestamp) -> [f64; AGES] {
        let mut inside = [0.0; AGES];
        for cohort in &self.cohorts {
            let age_s = now.since(Timestamp::from_secs(cohort.entered_at_s)).as_secs_f64();
            inside[self.age(age_s)] += f64::from(cohort.inside);
        }
        inside
    }

    fn age(&self, age_s: f64) -> usize {
        EDGES_S.partition_point(|&edge| edge <= age_s.min(self.longest_s - 0.5))
    }

    fn bounds(&self, age: usize) -> (f64, f64) {
        let from = age.checked_sub(1).map_or(0.0, |before| EDGES_S[before]);
        let to = EDGES_S.get(age).copied().unwrap_or(f64::INFINITY);
        (from.min(self.longest_s), to.min(self.longest_s))
    }
}

impl VisitsOutlook {
    /// The mean visit in seconds.
    pub(super) fn mean_s(&self) -> f64 {
        remaining(&self.stay_s, &self.ending)[0]
    }
}

/// Expected time yet to be spent, at the beginning of each age.
fn remaining(stay_s: &[f64; AGES], ending: &[f64; AGES]) -> [f64; AGES + 1] {
    let mut remaining = [0.0; AGES + 1];
    for age in (0..AGES).rev() {
        remaining[age] = stay_s[age] + (1.0 - ending[age]) * remaining[age + 1];
    }
    remaining
}

/// By the delta method: the logarithm of a hazard that was measured on `w` ends is uncertain by `1 / sqrt(w)`, and
/// shifts the mean by what those who end in its age would else have stayed on.
fn drift(stay_s: &[f64; AGES], ending: &[f64; AGES], weight: &[f64; AGES]) -> f64 {
    let remaining = remaining(stay_s, ending);
    let ends: f64 = weight.iter().sum();
    let (mut reaching, mut variance) = (1.0, PRIOR_DRIFT * PRIOR_DRIFT * PRIOR_DRIFT_ENDS / (PRIOR_DRIFT_ENDS + ends));
    for age in 0..AGES {
        let shift = reaching * ending[age] * remaining[age + 1].max(stay_s[age] / 2.0) / remaining[0];
        variance += shift * shift / weight[age];
        reaching *= 1.0 - ending[age];
    }
    f64::sqrt(variance)
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
                assert!((140.0..260.0).contains(&lengths.outlook(at(now)).mean_s()), "{:?}", lengths.outlook(at(now)));
            }
        }
        let outlook = lengths.outlook(at(1_200));
        assert!((180.0..215.0).contains(&outlook.mean_s()) && outlook.drift < 0.1, "{outlook:?}");
        #[expect(clippy::cast_precision_loss, reason = "hundreds")]
        let counted = inside.len() as f64;
        assert!((outlook.inside.iter().sum::<f64>() - counted).abs() < 1e-9);
    }

    #[test]
    fn before_anything_is_known_a_visit_is_a_part_of_the_longest() {
        let outlook = VisitLengths::new(Duration::from_mins(10)).outlook(at(0));
        assert!((100.0..200.0).contains(&outlook.mean_s()) && outlook.drift > 0.15, "{} {outlook:?}", outlook.mean_s());
    }
}

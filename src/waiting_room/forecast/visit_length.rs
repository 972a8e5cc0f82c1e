//! Visit length: how long visits last, so that the forecast knows when slots are released. Pure.
//!
//! The unit of measure is the hazard of each age (visits that end per second and visitor of that age),
//! estimated by occurrence over exposure, old observations fading. Visits that go on count as well as those
//! that have ended, so a sale whose slots have just been filled is not taken for one where all visits are
//! short (censoring; Aalen, Borgan and Gjessing, Survival and Event History Analysis, ch. 5).

use std::{collections::VecDeque, time::Duration};

use crate::{kernel::Timestamp, waiting_room::forecast::call_curve::Z90};

/// Ends of the age classes in seconds; the longest possible visit closes the last one that it reaches.
const EDGES_S: [f64; 30] = [
    3.0, 6.0, 10.0, 14.0, 20.0, 30.0, 40.0, 50.0, 60.0, 75.0, 90.0, 110.0, 130.0, 160.0, 190.0, 230.0, 270.0,
    320.0, 380.0, 450.0, 530.0, 620.0, 720.0, 840.0, 980.0, 1_200.0, 1_500.0, 1_800.0, 2_700.0, 4_500.0,
];
const AGES: usize = EDGES_S.len() + 1;
/// Steps in which the ages that matter are divided, and the seconds that these ages are at least.
const STEPS: usize = 180;
const COVERED_MIN_S: f64 = 60.0;
/// The steps cover so many mean visits, or the longest possible one if that is shorter. Visits older than
/// that are few; they are kept together in the last step and leave it by their mean remaining time.
const COVERED_MEANS: f64 = 8.0;
/// Prior: the median visit in seconds, and the share of the longest possible one that it takes at most. The
/// logarithms of visits are spread about it like this (log-logistic: few visits end at once, and long ones go
/// on; service times have this shape wherever they were measured, as in Brown and others 2005). The longest
/// possible visit is an operator's choice and says little of how long visits are. The limit of active visits
/// over the rate says more: an operator chooses both for visits of about that length, give or take.
const PRIOR_MEDIAN_S: f64 = 110.0;
const PRIOR_MEDIAN_SHARE: f64 = 0.25;
const PRIOR_SHAPE: f64 = 2.0;
/// Weight of the planned visit in the logarithm of the prior median, and the bounds of what is believed of
/// it.
const PLANNED_WEIGHT: f64 = 0.5;
const PLANNED_S: std::ops::RangeInclusive<f64> = 10.0..=1_200.0;
/// Deviation of the logarithm of an assumed hazard, and how alike ages are: its error falls to the e-th part
/// over a factor `e^ALIKE` of age (an Ornstein-Uhlenbeck process over the logarithm of age). So what is seen
/// of young visits says something of old ones, and less of much older ones. The deviation makes
/// the first ranges wide: visits may take ten seconds or half an hour, and an operator knows which, not the
/// model.
const ASSUMED_DEVIATION: f64 = 1.3;
const ALIKE: f64 = 1.2;
/// Observations fade so that each age remembers about so many ends.
const MEMORY: f64 = 800.0;

#[derive(Clone, Copy, Debug, Default)]
struct Age {
    exposure_s: f64,
    ended: f64,
}

/// Visits that began within the same second.
#[derive(Clone, Copy, Debug)]
struct Cohort {
    entered_at_s: i64,
    active: u32,
}

impl Cohort {
    /// Mean age of its visits in seconds.
    fn age_s(&self, now: Timestamp) -> f64 {
        let since_s = now.since(Timestamp::from_secs(self.entered_at_s)).as_secs_f64();
        (since_s - 0.5).max(0.0)
    }
}

/// Model of one sale's visit lengths.
#[derive(Debug)]
pub(crate) struct VisitLengthModel {
    longest_s: f64,
    prior_median_s: f64,
    ages: [Age; AGES],
    cohorts: VecDeque<Cohort>,
    /// Second up to which exposure has been counted.
    counted_to_s: Option<i64>,
}

/// Forecast of visits, by steps of `step_s` since the entry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct VisitForecast {
    /// Length of a step in seconds.
    pub step_s: f64,
    /// Active visits by age step now.
    pub active_by_step: Vec<f64>,
    /// How they end on average.
    pub expected: Departures,
    /// How they would end if the mean visit were as long as nine of ten estimates allow, or as short.
    pub longer: Departures,
    /// As `longer`, for the shorter mean visit.
    pub shorter: Departures,
}

/// Share of the visits of each step that end before the next. The last step also holds all older visits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Departures {
    /// Share of the visits of each step that end within it.
    pub shares: Vec<f64>,
    /// Mean length of a visit in seconds.
    pub mean_s: f64,
}

impl VisitLengthModel {
    /// A model that knows only the longest possible visit, and how long visits last at which the rate would
    /// just fill the slots.
    pub(crate) fn new(longest: Duration, planned: Duration) -> Self {
        let longest_s = longest.as_secs_f64().max(1.0);
        let planned_s = planned.as_secs_f64().clamp(*PLANNED_S.start(), *PLANNED_S.end());
        let median_s = PRIOR_MEDIAN_S.powf(1.0 - PLANNED_WEIGHT) * planned_s.powf(PLANNED_WEIGHT);
        Self {
            longest_s,
            prior_median_s: median_s.min(longest_s * PRIOR_MEDIAN_SHARE),
            ages: [Age::default(); AGES],
            cohorts: VecDeque::new(),
            counted_to_s: None,
        }
    }

    /// A visit began at `at`.
    pub(crate) fn admitted(&mut self, at: Timestamp) {
        let entered_at_s = at.as_secs();
        let after = self.cohorts.partition_point(|c| c.entered_at_s <= entered_at_s);
        match after.checked_sub(1).and_then(|last| self.cohorts.get_mut(last)) {
            Some(cohort) if cohort.entered_at_s == entered_at_s => cohort.active += 1,
            _ => self.cohorts.insert(
                after,
                Cohort {
                    entered_at_s,
                    active: 1,
                },
            ),
        }
    }

    /// A visit that began at `entered` is over.
    pub(crate) fn ended(&mut self, entered: Timestamp, at: Timestamp) {
        let after = self
            .cohorts
            .partition_point(|c| c.entered_at_s <= entered.as_secs());
        if let Some(cohort) = after.checked_sub(1).and_then(|last| self.cohorts.get_mut(last)) {
            cohort.active = cohort.active.saturating_sub(1);
        }
        let age_s = at.since(entered).as_secs_f64();
        // A visit that had to end does not say when it would have ended.
        if age_s < self.longest_s {
            self.ages[class_of(age_s)].ended += 1.0;
        }
    }

    /// Time has passed: counts the exposure of the active visits.
    pub(crate) fn observe(&mut self, now: Timestamp) {
        let now_s = now.as_secs();
        let since_s = self.counted_to_s.replace(now_s).unwrap_or(now_s);
        if now_s <= since_s {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "seconds between two ticks")]
        let passed_s = (now_s - since_s) as f64;
        for cohort in &self.cohorts {
            // The middle of the time that passed, for visits that began in the middle of their second.
            let age_s = (cohort.age_s(now) - passed_s / 2.0).max(0.0);
            if age_s < self.longest_s {
                self.ages[class_of(age_s)].exposure_s += f64::from(cohort.active) * passed_s;
            }
        }
        for age in &mut self.ages {
            if age.ended > MEMORY {
                let keep = MEMORY / age.ended;
                age.exposure_s *= keep;
                age.ended *= keep;
            }
        }
        self.cohorts.retain(|cohort| cohort.active > 0);
    }

    /// After a restart: the time that passed meanwhile teaches nothing.
    pub(crate) fn resume(&mut self, now: Timestamp) {
        self.counted_to_s = Some(now.as_secs());
        self.ages = [Age::default(); AGES];
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few steps, and seconds that are not negative"
    )]
    /// The forecast from `now` on.
    pub(crate) fn forecast(&self, now: Timestamp) -> VisitForecast {
        let (usual_per_s, ratios, known) = self.ratios();
        let hazards = |ratios: &[f64; AGES]| -> [f64; AGES] {
            std::array::from_fn(|at| usual_per_s[at] * ratios[at].exp())
        };
        let expected_per_s = hazards(&ratios);
        let covered_s = (COVERED_MEANS * mean_after(0.0, self.longest_s, &expected_per_s))
            .max(COVERED_MIN_S)
            .min(self.longest_s);
        let step_s = covered_s / STEPS as f64;
        let mut active_by_step = vec![0.0; STEPS];
        for cohort in &self.cohorts {
            let age_s = cohort.age_s(now);
            active_by_step[((age_s / step_s) as usize).min(STEPS - 1)] += f64::from(cohort.active);
        }
        let departures = |per_s: &[f64; AGES]| Departures::at(step_s, self.longest_s, per_s);
        let expected = departures(&expected_per_s);
        let shift_s = expected.shift_s(step_s, &expected_per_s);
        // The most likely of all ways in which the mean visit could be off by this much.
        let way = known.solve(shift_s);
        let deviation_s = way
            .iter()
            .zip(&shift_s)
            .map(|(way, shift)| way * shift)
            .sum::<f64>()
            .sqrt()
            .max(1e-9);
        let off = |by: f64| departures(&hazards(&std::array::from_fn(|at| ratios[at] + way[at] * by)));
        let (longer, shorter) = (off(-Z90 / deviation_s), off(Z90 / deviation_s));
        VisitForecast {
            step_s,
            active_by_step,
            expected,
            longer,
            shorter,
        }
    }

    /// For each age the usual hazard (ends per second and visitor), the logarithm of the ratio of the actual
    /// one to it, and the precision of that: the mode of a Poisson regression whose neighbors are alike, by
    /// Newton's method (Rue and Held, Gaussian Markov Random Fields, ch. 4).
    fn ratios(&self) -> ([f64; AGES], [f64; AGES], Precision) {
        let median_s = self.prior_median_s;
        let staying = |age_s: f64| 1.0 / (1.0 + (age_s / median_s).powf(PRIOR_SHAPE));
        let usual_per_s = std::array::from_fn(|at| {
            let (from, to) = (begin_of(at), end_of(at));
            (staying(from) / staying(to)).ln() / (to - from)
        });
        let assumed = Precision::assumed();
        let (mut ratios, mut known) = ([0.0; AGES], assumed);
        for _ in 0..NEWTON_STEPS {
            let mut push = assumed.times(&ratios).map(|pull| -pull);
            known = assumed;
            for (at, age) in self.ages.iter().enumerate() {
                let ends = usual_per_s[at] * age.exposure_s * f64::exp(ratios[at]);
                push[at] += age.ended - ends;
                known.own[at] += ends;
            }
            let step = known.solve(push);
            for (ratio, step) in ratios.iter_mut().zip(step) {
                *ratio = (*ratio + step.clamp(-1.0, 1.0)).clamp(-RATIO_MAX, RATIO_MAX);
            }
        }
        (usual_per_s, ratios, known)
    }
}

const NEWTON_STEPS: usize = 8;
/// Bound of the logarithm of a hazard's ratio to the usual one.
const RATIO_MAX: f64 = 5.0;

impl Departures {
    /// By steps of `step_s`, with the hazard of each age.
    #[expect(clippy::cast_precision_loss, reason = "a few steps")]
    fn at(step_s: f64, longest_s: f64, per_s: &[f64; AGES]) -> Self {
        let hazard = |step: usize| per_s[class_of((step as f64 + 0.5) * step_s)];
        // Visits of a step are half a step old in it on average, so half of what they pass belongs to the
        // next one.
        let passing = |step: usize| 1.0 - (-f64::midpoint(hazard(step), hazard(step + 1)) * step_s).exp();
        let left_s = mean_after(STEPS as f64 * step_s, longest_s, per_s);
        // In steps of this length, visits with this mean remaining time end by this share.
        let older = 1.0 - (-step_s / left_s).exp();
        let shares: Vec<f64> = (0..STEPS - 1).map(passing).chain([older]).collect();
        let reaching = reaching(&shares);
        let in_last = reaching.last().map_or(0.0, |reach| reach / older - reach);
        let mean_s = step_s * (reaching.iter().sum::<f64>() + in_last);
        Self { shares, mean_s }
    }

    /// How many seconds shorter the mean visit gets when an age's hazard grows, per unit of its logarithm.
    #[expect(clippy::cast_precision_loss, reason = "a few steps")]
    fn shift_s(&self, step_s: f64, per_s: &[f64; AGES]) -> [f64; AGES] {
        let reaching = reaching(&self.shares);
        let (mut still_s, mut shift_s) = (0.0, [0.0; AGES]);
        for step in (0..STEPS).rev() {
            let class = class_of((step as f64 + 0.5) * step_s);
            shift_s[class] += reaching[step] * per_s[class] * step_s * still_s;
            still_s = if step == STEPS - 1 {
                step_s / self.shares[step]
            } else {
                step_s + (1.0 - self.shares[step]) * still_s
            };
        }
        shift_s
    }
}

/// Mean seconds that a visit of this age still lasts; 0 for the longest possible.
fn mean_after(age_s: f64, longest_s: f64, per_s: &[f64; AGES]) -> f64 {
    let (mut staying, mut mean_s) = (1.0, 0.0);
    for (class, hazard) in per_s.iter().enumerate() {
        let end_s = if class == AGES - 1 {
            longest_s
        } else {
            end_of(class).min(longest_s)
        };
        let passed_s = (end_s - begin_of(class).max(age_s)).max(0.0);
        let there = (-hazard * passed_s).exp();
        mean_s += staying * (1.0 - there) / hazard.max(1e-12);
        staying *= there;
    }
    mean_s
}

/// Share of all visits that reach each step.
fn reaching(shares: &[f64]) -> Vec<f64> {
    let mut there = 1.0;
    let mut pass = |share: &f64| {
        let reached = there;
        there *= 1.0 - share;
        reached
    };
    shares.iter().map(&mut pass).collect()
}

/// Precision of the ages' ratios: a tridiagonal matrix, each age joined to its neighbors only.
#[derive(Clone, Copy, Debug)]
struct Precision {
    own: [f64; AGES],
    /// Entry that joins an age to the next one.
    next: [f64; AGES],
}

impl Precision {
    fn assumed() -> Self {
        let (mut own, mut next) = ([0.0; AGES], [0.0; AGES]);
        own[0] = ASSUMED_DEVIATION.powi(-2);
        for at in 0..AGES - 1 {
            let alike = (middle_of(at) / middle_of(at + 1)).powf(ALIKE.recip());
            let precision = (ASSUMED_DEVIATION.powi(2) * (1.0 - alike * alike)).recip();
            own[at] += alike * alike * precision;
            own[at + 1] += precision;
            next[at] = -alike * precision;
        }
        Self { own, next }
    }

    fn times(&self, vector: &[f64; AGES]) -> [f64; AGES] {
        std::array::from_fn(|at| {
            let before = at
                .checked_sub(1)
                .map_or(0.0, |before| self.next[before] * vector[before]);
            before + self.own[at] * vector[at] + self.next[at] * vector.get(at + 1).unwrap_or(&0.0)
        })
    }

    /// Solves for the vector that the matrix turns into `vector`: elimination forward, substitution backward.
    fn solve(&self, mut vector: [f64; AGES]) -> [f64; AGES] {
        let mut own = self.own;
        for at in 1..AGES {
            let times = self.next[at - 1] / own[at - 1];
            own[at] -= times * self.next[at - 1];
            vector[at] -= times * vector[at - 1];
        }
        vector[AGES - 1] /= own[AGES - 1];
        for at in (0..AGES - 1).rev() {
            vector[at] = (vector[at] - self.next[at] * vector[at + 1]) / own[at];
        }
        vector
    }
}

fn class_of(age_s: f64) -> usize {
    EDGES_S.partition_point(|&edge| edge <= age_s)
}

fn begin_of(class: usize) -> f64 {
    class.checked_sub(1).map_or(0.0, |before| EDGES_S[before])
}

fn end_of(class: usize) -> f64 {
    EDGES_S.get(class).copied().unwrap_or(begin_of(class) * 2.0)
}

fn middle_of(class: usize) -> f64 {
    f64::midpoint(begin_of(class), end_of(class))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::{Entropy, SeededEntropy};

    /// As long as the prior median without a plan.
    const PLANNED: Duration = Duration::from_secs(110);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn it_learns_the_mean_while_most_visits_still_go_on() {
        let entropy = SeededEntropy::new(4);
        let mut lengths = VisitLengthModel::new(Duration::from_mins(15), PLANNED);
        let mut active: Vec<(i64, i64)> = Vec::new();
        for now in 0..1_200 {
            for _ in 0..3 {
                lengths.admitted(at(now));
                #[expect(clippy::cast_possible_truncation, reason = "minutes")]
                active.push((
                    now,
                    now + (-200.0 * (1.0 - entropy.unit()).ln()).min(900.0) as i64,
                ));
            }
            active.retain(|&(entered, ends)| {
                if ends <= now {
                    lengths.ended(at(entered), at(now));
                }
                ends > now
            });
            lengths.observe(at(now));
            if now == 120 {
                // Of those who have gone by now the longest stayed two minutes.
                assert!(
                    (140.0..260.0).contains(&lengths.forecast(at(now)).expected.mean_s),
                    "{:?}",
                    lengths.forecast(at(now))
                );
            }
        }
        let outlook = lengths.forecast(at(1_200));
        assert!(
            (180.0..215.0).contains(&outlook.expected.mean_s) && drift(&outlook) < 0.13,
            "{outlook:?}"
        );
        #[expect(clippy::cast_precision_loss, reason = "hundreds")]
        let counted = active.len() as f64;
        assert!((outlook.active_by_step.iter().sum::<f64>() - counted).abs() < 1e-9);
    }

    /// By how much of itself the mean visit may be longer.
    fn drift(outlook: &VisitForecast) -> f64 {
        assert!(
            outlook.shorter.mean_s < outlook.expected.mean_s
                && outlook.expected.mean_s < outlook.longer.mean_s
        );
        outlook.longer.mean_s / outlook.expected.mean_s - 1.0
    }

    #[test]
    fn the_prior_mean_is_a_part_of_the_longest_visit() {
        let outlook = VisitLengthModel::new(Duration::from_mins(15), PLANNED).forecast(at(0));
        // The mean of a log-logistic visit with this median and shape 2 that ends with the longest: not half
        // a step more.
        let median_s = PRIOR_MEDIAN_S;
        let mean_s = median_s * (900.0 / median_s).atan();
        assert!(
            (outlook.expected.mean_s - mean_s).abs() < 1.5,
            "{mean_s} {}",
            outlook.expected.mean_s
        );
        assert!(drift(&outlook) > 0.15, "{outlook:?}");
    }

    #[test]
    fn the_prior_range_is_wide_and_follows_the_plan() {
        let with_plan = |planned| VisitLengthModel::new(Duration::from_hours(2), planned).forecast(at(0));
        let usual = with_plan(PLANNED);
        assert!(
            usual.shorter.mean_s < 75.0 && usual.longer.mean_s > 700.0,
            "{usual:?}"
        );
        let [quick, slow] = [10, 900].map(|planned_s| with_plan(Duration::from_secs(planned_s)));
        assert!(
            quick.shorter.mean_s < 30.0 && slow.longer.mean_s > 1_200.0,
            "{quick:?} {slow:?}"
        );
        assert!(
            quick.expected.mean_s < usual.expected.mean_s && usual.expected.mean_s < slow.expected.mean_s
        );
    }

    /// All enter at once, and none of them has left for so long.
    fn nobody_has_left_for(seconds: i64) -> VisitForecast {
        let mut lengths = VisitLengthModel::new(Duration::from_mins(15), PLANNED);
        (0..200).for_each(|_| lengths.admitted(at(0)));
        (0..=seconds).for_each(|now| lengths.observe(at(now)));
        lengths.forecast(at(seconds))
    }

    #[test]
    fn young_visits_say_something_of_old_ones() {
        let (before, after) = (nobody_has_left_for(0), nobody_has_left_for(200));
        // A factor on the hazard of an age that no visit has reached.
        let slower = |age_s: usize| after.expected.shares[age_s / 5] / before.expected.shares[age_s / 5];
        assert!(
            slower(240) < 0.6 && slower(240) < slower(500) && slower(500) < slower(880) && slower(880) < 1.0
        );
    }

    proptest! {
        #[test]
        fn solving_is_the_inverse_of_multiplying(counted in proptest::array::uniform31(0.0_f64..500.0),
            vector in proptest::array::uniform31(-9.0_f64..9.0)) {
            let mut known = Precision::assumed();
            known.own.iter_mut().zip(counted).for_each(|(own, counted)| *own += counted);
            for (was, is) in vector.iter().zip(known.times(&known.solve(vector))) {
                prop_assert!((was - is).abs() < 1e-6, "{was} {is}");
            }
        }

        #[test]
        fn shares_and_mean_stay_within_their_bounds(
            visits in proptest::collection::vec((0_i64..600, 0_i64..900), 0..60), now in 600_i64..1_500,
        ) {
            let mut lengths = VisitLengthModel::new(Duration::from_mins(15), PLANNED);
            for second in 0..now {
                for &(from, lasts) in &visits {
                    if from == second {
                        lengths.admitted(at(from));
                    }
                    if from + lasts == second {
                        lengths.ended(at(from), at(second));
                    }
                }
                lengths.observe(at(second));
            }
            let outlook = lengths.forecast(at(now));
            for leaving in [&outlook.expected, &outlook.longer, &outlook.shorter] {
                prop_assert!(leaving.shares.iter().all(|share| (0.0..=1.0).contains(share)));
                prop_assert!(leaving.mean_s > 0.0 && leaving.mean_s <= 900.0, "{}", leaving.mean_s);
            }
            let means = [outlook.shorter.mean_s, outlook.expected.mean_s, outlook.longer.mean_s];
            prop_assert!(means.is_sorted());
        }
    }
}

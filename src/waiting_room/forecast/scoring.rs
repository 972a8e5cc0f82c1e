//! Earlier statements, held against what then happened: ranges are made wider or narrower until eight of ten come true.
//! Pure.
//!
//! Adaptive conformal inference (Gibbs and Candes 2021): a miss widens by four times what a hit narrows, so the factor
//! stands still where eight of ten are hits, whatever the errors' distribution is. It does so for a few lengths of time
//! ahead, each with its own factor, as what is off in a quarter of a minute is chance and in ten minutes is drift.
//!
//! - the factor is always within [`SCALE`];
//! - a miss never narrows a range, and a hit never widens one.

use std::collections::VecDeque;

use crate::waiting_room::forecast::call_curve::{Step, Z90};

#[derive(Debug, Default)]
pub(crate) struct Hindsight {
    horizons: [Horizon; HORIZONS_S.len()],
    seconds: u32,
}

const HORIZONS_S: [u32; 4] = [15, 60, 240, 720];
/// How far a whole horizon of statements that were all wrong, or all right, moves the scale.
const LEARNING: f64 = 2.5;
const SAYS_EVERY_S: u32 = 5;
/// Statements that should not come true.
const MISSES: f64 = 0.2;
const SCALE: std::ops::RangeInclusive<f64> = 0.2..=6.0;

#[derive(Debug, Default)]
struct Horizon {
    /// Logarithm of the factor of the width.
    scale: f64,
    /// Due when, number called when it was said, what was to be so then.
    said: VecDeque<(u32, u32, Step)>,
}

impl Hindsight {
    pub(crate) const LONGEST_S: f64 = 720.0;

    /// A second has passed: what was to be so by now is compared with how it is.
    pub(crate) fn judge(&mut self, now_serving: u32) {
        self.seconds += 1;
        for (at, length_s) in HORIZONS_S.into_iter().enumerate() {
            while let Some((_, from, step)) = self.horizons[at]
                .said
                .front()
                .copied()
                .filter(|(due, ..)| *due <= self.seconds)
            {
                let horizon = &mut self.horizons[at];
                horizon.said.pop_front();
                let called = f64::from(now_serving.saturating_sub(from));
                let z = Z90 * horizon.scale.exp();
                let missed = called > step.quantile(z) + 0.5 || called < step.quantile(-z) - 0.5;
                let by = LEARNING * f64::from(SAYS_EVERY_S) / f64::from(length_s)
                    * (if missed { 1.0 - MISSES } else { -MISSES });
                // What is seen of a shorter time says something of a longer one, and less the longer it is.
                for (longer, longer_s) in self.horizons.iter_mut().zip(HORIZONS_S).skip(at) {
                    let by = by * (f64::from(length_s) / f64::from(longer_s)).sqrt();
                    longer.scale = (longer.scale + by).clamp(SCALE.start().ln(), SCALE.end().ln());
                }
            }
        }
    }

    pub(crate) fn is_to_say(&self) -> bool {
        self.seconds.is_multiple_of(SAYS_EVERY_S)
    }

    /// Takes down how it will be.
    pub(crate) fn say(&mut self, now_serving: u32, waiting: u32, steps: &[Step]) {
        for (horizon, length_s) in self.horizons.iter_mut().zip(HORIZONS_S) {
            if let Some(step) = at(steps, length_s.into()).filter(|step| step.calls < f64::from(waiting)) {
                horizon
                    .said
                    .push_back((self.seconds + length_s, now_serving, step));
            }
        }
    }

    /// Something has changed that nobody could foresee: what was said before it is not judged by what came after.
    pub(crate) fn forget_the_open(&mut self) {
        for horizon in &mut self.horizons {
            horizon.said.clear();
        }
    }

    /// How many standard deviations from the middle the ends of a range are that lies `t_s` ahead.
    pub(crate) fn z(&self, t_s: f64) -> f64 {
        Z90 * self.scale(t_s)
    }

    /// By how much it is made wider or narrower.
    fn scale(&self, t_s: f64) -> f64 {
        let next = HORIZONS_S.partition_point(|&s| f64::from(s) < t_s);
        let of = |at: usize| self.horizons[at].scale;
        match (next.checked_sub(1), HORIZONS_S.get(next)) {
            (None, _) => of(0).exp(),
            (Some(last), None) => of(last).exp(),
            (Some(before), Some(&to)) => {
                let from = f64::from(HORIZONS_S[before]);
                let along = (t_s / from).ln() / (f64::from(to) / from).ln();
                (of(before) + (of(next) - of(before)) * along).exp()
            }
        }
    }
}

fn at(steps: &[Step], t_s: f64) -> Option<Step> {
    let next = steps.partition_point(|step| step.t_s < t_s);
    let (a, b) = (steps.get(next.checked_sub(1)?)?, steps.get(next)?);
    let along = (t_s - a.t_s) / (b.t_s - a.t_s).max(1e-9);
    let between = |from: f64, to: f64| from + (to - from) * along;
    Some(Step {
        t_s,
        calls: between(a.calls, b.calls),
        more: between(a.more, b.more),
        fewer: between(a.fewer, b.fewer),
        misread: 0.0,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::{Entropy, SeededEntropy};

    /// A door that always calls ten a second, as is said of it, give or take what is said.
    fn steps(deviation_per_s: f64) -> Vec<Step> {
        let step = |second: u32| {
            let t_s = f64::from(second);
            Step {
                t_s,
                calls: 10.0 * t_s,
                more: deviation_per_s * t_s,
                fewer: deviation_per_s * t_s,
                misread: 0.0,
            }
        };
        (0..=800).map(step).collect()
    }

    fn scales(hindsight: &Hindsight) -> Vec<f64> {
        hindsight.horizons.iter().map(|it| it.scale).collect()
    }

    /// The first statements are due after a quarter of a minute.
    fn after_one_verdict(calls_per_s: u32, before: Option<Vec<f64>>) -> (Vec<f64>, Vec<f64>) {
        let mut hindsight = Hindsight::default();
        for (horizon, scale) in hindsight.horizons.iter_mut().zip(before.into_iter().flatten()) {
            horizon.scale = scale;
        }
        hindsight.say(0, u32::MAX, &steps(1.0));
        let before = scales(&hindsight);
        (1..=15).for_each(|second| hindsight.judge(second * calls_per_s));
        (before, scales(&hindsight))
    }

    proptest! {
        #[test]
        fn the_factor_stays_within_its_bounds_whatever_happens(
            pace in proptest::collection::vec((0_u32..2_000, 1_u32..120), 1..40), deviation in 0.0_f64..50.0,
        ) {
            let (mut hindsight, steps, mut called) = (Hindsight::default(), steps(deviation), 0);
            for (per_s, seconds) in pace {
                for _ in 0..seconds {
                    called += per_s;
                    hindsight.judge(called);
                    if hindsight.is_to_say() {
                        hindsight.say(called, u32::MAX, &steps);
                    }
                    for t_s in [0.0, 1.0, 15.0, 100.0, 720.0, 1e6] {
                        prop_assert!((SCALE.start() - 1e-9..=SCALE.end() + 1e-9).contains(&hindsight.scale(t_s)));
                    }
                }
            }
        }

        #[test]
        fn a_miss_widens_and_a_hit_narrows_also_what_lies_farther_ahead(
            misses in 20_u32..500, from in proptest::collection::vec(-1.0_f64..1.0, HORIZONS_S.len()),
        ) {
            let (before, after) = after_one_verdict(misses, Some(from.clone()));
            prop_assert!(before.iter().zip(&after).all(|(before, after)| after > before), "{before:?} {after:?}");
            let widened: Vec<f64> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
            prop_assert!(widened.windows(2).all(|pair| pair[0] > pair[1]), "{widened:?}");
            let (before, after) = after_one_verdict(10, Some(from));
            prop_assert!(before.iter().zip(&after).all(|(before, after)| after < before), "{before:?} {after:?}");
        }
    }

    /// Truth is so many times as far from what is said as is said of it; of the later statements, the share that held.
    fn kept(times: f64, seed: u64) -> f64 {
        let (dice, mut hindsight) = (SeededEntropy::new(seed), Hindsight::default());
        let (mut held, mut of) = (0_u32, 0_u32);
        // Each statement is about the next quarter of a minute, in which the pace is what it happens to be.
        let said = steps(1.0);
        let mut called = 0.0;
        for nth in 0..4_000 {
            let normal =
                (-2.0 * (1.0 - dice.unit()).ln()).sqrt() * (std::f64::consts::TAU * dice.unit()).cos();
            let (from, off) = (called, 15.0 * times * normal);
            called += f64::max(150.0 + off, 0.0);
            let before = hindsight.z(15.0);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "not negative, and below 2^31"
            )]
            let [from, called] = [from, called].map(|it| it.round() as u32);
            hindsight.horizons[0]
                .said
                .push_back((hindsight.seconds + 1, from, at(&said, 15.0).unwrap()));
            hindsight.judge(called);
            if nth >= 400 {
                of += 1;
                held += u32::from((f64::from(called - from) - 150.0).abs() <= before * 15.0 + 0.5);
            }
        }
        f64::from(held) / f64::from(of)
    }

    #[test]
    fn eight_of_ten_come_true_in_the_end_however_wrong_the_width_was() {
        for (seed, times) in [0.5, 0.7, 1.0, 2.0, 3.0].into_iter().enumerate() {
            let kept = kept(times, seed as u64);
            assert!((0.77..0.83).contains(&kept), "{times}: {kept}");
        }
    }

    #[test]
    fn what_an_order_overtakes_teaches_nothing() {
        let mut hindsight = Hindsight::default();
        hindsight.say(0, u32::MAX, &steps(1.0));
        let before = scales(&hindsight);
        hindsight.forget_the_open();
        (1..=800).for_each(|_| hindsight.judge(0));
        assert_eq!(before, scales(&hindsight));
    }
}

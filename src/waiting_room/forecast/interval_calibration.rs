//! Interval calibration: earlier forecasts, compared with what then happened, make the ranges wider or
//! narrower until eight of ten come true. Pure.
//!
//! Adaptive conformal inference (Gibbs and Candes 2021): a miss widens by four times what a hit narrows, so
//! the factor stands still where eight of ten are hits, whatever the distribution of the errors. It is kept
//! for a few horizons, each with its own factor, because an error after a quarter of a minute is chance and
//! after ten minutes is drift.
//!
//! - the factor is always within [`SCALE`];
//! - a miss never narrows a range, and a hit never widens one.

use std::collections::VecDeque;

use crate::waiting_room::forecast::call_curve::{CurvePoint, Z90};

/// The width factors of one sale's forecasts.
#[derive(Debug, Default)]
pub(crate) struct IntervalCalibration {
    horizons: [Horizon; HORIZONS_S.len()],
    seconds: u32,
}

/// Horizons in seconds.
const HORIZONS_S: [u32; 4] = [15, 60, 240, 720];
/// How far a whole horizon of misses only, or hits only, moves the logarithm of the factor.
const LEARNING: f64 = 2.5;
/// Seconds between two recorded forecasts.
const RECORDS_EVERY_S: u32 = 5;
/// Share of forecasts that should miss.
const MISSES: f64 = 0.2;
/// Bounds of the factor.
const SCALE: std::ops::RangeInclusive<f64> = 0.2..=6.0;

#[derive(Debug, Default)]
struct Horizon {
    /// Logarithm of the width's factor.
    scale: f64,
    /// Forecasts whose time has not come: when they are due, the number called when they were made, and the
    /// forecast.
    pending: VecDeque<(u32, u32, CurvePoint)>,
}

impl IntervalCalibration {
    /// The longest horizon in seconds.
    pub(crate) const LONGEST_S: f64 = 720.0;

    /// A second has passed: compares the forecasts that are due with the numbers called.
    pub(crate) fn compare(&mut self, now_serving: u32) {
        self.seconds += 1;
        for (at, length_s) in HORIZONS_S.into_iter().enumerate() {
            while let Some((_, from, step)) = self.horizons[at]
                .pending
                .front()
                .copied()
                .filter(|(due, ..)| *due <= self.seconds)
            {
                let horizon = &mut self.horizons[at];
                horizon.pending.pop_front();
                let called = f64::from(now_serving.saturating_sub(from));
                let z = Z90 * horizon.scale.exp();
                let missed = called > step.quantile(z) + 0.5 || called < step.quantile(-z) - 0.5;
                let by = LEARNING * f64::from(RECORDS_EVERY_S) / f64::from(length_s)
                    * (if missed { 1.0 - MISSES } else { -MISSES });
                // What is learned on a shorter horizon says something of a longer one, and less the longer it
                // is.
                for (longer, longer_s) in self.horizons.iter_mut().zip(HORIZONS_S).skip(at) {
                    let by = by * (f64::from(length_s) / f64::from(longer_s)).sqrt();
                    longer.scale = (longer.scale + by).clamp(SCALE.start().ln(), SCALE.end().ln());
                }
            }
        }
    }

    /// Whether a forecast is to be recorded in this second.
    pub(crate) fn is_due(&self) -> bool {
        self.seconds.is_multiple_of(RECORDS_EVERY_S)
    }

    /// Records a forecast.
    pub(crate) fn record(&mut self, now_serving: u32, waiting: u32, steps: &[CurvePoint]) {
        for (horizon, length_s) in self.horizons.iter_mut().zip(HORIZONS_S) {
            if let Some(step) = at(steps, length_s.into()).filter(|step| step.calls < f64::from(waiting)) {
                horizon
                    .pending
                    .push_back((self.seconds + length_s, now_serving, step));
            }
        }
    }

    /// Discards the pending forecasts: something has changed that no forecast could know.
    pub(crate) fn discard_pending(&mut self) {
        for horizon in &mut self.horizons {
            horizon.pending.clear();
        }
    }

    /// How many standard deviations the ends of a range that lies `t_s` ahead are away from the middle.
    pub(crate) fn z(&self, t_s: f64) -> f64 {
        Z90 * self.scale(t_s)
    }

    /// Factor of the width `t_s` ahead.
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

fn at(steps: &[CurvePoint], t_s: f64) -> Option<CurvePoint> {
    let next = steps.partition_point(|step| step.t_s < t_s);
    let (a, b) = (steps.get(next.checked_sub(1)?)?, steps.get(next)?);
    let along = (t_s - a.t_s) / (b.t_s - a.t_s).max(1e-9);
    let between = |from: f64, to: f64| from + (to - from) * along;
    Some(CurvePoint {
        t_s,
        calls: between(a.calls, b.calls),
        more: between(a.more, b.more),
        fewer: between(a.fewer, b.fewer),
        read_deviation: 0.0,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::{Entropy, SeededEntropy};

    /// A door that always calls ten a second, as is forecast of it, give or take what is forecast.
    fn steps(deviation_per_s: f64) -> Vec<CurvePoint> {
        let step = |second: u32| {
            let t_s = f64::from(second);
            CurvePoint {
                t_s,
                calls: 10.0 * t_s,
                more: deviation_per_s * t_s,
                fewer: deviation_per_s * t_s,
                read_deviation: 0.0,
            }
        };
        (0..=800).map(step).collect()
    }

    fn scales(calibration: &IntervalCalibration) -> Vec<f64> {
        calibration.horizons.iter().map(|it| it.scale).collect()
    }

    /// The first statements are due after a quarter of a minute.
    fn after_one_verdict(calls_per_s: u32, before: Option<Vec<f64>>) -> (Vec<f64>, Vec<f64>) {
        let mut calibration = IntervalCalibration::default();
        for (horizon, scale) in calibration.horizons.iter_mut().zip(before.into_iter().flatten()) {
            horizon.scale = scale;
        }
        calibration.record(0, u32::MAX, &steps(1.0));
        let before = scales(&calibration);
        (1..=15).for_each(|second| calibration.compare(second * calls_per_s));
        (before, scales(&calibration))
    }

    proptest! {
        #[test]
        fn the_factor_stays_within_its_bounds(
            pace in proptest::collection::vec((0_u32..2_000, 1_u32..120), 1..40), deviation in 0.0_f64..50.0,
        ) {
            let (mut calibration, steps, mut called) = (IntervalCalibration::default(), steps(deviation), 0);
            for (per_s, seconds) in pace {
                for _ in 0..seconds {
                    called += per_s;
                    calibration.compare(called);
                    if calibration.is_due() {
                        calibration.record(called, u32::MAX, &steps);
                    }
                    for t_s in [0.0, 1.0, 15.0, 100.0, 720.0, 1e6] {
                        let bounds = SCALE.start() - 1e-9..=SCALE.end() + 1e-9;
                        prop_assert!(bounds.contains(&calibration.scale(t_s)));
                    }
                }
            }
        }

        #[test]
        fn a_miss_widens_and_a_hit_narrows_longer_horizons_too(
            misses in 20_u32..500, from in proptest::collection::vec(-1.0_f64..1.0, HORIZONS_S.len()),
        ) {
            let (before, after) = after_one_verdict(misses, Some(from.clone()));
            prop_assert!(before.iter().zip(&after).all(|(before, after)| after > before),
                "{before:?} {after:?}");
            let widened: Vec<f64> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
            prop_assert!(widened.windows(2).all(|pair| pair[0] > pair[1]), "{widened:?}");
            let (before, after) = after_one_verdict(10, Some(from));
            prop_assert!(before.iter().zip(&after).all(|(before, after)| after < before),
                "{before:?} {after:?}");
        }
    }

    /// Truth is so many times as far from what is forecast as is forecast of it; of the later statements, the
    /// share that held.
    fn kept(times: f64, seed: u64) -> f64 {
        let (entropy, mut calibration) = (SeededEntropy::new(seed), IntervalCalibration::default());
        let (mut held, mut of) = (0_u32, 0_u32);
        // Each statement is about the next quarter of a minute, in which the pace is what it happens to be.
        let forecast = steps(1.0);
        let mut called = 0.0;
        for nth in 0..4_000 {
            let normal =
                (-2.0 * (1.0 - entropy.unit()).ln()).sqrt() * (std::f64::consts::TAU * entropy.unit()).cos();
            let (from, off) = (called, 15.0 * times * normal);
            called += f64::max(150.0 + off, 0.0);
            let before = calibration.z(15.0);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "not negative, and below 2^31"
            )]
            let [from, called] = [from, called].map(|it| it.round() as u32);
            calibration.horizons[0].pending.push_back((
                calibration.seconds + 1,
                from,
                at(&forecast, 15.0).unwrap(),
            ));
            calibration.compare(called);
            if nth >= 400 {
                of += 1;
                held += u32::from((f64::from(called - from) - 150.0).abs() <= before * 15.0 + 0.5);
            }
        }
        f64::from(held) / f64::from(of)
    }

    #[test]
    fn coverage_converges_to_eight_of_ten_from_any_width() {
        for (seed, times) in [0.5, 0.7, 1.0, 2.0, 3.0].into_iter().enumerate() {
            let kept = kept(times, seed as u64);
            assert!((0.77..0.83).contains(&kept), "{times}: {kept}");
        }
    }

    #[test]
    fn forecasts_overtaken_by_a_command_teach_nothing() {
        let mut calibration = IntervalCalibration::default();
        calibration.record(0, u32::MAX, &steps(1.0));
        let before = scales(&calibration);
        calibration.discard_pending();
        (1..=800).for_each(|_| calibration.compare(0));
        assert_eq!(before, scales(&calibration));
    }
}

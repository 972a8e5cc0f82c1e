//! How long it will take: a range computed from the measured progress of the line. Pure.
//!
//! The line is taken for a process that calls `per_s` fans a second on average. In `t` seconds it calls
//! `per_s * t`, give or take: short swings add up like a random walk (variance `dispersion * t`), and the average
//! itself is known only to within a share `drift`. The time at which the line has passed `n` fans with a given
//! confidence is then the root of a quadratic equation.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeTuple};

/// A total's growth per second, smoothed over about 20 s.
#[derive(Debug)]
pub(super) struct Flow {
    seen: Option<u64>,
    at: Duration,
    per_s: f64,
}

impl Flow {
    pub(super) const fn new(monotonic: Duration) -> Self {
        Self { seen: None, at: monotonic, per_s: 0.0 }
    }

    pub(super) fn observe(&mut self, total: u64, monotonic: Duration) {
        const MEMORY_S: f64 = 20.0;
        let passed_s = monotonic.saturating_sub(self.at).as_secs_f64();
        if passed_s <= 0.0 {
            return;
        }
        if let Some(seen) = self.seen {
            let grown = f64::from(u32::try_from(total.saturating_sub(seen)).unwrap_or(u32::MAX));
            self.per_s += (grown / passed_s - self.per_s) * (1.0 - (-passed_s / MEMORY_S).exp());
        }
        self.seen = Some(total);
        self.at = monotonic;
    }

    pub(super) const fn per_s(&self) -> f64 {
        self.per_s
    }
}

/// How the line moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Process {
    /// Fans called per second, on average.
    pub per_s: f64,
    /// Variance of the progress that one second adds.
    pub dispersion: f64,
    /// Relative uncertainty of `per_s` itself.
    pub drift: f64,
}

/// Progress of the line in blocks of ten seconds.
#[derive(Debug, Default)]
pub(super) struct Measure {
    serving: Option<u32>,
    block: u32,
    block_s: u32,
    blocks: VecDeque<u32>,
}

const BLOCK_S: u32 = 10;
const BLOCKS_MAX: usize = 60;
/// Weight of a block over that of the next younger: half of it is gone after a minute and a half.
const FADING: f64 = 0.93;
/// The modelled flow counts as much as so many blocks.
const MODEL_BLOCKS: f64 = 2.0;
const DRIFT_MIN: f64 = 0.06;
const DRIFT_UNKNOWN: f64 = 0.45;

impl Measure {
    /// A second of calling has passed.
    pub(super) fn second(&mut self, now_serving: u32) {
        let progress = now_serving.saturating_sub(self.serving.unwrap_or(now_serving));
        self.serving = Some(now_serving);
        self.block += progress;
        self.block_s += 1;
        if self.block_s == BLOCK_S {
            self.blocks.push_front(self.block);
            self.blocks.truncate(BLOCKS_MAX);
            (self.block, self.block_s) = (0, 0);
        }
    }

    /// A second in which nobody could be called: it says nothing about the pace.
    pub(super) fn idle(&mut self, now_serving: u32) {
        self.serving = Some(now_serving);
    }

    /// The pace has changed for a known reason, so the past says nothing about it.
    pub(super) fn disturbed(&mut self) {
        self.blocks.clear();
        (self.block, self.block_s) = (0, 0);
    }

    /// The process as measured, leaning on the `modelled` flow while little is known.
    pub(super) fn process(&self, modelled_per_s: f64) -> Process {
        let block_s = f64::from(BLOCK_S);
        let weights = || std::iter::successors(Some(1.0), |w| Some(w * FADING));
        let weight: f64 = weights().take(self.blocks.len()).sum();
        let calls: f64 = weights().zip(&self.blocks).map(|(w, &b)| w * f64::from(b)).sum();
        let per_s = ((calls + MODEL_BLOCKS * block_s * modelled_per_s) / (block_s * (weight + MODEL_BLOCKS))).max(1e-4);
        let swings: f64 = weights().zip(&self.blocks).map(|(w, &b)| w * (f64::from(b) - per_s * block_s).powi(2)).sum();
        // Without measurements, twice the variance of fans who come one by one.
        let dispersion = (swings / block_s + MODEL_BLOCKS * 2.0 * per_s) / (weight + MODEL_BLOCKS);
        let drift = (DRIFT_UNKNOWN / (1.0 + weight / MODEL_BLOCKS)).max(DRIFT_MIN);
        Process { per_s, dispersion, drift }
    }
}

/// With so many fans ahead, the wait in seconds: one chance in ten that it is shorter than `p10_s`, one in ten that it
/// is longer than `p90_s`. On the wire `[ahead, p10_s, p50_s, p90_s]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub ahead: u32,
    pub p10_s: u32,
    pub p50_s: u32,
    pub p90_s: u32,
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(4)?;
        for number in [self.ahead, self.p10_s, self.p50_s, self.p90_s] {
            tuple.serialize_element(&number)?;
        }
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [ahead, p10_s, p50_s, p90_s] = Deserialize::deserialize(deserializer)?;
        Ok(Self { ahead, p10_s, p50_s, p90_s })
    }
}

const POINTS: u32 = 12;
/// The 90th percentile of the standard normal distribution.
const Z90: f64 = 1.281_551_565_5;

/// Waits for about a dozen positions, denser near the front; `until_open_s` is added to all.
#[must_use]
pub(super) fn table(process: &Process, waiting: u32, until_open_s: u32) -> Vec<Point> {
    let last = waiting.max(1);
    let mut aheads: Vec<u32> =
        (1..POINTS).map(|i| whole(f64::from(last).powf(f64::from(i - 1) / f64::from(POINTS - 2))).clamp(1, last)).collect();
    aheads.insert(0, 0);
    aheads.dedup();
    let point = |ahead| {
        let [p10_s, p50_s, p90_s] = quantiles(process, f64::from(ahead) + 1.0).map(|s| until_open_s.saturating_add(whole(s)));
        Point { ahead, p10_s, p50_s, p90_s }
    };
    aheads.into_iter().map(point).collect()
}

/// The wait behind `ahead` others, between the table's points (beyond its end in proportion): p10, p50, p90 in seconds.
#[must_use]
pub(super) fn interpolate(table: &[Point], ahead: u64) -> Option<[u32; 3]> {
    let next = table.partition_point(|p| u64::from(p.ahead) < ahead).clamp(1, table.len().checked_sub(1)?.max(1));
    let (Some(a), Some(b)) = (table.get(next - 1), table.get(next)) else {
        return table.first().map(|p| [p.p10_s, p.p50_s, p.p90_s]);
    };
    #[expect(clippy::cast_precision_loss, reason = "queue numbers are far below 2^53")]
    let along = (ahead as f64 - f64::from(a.ahead)) / f64::from(b.ahead - a.ahead);
    let between = |from: u32, to: u32| whole(f64::from(from) + (f64::from(to) - f64::from(from)) * along);
    Some([between(a.p10_s, b.p10_s), between(a.p50_s, b.p50_s), between(a.p90_s, b.p90_s)])
}

/// Seconds until `n` fans have been called: the roots of `(n - per_s t)^2 = z^2 (dispersion t + (drift per_s t)^2)`,
/// and `n / per_s` between them.
fn quantiles(process: &Process, n: f64) -> [f64; 3] {
    let z2 = Z90 * Z90;
    let per_s = process.per_s.max(1e-6);
    let drift = process.drift.clamp(0.0, 0.75);
    let a = per_s * per_s * (1.0 - z2 * drift * drift);
    let half_b = n * per_s + z2 * process.dispersion.max(0.0) / 2.0;
    let root = (half_b * half_b - a * n * n).max(0.0).sqrt();
    // The smaller root in the form that does not lose its digits when both terms are nearly equal.
    [n * n / (half_b + root), n / per_s, (half_b + root) / a]
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range of the answer")]
fn whole(value: f64) -> u32 {
    value.round().clamp(0.0, 1e9) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::{Entropy, SeededEntropy};

    proptest! {
        #[test]
        fn ranges_are_ordered_and_grow_with_the_distance(
            per_s in 0.001_f64..500.0, dispersion in 0.0_f64..2_000.0, drift in 0.0_f64..0.6,
            waiting in 0_u32..4_000_000, until_open_s in 0_u32..100_000, aheads in proptest::collection::vec(0_u64..5_000_000, 20),
        ) {
            let table = table(&Process { per_s, dispersion, drift }, waiting, until_open_s);
            prop_assert!(table.len() <= POINTS as usize);
            let mut aheads = aheads;
            aheads.sort_unstable();
            let mut before = [until_open_s; 3];
            for ahead in aheads {
                let wait = interpolate(&table, ahead).unwrap();
                prop_assert!(wait[0] <= wait[1] && wait[1] <= wait[2], "{wait:?}");
                prop_assert!((0..3).all(|i| before[i] <= wait[i]), "{before:?} {wait:?}");
                before = wait;
            }
        }
    }

    #[test]
    fn a_line_that_moves_as_modelled_is_believed_more_and_more() {
        let mut measure = Measure::default();
        let width = |measure: &Measure| {
            let [p10, p50, p90] = quantiles(&measure.process(10.0), 1_000.0);
            assert!((80.0..125.0).contains(&p50), "{p50}");
            p90 - p10
        };
        let at_first = width(&measure);
        (0..600).for_each(|second| measure.second(second * 10));
        assert!(width(&measure) < at_first / 3.0);
    }

    #[test]
    fn eight_of_ten_waits_are_within_the_range_of_a_random_line() {
        let entropy = SeededEntropy::new(9);
        let (mut within, mut all) = (0, 0);
        for _ in 0..150 {
            let mut measure = Measure::default();
            let mut serving = 0_u32;
            let call = || (0..20).filter(|_| entropy.unit() < 0.25).count();
            for _ in 0..400 {
                serving += u32::try_from(call()).unwrap();
                measure.second(serving);
            }
            let [p10, _, p90] = quantiles(&measure.process(5.0), 200.0);
            let (mut seconds, mut called) = (0.0, 0);
            while called < 200 {
                called += call();
                seconds += 1.0;
            }
            all += 1;
            within += usize::from((p10..=p90).contains(&seconds));
        }
        assert!((all * 7 / 10..=all * 97 / 100).contains(&within), "{within} of {all}");
    }

    #[test]
    fn a_known_change_counts_at_once() {
        let mut measure = Measure::default();
        (0..300).for_each(|second| measure.second(second * 10));
        measure.disturbed();
        let process = measure.process(2.0);
        assert!((1.9..2.1).contains(&process.per_s) && process.drift > 0.4, "{process:?}");
    }
}

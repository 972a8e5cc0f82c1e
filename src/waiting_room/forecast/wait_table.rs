//! Wait table: the published ranges of waits, and straight lines between its rows. Pure.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeTuple};

/// Growth of a total per second, smoothed over about 20 s.
#[derive(Debug)]
pub(crate) struct RateEstimate {
    seen: Option<u64>,
    at: Duration,
    per_s: f64,
}

impl RateEstimate {
    /// An estimate of 0 that starts at `monotonic`.
    pub(crate) const fn new(monotonic: Duration) -> Self {
        Self {
            seen: None,
            at: monotonic,
            per_s: 0.0,
        }
    }

    /// The total at this moment of the steady clock.
    pub(crate) fn observe(&mut self, total: u64, monotonic: Duration) {
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

    /// Growth per second.
    pub(crate) const fn per_s(&self) -> f64 {
        self.per_s
    }
}

/// The wait in seconds behind `ahead` visitors: one chance in ten that it is shorter than `p10_s`, one in ten
/// that it is longer than `p90_s`. On the wire `[ahead, p10_s, p50_s, p90_s]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitPoint {
    /// Numbers to be called before.
    pub ahead: u32,
    /// 10th percentile in seconds.
    pub p10_s: u32,
    /// Median in seconds.
    pub p50_s: u32,
    /// 90th percentile in seconds.
    pub p90_s: u32,
}

impl Serialize for WaitPoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(4)?;
        for number in [self.ahead, self.p10_s, self.p50_s, self.p90_s] {
            tuple.serialize_element(&number)?;
        }
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for WaitPoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let [ahead, p10_s, p50_s, p90_s] = Deserialize::deserialize(deserializer)?;
        Ok(Self {
            ahead,
            p10_s,
            p50_s,
            p90_s,
        })
    }
}

const POINTS: usize = 14;
/// Distances at which the curve is evaluated before the points are chosen.
const LOOKED_AT: u32 = 64;

/// Waits for about a dozen positions, chosen so that straight lines between them are close to the curve
/// everywhere: `waits_s` gives p10, p50 and p90 behind so many others.
#[must_use]
pub(crate) fn table(waits_s: impl Fn(f64) -> [f64; 3], waiting: u32, until_open_s: u32) -> Vec<WaitPoint> {
    let last = waiting.max(1);
    let nth = |i| round_to_u32(f64::from(last).powf(f64::from(i) / f64::from(LOOKED_AT - 1))).clamp(1, last);
    let mut aheads: Vec<u32> = std::iter::once(0).chain((0..LOOKED_AT).map(nth)).collect();
    aheads.dedup();
    let mut waits: Vec<[f64; 3]> = aheads.iter().map(|&ahead| waits_s(f64::from(ahead))).collect();
    // Rounding and the steps of the curve must not make a wait shrink with the distance.
    for at in 1..waits.len() {
        waits[at] = std::array::from_fn(|i| waits[at][i].max(waits[at - 1][i]));
    }
    let mut chosen = vec![0, aheads.len() - 1];
    while chosen.len() < POINTS.min(aheads.len()) {
        let Some((at, _)) = worst(&aheads, &waits, &chosen) else {
            break;
        };
        chosen.insert(chosen.partition_point(|&it| it < at), at);
    }
    let point = |at: usize| {
        let [p10_s, p50_s, p90_s] = inclusive(waits[at]);
        let after_opening = |s: f64| until_open_s.saturating_add(round_to_u32(s));
        WaitPoint {
            ahead: aheads[at],
            p10_s: after_opening(p10_s),
            p50_s: after_opening(p50_s),
            p90_s: after_opening(p90_s),
        }
    };
    chosen.into_iter().map(point).collect()
}

/// Makes a range inclusive: a call in its first or last second is within it. So it reaches half a second
/// farther on either side than its numbers, which shrink by as much.
fn inclusive([p10_s, p50_s, p90_s]: [f64; 3]) -> [f64; 3] {
    [p50_s.min(p10_s + 0.5), p50_s, p50_s.max(p90_s - 0.5)]
}

/// Where the straight lines between the chosen points are farthest from the curve, measured by the width of
/// the range there.
fn worst(aheads: &[u32], waits: &[[f64; 3]], chosen: &[usize]) -> Option<(usize, f64)> {
    let mut found: Option<(usize, f64)> = None;
    for pair in chosen.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        for at in from + 1..to {
            let along = f64::from(aheads[at] - aheads[from]) / f64::from(aheads[to] - aheads[from]);
            let scale = 1.0 + waits[at][2] - waits[at][0];
            let off = (0..3)
                .map(|i| (waits[from][i] + (waits[to][i] - waits[from][i]) * along - waits[at][i]).abs())
                .fold(0.0, f64::max);
            if found.is_none_or(|(_, most)| off / scale > most) {
                found = Some((at, off / scale));
            }
        }
    }
    found
}

/// The wait behind `ahead` others, between the table's points (beyond its end in proportion): p10, p50, p90
/// in seconds. `None` for an empty table.
#[must_use]
pub(crate) fn interpolate(table: &[WaitPoint], ahead: u64) -> Option<[u32; 3]> {
    let next = table
        .partition_point(|p| u64::from(p.ahead) < ahead)
        .clamp(1, table.len().checked_sub(1)?.max(1));
    let (Some(a), Some(b)) = (table.get(next - 1), table.get(next)) else {
        return table.first().map(|p| [p.p10_s, p.p50_s, p.p90_s]);
    };
    #[expect(clippy::cast_precision_loss, reason = "queue numbers are far below 2^53")]
    let along = (ahead as f64 - f64::from(a.ahead)) / f64::from(b.ahead - a.ahead);
    let between =
        |from: u32, to: u32| round_to_u32(f64::from(from) + (f64::from(to) - f64::from(from)) * along);
    // Beyond the end rounding could turn the quantiles over.
    let p10_s = between(a.p10_s, b.p10_s);
    let p50_s = between(a.p50_s, b.p50_s).max(p10_s);
    Some([p10_s, p50_s, between(a.p90_s, b.p90_s).max(p50_s)])
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range of the answer"
)]
/// Rounds to a count; 0 below, a billion at most.
pub(crate) fn round_to_u32(value: f64) -> u32 {
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
            per_s in 0.001_f64..500.0, bend in 0_u32..1_000_000, slower in 1.0_f64..50.0,
                width in 0.0_f64..0.9,
            waiting in 0_u32..4_000_000, until_open_s in 0_u32..100_000,
                aheads in proptest::collection::vec(0_u64..5_000_000, 20),
        ) {
            let curve = |ahead: f64| {
                let p50 = (ahead + 1.0 + (ahead - f64::from(bend)).max(0.0) * slower) / per_s;
                [p50 * (1.0 - width), p50, p50 * (1.0 + width)]
            };
            let table = table(curve, waiting, until_open_s);
            prop_assert!(table.len() <= POINTS);
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

    /// Of waits that are spread like this about what is expected, the share that is within what is said, in
    /// whole seconds.
    fn kept(deviation_s: f64) -> f64 {
        let entropy = SeededEntropy::new(5);
        let said = |expected_s: f64| {
            let range_s = [-1.2816, 0.0, 1.2816].map(|z| expected_s + z * deviation_s);
            interpolate(&table(|_| range_s, 1, 0), 0).unwrap().map(f64::from)
        };
        let is_kept = |_: &u32| {
            let expected_s = 100.0 + 10.0 * entropy.unit();
            let normal =
                (-2.0 * (1.0 - entropy.unit()).ln()).sqrt() * (std::f64::consts::TAU * entropy.unit()).cos();
            let ([p10_s, _, p90_s], whole_s) =
                (said(expected_s), (expected_s + deviation_s * normal).round());
            p10_s <= whole_s && whole_s <= p90_s
        };
        f64::from(u32::try_from((0..4_000_u32).filter(is_kept).count()).unwrap()) / 4_000.0
    }

    #[test]
    fn eight_of_ten_whole_seconds_are_within_any_range() {
        for deviation_s in [1.0, 2.0, 5.0, 20.0] {
            let kept = kept(deviation_s);
            assert!((0.765..0.82).contains(&kept), "{deviation_s}: {kept}");
        }
    }

    #[test]
    fn rounding_beyond_the_end_keeps_the_order() {
        let point = |[ahead, p10_s, p50_s, p90_s]: [u32; 4]| WaitPoint {
            ahead,
            p10_s,
            p50_s,
            p90_s,
        };
        let table = [point([0, 0, 0, 1]), point([2, 1, 2, 2])];
        assert_eq!(interpolate(&table, 6), Some([3, 6, 6]));
    }

    #[test]
    fn a_bend_in_the_curve_is_a_point_of_the_table() {
        // A hundred a second until 1000 visits are active, then five.
        let curve = |ahead: f64| {
            [0.9, 1.0, 1.1]
                .map(|times| times * (ahead.min(1_000.0) / 100.0 + (ahead - 1_000.0).max(0.0) / 5.0))
        };
        let table = table(curve, 50_000, 0);
        for ahead in [10, 500, 990, 1_010, 1_500, 5_000, 30_000] {
            let [_, told, _] = interpolate(&table, ahead).unwrap().map(f64::from);
            let [low, _, high] = curve(f64::from(u32::try_from(ahead).unwrap()));
            assert!(
                (low - 5.0..=high + 5.0).contains(&told),
                "{ahead}: {told} is not in {low} to {high}"
            );
        }
    }
}

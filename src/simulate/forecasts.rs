//! Scores of the published forecasts: one random forecast per visitor, read off the wait table as a browser
//! would, against the wait that followed. A wait lasts until the call.
//!
//! - coverage: the share of waits within p10 to p90;
//! - sharpness: the mean interval score (Gneiting and Raftery 2007, alpha = 0.2) over that of the naive
//!   forecast `position / configured rate`, give or take the relative width that suits it best in hindsight;
//! - center: the median of |p50 - wait| / wait, for waits over two minutes, from two minutes after the first
//!   entry.

use serde::Serialize;

use crate::simulate::sale::{StatusSample, Timeline};
use crate::{
    kernel::{Entropy, SeededEntropy},
    waiting_room::forecast::{stock_reach::reach_end, wait_table::interpolate},
};

/// The status speaks in whole seconds, and is read within the second: a wait that is this much shorter or
/// longer than the range counts as within it.
const GRACE_S: f64 = 0.5;
/// Forecasts of one sale at most.
const DRAWN_MAX: u32 = 2_000;
/// A disturbance counts as known from so long after it.
const ANNOUNCED_MS: u64 = 60_000;
const ALPHA: f64 = 0.2;

/// One forecast and what followed, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forecast {
    p10: f64,
    p50: f64,
    p90: f64,
    naive: f64,
    actual: f64,
    /// It counts for the center too.
    is_settled: bool,
    /// A disturbance came between the forecast and the call, or had just come.
    is_disturbed: bool,
}

/// What visitors of one sale were told who were told that hardly a seat would be left.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UnlikelyOutcomes {
    /// Visitors who were told so.
    pub told: u64,
    /// Those of them at whose turn a seat was free.
    pub served: u64,
}

/// One random statement per visitor: of those that said that hardly a seat would be left, what followed.
/// Visitors who had not been called when the last seat was sold could not buy.
pub(crate) fn draw_unlikely(timeline: &Timeline, issued_by: &[u32], seed: u64) -> UnlikelyOutcomes {
    let entropy = SeededEntropy::new(seed.rotate_left(32));
    let issued = issued_by.last().copied().unwrap_or(0);
    let mut outcomes = UnlikelyOutcomes::default();
    for _ in 0..DRAWN_MAX.min(issued) {
        let number = 1 + u32::try_from(entropy.below(issued.into())).unwrap_or(0);
        let joined_s = issued_by.partition_point(|issued| *issued < number);
        let call = timeline
            .calls
            .get(timeline.calls.partition_point(|(upto, _)| *upto < number));
        let Some(end_ms) = call.map(|(_, at_ms)| *at_ms).or(timeline.sold_out_ms) else {
            continue;
        };
        let end_s = usize::try_from(end_ms / 1_000).unwrap_or(usize::MAX);
        let Some(waited_s) = end_s.checked_sub(joined_s).filter(|waited_s| *waited_s > 0) else {
            continue;
        };
        let asked_s = joined_s + usize::try_from(entropy.below(waited_s as u64)).unwrap_or(0);
        let Some(status) = timeline.statuses.get(asked_s) else {
            continue;
        };
        let ahead = (number - 1).saturating_sub(status.now_serving);
        if !is_told_unlikely(status, ahead) {
            continue;
        }
        outcomes.told += 1;
        let free = timeline.statuses.get(end_s).and_then(|then| then.free_seats);
        outcomes.served += u64::from(call.is_some() && free.is_some_and(|free| free > 0));
    }
    outcomes
}

fn is_told_unlikely(status: &StatusSample, ahead: u32) -> bool {
    reach_end(status.reach).is_some_and(|end| ahead > end)
}

/// The forecasts of one sale, and how many could not be made because none was published.
pub(crate) fn draw(timeline: &Timeline, issued_by: &[u32], seed: u64) -> (Vec<Forecast>, u32) {
    // Randomness apart from the crowd's: which forecasts are drawn changes nothing about the sale.
    let entropy = SeededEntropy::new(!seed);
    let reached = timeline
        .calls
        .last()
        .map_or(0, |(upto, _)| *upto)
        .min(timeline.upto);
    let mut forecasts = Vec::new();
    let mut unsaid = 0;
    for nth in 0..DRAWN_MAX.min(reached) {
        let number = if reached <= DRAWN_MAX {
            nth + 1
        } else {
            1 + u32::try_from(entropy.below(u64::from(reached))).unwrap_or(0)
        };
        let called_ms = timeline.calls[timeline.calls.partition_point(|(upto, _)| *upto < number)].1;
        let joined_ms = 1_000 * issued_by.partition_point(|issued| *issued < number) as u64;
        let Some(waited_ms) = called_ms.checked_sub(joined_ms).filter(|ms| *ms >= 1_000) else {
            continue;
        };
        let asked_ms = joined_ms + entropy.below(waited_ms);
        let Some(status) = usize::try_from(asked_ms / 1_000)
            .ok()
            .and_then(|second| timeline.statuses.get(second))
        else {
            continue;
        };
        let Some(ahead) = (number - 1).checked_sub(status.now_serving) else {
            continue;
        };
        if is_told_unlikely(status, ahead) {
            continue;
        }
        let Some([p10, p50, p90]) = interpolate(&status.table, u64::from(ahead)) else {
            unsaid += 1;
            continue;
        };
        let from_ms = asked_ms.saturating_sub(ANNOUNCED_MS);
        forecasts.push(Forecast {
            p10: p10.into(),
            p50: p50.into(),
            p90: p90.into(),
            naive: (f64::from(ahead) + 1.0) * 60.0 / f64::from(status.rate_per_minute),
            actual: seconds(called_ms - asked_ms),
            is_settled: timeline
                .first_entry_ms
                .is_some_and(|first| asked_ms >= first + 120_000),
            is_disturbed: timeline
                .disturbances_ms
                .iter()
                .any(|at| (from_ms..called_ms).contains(at)),
        });
    }
    (forecasts, unsaid)
}

/// Score of many forecasts; `null` where there was nothing to measure.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ForecastScore {
    /// Forecasts that count.
    pub forecasts: usize,
    /// Seconds by which a wait may be outside its range and count as within it.
    pub grace_s: f64,
    /// Share of waits within p10 to p90. With `below` and `above` it makes 1.
    pub coverage: Option<f64>,
    /// Share of waits shorter than p10.
    pub below: Option<f64>,
    /// Share of waits longer than p90.
    pub above: Option<f64>,
    /// Share of waits within p10 to p90, those included that a disturbance overtook.
    pub coverage_with_disturbed: Option<f64>,
    /// Mean interval score over that of the naive forecast.
    pub interval_score_ratio: Option<f64>,
    /// Median relative error of p50.
    pub p50_error: Option<f64>,
    /// Forecasts that a disturbance overtook.
    pub disturbed: usize,
    /// Share of waits within their ranges among those.
    pub disturbed_coverage: Option<f64>,
}

/// Scores forecasts.
pub(crate) fn score(forecasts: &[Forecast]) -> ForecastScore {
    let (surprised, counted): (Vec<Forecast>, Vec<Forecast>) =
        forecasts.iter().partition(|it| it.is_disturbed);
    let share = |of: &[Forecast], holds: fn(&Forecast) -> bool| {
        ratio(of.iter().filter(|it| holds(it)).count(), of.len())
    };
    let mut errors: Vec<f64> = counted
        .iter()
        .filter(|it| it.is_settled && it.actual > 120.0)
        .map(|it| (it.p50 - it.actual).abs() / it.actual)
        .collect();
    errors.sort_unstable_by(f64::total_cmp);
    let own: f64 = counted
        .iter()
        .map(|it| interval_score(it.p10, it.p90, it.actual))
        .sum();
    let naive = best_naive(&counted);
    ForecastScore {
        forecasts: counted.len(),
        grace_s: GRACE_S,
        coverage: share(&counted, within),
        below: share(&counted, |it| it.actual + GRACE_S < it.p10),
        above: share(&counted, |it| it.actual > it.p90 + GRACE_S),
        coverage_with_disturbed: share(forecasts, within),
        interval_score_ratio: (naive > 0.0).then(|| own / naive),
        p50_error: errors.get(errors.len() / 2).copied(),
        disturbed: surprised.len(),
        disturbed_coverage: share(&surprised, within),
    }
}

fn within(it: &Forecast) -> bool {
    it.p10 <= it.actual + GRACE_S && it.actual <= it.p90 + GRACE_S
}

fn interval_score(lower: f64, upper: f64, actual: f64) -> f64 {
    upper - lower + 2.0 / ALPHA * ((lower - actual).max(0.0) + (actual - upper).max(0.0))
}

/// The naive forecast's score with the relative width that suits it best: the score is convex in the width.
fn best_naive(forecasts: &[Forecast]) -> f64 {
    let total = |width: f64| -> f64 {
        forecasts
            .iter()
            .map(|it| {
                interval_score(
                    (it.naive * (1.0 - width)).max(0.0),
                    it.naive * (1.0 + width),
                    it.actual,
                )
            })
            .sum()
    };
    let (mut low, mut high) = (0.0, 20.0);
    for _ in 0..40 {
        let (a, b) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
        if total(a) <= total(b) {
            high = b;
        } else {
            low = a;
        }
    }
    total(low.midpoint(high))
}

/// `part` over `of`; `None` when `of` is 0.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(crate) fn ratio(part: usize, of: usize) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

#[expect(clippy::cast_precision_loss, reason = "a sale lasts hours, not ages")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forecast(p10: f64, p90: f64, actual: f64) -> Forecast {
        Forecast {
            p10,
            p50: p10.midpoint(p90),
            p90,
            naive: actual * 2.0,
            actual,
            is_settled: true,
            is_disturbed: false,
        }
    }

    #[test]
    fn the_score_counts_hits_and_punishes_misses() {
        let forecasts = [
            forecast(100.0, 200.0, 150.0),
            forecast(100.0, 200.0, 250.0),
            forecast(300.0, 500.0, 400.0),
        ];
        let worth = score(&forecasts);
        assert!(
            (worth.coverage.unwrap() - 2.0 / 3.0).abs() < 1e-9
                && (worth.above.unwrap() - 1.0 / 3.0).abs() < 1e-9
        );
        assert!(worth.p50_error.unwrap() < 1e-9, "the median is right");
        // Interval scores here: 100, 100 + 10 * 50 for a miss by 50, and 200. The baseline predicts twice the
        // wait, so its best width is one half: 150, 250 and 400.
        assert!(
            (worth.interval_score_ratio.unwrap() - 900.0 / (150.0 + 250.0 + 400.0) / 2.0).abs() < 1e-3,
            "{worth:?}"
        );
    }

    #[test]
    fn disturbed_forecasts_are_counted_apart() {
        let surprised = Forecast {
            is_disturbed: true,
            ..forecast(1.0, 2.0, 500.0)
        };
        let worth = score(&[forecast(100.0, 200.0, 150.0), surprised]);
        assert_eq!(
            (
                worth.forecasts,
                worth.coverage,
                worth.disturbed,
                worth.disturbed_coverage
            ),
            (1, Some(1.0), 1, Some(0.0))
        );
        assert_eq!(worth.coverage_with_disturbed, Some(0.5));
    }

    #[test]
    fn within_below_and_above_make_one() {
        let forecasts = [99.4, 99.6, 150.0, 200.4, 200.6].map(|actual| forecast(100.0, 200.0, actual));
        let worth = score(&forecasts);
        let shares = [worth.coverage, worth.below, worth.above].map(Option::unwrap);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9 && (shares[0] - 0.6).abs() < 1e-9);
    }
}

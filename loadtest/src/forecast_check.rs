//! Judges the waits that were told over HTTP: each status that was read, against when its numbers were
//! called.
//!
//! Written apart from the service: what counts is what a page would have told, and when it was called.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stagedoor::demo::client::messages::QueueStatus;

/// Numbers that are judged of each status, evenly spread over those who wait.
const NUMBERS_EACH: u64 = 16;
/// The status is encoded once a second and read once a second, so a call is seen that much late.
const GRACE_S: f64 = 1.0;

/// The statuses of a run.
#[derive(Debug, Default)]
pub struct ForecastCheck {
    told: Vec<Told>,
}

/// One status, as far as it tells of waits.
#[derive(Debug)]
struct Told {
    at_s: f64,
    now_serving: u64,
    numbers_issued: u64,
    /// Numbers before one's own; 10th, 50th and 90th percentile of the wait in seconds.
    estimate: Vec<[u32; 4]>,
    /// The distance beyond which no wait is told, because probably no seat is left.
    reach: Option<u64>,
}

/// How the waits that were told came out. The shares of `judged` add up to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ForecastFigures {
    /// Waits whose end is known.
    pub judged: u64,
    /// Waits whose end the run did not see.
    pub open: u64,
    /// Numbers that were told no wait, because probably no seat is left at their turn.
    pub withheld: u64,
    /// Called before the told range.
    pub below: f64,
    /// Called within the told range, with a second of grace.
    pub within: f64,
    /// Called after the told range, or not called though it is over.
    pub above: f64,
    /// The median of |told median - wait| / wait.
    pub median_error: f64,
}

/// How one wait came out.
enum Outcome {
    Open,
    Withheld,
    Ended { side: Side, error: f64 },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Below,
    Within,
    Above,
}

impl ForecastCheck {
    /// Adds a status that was read `at` this time of the run.
    pub fn record(&mut self, at: Duration, status: &QueueStatus) {
        self.told.push(Told {
            at_s: at.as_secs_f64(),
            now_serving: status.now_serving,
            numbers_issued: status.numbers_issued,
            estimate: status.estimate.clone(),
            reach: status.available_to_distance.and_then(|[_, _, unlikely]| unlikely),
        });
    }

    /// Judges every status by those after it.
    pub fn figures(&self) -> ForecastFigures {
        let outcomes = self.told.iter().enumerate().flat_map(|(index, told)| {
            let later = &self.told[index..];
            told.numbers().map(move |number| told.outcome(number, later))
        });
        let mut figures = ForecastFigures::default();
        let (mut sides, mut errors) = ([0_u64; 3], Vec::new());
        for outcome in outcomes {
            match outcome {
                Outcome::Open => figures.open += 1,
                Outcome::Withheld => figures.withheld += 1,
                Outcome::Ended { side, error } => {
                    sides[side as usize] += 1;
                    errors.push(error);
                }
            }
        }
        figures.judged = sides.iter().sum();
        if figures.judged > 0 {
            [figures.below, figures.within, figures.above] = sides.map(|count| share(count, figures.judged));
            errors.sort_by(f64::total_cmp);
            figures.median_error = errors[errors.len() / 2];
        }
        figures
    }
}

impl ForecastFigures {
    /// One line.
    pub fn in_words(&self) -> String {
        if self.judged == 0 {
            return format!(
                "waits told: none has ended ({} open, {} withheld)",
                self.open, self.withheld
            );
        }
        format!(
            "waits told: {:.3} within the range, {:.3} below, {:.3} above, median error {:.2}; of {} ({} \
             open, {} withheld)",
            self.within, self.below, self.above, self.median_error, self.judged, self.open, self.withheld
        )
    }
}

impl Told {
    /// The numbers to judge: none before the first call, when nothing is told.
    fn numbers(&self) -> impl Iterator<Item = u64> + use<> {
        let waiting = self.numbers_issued.saturating_sub(self.now_serving);
        let count = if self.estimate.is_empty() {
            0
        } else {
            waiting.min(NUMBERS_EACH)
        };
        let first = self.now_serving + 1;
        (0..count).map(move |index| first + index * waiting / count)
    }

    fn outcome(&self, number: u64, later: &[Self]) -> Outcome {
        let distance = number - self.now_serving - 1;
        if self.reach.is_some_and(|last| distance > last) {
            return Outcome::Withheld;
        }
        let [p10, p50, p90] = self.wait(distance);
        let called = later.partition_point(|status| status.now_serving < number);
        let (is_called, wait) = match later.get(called) {
            Some(status) => (true, status.at_s - self.at_s),
            None => (false, later.last().map_or(0.0, |last| last.at_s - self.at_s)),
        };
        let side = match () {
            () if wait > p90 + GRACE_S => Side::Above,
            () if !is_called => return Outcome::Open,
            () if wait < p10 - GRACE_S => Side::Below,
            () => Side::Within,
        };
        Outcome::Ended {
            side,
            error: (p50 - wait).abs() / wait.max(GRACE_S),
        }
    }

    /// The wait in seconds, on the line between the points that are told.
    #[expect(clippy::cast_precision_loss, reason = "distances of some millions")]
    fn wait(&self, distance: u64) -> [f64; 3] {
        let distance = distance as f64;
        let after = self
            .estimate
            .partition_point(|point| f64::from(point[0]) < distance);
        let at = |index: usize| self.estimate[index].map(f64::from);
        if after == 0 || self.estimate.len() == 1 {
            let [_, waits @ ..] = at(0);
            return waits;
        }
        let ([from, low @ ..], [to, high @ ..]) = (
            at(after.min(self.estimate.len() - 1) - 1),
            at(after.min(self.estimate.len() - 1)),
        );
        let along = (distance - from) / (to - from);
        [0, 1, 2].map(|index| low[index] + (high[index] - low[index]) * along)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of some millions")]
fn share(count: u64, of: u64) -> f64 {
    count as f64 / of as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(now_serving: u64, numbers_issued: u64, estimate: &[[u32; 4]]) -> QueueStatus {
        QueueStatus {
            now_serving,
            numbers_issued,
            estimate: estimate.to_vec(),
            ..QueueStatus::default()
        }
    }

    /// Ten numbers a second are called of a thousand; `estimate` is told all the while.
    fn judged(estimate: &[[u32; 4]]) -> ForecastFigures {
        let mut check = ForecastCheck::default();
        for second in 0..=100 {
            check.record(Duration::from_secs(second), &status(second * 10, 1_000, estimate));
        }
        check.figures()
    }

    #[test]
    fn true_waits_are_within_their_range() {
        let figures = judged(&[[0, 0, 0, 1], [1_000, 90, 100, 110]]);
        assert!(figures.within > 0.99, "{figures:?}");
        assert!(figures.median_error < 0.2, "{figures:?}");
        assert_eq!((figures.open, figures.withheld), (0, 0));
    }

    #[test]
    fn waits_that_are_told_too_long_or_too_short_are_outside() {
        let long = judged(&[[0, 0, 0, 1], [1_000, 900, 1_000, 1_100]]);
        assert!(long.below > 0.9, "{long:?}");
        let short = judged(&[[0, 0, 0, 1], [1_000, 9, 10, 11]]);
        assert!(short.above > 0.8, "{short:?}");
        for figures in [long, short] {
            let sum = figures.below + figures.within + figures.above;
            assert!((sum - 1.0).abs() < 1e-9, "{figures:?}");
        }
    }

    #[test]
    fn what_the_run_did_not_see_is_open_and_what_is_over_is_late() {
        let mut check = ForecastCheck::default();
        let estimate = [[0, 10, 20, 30], [100, 40, 50, 60]];
        for second in 0..=40 {
            check.record(Duration::from_secs(second), &status(0, 1, &estimate));
        }
        // Told within 30 s and not called after 31 s or more: late. The later ones may still come true.
        let figures = check.figures();
        assert_eq!((figures.judged, figures.open), (9, 32));
        assert!((figures.above - 1.0).abs() < f64::EPSILON, "{figures:?}");
    }

    #[test]
    fn no_wait_is_judged_where_none_is_told() {
        let mut check = ForecastCheck::default();
        let mut told = status(0, 160, &[[0, 1, 2, 3], [160, 10, 20, 30]]);
        told.available_to_distance = Some([Some(10), Some(20), Some(79)]);
        check.record(Duration::ZERO, &told);
        check.record(Duration::from_secs(1), &status(0, 160, &[]));
        let figures = check.figures();
        assert_eq!((figures.withheld, figures.judged + figures.open), (8, 8));
    }
}

//! Judges the waits that were told over HTTP: each status that was read, against when its numbers were
//! called.
//!
//! Written apart from the service: what counts is what a page would have told, and when it was called. All
//! times are the server's, so its clock need not agree with this one's.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use stagedoor::{demo::client::messages::QueueStatus, kernel::Timestamp};

/// Numbers that are judged of each status, evenly spread over those who wait.
const NUMBERS_EACH: u64 = 16;
/// A page reads a status that is so old on average, in seconds.
const READ_AFTER_S: f64 = 0.5;
/// The status speaks in whole seconds: a wait that is this much shorter or longer than the range counts as
/// within it, as in rehearsals.
const GRACE_S: f64 = 0.5;
/// Statuses that were made within so many seconds of the first call are judged apart, too.
const OPENING_S: f64 = 30.0;
/// Statuses that are farther apart than this were late, in seconds.
const LATE_S: f64 = 2.5;
/// Where more of the run's time than this passed without a status, the machine was overloaded: then visits
/// and calls were late for reasons that no forecast can know, and nothing is concluded.
const LATE_SHARE_MAX: f64 = 0.05;
/// The least share of waits within their range. The goal of 0.80 is one over many sales, which `stagedoor
/// rehearse` measures: within one sale all waits share its luck, so one sale alone misses it by this much
/// though the ranges are right.
const WITHIN_MIN: f64 = 0.6;
/// With fewer judged waits nothing is concluded.
const JUDGED_MIN: u64 = 200;

/// The statuses of a run.
#[derive(Debug, Default, Serialize)]
pub struct ForecastCheck {
    told: Vec<Told>,
}

/// One status, as far as it tells of waits.
#[derive(Debug, Serialize)]
struct Told {
    /// When it was made, in seconds since the epoch.
    made_at_s: f64,
    now_serving: u64,
    numbers_issued: u64,
    active_visits: u64,
    /// Numbers before one's own; 10th, 50th and 90th percentile of the wait in seconds.
    estimate: Vec<[u32; 4]>,
    /// The distance beyond which no wait is told, because probably no seat is left.
    reach: Option<u64>,
}

/// How the waits that were told came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ForecastFigures {
    /// All of them.
    #[serde(flatten)]
    pub all: WaitFigures,
    /// Those told within half a minute of the first call, when nothing has been measured yet.
    #[serde(default)]
    pub opening: WaitFigures,
    /// Waits whose end the run did not see.
    pub open: u64,
    /// Numbers that were told no wait, because probably no seat is left at their turn.
    pub withheld: u64,
    /// Seconds by which a wait may be outside its range and count as within it.
    #[serde(default)]
    pub grace_s: f64,
    /// Share of the run's time in which the status was late.
    #[serde(default)]
    pub late_share: f64,
}

/// Waits whose end is known. The shares of `judged` add up to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WaitFigures {
    /// How many.
    pub judged: u64,
    /// Called before the told range.
    pub below: f64,
    /// Called within the told range.
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

/// Ended waits while they are counted.
#[derive(Default)]
struct Ended {
    sides: [u64; 3],
    errors: Vec<f64>,
}

impl Ended {
    fn add(&mut self, side: Side, error: f64) {
        self.sides[side as usize] += 1;
        self.errors.push(error);
    }

    fn figures(mut self) -> WaitFigures {
        let judged = self.sides.iter().sum();
        if judged == 0 {
            return WaitFigures::default();
        }
        let [below, within, above] = self.sides.map(|count| share(count, judged));
        self.errors.sort_by(f64::total_cmp);
        WaitFigures {
            judged,
            below,
            within,
            above,
            median_error: self.errors[self.errors.len() / 2],
        }
    }
}

impl ForecastCheck {
    /// Adds a status that was read.
    pub fn record(&mut self, status: &QueueStatus) {
        let made_at_s = seconds(status.generated_at);
        if self.told.last().is_some_and(|last| last.made_at_s >= made_at_s) {
            return;
        }
        self.told.push(Told {
            made_at_s,
            now_serving: status.now_serving,
            numbers_issued: status.numbers_issued,
            active_visits: status.active_visits,
            estimate: status.estimate.clone(),
            reach: status.available_to_distance.and_then(|[_, _, unlikely]| unlikely),
        });
    }

    /// Judges every status by those after it.
    pub fn figures(&self) -> ForecastFigures {
        let first_call = self.told.iter().find(|told| told.now_serving > 0);
        let opening_ends_s = first_call.map_or(f64::NEG_INFINITY, |told| told.made_at_s + OPENING_S);
        let mut figures = ForecastFigures {
            grace_s: GRACE_S,
            late_share: self.late_share(),
            ..ForecastFigures::default()
        };
        let (mut all, mut opening) = (Ended::default(), Ended::default());
        for (index, told) in self.told.iter().enumerate() {
            for number in told.numbers() {
                match told.outcome(number, &self.told[index..]) {
                    Outcome::Open => figures.open += 1,
                    Outcome::Withheld => figures.withheld += 1,
                    Outcome::Ended { side, error } => {
                        all.add(side, error);
                        if told.made_at_s <= opening_ends_s {
                            opening.add(side, error);
                        }
                    }
                }
            }
        }
        (figures.all, figures.opening) = (all.figures(), opening.figures());
        figures
    }

    /// Share of the time between the first and the last status in which one was late.
    fn late_share(&self) -> f64 {
        let (Some(first), Some(last)) = (self.told.first(), self.told.last()) else {
            return 0.0;
        };
        let gaps = self
            .told
            .windows(2)
            .map(|pair| pair[1].made_at_s - pair[0].made_at_s);
        let late_s: f64 = gaps.filter(|gap_s| *gap_s > LATE_S).sum();
        late_s / (last.made_at_s - first.made_at_s).max(1.0)
    }
}

impl ForecastFigures {
    /// One line or two.
    pub fn in_words(&self) -> String {
        let unjudged = format!("{} open, {} withheld", self.open, self.withheld);
        if self.all.judged == 0 {
            return format!("waits told: none has ended ({unjudged})");
        }
        let mut words = format!(
            "waits told: {}, give or take {} s; of {} ({unjudged})",
            self.all.in_words(),
            self.grace_s,
            self.all.judged
        );
        if self.opening.judged > 0 {
            let opening = self.opening.in_words();
            let _ = write!(
                words,
                "\nwaits told in the first {OPENING_S} s of calls: {opening}"
            );
        }
        words
    }

    /// What the run says against the forecast, if it can say something.
    pub fn finding(&self) -> Option<String> {
        let is_judged = self.all.judged >= JUDGED_MIN && self.late_share <= LATE_SHARE_MAX;
        (is_judged && self.all.within < WITHIN_MIN).then(|| {
            format!(
                "the forecast: {:.2} of the waits were within their range, {WITHIN_MIN} are the least",
                self.all.within
            )
        })
    }
}

impl WaitFigures {
    fn in_words(&self) -> String {
        format!(
            "{:.3} within the range, {:.3} below, {:.3} above, median error {:.2}",
            self.within, self.below, self.above, self.median_error
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

    /// `later` are the statuses from this one on.
    fn outcome(&self, number: u64, later: &[Self]) -> Outcome {
        let distance = number - self.now_serving - 1;
        if self.reach.is_some_and(|last| distance > last) {
            return Outcome::Withheld;
        }
        let [p10, p50, p90] = self.wait(distance);
        let since_read_s = |at_s: f64| (at_s - self.made_at_s - READ_AFTER_S).max(0.0);
        let called_at_s = called_at_s(number, later);
        let seen_to_s = later.last().map_or(self.made_at_s, |last| last.made_at_s);
        let wait = since_read_s(called_at_s.unwrap_or(seen_to_s));
        let side = match () {
            () if wait > p90 + GRACE_S => Side::Above,
            () if called_at_s.is_none() => return Outcome::Open,
            () if wait < p10 - GRACE_S => Side::Below,
            () => Side::Within,
        };
        Outcome::Ended {
            side,
            error: (p50 - wait).abs() / wait.max(1.0),
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

/// When the number was called: between two statuses calls are taken to be evenly spread.
#[expect(clippy::cast_precision_loss, reason = "numbers of some millions")]
fn called_at_s(number: u64, later: &[Told]) -> Option<f64> {
    let next = later.partition_point(|status| status.now_serving < number);
    let (to, from) = (later.get(next)?, later.get(next.checked_sub(1)?)?);
    let along = (number - from.now_serving) as f64 / (to.now_serving - from.now_serving) as f64;
    Some(from.made_at_s + (to.made_at_s - from.made_at_s) * along)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of this century")]
fn seconds(at: Timestamp) -> f64 {
    at.as_millis() as f64 / 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "counts of some millions")]
fn share(count: u64, of: u64) -> f64 {
    count as f64 / of as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(second: u32, now_serving: u64, numbers_issued: u64, estimate: &[[u32; 4]]) -> QueueStatus {
        QueueStatus {
            generated_at: Timestamp::from_secs(1_000 + i64::from(second)),
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
            check.record(&status(second, u64::from(second) * 10, 1_000, estimate));
        }
        check.figures()
    }

    #[test]
    fn true_waits_are_within_their_range() {
        let figures = judged(&[[0, 0, 0, 1], [1_000, 90, 100, 110]]);
        assert!(figures.all.within > 0.99, "{figures:?}");
        assert!(figures.all.median_error < 0.2, "{figures:?}");
        assert_eq!((figures.open, figures.withheld), (0, 0));
        assert_eq!(figures.finding(), None);
        // The first call was seen in second 1, so statuses of seconds 0 to 31 are the opening's.
        assert_eq!(figures.opening.judged, 32 * 16);
        assert!(
            figures.in_words().contains("give or take 0.5 s"),
            "{}",
            figures.in_words()
        );
    }

    #[test]
    fn waits_that_are_told_too_long_or_too_short_are_outside() {
        let long = judged(&[[0, 0, 0, 1], [1_000, 900, 1_000, 1_100]]);
        assert!(long.all.below > 0.9, "{long:?}");
        let short = judged(&[[0, 0, 0, 1], [1_000, 9, 10, 11]]);
        assert!(short.all.above > 0.8, "{short:?}");
        for figures in [long, short] {
            let sum = figures.all.below + figures.all.within + figures.all.above;
            assert!((sum - 1.0).abs() < 1e-9, "{figures:?}");
            assert!(figures.finding().is_some(), "{figures:?}");
        }
    }

    #[test]
    fn what_the_run_did_not_see_is_open_and_what_is_over_is_late() {
        let mut check = ForecastCheck::default();
        let estimate = [[0, 10, 20, 30], [100, 40, 50, 60]];
        for second in 0..=40 {
            check.record(&status(second, 0, 1, &estimate));
        }
        // Told within 30 s, read half a second later and not called after 31 s or more: late. The later ones
        // may still come true.
        let figures = check.figures();
        assert_eq!((figures.all.judged, figures.open), (9, 32));
        assert!((figures.all.above - 1.0).abs() < f64::EPSILON, "{figures:?}");
        assert_eq!(figures.finding(), None, "too few to conclude anything");
    }

    #[test]
    fn no_wait_is_judged_where_none_is_told() {
        let mut check = ForecastCheck::default();
        let mut told = status(0, 0, 160, &[[0, 1, 2, 3], [160, 10, 20, 30]]);
        told.available_to_distance = Some([Some(10), Some(20), Some(79)]);
        check.record(&told);
        check.record(&status(1, 0, 160, &[]));
        let figures = check.figures();
        assert_eq!((figures.withheld, figures.all.judged + figures.open), (8, 8));
    }

    #[test]
    fn nothing_is_concluded_from_an_overloaded_machine() {
        let mut check = ForecastCheck::default();
        for second in (0..=100).step_by(4) {
            check.record(&status(
                second,
                u64::from(second) * 10,
                1_000,
                &[[0, 0, 0, 1], [1_000, 9, 10, 11]],
            ));
        }
        let figures = check.figures();
        assert!(
            figures.all.judged > JUDGED_MIN && figures.all.within < 0.2,
            "{figures:?}"
        );
        assert_eq!(figures.finding(), None);
    }
}

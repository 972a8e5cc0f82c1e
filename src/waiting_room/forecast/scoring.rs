//! Scoring of the published waits: every second the range of one random waiting person is noted, as their
//! browser reads it off the status; when the number is called, or the range is over, the forecast was a hit
//! or a miss. With an empty queue there is nothing to score. A visitor who is told that hardly a seat will be
//! left is told no wait: then it counts whether a seat was free at their turn. Pure.
//!
//! Forecasts that an operator's command or a pause overtakes are counted apart: no forecast could know. The
//! forecasts that are still open also say when waits have grown beyond what was published, whatever the
//! reason.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;

use crate::kernel::Timestamp;
use crate::waiting_room::{
    forecast::wait_table::{WaitPoint, interpolate},
    state::Settings,
    types::{ForecastOutcomes, Phase},
};

/// Open forecasts at most.
const OPEN_MAX: usize = 8_192;
/// The published accuracy covers so many of the last forecasts.
const REMEMBERED: usize = 1_000;
/// The status is published once a second.
const SLACK_S: i64 = 1;
/// Only forecasts of this age in seconds can be exceeded by the wait.
const GROWN_AFTER_S: i64 = 30;
/// With fewer open forecasts nothing is concluded.
const GROWN_MIN: usize = 8;
/// How long the status says that waits have grown, in seconds.
const GROWN_FOR_S: i64 = 120;

/// Of the last waits that are over, how many were within their range; eight of ten should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ForecastAccuracy {
    /// Waits within their range.
    pub hits: u32,
    /// Waits that are over.
    pub total: u32,
}

#[derive(Clone, Copy, Debug)]
struct SampledForecast {
    at: Timestamp,
    soonest: Timestamp,
    latest: Timestamp,
}

/// What scoring sees in one second.
#[derive(Debug)]
pub(crate) struct Scored<'a> {
    /// The moment.
    pub now: Timestamp,
    /// The phase at that moment.
    pub phase: Phase,
    /// The settings in force.
    pub settings: &'a Settings,
    /// Highest number called, as published.
    pub now_serving: u32,
    /// Numbers assigned.
    pub numbers_issued: u32,
    /// The published table of waits.
    pub table: &'a [WaitPoint],
    /// Behind how many numbers visitors are told that hardly a seat will be left; `None` when none are.
    pub reach: Option<u32>,
    /// Free seats of all zones; `None` before the first report.
    pub free_seats: Option<u32>,
}

/// Scores of one sale's forecasts.
#[derive(Debug, Default)]
pub(crate) struct ForecastScoring {
    /// By queue number.
    open: BTreeMap<u32, SampledForecast>,
    /// Numbers of visitors who were told that hardly a seat will be left.
    unlikely: BTreeSet<u32>,
    last: VecDeque<bool>,
    all: ForecastOutcomes,
    limits: Option<(u32, u32)>,
    grown_at: Option<Timestamp>,
}

impl ForecastScoring {
    /// Learns from one second. `choose` gives a random waiting person among so many numbers behind the last
    /// one called: how many of these are ahead of them; `None` when the queue is empty.
    pub(crate) fn observe(&mut self, seen: &Scored<'_>, choose: impl FnOnce(u32) -> Option<u32>) {
        let limits = Some((
            seen.settings.rate_effective_per_minute,
            seen.settings.active_visits_max,
        ));
        if seen.phase != Phase::OnSale || std::mem::replace(&mut self.limits, limits) != limits {
            self.all.invalidated += self.open.len() as u64;
            self.open.clear();
            self.grown_at = None;
        }
        self.score_unlikely(seen);
        if seen.phase != Phase::OnSale {
            return;
        }
        self.score(seen.now, seen.now_serving);
        if self.has_grown(seen.now, seen.now_serving, seen.table) {
            self.grown_at = Some(seen.now);
        }
        let numbers = seen.numbers_issued.saturating_sub(seen.now_serving);
        if seen.table.is_empty() || numbers == 0 || self.open.len() + self.unlikely.len() >= OPEN_MAX {
            return;
        }
        let Some(ahead) = choose(numbers) else { return };
        let number = seen.now_serving + 1 + ahead;
        if seen.reach.is_some_and(|reach| ahead > reach) {
            self.unlikely.insert(number);
        } else if let Some([p10_s, _, p90_s]) = interpolate(seen.table, ahead.into()) {
            let after =
                |seconds: u32| Timestamp::from_millis(seen.now.as_millis() + 1_000 * i64::from(seconds));
            let statement = SampledForecast {
                at: seen.now,
                soonest: after(p10_s),
                latest: after(p90_s),
            };
            self.open.entry(number).or_insert(statement);
        }
    }

    /// Visitors who are called while a seat is free could buy; those whom the sold-out sale never calls could
    /// not.
    fn score_unlikely(&mut self, seen: &Scored<'_>) {
        if matches!(seen.phase, Phase::SoldOut | Phase::Closed) {
            self.all.unlikely_missed += self.unlikely.len() as u64;
            self.unlikely.clear();
        }
        while let Some(&number) = self
            .unlikely
            .first()
            .filter(|number| **number <= seen.now_serving)
        {
            self.unlikely.remove(&number);
            match seen.free_seats {
                Some(0) => self.all.unlikely_missed += 1,
                Some(_) => self.all.unlikely_served += 1,
                None => {}
            }
        }
    }

    fn score(&mut self, now: Timestamp, now_serving: u32) {
        let now_s = now.as_secs();
        let mut decided = Vec::new();
        self.open.retain(|&number, statement| {
            let is_called = number <= now_serving;
            let is_late = now_s > statement.latest.as_secs() + SLACK_S;
            if is_called || is_late {
                decided.push((is_late, now_s + SLACK_S < statement.soonest.as_secs()));
            }
            !is_called && !is_late
        });
        for (is_late, is_early) in decided {
            let count = match (is_late, is_early) {
                (true, _) => &mut self.all.later,
                (_, true) => &mut self.all.sooner,
                _ => &mut self.all.within,
            };
            *count += 1;
            self.last.push_back(!is_late && !is_early);
        }
        while self.last.len() > REMEMBERED {
            self.last.pop_front();
        }
    }

    /// Whether most open forecasts are now exceeded by the median wait.
    fn has_grown(&self, now: Timestamp, now_serving: u32, table: &[WaitPoint]) -> bool {
        let is_exceeded: Vec<bool> = self
            .open
            .iter()
            .filter(|(_, it)| now.as_secs() - it.at.as_secs() >= GROWN_AFTER_S)
            .filter_map(|(&number, it)| {
                let [_, p50_s, _] = interpolate(table, u64::from(number.saturating_sub(now_serving + 1)))?;
                Some(now.as_secs() + i64::from(p50_s) > it.latest.as_secs())
            })
            .collect();
        is_exceeded.len() >= GROWN_MIN
            && is_exceeded.iter().filter(|is_exceeded| **is_exceeded).count() * 2 > is_exceeded.len()
    }

    /// Accuracy of the last forecasts, for the status.
    pub(crate) fn accuracy(&self) -> ForecastAccuracy {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        ForecastAccuracy {
            hits: count(self.last.iter().filter(|it| **it).count()),
            total: count(self.last.len()),
        }
    }

    /// What became of all forecasts of this process.
    pub(crate) fn outcomes(&self) -> ForecastOutcomes {
        self.all
    }

    /// Whether waits have grown beyond what was published, a moment ago.
    pub(crate) fn has_recently_grown(&self, now: Timestamp) -> bool {
        self.grown_at
            .is_some_and(|at| now.as_secs() - at.as_secs() < GROWN_FOR_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Entropy, SeededEntropy};

    const WAITING: u32 = 3_000;

    fn on_sale<'a>(
        second: i64,
        settings: &'a Settings,
        now_serving: u32,
        table: &'a [WaitPoint],
    ) -> Scored<'a> {
        Scored {
            now: Timestamp::from_secs(second),
            phase: Phase::OnSale,
            settings,
            now_serving,
            numbers_issued: now_serving + WAITING,
            table,
            reach: None,
            free_seats: Some(10_000),
        }
    }

    #[test]
    fn visitors_who_are_told_that_no_seat_is_left_are_scored_by_the_seats_at_their_turn() {
        let (mut scoring, settings) = (ForecastScoring::default(), Settings::default());
        let table = table(1.0, 0.3);
        let told = |second, now_serving, free| Scored {
            reach: Some(100),
            free_seats: Some(free),
            ..on_sale(second, &settings, now_serving, &table)
        };
        for ahead in [150, 200, 250] {
            scoring.observe(&told(1, 0, 400), |_| Some(ahead));
        }
        assert_eq!(scoring.open.len(), 0, "no wait was published for them");
        scoring.observe(&told(2, 151, 3), |_| None);
        scoring.observe(&told(3, 201, 0), |_| None);
        let sold_out = Scored {
            phase: Phase::SoldOut,
            ..told(4, 201, 0)
        };
        scoring.observe(&sold_out, |_| None);
        let outcomes = scoring.outcomes();
        assert_eq!((outcomes.unlikely_served, outcomes.unlikely_missed), (1, 2));
    }

    /// Admission that calls one a second on average; the table says one a second, `off` and `width` wrong.
    fn run(
        entropy: &SeededEntropy,
        seconds: i64,
        pace: impl Fn(i64) -> f64,
        off: f64,
        width: f64,
    ) -> ForecastScoring {
        let (mut calibration, settings) = (
            ForecastScoring::default(),
            Settings {
                rate_effective_per_minute: 60,
                ..Settings::default()
            },
        );
        let (mut called, table) = (0.0, table(off, width));
        for second in 0..seconds {
            called += pace(second) * 2.0 * entropy.unit();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "thousands"
            )]
            let serving = called as u32;
            let seen = on_sale(second, &settings, serving, &table);
            calibration.observe(&seen, |numbers| {
                Some(u32::try_from(entropy.below(numbers.into())).unwrap())
            });
        }
        calibration
    }

    fn table(off: f64, width: f64) -> Vec<WaitPoint> {
        crate::waiting_room::forecast::wait_table::table(
            |ahead| [1.0 - width, 1.0, 1.0 + width].map(|times| (ahead + 1.0) * off * times),
            WAITING,
            0,
        )
    }

    #[test]
    fn accuracy_tells_good_ranges_from_bad_ones() {
        let entropy = SeededEntropy::new(2);
        let share = |it: &ForecastScoring| f64::from(it.accuracy().hits) / f64::from(it.accuracy().total);
        let good = run(&entropy, 4_000, |_| 1.0, 1.0, 0.3);
        assert!(
            share(&good) > 0.9 && good.accuracy().total == 1_000,
            "{:?}",
            good.outcomes()
        );
        let narrow = run(&entropy, 4_000, |_| 1.0, 1.0, 0.0);
        assert!(share(&narrow) < 0.6, "{:?}", narrow.outcomes());
        let hopeful = run(&entropy, 4_000, |_| 1.0, 0.5, 0.2);
        assert!(
            share(&hopeful) < 0.1 && hopeful.outcomes().later > 1_000,
            "{:?}",
            hopeful.outcomes()
        );
        let gloomy = run(&entropy, 4_000, |_| 1.0, 3.0, 0.2);
        assert!(
            share(&gloomy) < 0.1 && gloomy.outcomes().sooner > 500,
            "{:?}",
            gloomy.outcomes()
        );
    }

    #[test]
    fn an_empty_queue_is_not_scored() {
        let (mut scoring, settings) = (ForecastScoring::default(), Settings::default());
        for second in 0..1_000 {
            scoring.observe(&on_sale(second, &settings, 0, &table(1.0, 0.3)), |_| None);
        }
        assert_eq!(scoring.accuracy(), ForecastAccuracy::default());
        assert_eq!(scoring.outcomes(), ForecastOutcomes::default());
    }

    #[test]
    fn forecasts_overtaken_by_a_command_are_counted_apart() {
        let entropy = SeededEntropy::new(3);
        let mut calibration = run(&entropy, 100, |_| 1.0, 1.0, 0.3);
        let (judged, open) = (calibration.outcomes().within, calibration.open.len() as u64);
        let settings = Settings {
            rate_effective_per_minute: 30,
            ..Settings::default()
        };
        calibration.observe(&on_sale(100, &settings, 100, &[]), |_| Some(0));
        assert_eq!(
            (calibration.outcomes().invalidated, calibration.outcomes().within),
            (open, judged)
        );
        let table = table(1.0, 0.3);
        let paused = Scored {
            phase: Phase::Paused,
            ..on_sale(101, &settings, 100, &table)
        };
        calibration.observe(&paused, |_| Some(0));
        assert!(calibration.open.is_empty());
    }

    #[test]
    fn waits_beyond_their_ranges_are_noticed() {
        let entropy = SeededEntropy::new(4);
        let mut calibration = run(&entropy, 200, |_| 1.0, 1.0, 0.2);
        assert!(!calibration.has_recently_grown(Timestamp::from_secs(200)));
        let settings = Settings {
            rate_effective_per_minute: 60,
            ..Settings::default()
        };
        calibration.observe(&on_sale(201, &settings, 200, &table(2.0, 0.2)), |_| Some(0));
        assert!(
            calibration.has_recently_grown(Timestamp::from_secs(201))
                && !calibration.has_recently_grown(Timestamp::from_secs(400))
        );
    }
}

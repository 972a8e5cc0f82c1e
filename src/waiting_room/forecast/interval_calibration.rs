//! What the published waits were worth, as seen afterwards: every second one fan in line, chosen by the dice, is told
//! her range as her browser would read it off the board; when her number is called, or her range is over, it is known
//! whether the wait was within it. Pure.
//!
//! What an operator's order or a pause overtakes is told apart: nobody could foresee it. The same open statements say
//! when waits have grown beyond what was said, whatever the reason.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::kernel::Timestamp;
use crate::waiting_room::{
    forecast::wait_table::{Point, interpolate},
    state::Settings,
    types::{Phase, Statements},
};

/// Statements whose end is awaited.
const OPEN_MAX: usize = 8_192;
/// As many of the last are what the board speaks of.
const REMEMBERED: usize = 1_000;
/// The board is made once a second.
const SLACK_S: i64 = 1;
/// Only statements as old as that can have been outgrown.
const GROWN_AFTER_S: i64 = 30;
/// Of fewer nothing is concluded.
const GROWN_MIN: usize = 8;
/// For so long the board says so.
const GROWN_FOR_S: i64 = 120;

/// Of the last waits that are over, how many were within their range; eight of ten should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct KeptWord {
    pub within: u32,
    pub of: u32,
}

#[derive(Clone, Copy, Debug)]
struct Statement {
    at: Timestamp,
    soonest: Timestamp,
    latest: Timestamp,
}

#[derive(Debug, Default)]
pub(crate) struct Calibration {
    /// By queue number.
    open: BTreeMap<u32, Statement>,
    last: VecDeque<bool>,
    all: Statements,
    door: Option<(u32, u32)>,
    grown_at: Option<Timestamp>,
}

impl Calibration {
    /// A second has passed. `dice` chooses among as many as are in line.
    pub(crate) fn second(
        &mut self,
        now: Timestamp,
        phase: Phase,
        settings: &Settings,
        now_serving: u32,
        table: &[Point],
        dice: impl FnOnce(u32) -> u32,
    ) {
        let door = Some((settings.rate_per_minute, settings.capacity));
        if phase != Phase::OnSale || std::mem::replace(&mut self.door, door) != door {
            self.all.overtaken += self.open.len() as u64;
            self.open.clear();
            self.grown_at = None;
        }
        if phase != Phase::OnSale {
            return;
        }
        self.judge(now, now_serving);
        if self.has_grown(now, now_serving, table) {
            self.grown_at = Some(now);
        }
        let waiting = table.last().map_or(0, |last| last.ahead);
        if waiting == 0 || self.open.len() >= OPEN_MAX {
            return;
        }
        let ahead = dice(waiting).min(waiting);
        if let Some([p10_s, _, p90_s]) = interpolate(table, ahead.into()) {
            let after = |seconds: u32| Timestamp::from_millis(now.as_millis() + 1_000 * i64::from(seconds));
            let statement = Statement {
                at: now,
                soonest: after(p10_s),
                latest: after(p90_s),
            };
            self.open.entry(now_serving + 1 + ahead).or_insert(statement);
        }
    }

    fn judge(&mut self, now: Timestamp, now_serving: u32) {
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

    /// Whether most of those who were told something a while ago are now told that it takes longer than the longest that
    /// was said.
    fn has_grown(&self, now: Timestamp, now_serving: u32, table: &[Point]) -> bool {
        let told: Vec<bool> = self
            .open
            .iter()
            .filter(|(_, it)| now.as_secs() - it.at.as_secs() >= GROWN_AFTER_S)
            .filter_map(|(&number, it)| {
                let [_, p50_s, _] = interpolate(table, u64::from(number.saturating_sub(now_serving + 1)))?;
                Some(now.as_secs() + i64::from(p50_s) > it.latest.as_secs())
            })
            .collect();
        told.len() >= GROWN_MIN && told.iter().filter(|it| **it).count() * 2 > told.len()
    }

    pub(crate) fn kept_word(&self) -> KeptWord {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        KeptWord {
            within: count(self.last.iter().filter(|it| **it).count()),
            of: count(self.last.len()),
        }
    }

    pub(crate) fn statements(&self) -> Statements {
        self.all
    }

    /// Whether waits have grown beyond what was said, a moment ago.
    pub(crate) fn is_outgrown(&self, now: Timestamp) -> bool {
        self.grown_at
            .is_some_and(|at| now.as_secs() - at.as_secs() < GROWN_FOR_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Entropy, SeededEntropy};

    const WAITING: u32 = 3_000;

    /// A door that calls one a second in the mean, more or less; the table says one a second, `off` and `width` wrong.
    fn run(
        dice: &SeededEntropy,
        seconds: i64,
        pace: impl Fn(i64) -> f64,
        off: f64,
        width: f64,
    ) -> Calibration {
        let (mut calibration, settings) = (
            Calibration::default(),
            Settings {
                rate_per_minute: 60,
                ..Settings::default()
            },
        );
        let (mut called, table) = (0.0, table(off, width));
        for second in 0..seconds {
            called += pace(second) * 2.0 * dice.unit();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "thousands"
            )]
            let serving = called as u32;
            calibration.second(
                Timestamp::from_secs(second),
                Phase::OnSale,
                &settings,
                serving,
                &table,
                |n| u32::try_from(dice.below(n.into())).unwrap(),
            );
        }
        calibration
    }

    fn table(off: f64, width: f64) -> Vec<Point> {
        crate::waiting_room::forecast::wait_table::table(
            |ahead| [1.0 - width, 1.0, 1.0 + width].map(|times| (ahead + 1.0) * off * times),
            WAITING,
            0,
        )
    }

    #[test]
    fn a_range_that_holds_is_told_from_one_that_does_not() {
        let dice = SeededEntropy::new(2);
        let share = |it: &Calibration| f64::from(it.kept_word().within) / f64::from(it.kept_word().of);
        let good = run(&dice, 4_000, |_| 1.0, 1.0, 0.3);
        assert!(
            share(&good) > 0.9 && good.kept_word().of == 1_000,
            "{:?}",
            good.statements()
        );
        let narrow = run(&dice, 4_000, |_| 1.0, 1.0, 0.0);
        assert!(share(&narrow) < 0.6, "{:?}", narrow.statements());
        let hopeful = run(&dice, 4_000, |_| 1.0, 0.5, 0.2);
        assert!(
            share(&hopeful) < 0.1 && hopeful.statements().later > 1_000,
            "{:?}",
            hopeful.statements()
        );
        let gloomy = run(&dice, 4_000, |_| 1.0, 3.0, 0.2);
        assert!(
            share(&gloomy) < 0.1 && gloomy.statements().sooner > 500,
            "{:?}",
            gloomy.statements()
        );
    }

    #[test]
    fn what_an_order_overtakes_is_not_held_against_anybody() {
        let dice = SeededEntropy::new(3);
        let mut calibration = run(&dice, 100, |_| 1.0, 1.0, 0.3);
        let (judged, open) = (calibration.statements().within, calibration.open.len() as u64);
        let settings = Settings {
            rate_per_minute: 30,
            ..Settings::default()
        };
        calibration.second(
            Timestamp::from_secs(100),
            Phase::OnSale,
            &settings,
            100,
            &[],
            |_| 0,
        );
        assert_eq!(
            (
                calibration.statements().overtaken,
                calibration.statements().within
            ),
            (open, judged)
        );
        calibration.second(
            Timestamp::from_secs(101),
            Phase::Paused,
            &settings,
            100,
            &table(1.0, 0.3),
            |_| 0,
        );
        assert!(calibration.open.is_empty());
    }

    #[test]
    fn waits_that_outgrow_what_was_said_are_noticed() {
        let dice = SeededEntropy::new(4);
        let mut calibration = run(&dice, 200, |_| 1.0, 1.0, 0.2);
        assert!(!calibration.is_outgrown(Timestamp::from_secs(200)));
        let settings = Settings {
            rate_per_minute: 60,
            ..Settings::default()
        };
        calibration.second(
            Timestamp::from_secs(201),
            Phase::OnSale,
            &settings,
            200,
            &table(2.0, 0.2),
            |_| 0,
        );
        assert!(
            calibration.is_outgrown(Timestamp::from_secs(201))
                && !calibration.is_outgrown(Timestamp::from_secs(400))
        );
    }
}

//! Those who come back after they were passed over. Pure.
//!
//! They come as many as were called a while ago, whatever the door does meanwhile, so they take much of a door that goes
//! slowly and little of one that goes fast: a share of entries would say too much of a house that is about to empty, and
//! too little of one that has just filled. What is measured is which share of those called comes back, and how long
//! after; the latter by holding several answers against what is seen, second by second, and believing each as far as that
//! makes it likely (prequential likelihood: Dawid 1984).

use std::collections::VecDeque;

use crate::waiting_room::forecast::{call_curve::Step, observation::Glimpse, wait_table};

#[derive(Debug, Default)]
pub(crate) struct Returners {
    /// The line as it was second by second, youngest last, for as long as a call lasts.
    served: VecDeque<u32>,
    seen: Option<Tally>,
    returned: f64,
    /// How it would be if they came back sooner or later, for each of [`RETURN_S`].
    ways: [Return; RETURN_S.len()],
    /// Entries of about the last minute, and how many of them were returners'.
    entries: f64,
    theirs: f64,
}

/// What became of calls if all came back after them.
#[derive(Clone, Copy, Debug, Default)]
struct Return {
    /// Those who would be away still, and those who would be back.
    away: f64,
    back: f64,
    /// The logarithm of how likely that makes what was seen.
    likelihood: f64,
}

#[derive(Clone, Copy, Debug)]
struct Tally {
    returned: u64,
    entries: u64,
    theirs: u64,
}

/// Whoever comes back does so within about so long after her call is over: which it is, is what is to be found out.
const RETURN_S: [f64; 6] = [100.0, 150.0, 225.0, 340.0, 500.0, 750.0];
/// As it is assumed to be.
const USUAL_RETURN: usize = 2;
/// And by so many steps of [`RETURN_S`] it may be off (a standard deviation): until more is seen, that is what is said.
const RETURN_DEVIATION: f64 = 1.0;
/// Before anything is measured this share of those called comes back later; as many calls outweigh it.
const PRIOR_RETURNING: f64 = 0.06;
const PRIOR_RETURNING_CALLS: f64 = 50.0;
const LANE_MEMORY_S: f64 = 60.0;
/// Returners who stand before the door as if none of them had come in for so long.
const LANE_IS_LATE_S: f64 = 10.0;

impl Returners {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub(crate) fn second(&mut self, seen: &Glimpse<'_>) {
        let counts = &seen.counts;
        let tally = Tally {
            returned: counts.returned_total + u64::from(counts.returners),
            entries: counts.entries_total,
            theirs: counts.returned_total,
        };
        let Some(before) = self.seen.replace(tally) else {
            // After a restart some are away of whom nothing is known but that they are not more than can have been called.
            let per_s = f64::from(seen.settings.rate_per_minute) / 60.0 / seen.share().max(0.05);
            for (way, return_s) in self.ways.iter_mut().zip(RETURN_S) {
                way.away = f64::from(counts.now_serving).min(per_s * return_s);
            }
            return;
        };
        let keep = (-1.0 / LANE_MEMORY_S).exp();
        self.entries = self.entries * keep + tally.entries.saturating_sub(before.entries) as f64;
        let of_returners = tally.theirs.saturating_sub(before.theirs);
        self.theirs = self.theirs * keep + of_returners as f64;
        // Who gives up before the door is no returner any more; the count may fall.
        let returned = tally.returned as f64 - before.returned as f64;
        self.served.push_back(counts.now_serving);
        let window_s = usize::try_from(seen.call_window.as_secs())
            .unwrap_or(usize::MAX)
            .max(1);
        let mut over = 0;
        while self.served.len() > window_s {
            over += self
                .served
                .pop_front()
                .zip(self.served.front().copied())
                .map_or(0, |(from, upto)| upto.saturating_sub(from));
        }
        for (way, return_s) in self.ways.iter_mut().zip(RETURN_S) {
            let back = way.away * (1.0 - (-1.0 / return_s).exp());
            let expected = (way.per_call(self.returned) * back).max(1e-9);
            way.likelihood += returned.max(0.0) * expected.ln() - expected;
            way.away += f64::from(over) - back;
            way.back += back;
        }
        self.returned = (self.returned + returned).max(0.0);
    }

    pub(crate) fn look(&self, seen: &Glimpse<'_>) -> ReturnersNow {
        let ways = self.believed();
        let mean = |of: &dyn Fn(&Return, f64) -> f64| -> f64 {
            ways.iter()
                .zip(&self.ways)
                .zip(RETURN_S)
                .map(|((believed, way), return_s)| believed * of(way, return_s))
                .sum()
        };
        let per_call = mean(&|way, _| way.per_call(self.returned));
        let away = mean(&|way, _| way.away * way.per_call(self.returned));
        // As many come back per second as all ways together say.
        let back_per_s = mean(&|way, return_s| way.away * way.per_call(self.returned) / return_s);
        let return_s = if back_per_s > 0.0 {
            away / back_per_s
        } else {
            RETURN_S[USUAL_RETURN]
        };
        let due = self
            .served
            .iter()
            .zip(self.served.iter().skip(1))
            .map(|(from, upto)| f64::from(upto.saturating_sub(*from)));
        let before_door = f64::from(seen.counts.returners);
        let share_max = seen.situation.map_or(0.0, |s| s.returner_share);
        // Where they have to wait, it is seen how many of the entries are theirs.
        let is_late = before_door > share_max * self.entries / LANE_MEMORY_S * LANE_IS_LATE_S;
        let share_max = if is_late {
            share_max.min(self.theirs / self.entries.max(1.0))
        } else {
            share_max
        };
        let window_s = seen.call_window.as_secs_f64();
        ReturnersNow {
            per_call,
            away,
            return_s,
            due: due.collect(),
            window_s,
            before_door,
            share_max,
        }
    }

    /// How far each way is believed, in shares of one.
    #[expect(clippy::cast_precision_loss, reason = "a few steps")]
    fn believed(&self) -> [f64; RETURN_S.len()] {
        let surely = |at: usize| {
            self.ways[at].likelihood - (at.abs_diff(USUAL_RETURN) as f64 / RETURN_DEVIATION).powi(2) / 2.0
        };
        let most = (0..RETURN_S.len()).map(surely).fold(f64::NEG_INFINITY, f64::max);
        let weights: [f64; RETURN_S.len()] = std::array::from_fn(|at| (surely(at) - most).exp());
        let all: f64 = weights.iter().sum();
        weights.map(|weight| weight / all)
    }
}

impl Return {
    fn per_call(&self, returned: f64) -> f64 {
        (returned + PRIOR_RETURNING * PRIOR_RETURNING_CALLS) / (self.back + PRIOR_RETURNING_CALLS)
    }
}

/// Those who were passed over and come back.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReturnersNow {
    /// Of those called, the share that comes back once the call is over.
    pub per_call: f64,
    /// Passed over already, and yet to come back, after `return_s` on average.
    pub away: f64,
    pub return_s: f64,
    /// Called within the last `window_s`, second by second, the oldest first.
    pub due: Vec<f64>,
    pub window_s: f64,
    /// Back already, and the share of entries that they get at most.
    pub before_door: f64,
    pub share_max: f64,
}

/// Their lane as it will be.
pub(crate) struct Lane<'a> {
    now: &'a ReturnersNow,
    away: f64,
    before_door: f64,
    /// Calls that are over by now, and the step up to which they have been counted.
    over: f64,
    counted: usize,
}

impl<'a> Lane<'a> {
    pub(crate) fn new(now: &'a ReturnersNow) -> Self {
        Self {
            now,
            away: now.away,
            before_door: now.before_door,
            over: 0.0,
            counted: 0,
        }
    }

    /// How many of a step's entries are theirs, of `most` that can be.
    pub(crate) fn step(&mut self, t_s: f64, dt: f64, most: f64, steps: &[Step]) -> f64 {
        let over = self.over_by(t_s, steps).max(self.over);
        self.away += (over - self.over) * self.now.per_call;
        self.over = over;
        let back = self.away * (1.0 - (-dt / self.now.return_s).exp());
        self.away -= back;
        self.before_door += back;
        let entering = self.before_door.min(most);
        self.before_door -= entering;
        entering
    }

    /// Of those who were called lately or will have been called, how many have had their time by then.
    fn over_by(&mut self, t_s: f64, steps: &[Step]) -> f64 {
        let called_at_s = t_s - self.now.window_s;
        let known_s = -(f64::from(u32::try_from(self.now.due.len()).unwrap_or(u32::MAX)));
        let due = self
            .now
            .due
            .iter()
            .take(wait_table::whole(called_at_s - known_s) as usize)
            .sum::<f64>();
        while steps
            .get(self.counted + 1)
            .is_some_and(|next| next.t_s <= called_at_s)
        {
            self.counted += 1;
        }
        due + steps[self.counted].calls
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        kernel::{Entropy, SeededEntropy, Timestamp},
        waiting_room::{
            Phase,
            forecast::visit_length::VisitLengths,
            state::{Counts, Settings},
        },
    };

    /// A line of which one in ten comes back, `after_s` after her call is over on average.
    struct Line {
        dice: SeededEntropy,
        after_s: f64,
        due_s: Vec<f64>,
        counts: Counts,
        second: u32,
    }

    impl Line {
        fn new(after_s: f64) -> Self {
            let dice = SeededEntropy::new(11);
            Self {
                dice,
                after_s,
                due_s: Vec::new(),
                counts: Counts::default(),
                second: 0,
            }
        }

        fn look<T>(&self, with: impl FnOnce(&Glimpse<'_>) -> T) -> T {
            let now = Timestamp::from_secs(self.second.into());
            with(&Glimpse {
                now,
                phase: Phase::OnSale,
                settings: &Settings {
                    rate_per_minute: 600,
                    ..Settings::default()
                },
                situation: None,
                counts: self.counts,
                visits: VisitLengths::new(Duration::from_mins(15)).outlook(now),
                call_window: Duration::from_mins(3),
                seats: None,
                until_open_s: 0,
            })
        }

        fn pass(&mut self, seconds: u32, calls_per_s: u32, returners: &mut Returners) {
            for _ in 0..seconds {
                self.second += 1;
                self.counts.now_serving += calls_per_s;
                for _ in 0..calls_per_s {
                    if self.dice.unit() < 0.1 {
                        self.due_s.push(
                            f64::from(self.second) + 180.0 - self.after_s * (1.0 - self.dice.unit()).ln(),
                        );
                    }
                }
                let (dues, now) = (self.due_s.len(), f64::from(self.second));
                self.due_s.retain(|due_s| *due_s > now);
                self.counts.returned_total += (dues - self.due_s.len()) as u64;
                self.look(|seen| returners.second(seen));
            }
        }
    }

    #[test]
    fn how_many_come_back_and_how_soon_is_learnt() {
        for (after_s, at_least, at_most) in [
            (110.0, 100.0, 150.0),
            (225.0, 150.0, 340.0),
            (480.0, 340.0, 750.0),
        ] {
            let (mut line, mut returners) = (Line::new(after_s), Returners::default());
            line.pass(1_800, 10, &mut returners);
            let now = line.look(|seen| returners.look(seen));
            assert!(
                (at_least..=at_most).contains(&now.return_s),
                "{after_s}: {}",
                now.return_s
            );
            assert!(
                (0.08..0.125).contains(&now.per_call),
                "{after_s}: {}",
                now.per_call
            );
        }
    }

    #[test]
    fn while_no_call_is_over_yet_they_come_back_as_is_usual() {
        let (mut line, mut returners) = (Line::new(225.0), Returners::default());
        line.pass(150, 10, &mut returners);
        let now = line.look(|seen| returners.look(seen));
        assert!(
            (180.0..280.0).contains(&now.return_s) && (0.04..0.07).contains(&now.per_call),
            "{now:?}"
        );
    }

    #[test]
    fn they_come_as_many_as_were_called_also_when_the_door_goes_slowly_now() {
        let (mut line, mut returners) = (Line::new(240.0), Returners::default());
        line.pass(1_200, 10, &mut returners);
        let (now, before) = (line.look(|seen| returners.look(seen)), line.counts.returned_total);
        let mut lane = Lane::new(&now);
        // Hardly anybody is called from now on.
        let expected: f64 = (1..=60)
            .map(|nth| lane.step(5.0 * f64::from(nth), 5.0, f64::INFINITY, &[Step::default()]))
            .sum();
        line.pass(300, 0, &mut returners);
        let came = f64::from(u32::try_from(line.counts.returned_total - before).unwrap());
        assert!(
            came > 200.0 && (expected / came - 1.0).abs() < 0.15,
            "{expected} {came}"
        );
    }

    #[test]
    fn who_stands_before_the_door_comes_in_no_faster_than_the_lane_allows() {
        let now = ReturnersNow {
            before_door: 100.0,
            return_s: 225.0,
            ..ReturnersNow::default()
        };
        let mut lane = Lane::new(&now);
        let entering: Vec<f64> = (1..=4)
            .map(|nth| lane.step(5.0 * f64::from(nth), 5.0, 30.0, &[Step::default()]))
            .collect();
        assert_eq!(entering, [30.0, 30.0, 30.0, 10.0]);
    }
}

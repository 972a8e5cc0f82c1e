//! Late arrivals: visitors who missed their call and come back. Pure.
//!
//! Their number follows from the calls of a while ago, whatever admission does meanwhile, so they take a
//! large part of slow admission and a small part of fast admission. A fixed share of entries would be too
//! high for a sale whose active visits are about to end and too low for one that has just filled.
//!
//! Two things are measured: which share of those called comes back, and how long after. The delay is found by
//! holding several hypotheses against what is seen, second by second, each weighted by its likelihood
//! (prequential likelihood: Dawid 1984).

use std::collections::VecDeque;

use crate::waiting_room::forecast::{call_curve::CurvePoint, observation::Observation, wait_table};

/// Model of one sale's late arrivals.
#[derive(Debug, Default)]
pub(crate) struct LateArrivalModel {
    /// Numbers called, second by second, the latest last, for as long as a call lasts.
    served: VecDeque<u32>,
    seen: Option<Tally>,
    returned: f64,
    /// One hypothesis for each delay of [`RETURN_S`].
    hypotheses: [ReturnHypothesis; RETURN_S.len()],
    /// Entries of about the last minute, and those of late arrivals among them.
    entries: f64,
    late_entries: f64,
}

/// What would have become of calls if all late arrivals came back after the hypothesis's delay.
#[derive(Clone, Copy, Debug, Default)]
struct ReturnHypothesis {
    /// Visitors who would still be away, and those who would be back.
    away: f64,
    back: f64,
    /// Log-likelihood of what was seen.
    likelihood: f64,
}

#[derive(Clone, Copy, Debug)]
struct Tally {
    returned: u64,
    entries: u64,
    theirs: u64,
}

/// Candidate delays in seconds between the end of a call and the return.
const RETURN_S: [f64; 6] = [100.0, 150.0, 225.0, 340.0, 500.0, 750.0];
/// Index of the delay that is assumed first.
const USUAL_RETURN: usize = 2;
/// Standard deviation of that assumption, in steps of [`RETURN_S`].
const RETURN_DEVIATION: f64 = 1.0;
/// Prior share of called visitors who come back later, and how many calls outweigh it.
const PRIOR_RETURNING: f64 = 0.06;
const PRIOR_RETURNING_CALLS: f64 = 50.0;
const LANE_MEMORY_S: f64 = 60.0;
/// Late arrivals count as waiting when as many claim as if none of them had entered for so long.
const LANE_IS_LATE_S: f64 = 10.0;

impl LateArrivalModel {
    /// Learns from one second of a running sale.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub(crate) fn observe(&mut self, seen: &Observation<'_>) {
        let counts = &seen.counts;
        let tally = Tally {
            returned: counts.late_admissions_total + u64::from(counts.late_arrivals),
            entries: counts.admissions_total,
            theirs: counts.late_admissions_total,
        };
        let Some(before) = self.seen.replace(tally) else {
            // After a restart some are away. Nothing is known of them but that there are no more than can
            // have been called.
            let per_s =
                f64::from(seen.settings.rate_effective_per_minute) / 60.0 / seen.show_share().max(0.05);
            for (way, return_s) in self.hypotheses.iter_mut().zip(RETURN_S) {
                way.away = f64::from(counts.now_serving).min(per_s * return_s);
            }
            return;
        };
        let keep = (-1.0 / LANE_MEMORY_S).exp();
        self.entries = self.entries * keep + tally.entries.saturating_sub(before.entries) as f64;
        let of_late_arrivals = tally.theirs.saturating_sub(before.theirs);
        self.late_entries = self.late_entries * keep + of_late_arrivals as f64;
        // Late arrivals who give up while waiting leave the count; it may fall.
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
        for (way, return_s) in self.hypotheses.iter_mut().zip(RETURN_S) {
            let back = way.away * (1.0 - (-1.0 / return_s).exp());
            let expected = (way.per_call(self.returned) * back).max(1e-9);
            way.likelihood += returned.max(0.0) * expected.ln() - expected;
            way.away += f64::from(over) - back;
            way.back += back;
        }
        self.returned = (self.returned + returned).max(0.0);
    }

    /// The forecast from now on.
    pub(crate) fn forecast(&self, seen: &Observation<'_>) -> LateArrivalForecast {
        let ways = self.weights();
        let mean = |of: &dyn Fn(&ReturnHypothesis, f64) -> f64| -> f64 {
            ways.iter()
                .zip(&self.hypotheses)
                .zip(RETURN_S)
                .map(|((believed, way), return_s)| believed * of(way, return_s))
                .sum()
        };
        let per_call = mean(&|way, _| way.per_call(self.returned));
        let away = mean(&|way, _| way.away * way.per_call(self.returned));
        // The mean delay is the one at which as many come back per second as all hypotheses together say.
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
        let before_door = f64::from(seen.counts.late_arrivals);
        let share_max = seen.admission.map_or(0.0, |s| s.late_arrival_share);
        // While they have to wait, their part of the entries is seen directly.
        let is_late = before_door > share_max * self.entries / LANE_MEMORY_S * LANE_IS_LATE_S;
        let share_max = if is_late {
            share_max.min(self.late_entries / self.entries.max(1.0))
        } else {
            share_max
        };
        let window_s = seen.call_window.as_secs_f64();
        LateArrivalForecast {
            per_call,
            away,
            return_s,
            due: due.collect(),
            window_s,
            claimants: before_door,
            share_max,
        }
    }

    /// Weight of each hypothesis, summing to one.
    #[expect(clippy::cast_precision_loss, reason = "a few steps")]
    fn weights(&self) -> [f64; RETURN_S.len()] {
        let surely = |at: usize| {
            self.hypotheses[at].likelihood
                - (at.abs_diff(USUAL_RETURN) as f64 / RETURN_DEVIATION).powi(2) / 2.0
        };
        let most = (0..RETURN_S.len()).map(surely).fold(f64::NEG_INFINITY, f64::max);
        let weights: [f64; RETURN_S.len()] = std::array::from_fn(|at| (surely(at) - most).exp());
        let all: f64 = weights.iter().sum();
        weights.map(|weight| weight / all)
    }
}

impl ReturnHypothesis {
    fn per_call(&self, returned: f64) -> f64 {
        (returned + PRIOR_RETURNING * PRIOR_RETURNING_CALLS) / (self.back + PRIOR_RETURNING_CALLS)
    }
}

/// Forecast of late arrivals.
#[derive(Clone, Debug, Default)]
pub(crate) struct LateArrivalForecast {
    /// Share of called visitors who come back once the call is over.
    pub per_call: f64,
    /// Visitors who missed their call and will come back, and after how many seconds on average.
    pub away: f64,
    /// Mean delay of their return in seconds.
    pub return_s: f64,
    /// Visitors called within the last `window_s`, second by second, the oldest first.
    pub due: Vec<f64>,
    /// Length of a call in seconds.
    pub window_s: f64,
    /// Late arrivals who claim a slot already, and the share of entries that they get at most.
    pub claimants: f64,
    /// Share of entries that late arrivals get at most, 0 to 1.
    pub share_max: f64,
}

/// The late-arrival lane played forward.
pub(crate) struct LateLane<'a> {
    now: &'a LateArrivalForecast,
    away: f64,
    before_door: f64,
    /// Calls that are over by now, and the point up to which they have been counted.
    over: f64,
    counted: usize,
}

impl<'a> LateLane<'a> {
    /// The lane as it is now.
    pub(crate) fn new(now: &'a LateArrivalForecast) -> Self {
        Self {
            now,
            away: now.away,
            before_door: now.claimants,
            over: 0.0,
            counted: 0,
        }
    }

    /// Entries of late arrivals in a step that ends at `t_s` and lasts `dt`, of `most` that are possible.
    pub(crate) fn step(&mut self, t_s: f64, dt: f64, most: f64, steps: &[CurvePoint]) -> f64 {
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

    /// How many of those called have used up their call window by `t_s`.
    fn over_by(&mut self, t_s: f64, steps: &[CurvePoint]) -> f64 {
        let called_at_s = t_s - self.now.window_s;
        let known_s = -(f64::from(u32::try_from(self.now.due.len()).unwrap_or(u32::MAX)));
        let due = self
            .now
            .due
            .iter()
            .take(wait_table::round_to_u32(called_at_s - known_s) as usize)
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
            forecast::visit_length::VisitLengthModel,
            state::{Counts, Settings},
            types::Phase,
        },
    };

    /// A queue of which one in ten comes back, `after_s` after the call is over on average.
    struct Line {
        entropy: SeededEntropy,
        after_s: f64,
        due_s: Vec<f64>,
        counts: Counts,
        second: u32,
    }

    impl Line {
        fn new(after_s: f64) -> Self {
            let entropy = SeededEntropy::new(11);
            Self {
                entropy,
                after_s,
                due_s: Vec::new(),
                counts: Counts::default(),
                second: 0,
            }
        }

        fn with_observation<T>(&self, with: impl FnOnce(&Observation<'_>) -> T) -> T {
            let now = Timestamp::from_secs(self.second.into());
            with(&Observation {
                now,
                phase: Phase::OnSale,
                settings: &Settings {
                    rate_effective_per_minute: 600,
                    ..Settings::default()
                },
                admission: None,
                counts: self.counts,
                visits: VisitLengthModel::new(Duration::from_mins(15), Duration::from_mins(2)).forecast(now),
                call_window: Duration::from_mins(3),
                seats: None,
                until_open_s: 0,
            })
        }

        fn pass(&mut self, seconds: u32, calls_per_s: u32, model: &mut LateArrivalModel) {
            for _ in 0..seconds {
                self.second += 1;
                self.counts.now_serving += calls_per_s;
                for _ in 0..calls_per_s {
                    if self.entropy.unit() < 0.1 {
                        self.due_s.push(
                            f64::from(self.second) + 180.0 - self.after_s * (1.0 - self.entropy.unit()).ln(),
                        );
                    }
                }
                let (dues, now) = (self.due_s.len(), f64::from(self.second));
                self.due_s.retain(|due_s| *due_s > now);
                self.counts.late_admissions_total += (dues - self.due_s.len()) as u64;
                self.with_observation(|seen| model.observe(seen));
            }
        }
    }

    #[test]
    fn it_learns_how_many_come_back_and_how_soon() {
        for (after_s, at_least, at_most) in [
            (110.0, 100.0, 150.0),
            (225.0, 150.0, 340.0),
            (480.0, 340.0, 750.0),
        ] {
            let (mut line, mut model) = (Line::new(after_s), LateArrivalModel::default());
            line.pass(1_800, 10, &mut model);
            let now = line.with_observation(|seen| model.forecast(seen));
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
    fn the_prior_holds_until_a_call_is_over() {
        let (mut line, mut model) = (Line::new(225.0), LateArrivalModel::default());
        line.pass(150, 10, &mut model);
        let now = line.with_observation(|seen| model.forecast(seen));
        assert!(
            (180.0..280.0).contains(&now.return_s) && (0.04..0.07).contains(&now.per_call),
            "{now:?}"
        );
    }

    #[test]
    fn returns_follow_earlier_calls_at_any_rate() {
        let (mut line, mut model) = (Line::new(240.0), LateArrivalModel::default());
        line.pass(1_200, 10, &mut model);
        let (now, before) = (
            line.with_observation(|seen| model.forecast(seen)),
            line.counts.late_admissions_total,
        );
        let mut lane = LateLane::new(&now);
        // Hardly anybody is called from now on.
        let expected: f64 = (1..=60)
            .map(|nth| lane.step(5.0 * f64::from(nth), 5.0, f64::INFINITY, &[CurvePoint::default()]))
            .sum();
        line.pass(300, 0, &mut model);
        let came = f64::from(u32::try_from(line.counts.late_admissions_total - before).unwrap());
        assert!(
            came > 200.0 && (expected / came - 1.0).abs() < 0.15,
            "{expected} {came}"
        );
    }

    #[test]
    fn claimants_enter_no_faster_than_the_lane_allows() {
        let now = LateArrivalForecast {
            claimants: 100.0,
            return_s: 225.0,
            ..LateArrivalForecast::default()
        };
        let mut lane = LateLane::new(&now);
        let entering: Vec<f64> = (1..=4)
            .map(|nth| lane.step(5.0 * f64::from(nth), 5.0, 30.0, &[CurvePoint::default()]))
            .collect();
        assert_eq!(entering, [30.0, 30.0, 30.0, 10.0]);
    }
}

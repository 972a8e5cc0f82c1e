//! Projection: how many visitors will have been called by when, by playing admission's rules forward. Pure.
//!
//! A fluid model: random quantities are replaced by their means, and the deviation from the truth is carried
//! along as a variance. Each step ages the active visits, ends those that are due, and admits as many as rate
//! and limit allow. So the model knows by itself when the limit will be reached and how many visits will end
//! then. All visits age by one step at a time, so that those which last as long as allowed end together, as
//! they began.
//!
//! Calls run ahead of entries by the mean lead: what is called by `t` can enter by `t + lead`, less those who
//! are expected already, times the calls that one entry takes.

use crate::waiting_room::forecast::{
    call_curve::{CurvePoint, HORIZON_S, Z90},
    calls_per_entry::CallsPerEntry,
    late_arrivals::{LateArrivalForecast, LateLane},
    limit_use::RATE_DISPERSION,
    seats_per_visit::StockForecast,
    visit_length::{Departures, VisitForecast},
};

/// State of admission that the projection starts from.
#[derive(Clone, Debug)]
pub(crate) struct ProjectionInput {
    /// Entries per second while the rate is the limit.
    pub rate_per_s: f64,
    /// Relative standard deviation of that.
    pub rate_deviation: f64,
    /// For so many seconds only a part of the rate is used.
    pub reduced_rate_s: f64,
    /// That part, 0 to 1.
    pub reduced_rate_share: f64,
    /// Visits that can be active at the same time.
    pub capacity: f64,
    /// Mean seconds between a call and its entry.
    pub lead_s: f64,
    /// Called visitors who are still expected, and claimants.
    pub expected: f64,
    /// Forecast of late arrivals.
    pub late_arrivals: LateArrivalForecast,
    /// Forecast of the stock; `None` before the first report.
    pub stock: Option<StockForecast>,
}

/// From then on admission is steady: the rate, or the limit over the mean visit. Until then visits that began
/// together end together, and so do those that took their slots.
const STEADY_AFTER_LONGEST: f64 = 2.0;

/// Share of the entries at low stock that needed a call, at least.
const CALLED_MIN: f64 = 0.35;
/// Share of the available seats below which the sale is as good as sold out; calls then go on as at the end.
const SOLD_OUT: f64 = 0.02;
/// Relative deviation of the calls for seats that are released.
const STOCK_DRIFT: f64 = 0.3;
/// Relative deviation that no forecast is better than.
const FLOOR_DRIFT: f64 = 0.01;
/// The status speaks in whole seconds and is up to a second old: each error is spread evenly over a second.
const MISREAD_S: f64 = 0.4;

/// Plays admission forward until `waiting` visitors have surely been called, and for `at_least_s` seconds.
pub(crate) fn project(
    input: &ProjectionInput,
    visits: &VisitForecast,
    calls_per_entry: &CallsPerEntry,
    waiting: f64,
    at_least_s: f64,
) -> Vec<CurvePoint> {
    let mut model = FluidModel::new(input, visits, &visits.expected);
    // The same admission at the ends of the range of visits: if they last longer and take more seats than
    // expected, or shorter and fewer.
    let (mut worse, mut better) = (
        FluidModel::new(input, visits, &visits.longer),
        FluidModel::new(input, visits, &visits.shorter),
    );
    for (model, sign) in [(&mut worse, 1.0), (&mut better, -1.0)] {
        if let Some(stock) = &mut model.stock {
            stock.per_entry = (stock.per_entry + sign * Z90 * stock.deviation).max(stock.per_entry / 2.0);
        }
    }
    let mut steps = vec![CurvePoint::default()];
    let mut lane = LateLane::new(&input.late_arrivals);
    let (mut calls, mut noise, mut in_time, mut by_stock, mut by_rate) = (0.0, 0.0, 0.0, 0.0, 0.0);
    while model.t_s < HORIZON_S {
        let before = f64::max(in_time - input.expected, 0.0);
        let StepResult {
            dt,
            entries,
            ended,
            limit,
        } = model.step();
        worse.step();
        better.step();
        match limit {
            Limit::Rate => {
                by_rate += entries;
                noise += RATE_DISPERSION * entries;
            }
            // Visits end at random, the rate hardly.
            Limit::ActiveVisits => noise += ended,
            Limit::Stock => by_stock += entries,
        }
        in_time += match limit {
            Limit::Rate | Limit::ActiveVisits => {
                entries - lane.step(model.t_s, dt, entries * input.late_arrivals.share_max, &steps)
            }
            // Slots are free, so late arrivals enter as they come, and take what would have been called for.
            Limit::Stock => {
                let late_arrivals = lane.step(model.t_s, dt, f64::INFINITY, &steps);
                (entries - late_arrivals).max(entries * CALLED_MIN)
            }
        };
        let (per_entry, level) = calls_per_entry.at(model.t_s);
        let reached = f64::max(in_time - input.expected, 0.0);
        // With a trend the calls of a step are those that its own entries take.
        calls += (reached - before) * per_entry;
        let of_stock = STOCK_DRIFT * by_stock * per_entry;
        let of_rate = input.rate_deviation * by_rate * per_entry;
        let chance = per_entry * per_entry * noise + per_entry * (per_entry - 1.0).max(0.05) * reached;
        let misread = per_entry * entries / dt * MISREAD_S;
        let level_more = level[0] * calls;
        // Every entry needs a call.
        let level_fewer = (level[1] * calls).min((calls - reached).max(0.0));
        let others = chance + of_stock.powi(2) + of_rate.powi(2) + (FLOOR_DRIFT * calls).powi(2);
        let deviation = |level: f64, entered: f64| {
            let by_visits = per_entry * (entered - model.entered) / Z90;
            (others + level.powi(2) + by_visits.powi(2)).sqrt()
        };
        let (more, fewer) = (
            deviation(level_more, better.entered),
            deviation(level_fewer, worse.entered),
        );
        let t_s = (model.t_s - input.lead_s).max(0.0);
        steps.push(CurvePoint {
            t_s,
            calls,
            more,
            fewer,
            read_deviation: misread,
        });
        if model.t_s - input.lead_s > at_least_s
            && (calls - 3.0 * fewer > waiting || calls > 4.0 * waiting + 100.0)
        {
            break;
        }
        if model.is_sold_out() {
            break;
        }
    }
    steps
}

/// The active visits played forward.
struct FluidModel<'a> {
    input: &'a ProjectionInput,
    step_s: f64,
    departures: &'a Departures,
    by_age: Vec<f64>,
    active: f64,
    t_s: f64,
    entered: f64,
    stock: Option<StockForecast>,
}

/// Result of one step.
struct StepResult {
    dt: f64,
    entries: f64,
    ended: f64,
    limit: Limit,
}

/// What kept more visitors from entering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Rate,
    ActiveVisits,
    Stock,
}

impl<'a> FluidModel<'a> {
    fn new(input: &'a ProjectionInput, visits: &VisitForecast, departures: &'a Departures) -> Self {
        let by_age = visits.active_by_step.clone();
        Self {
            input,
            step_s: visits.step_s,
            departures,
            active: by_age.iter().sum(),
            by_age,
            t_s: 0.0,
            entered: 0.0,
            stock: input.stock,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a few steps")]
    fn step(&mut self) -> StepResult {
        let is_steady = self.t_s > STEADY_AFTER_LONGEST * self.step_s * self.by_age.len() as f64;
        let dt = if is_steady {
            (self.t_s * 0.03).max(self.step_s)
        } else {
            self.step_s
        };
        let slowed_s = (self.input.reduced_rate_s - self.t_s).clamp(0.0, dt);
        self.t_s += dt;
        let by_rate = self.input.rate_per_s * (dt - slowed_s * (1.0 - self.input.reduced_rate_share));
        let active_before = if is_steady {
            self.input.capacity
        } else {
            self.active
        };
        let (ended, room) = if is_steady {
            let ended = self.input.capacity / self.departures.mean_s * dt;
            (ended, ended)
        } else {
            let ended = self.age();
            (ended, (self.input.capacity - self.active).max(0.0))
        };
        let (mut entries, mut limit) = if room < by_rate {
            (room, Limit::ActiveVisits)
        } else {
            (by_rate, Limit::Rate)
        };
        if let Some(stock) = &mut self.stock {
            let put_down = stock.held * (ended / f64::max(active_before, 1e-9)).min(1.0);
            stock.held -= put_down;
            stock.free += put_down * stock.returned_share;
            // When hardly a seat is free, as many visitors are called as there are seats.
            if stock.free < entries {
                (entries, limit) = (stock.free, Limit::Stock);
            }
            let taken = (entries * stock.per_entry).min(stock.free);
            stock.free -= taken;
            stock.held += taken;
        }
        self.by_age[0] += entries;
        self.active += entries;
        self.entered += entries;
        StepResult {
            dt,
            entries,
            ended,
            limit,
        }
    }

    fn is_sold_out(&self) -> bool {
        self.stock.zip(self.input.stock).is_some_and(|(then, now)| {
            then.free + then.held < f64::max(SOLD_OUT * (now.free + now.held), 1.0)
        })
    }

    /// Ages the active visits by one step; gives how many end.
    fn age(&mut self) -> f64 {
        // Independent sums, so that one addition need not wait for the other.
        let mut ended = [0.0; 4];
        let departures = self.departures.shares.chunks(ended.len());
        for (there, departures) in self.by_age.chunks_mut(ended.len()).zip(departures) {
            for ((ended, there), departures) in ended.iter_mut().zip(there).zip(departures) {
                let going = *there * departures;
                *there -= going;
                *ended += going;
            }
        }
        // Every visit is one step older; the last step keeps those that are older still.
        self.by_age.rotate_right(1);
        let oldest = std::mem::take(&mut self.by_age[0]);
        if let Some(last) = self.by_age.last_mut() {
            *last += oldest;
        }
        let ended: f64 = ended.iter().sum();
        self.active = (self.active - ended).max(0.0);
        ended
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::waiting_room::forecast::call_curve::CallCurve;

    const STEPS: usize = 180;
    const STEP_S: f64 = 5.0;

    /// Visits that end by chance after `mean_s`, but for a few that last for a quarter of an hour.
    fn departures(mean_s: f64) -> Departures {
        let share = 1.0 - (-STEP_S / mean_s).exp();
        let shares: Vec<f64> = std::iter::repeat_n(share, STEPS - 1).chain([1.0]).collect();
        let mean_s = STEP_S * (0..180).map(|step| (1.0 - share).powi(step)).sum::<f64>();
        Departures { shares, mean_s }
    }

    fn visits(mean_s: f64) -> VisitForecast {
        let [expected, longer, shorter] = [1.0, 1.1, 0.9].map(|times| departures(mean_s * times));
        VisitForecast {
            step_s: STEP_S,
            active_by_step: vec![0.0; STEPS],
            expected,
            longer,
            shorter,
        }
    }

    fn input(rate_per_s: f64, capacity: f64) -> ProjectionInput {
        let late_arrivals = LateArrivalForecast {
            return_s: 225.0,
            window_s: 180.0,
            ..LateArrivalForecast::default()
        };
        ProjectionInput {
            rate_per_s,
            rate_deviation: 0.0,
            reduced_rate_s: 0.0,
            reduced_rate_share: 0.5,
            capacity,
            lead_s: 0.0,
            expected: 0.0,
            late_arrivals,
            stock: None,
        }
    }

    const ONE_EACH: CallsPerEntry = CallsPerEntry {
        level: 0.0,
        trend_per_s: 0.0,
        level_variance: 0.0,
        trend_variance: 0.0,
        covariance: 0.0,
    };

    fn calls_by(steps: &[CurvePoint], t_s: f64) -> f64 {
        steps
            .iter()
            .take_while(|step| step.t_s <= t_s)
            .last()
            .map_or(0.0, |step| step.calls)
    }

    #[test]
    fn the_rate_sets_the_pace_until_the_limit_is_reached() {
        let (visits, input) = (visits(120.0), input(10.0, 600.0));
        let steps = project(&input, &visits, &ONE_EACH, 50_000.0, 3_000.0);
        assert!((calls_by(&steps, 50.0) - 500.0).abs() < 1.0);
        let later = calls_by(&steps, 2_900.0) - calls_by(&steps, 900.0);
        let departures = 2_000.0 * 600.0 / visits.expected.mean_s;
        assert!((later / departures - 1.0).abs() < 0.01, "{later} {departures}");
    }

    #[test]
    fn late_arrivals_take_no_more_than_their_share() {
        let mut input = input(10.0, 1e6);
        input.late_arrivals = LateArrivalForecast {
            claimants: 1e6,
            share_max: 0.2,
            ..input.late_arrivals
        };
        let steps = project(&input, &visits(120.0), &ONE_EACH, 5_000.0, 0.0);
        assert!((calls_by(&steps, 100.0) - 800.0).abs() < 1.0);
        input.late_arrivals = LateArrivalForecast {
            claimants: 50.0,
            ..input.late_arrivals
        };
        let steps = project(&input, &visits(120.0), &ONE_EACH, 5_000.0, 0.0);
        assert!(
            (calls_by(&steps, 100.0) - 950.0).abs() < 1.0,
            "all of them are in, and that is that"
        );
    }

    #[test]
    fn hardly_any_calls_once_all_seats_are_held() {
        let mut input = input(10.0, 1e6);
        let unlimited = project(&input, &visits(120.0), &ONE_EACH, 2_000.0, 0.0);
        input.stock = Some(StockForecast {
            free: 1_000.0,
            held: 0.0,
            per_entry: 2.0,
            deviation: 0.1,
            returned_share: 0.2,
        });
        let limited = project(&input, &visits(120.0), &ONE_EACH, 2_000.0, 0.0);
        let wait_s = |steps: &[CurvePoint], n: f64| CallCurve::new(steps, |_| 0.0).after_s(n);
        assert!(
            (wait_s(&limited, 450.0) - wait_s(&unlimited, 450.0)).abs() < 1.0,
            "there are seats for these"
        );
        // A fifth of the 1,000 seats returns to stock and causes further calls; a fifth of those returns
        // again, and so on.
        let called = limited.last().unwrap().calls;
        assert!((600.0..800.0).contains(&called), "{called}");
        assert!(wait_s(&limited, 620.0) > 2.0 * wait_s(&unlimited, 620.0));
        assert!(wait_s(&limited, 1e5) <= HORIZON_S);
        // Who takes more leaves less.
        input.stock = Some(StockForecast {
            free: 1_000.0,
            held: 0.0,
            per_entry: 4.0,
            deviation: 0.1,
            returned_share: 0.2,
        });
        assert!(
            project(&input, &visits(120.0), &ONE_EACH, 2_000.0, 0.0)
                .last()
                .unwrap()
                .calls
                < called
        );
    }

    #[test]
    fn reading_a_status_adds_uncertainty() {
        let steps = project(&input(10.0, 1e6), &visits(120.0), &ONE_EACH, 2_000.0, 0.0);
        let reached = |n: f64, z: f64| CallCurve::new(&steps, |_| z).after_s(n);
        for n in [100.0, 1_000.0] {
            let width_s = reached(n, -1e-9) - reached(n, 1e-9);
            assert!((width_s - 2.0 * Z90 * MISREAD_S).abs() < 0.05, "{n}: {width_s}");
            let more_s = reached(n, -Z90) - reached(n, Z90);
            assert!(more_s > width_s, "{n}: {more_s} {width_s}");
        }
    }

    #[test]
    fn ranges_widen_with_uncertainty_and_lean_toward_more_calls() {
        let unsure = CallsPerEntry {
            level: 0.2,
            level_variance: 0.01,
            trend_variance: 1e-8,
            ..ONE_EACH
        };
        let sure = CallsPerEntry {
            level: 0.2,
            ..ONE_EACH
        };
        let at_the_end = |known: &CallsPerEntry| {
            *project(&input(10.0, 1e6), &visits(120.0), known, 5_000.0, 0.0)
                .last()
                .unwrap()
        };
        let (unsure, sure) = (at_the_end(&unsure), at_the_end(&sure));
        assert!(
            unsure.more > 2.0 * sure.more && unsure.fewer > 2.0 * sure.fewer && unsure.more > unsure.fewer,
            "{unsure:?} {sure:?}"
        );
        // No visitor enters without a call, so there are at least as many calls.
        let all_come = at_the_end(&CallsPerEntry {
            level_variance: 0.25,
            ..ONE_EACH
        });
        assert!(all_come.fewer < 0.1 * all_come.more, "{all_come:?}");
    }

    proptest! {
        #[test]
        fn waits_grow_with_the_distance_and_shrink_with_luck(
            rate_per_s in 0.0_f64..400.0, capacity in 0.0_f64..20_000.0, mean_s in 10.0_f64..800.0,
                lead_s in 0.0_f64..30.0,
            expected in 0.0_f64..500.0, back in 0.0_f64..0.3, waiting in 1.0_f64..50_000.0,
                seats in proptest::option::of(0.0_f64..50_000.0),
            level in 0.0_f64..2.0, unsure in 0.0_f64..0.5, ns in proptest::collection::vec(1.0_f64..60_000.0,
                8),
        ) {
            let mut input = ProjectionInput { lead_s, expected, ..input(rate_per_s, capacity) };
            input.late_arrivals = LateArrivalForecast { per_call: back, away: 40.0, claimants: 10.0,
                due: vec![3.0; 100], share_max: 0.2, ..input.late_arrivals };
            input.stock = seats.map(|free| StockForecast { free, held: free / 3.0, per_entry: 2.0,
                deviation: 0.2, returned_share: 0.2 });
            let known = CallsPerEntry { level, level_variance: unsure * unsure, trend_per_s: 1e-4,
                trend_variance: 4e-8, covariance: 0.0 };
            let steps = project(&input, &visits(mean_s), &known, waiting, 0.0);
            let is_ordered = |a: &CurvePoint, b: &CurvePoint| a.calls <= b.calls && a.t_s <= b.t_s;
            prop_assert!(steps.windows(2).all(|pair| is_ordered(&pair[0], &pair[1])));
            let is_sound =
                |step: &CurvePoint| step.more >= 0.0 && step.fewer >= 0.0 && step.calls.is_finite();
            prop_assert!(steps.iter().all(is_sound));
            let mut ns = ns;
            ns.sort_unstable_by(f64::total_cmp);
            let mut before = [0.0; 3];
            for n in ns {
                let waits_s = [1.28, 0.0, -1.28].map(|z| CallCurve::new(&steps, |_| z).after_s(n));
                prop_assert!(waits_s.iter().all(|s| (0.0..=HORIZON_S).contains(s)), "{waits_s:?}");
                prop_assert!(waits_s[0] <= waits_s[1] && waits_s[1] <= waits_s[2], "{n}: {waits_s:?}");
                prop_assert!((0..3).all(|i| before[i] <= waits_s[i] + 1e-6), "{n}: {before:?} {waits_s:?}");
                before = waits_s;
            }
        }
    }
}

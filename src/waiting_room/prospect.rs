//! How many will have been called by when: the door's rules played forward. Pure.
//!
//! A fluid model: what is random is replaced by its mean, and how far the truth may be from it is carried along as a
//! variance. Each step ages those who are inside, lets those go whose visit ends, and lets in as many as rate and house
//! allow. So it knows by itself when the house will be full, and what its departures will be then. Everybody grows older
//! by one step at a time, so that those who stay for as long as they may leave together, as they came.
//!
//! Calls run ahead of entries by the mean lead: what is called by `t` is what can enter by `t + lead`, less those who
//! are expected already, times the calls that one entry takes.

use std::collections::VecDeque;

use super::visits::VisitsOutlook;

/// The door as it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct DoorNow {
    pub rate_per_s: f64,
    /// For so long only a part of the rate is used.
    pub slowed_s: f64,
    pub slowed_share: f64,
    pub permits: f64,
    pub capacity: f64,
    pub lead_s: f64,
    /// Called and expected, and those who stand before the door.
    pub expected: f64,
}

/// Calls that one entry takes: its logarithm now, how it changes per second, how soon that change dies away, and the
/// variances of level and trend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Yield {
    pub level: f64,
    pub trend_per_s: f64,
    pub level_variance: f64,
    pub trend_variance: f64,
    pub covariance: f64,
}

/// A trend goes on for about so long (a damped trend: Gardner and McKenzie 1985).
const TREND_LASTS_S: f64 = 600.0;

impl Yield {
    fn at(&self, t_s: f64) -> (f64, f64) {
        let h = TREND_LASTS_S * (1.0 - (-t_s / TREND_LASTS_S).exp());
        let variance = self.level_variance + 2.0 * h * self.covariance + h * h * self.trend_variance;
        ((self.level + h * self.trend_per_s).clamp(-3.0, 4.0).exp(), variance.max(0.0))
    }
}

/// One moment from now on: fans called by then, and the standard deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub t_s: f64,
    pub calls: f64,
    pub deviation: f64,
}

/// From then on the house is as it will stay: rate, or capacity over the mean visit.
const STEADY_AFTER_VISITS: f64 = 5.0;

/// Beyond this nothing is said but that it goes on as then.
const HORIZON_S: f64 = 48.0 * 3_600.0;
/// Nobody has ever seen it go better than this.
const FLOOR_DRIFT: f64 = 0.01;

/// Plays the door forward until `waiting` have been called for sure, and for `at_least_s`.
pub(super) fn prospect(door: &DoorNow, visits: &VisitsOutlook, calls_per_entry: &Yield, waiting: f64, at_least_s: f64) -> Vec<Step> {
    let mut inside: VecDeque<f64> = visits.inside.iter().copied().collect();
    let mut steps = vec![Step { t_s: 0.0, calls: 0.0, deviation: 0.0 }];
    let (mut t_s, mut entered, mut by_house, mut calls) = (0.0, 0.0, 0.0, 0.0);
    let mut credit = door.permits;
    let mut noise = 0.0;
    while t_s < HORIZON_S {
        let is_steady = t_s > STEADY_AFTER_VISITS * visits.mean_s;
        let dt = if is_steady { (t_s * 0.03).max(visits.step_s) } else { visits.step_s };
        t_s += dt;
        let slowed_s = (door.slowed_s - (t_s - dt)).clamp(0.0, dt);
        let by_rate = door.rate_per_s * (dt - slowed_s * (1.0 - door.slowed_share)) + std::mem::take(&mut credit);
        let (ended, room) = if is_steady {
            let ended = door.capacity / visits.mean_s * dt;
            (ended, ended)
        } else {
            let (ended, active) = age(&mut inside, &visits.leaving);
            (ended, (door.capacity - active).max(0.0))
        };
        let entries = by_rate.min(room);
        inside[0] += entries;
        entered += entries;
        if room < by_rate {
            // Departures come by chance, the rate does not.
            by_house += entries;
            noise += ended;
        }
        let (per_entry, variance) = calls_per_entry.at(t_s);
        let reached = (entered - door.expected).max(0.0);
        // With a trend the calls of a step are those that its own entries take.
        let before = (entered - entries - door.expected).max(0.0);
        calls += (reached - before) * per_entry;
        let house_share = if entered > 0.0 { by_house / entered } else { 0.0 };
        let drift2 = variance + (house_share * visits.drift).powi(2) + FLOOR_DRIFT * FLOOR_DRIFT;
        let chance = per_entry * per_entry * noise + per_entry * (per_entry - 1.0).max(0.05) * reached;
        let flow = per_entry * entries / dt;
        let deviation = (drift2 * calls * calls + chance + flow * flow).sqrt();
        steps.push(Step { t_s: (t_s - door.lead_s).max(0.0), calls, deviation });
        if t_s - door.lead_s > at_least_s && (calls - 3.0 * deviation > waiting || calls > 4.0 * waiting + 100.0) {
            break;
        }
    }
    steps
}

/// A step passes inside: gives the ends, and how many are left.
fn age(inside: &mut VecDeque<f64>, leaving: &[f64]) -> (f64, f64) {
    let (mut ended, mut left) = (0.0, 0.0);
    for (there, leaving) in inside.iter_mut().zip(leaving) {
        let going = *there * leaving;
        *there -= going;
        ended += going;
        left += *there;
    }
    // Everybody is a step older.
    inside.pop_back();
    inside.push_front(0.0);
    (ended, left)
}

/// Seconds until `n` have been called when it goes `z` standard deviations better than expected.
pub(super) fn reached_after_s(steps: &[Step], n: f64, z: impl Fn(f64) -> f64) -> f64 {
    let (mut before, mut best) = ((0.0, 0.0), 0.0_f64);
    for step in steps {
        best = best.max(step.calls + z(step.t_s) * step.deviation);
        if best >= n {
            let (t_s, calls) = before;
            return if best > calls { t_s + (step.t_s - t_s) * ((n - calls) / (best - calls)).clamp(0.0, 1.0) } else { t_s };
        }
        before = (step.t_s, best);
    }
    // It goes on as at the end.
    let (t_s, calls) = before;
    if calls > 0.0 { t_s * n / calls } else { HORIZON_S }
}

//! How many will have been called by when: the door's rules played forward. Pure.
//!
//! A fluid model: what is random is replaced by its mean, and how far the truth may be from it is carried along as a
//! variance. Each step ages those who are inside, lets those go whose visit ends, and lets in as many as rate and house
//! allow. So it knows by itself when the house will be full, and what its departures will be then. Everybody grows older
//! by one step at a time, so that those who stay for as long as they may leave together, as they came.
//!
//! Calls run ahead of entries by the mean lead: what is called by `t` is what can enter by `t + lead`, less those who
//! are expected already, times the calls that one entry takes.

use crate::waiting_room::forecast::{
    call_curve::{HORIZON_S, Step},
    calls_per_entry::Yield,
    late_arrivals::{Lane, ReturnersNow},
    seats_per_visit::StockNow,
    visit_length::{Leaving, VisitsOutlook},
};

/// The door as it is.
#[derive(Clone, Debug)]
pub(crate) struct DoorNow {
    pub rate_per_s: f64,
    /// For so long only a part of the rate is used.
    pub slowed_s: f64,
    pub slowed_share: f64,
    pub capacity: f64,
    pub lead_s: f64,
    /// Called and expected, and those who stand before the door.
    pub expected: f64,
    pub returners: ReturnersNow,
    /// `None` while nobody has said what there is to be had.
    pub stock: Option<StockNow>,
}

/// From then on the house is as it will stay: rate, or capacity over the mean visit. Until then those who came together
/// leave together, and those who came in their place once more.
const STEADY_AFTER_LONGEST: f64 = 2.0;

/// Of those who come in for it, at least this share has been called for it.
const CALLED_MIN: f64 = 0.35;
/// When of what can be had now this share is left, it is as good as sold out; what comes then goes on as at the end.
const SOLD_OUT: f64 = 0.02;
/// How far it may be off how many are called for what comes back from baskets.
const STOCK_DRIFT: f64 = 0.3;
/// Nobody has ever seen it go better than this.
const FLOOR_DRIFT: f64 = 0.01;
/// A board speaks in whole seconds and is up to a second old: each is spread evenly over a second.
const MISREAD_S: f64 = 0.4;

/// Plays the door forward until `waiting` have been called for sure, and for `at_least_s`.
pub(crate) fn prospect(
    door: &DoorNow,
    visits: &VisitsOutlook,
    calls_per_entry: &Yield,
    waiting: f64,
    at_least_s: f64,
) -> Vec<Step> {
    let mut house = House::new(door, visits, &visits.expected);
    // The same door if visits are longer and take more than is thought, or shorter and take less.
    let (mut worse, mut better) = (
        House::new(door, visits, &visits.longer),
        House::new(door, visits, &visits.shorter),
    );
    for (house, sign) in [(&mut worse, 1.0), (&mut better, -1.0)] {
        if let Some(stock) = &mut house.stock {
            stock.per_entry = (stock.per_entry + sign * stock.deviation).max(stock.per_entry / 2.0);
        }
    }
    let mut steps = vec![Step::default()];
    let mut lane = Lane::new(&door.returners);
    let (mut calls, mut noise, mut in_time, mut by_stock) = (0.0, 0.0, 0.0, 0.0);
    while house.t_s < HORIZON_S {
        let before = f64::max(in_time - door.expected, 0.0);
        let Passed {
            dt,
            entries,
            ended,
            limit,
        } = house.step();
        worse.step();
        better.step();
        match limit {
            Limit::Rate => {}
            // Departures come by chance, the rate does not.
            Limit::House => noise += ended,
            Limit::Stock => by_stock += entries,
        }
        in_time += match limit {
            Limit::Rate | Limit::House => {
                entries - lane.step(house.t_s, dt, entries * door.returners.share_max, &steps)
            }
            // There is room, so they come in as they come, and take what would have been called for.
            Limit::Stock => {
                let returners = lane.step(house.t_s, dt, f64::INFINITY, &steps);
                (entries - returners).max(entries * CALLED_MIN)
            }
        };
        let (per_entry, level) = calls_per_entry.at(house.t_s);
        let reached = f64::max(in_time - door.expected, 0.0);
        // With a trend the calls of a step are those that its own entries take.
        calls += (reached - before) * per_entry;
        let of_stock = STOCK_DRIFT * by_stock * per_entry;
        let chance = per_entry * per_entry * noise + per_entry * (per_entry - 1.0).max(0.05) * reached;
        let misread = per_entry * entries / dt * MISREAD_S;
        let level_more = level[0] * calls;
        // Nobody enters without a call.
        let level_fewer = (level[1] * calls).min((calls - reached).max(0.0));
        let others = chance + of_stock.powi(2) + (FLOOR_DRIFT * calls).powi(2);
        let deviation = |level: f64, entered: f64| {
            (others + level.powi(2) + (per_entry * (entered - house.entered)).powi(2)).sqrt()
        };
        let (more, fewer) = (
            deviation(level_more, better.entered),
            deviation(level_fewer, worse.entered),
        );
        let t_s = (house.t_s - door.lead_s).max(0.0);
        steps.push(Step {
            t_s,
            calls,
            more,
            fewer,
            misread,
        });
        if house.t_s - door.lead_s > at_least_s
            && (calls - 3.0 * fewer > waiting || calls > 4.0 * waiting + 100.0)
        {
            break;
        }
        if house.is_sold_out() {
            break;
        }
    }
    steps
}

/// The house as it will be.
struct House<'a> {
    door: &'a DoorNow,
    step_s: f64,
    leaving: &'a Leaving,
    inside: Vec<f64>,
    active: f64,
    t_s: f64,
    entered: f64,
    stock: Option<StockNow>,
}

/// What happens in one step.
struct Passed {
    dt: f64,
    entries: f64,
    ended: f64,
    limit: Limit,
}

/// What kept more from entering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Rate,
    House,
    Stock,
}

impl<'a> House<'a> {
    fn new(door: &'a DoorNow, visits: &VisitsOutlook, leaving: &'a Leaving) -> Self {
        let inside = visits.inside.clone();
        Self {
            door,
            step_s: visits.step_s,
            leaving,
            active: inside.iter().sum(),
            inside,
            t_s: 0.0,
            entered: 0.0,
            stock: door.stock,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a few steps")]
    fn step(&mut self) -> Passed {
        let is_steady = self.t_s > STEADY_AFTER_LONGEST * self.step_s * self.inside.len() as f64;
        let dt = if is_steady {
            (self.t_s * 0.03).max(self.step_s)
        } else {
            self.step_s
        };
        let slowed_s = (self.door.slowed_s - self.t_s).clamp(0.0, dt);
        self.t_s += dt;
        let by_rate = self.door.rate_per_s * (dt - slowed_s * (1.0 - self.door.slowed_share));
        let active_before = if is_steady {
            self.door.capacity
        } else {
            self.active
        };
        let (ended, room) = if is_steady {
            let ended = self.door.capacity / self.leaving.mean_s * dt;
            (ended, ended)
        } else {
            let ended = self.age();
            (ended, (self.door.capacity - self.active).max(0.0))
        };
        let (mut entries, mut limit) = if room < by_rate {
            (room, Limit::House)
        } else {
            (by_rate, Limit::Rate)
        };
        if let Some(stock) = &mut self.stock {
            let put_down = stock.held * (ended / f64::max(active_before, 1e-9)).min(1.0);
            stock.held -= put_down;
            stock.free += put_down * stock.back;
            // When hardly a seat is free, as many are called as there are seats.
            if stock.free < entries {
                (entries, limit) = (stock.free, Limit::Stock);
            }
            let taken = (entries * stock.per_entry).min(stock.free);
            stock.free -= taken;
            stock.held += taken;
        }
        self.inside[0] += entries;
        self.active += entries;
        self.entered += entries;
        Passed {
            dt,
            entries,
            ended,
            limit,
        }
    }

    fn is_sold_out(&self) -> bool {
        self.stock.zip(self.door.stock).is_some_and(|(then, now)| {
            then.free + then.held < f64::max(SOLD_OUT * (now.free + now.held), 1.0)
        })
    }

    /// A step passes inside: gives the ends.
    fn age(&mut self) -> f64 {
        // Sums of their own, so that one need not wait for the other.
        let mut ended = [0.0; 4];
        let leaving = self.leaving.shares.chunks(ended.len());
        for (there, leaving) in self.inside.chunks_mut(ended.len()).zip(leaving) {
            for ((ended, there), leaving) in ended.iter_mut().zip(there).zip(leaving) {
                let going = *there * leaving;
                *there -= going;
                *ended += going;
            }
        }
        // Everybody is a step older, and nobody older than the last step.
        self.inside.rotate_right(1);
        self.inside[0] = 0.0;
        let ended: f64 = ended.iter().sum();
        self.active = (self.active - ended).max(0.0);
        ended
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEPS: usize = 180;
    const STEP_S: f64 = 5.0;

    /// Visits that end by chance after `mean_s`, but for a few that last for a quarter of an hour.
    fn leaving(mean_s: f64) -> Leaving {
        let share = 1.0 - (-STEP_S / mean_s).exp();
        let shares: Vec<f64> = std::iter::repeat_n(share, STEPS - 1).chain([1.0]).collect();
        let mean_s = STEP_S * (0..180).map(|step| (1.0 - share).powi(step)).sum::<f64>();
        Leaving { shares, mean_s }
    }

    fn visits(mean_s: f64) -> VisitsOutlook {
        let [expected, longer, shorter] = [1.0, 1.1, 0.9].map(|times| leaving(mean_s * times));
        VisitsOutlook {
            step_s: STEP_S,
            inside: vec![0.0; STEPS],
            expected,
            longer,
            shorter,
        }
    }

    fn door(rate_per_s: f64, capacity: f64) -> DoorNow {
        let returners = ReturnersNow {
            return_s: 225.0,
            window_s: 180.0,
            ..ReturnersNow::default()
        };
        DoorNow {
            rate_per_s,
            slowed_s: 0.0,
            slowed_share: 0.5,
            capacity,
            lead_s: 0.0,
            expected: 0.0,
            returners,
            stock: None,
        }
    }

    const ONE_EACH: Yield = Yield {
        level: 0.0,
        trend_per_s: 0.0,
        level_variance: 0.0,
        trend_variance: 0.0,
        covariance: 0.0,
    };

    fn calls_by(steps: &[Step], t_s: f64) -> f64 {
        steps
            .iter()
            .take_while(|step| step.t_s <= t_s)
            .last()
            .map_or(0.0, |step| step.calls)
    }

    #[test]
    fn the_rate_sets_the_pace_until_the_house_is_full_and_then_its_departures() {
        let (visits, door) = (visits(120.0), door(10.0, 600.0));
        let steps = prospect(&door, &visits, &ONE_EACH, 50_000.0, 3_000.0);
        assert!((calls_by(&steps, 50.0) - 500.0).abs() < 1.0);
        let later = calls_by(&steps, 2_900.0) - calls_by(&steps, 900.0);
        let departures = 2_000.0 * 600.0 / visits.expected.mean_s;
        assert!((later / departures - 1.0).abs() < 0.01, "{later} {departures}");
    }

    #[test]
    fn returners_take_from_the_calls_and_not_more_than_their_share() {
        let mut door = door(10.0, 1e6);
        door.returners = ReturnersNow {
            before_door: 1e6,
            share_max: 0.2,
            ..door.returners
        };
        let steps = prospect(&door, &visits(120.0), &ONE_EACH, 5_000.0, 0.0);
        assert!((calls_by(&steps, 100.0) - 800.0).abs() < 1.0);
        door.returners = ReturnersNow {
            before_door: 50.0,
            ..door.returners
        };
        let steps = prospect(&door, &visits(120.0), &ONE_EACH, 5_000.0, 0.0);
        assert!(
            (calls_by(&steps, 100.0) - 950.0).abs() < 1.0,
            "all of them are in, and that is that"
        );
    }

    #[test]
    fn hardly_anybody_is_called_once_the_seats_are_in_baskets() {
        let mut door = door(10.0, 1e6);
        let unlimited = prospect(&door, &visits(120.0), &ONE_EACH, 2_000.0, 0.0);
        door.stock = Some(StockNow {
            free: 1_000.0,
            held: 0.0,
            per_entry: 2.0,
            deviation: 0.1,
            back: 0.2,
        });
        let limited = prospect(&door, &visits(120.0), &ONE_EACH, 2_000.0, 0.0);
        let wait_s = |steps: &[Step], n: f64| Course::new(steps, |_| 0.0).after_s(n);
        assert!(
            (wait_s(&limited, 450.0) - wait_s(&unlimited, 450.0)).abs() < 1.0,
            "there are seats for these"
        );
        // A fifth of a thousand seats comes back, for those who are called for it one by one, and a fifth of these.
        let called = limited.last().unwrap().calls;
        assert!((600.0..800.0).contains(&called), "{called}");
        assert!(wait_s(&limited, 620.0) > 2.0 * wait_s(&unlimited, 620.0));
        assert!(wait_s(&limited, 1e5) <= HORIZON_S);
        // Who takes more leaves less.
        door.stock = Some(StockNow {
            free: 1_000.0,
            held: 0.0,
            per_entry: 4.0,
            deviation: 0.1,
            back: 0.2,
        });
        assert!(
            prospect(&door, &visits(120.0), &ONE_EACH, 2_000.0, 0.0)
                .last()
                .unwrap()
                .calls
                < called
        );
    }

    #[test]
    fn a_board_is_read_no_more_exactly_than_it_speaks_however_sure_the_door_is() {
        let steps = prospect(&door(10.0, 1e6), &visits(120.0), &ONE_EACH, 2_000.0, 0.0);
        let reached = |n: f64, z: f64| Course::new(&steps, |_| z).after_s(n);
        for n in [100.0, 1_000.0] {
            let width_s = reached(n, -1e-9) - reached(n, 1e-9);
            assert!((width_s - 2.0 * Z90 * MISREAD_S).abs() < 0.05, "{n}: {width_s}");
            let more_s = reached(n, -Z90) - reached(n, Z90);
            assert!(more_s > width_s, "{n}: {more_s} {width_s}");
        }
    }

    #[test]
    fn a_range_is_wider_where_less_is_known_and_reaches_farther_towards_more_calls() {
        let unsure = Yield {
            level: 0.2,
            level_variance: 0.01,
            trend_variance: 1e-8,
            ..ONE_EACH
        };
        let sure = Yield {
            level: 0.2,
            ..ONE_EACH
        };
        let at_the_end = |known: &Yield| {
            *prospect(&door(10.0, 1e6), &visits(120.0), known, 5_000.0, 0.0)
                .last()
                .unwrap()
        };
        let (unsure, sure) = (at_the_end(&unsure), at_the_end(&sure));
        assert!(
            unsure.more > 2.0 * sure.more && unsure.fewer > 2.0 * sure.fewer && unsure.more > unsure.fewer,
            "{unsure:?} {sure:?}"
        );
        // Nobody enters without a call: of calls that all come there can be no fewer.
        let all_come = at_the_end(&Yield {
            level_variance: 0.25,
            ..ONE_EACH
        });
        assert!(all_come.fewer < 0.1 * all_come.more, "{all_come:?}");
    }

    proptest! {
        #[test]
        fn waits_grow_with_the_distance_and_shrink_with_luck(
            rate_per_s in 0.0_f64..400.0, capacity in 0.0_f64..20_000.0, mean_s in 10.0_f64..800.0, lead_s in 0.0_f64..30.0,
            expected in 0.0_f64..500.0, back in 0.0_f64..0.3, waiting in 1.0_f64..50_000.0, seats in proptest::option::of(0.0_f64..50_000.0),
            level in 0.0_f64..2.0, unsure in 0.0_f64..0.5, ns in proptest::collection::vec(1.0_f64..60_000.0, 8),
        ) {
            let mut door = DoorNow { lead_s, expected, ..door(rate_per_s, capacity) };
            door.returners = ReturnersNow { per_call: back, away: 40.0, before_door: 10.0, due: vec![3.0; 100], share_max: 0.2, ..door.returners };
            door.stock = seats.map(|free| StockNow { free, held: free / 3.0, per_entry: 2.0, deviation: 0.2, back: 0.2 });
            let known = Yield { level, level_variance: unsure * unsure, trend_per_s: 1e-4, trend_variance: 4e-8, covariance: 0.0 };
            let steps = prospect(&door, &visits(mean_s), &known, waiting, 0.0);
            prop_assert!(steps.windows(2).all(|pair| pair[0].calls <= pair[1].calls && pair[0].t_s <= pair[1].t_s));
            prop_assert!(steps.iter().all(|step| step.more >= 0.0 && step.fewer >= 0.0 && step.calls.is_finite()));
            let mut ns = ns;
            ns.sort_unstable_by(f64::total_cmp);
            let mut before = [0.0; 3];
            for n in ns {
                let waits_s = [1.28, 0.0, -1.28].map(|z| Course::new(&steps, |_| z).after_s(n));
                prop_assert!(waits_s.iter().all(|s| (0.0..=HORIZON_S).contains(s)), "{waits_s:?}");
                prop_assert!(waits_s[0] <= waits_s[1] && waits_s[1] <= waits_s[2], "{n}: {waits_s:?}");
                prop_assert!((0..3).all(|i| before[i] <= waits_s[i] + 1e-6), "{n}: {before:?} {waits_s:?}");
                before = waits_s;
            }
        }
    }
}

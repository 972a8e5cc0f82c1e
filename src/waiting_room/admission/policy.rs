//! Who may be called and who may enter: the arithmetic, pure and exact.

use std::time::Duration;

use crate::waiting_room::state::{SILENT_SHARE, Situation};

/// Entry permits that refill with time: entries in any window `w` are at most `rate * w + burst`.
///
/// Counted in integers, so nothing is lost or won by rounding: one permit is [`PERMIT`] units and each microsecond
/// brings `rate_per_minute` of them.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    rate_per_minute: u32,
    burst: Option<u32>,
    units: u64,
    filled_at: Duration,
}

const PERMIT: u64 = 60_000_000;

impl Bucket {
    /// An empty bucket: after a restart nobody knows how many have just entered.
    pub(crate) fn empty(rate_per_minute: u32, burst: Option<u32>, monotonic: Duration) -> Self {
        Self {
            rate_per_minute,
            burst,
            units: 0,
            filled_at: monotonic,
        }
    }

    /// Permits that can be used now.
    pub(crate) fn permits(&mut self, monotonic: Duration) -> u32 {
        self.fill(monotonic);
        u32::try_from(self.units / PERMIT).unwrap_or(u32::MAX)
    }

    /// Uses one permit; says whether there was one.
    #[must_use]
    pub(crate) fn take(&mut self, monotonic: Duration) -> bool {
        self.fill(monotonic);
        let left = self.units.checked_sub(PERMIT);
        self.units = left.unwrap_or(self.units);
        left.is_some()
    }

    /// Puts back a permit whose entry did not take place.
    pub(crate) fn give_back(&mut self) {
        self.units = (self.units + PERMIT).min(self.units_max());
    }

    /// From now on another rate; what has gathered stays, as far as the new burst holds it.
    pub(crate) fn set_rate(&mut self, rate_per_minute: u32, monotonic: Duration) {
        self.fill(monotonic);
        self.rate_per_minute = rate_per_minute;
        self.units = self.units.min(self.units_max());
    }

    fn fill(&mut self, monotonic: Duration) {
        let passed_us = monotonic.saturating_sub(self.filled_at).as_micros();
        let brought =
            u64::try_from(passed_us.saturating_mul(u128::from(self.rate_per_minute))).unwrap_or(u64::MAX);
        self.units = self.units.saturating_add(brought).min(self.units_max());
        self.filled_at = self.filled_at.max(monotonic);
    }

    fn units_max(&self) -> u64 {
        u64::from(burst_of(self.rate_per_minute, self.burst)) * PERMIT
    }
}

/// The rate that is in force while so many millionths of it are taken away; never none of a rate that is one.
pub(crate) fn slowed(rate_per_minute: u32, by_ppm: u32) -> u32 {
    let left = u64::from(rate_per_minute) * u64::from(1_000_000_u32.saturating_sub(by_ppm)) / 1_000_000;
    u32::try_from(left)
        .unwrap_or(rate_per_minute)
        .max(u32::from(rate_per_minute > 0))
}

/// Entries that may come at once: as configured, else one second's worth; at least 1, or nobody could ever enter.
pub(crate) fn burst_of(rate_per_minute: u32, configured: Option<u32>) -> u32 {
    configured.unwrap_or_else(|| rate_per_minute.div_ceil(60)).max(1)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range of a count"
)]
pub(crate) fn whole(expected: f64) -> usize {
    expected.round().clamp(0.0, 1e9) as usize
}

/// Slots left idle on purpose: so many standard deviations of what leaves within a lead, and this share of the house at
/// most.
const SLACK_DEVIATIONS: f64 = 3.0;
const SLACK_SHARE_MAX: f64 = 0.02;
/// Of the burst beyond the first, permits left lying.
const RESERVE_SHARE: f64 = 0.4;

/// How many more to call now.
///
/// Those expected (called and not come yet, weighted by what is known of their kind) and those who stand before the
/// door together should be as many as can enter until a fan called now would come: then the door neither idles nor
/// turns people away. By Little's law that number is the flow through the door times the mean lead.
#[must_use]
pub(crate) fn policy(now: &Situation) -> u32 {
    if !now.calling || !now.is_caller || now.uncalled == 0 {
        return 0;
    }
    let lead_s = now.outlook.lead_s.clamp(0.5, 60.0);
    let flow = f64::from(now.rate_per_minute) / 60.0 * lead_s;
    // Those who come by chance a little together must find permits, so some are left lying: they are lost only when
    // there are as many as there may be.
    let reserve = (flow.sqrt() * SLACK_DEVIATIONS)
        .min(flow / 2.0)
        .min(f64::from(now.burst.saturating_sub(1)) * RESERVE_SHARE);
    let by_rate = f64::from(now.permits) + flow - reserve;
    let free = f64::from(now.capacity) - f64::from(now.active);
    let leaving = now.departures_per_s.max(0.0) * lead_s;
    // A full house is met by chance as often as the house is run without slack; a little slack makes it rare. Less
    // than one slot of it would leave a small house's only free one idle.
    let slack = (leaving.sqrt() * SLACK_DEVIATIONS).min((f64::from(now.capacity) * SLACK_SHARE_MAX).floor());
    let by_house = free + leaving - slack;
    // When hardly a seat is free, as many are called as there are seats: nobody is called in to look at baskets, and
    // what comes back from them is offered in the order of the queue.
    let by_seats = now.seats_free.map_or(f64::INFINITY, f64::from);
    // Nobody knows how those inside fare: the door slows, and does not stop, as the silence may be the line's.
    let by_rate = if now.box_office_silent {
        by_rate * SILENT_SHARE
    } else {
        by_rate
    };
    let enterable = by_rate.min(by_house).min(by_seats).min(f64::from(now.capacity));
    let returners = f64::from(now.returners).min(enterable.max(0.0) * now.returner_share);
    let wanting = now.outlook.coming + f64::from(now.claimants) + returners;
    let share = now.outlook.share.clamp(0.05, 1.0);
    let more = ((enterable - wanting) / share).floor();
    u32::try_from(whole(more.max(0.0)))
        .unwrap_or(u32::MAX)
        .min(now.uncalled)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn situation() -> impl Strategy<Value = Situation> {
        let counts = (
            0_u32..100_000,
            1_u32..5_000,
            0_u32..6_000,
            1_u32..20_000,
            0_u32..400,
            0_u32..500,
            0_u32..500,
        );
        let measures = (
            0.0_f64..100.0,
            0.0_f64..=1.0,
            0.05_f64..=1.0,
            0.0_f64..200.0,
            0.0_f64..1_000.0,
        );
        (counts, measures).prop_map(
            |(
                (uncalled, capacity, active, rate_per_minute, permits, claimants, returners),
                (departures_per_s, share_r, share, lead_s, coming),
            )| {
                Situation {
                    calling: true,
                    uncalled,
                    capacity,
                    active,
                    rate_per_minute,
                    permits,
                    burst: permits.max(1),
                    departures_per_s,
                    claimants,
                    returners,
                    returner_share: share_r,
                    outlook: Outlook {
                        share,
                        lead_s,
                        coming,
                    },
                    seats_free: None,
                    box_office_silent: false,
                    is_caller: true,
                }
            },
        )
    }

    #[test]
    fn a_small_house_fills_the_one_slot_that_somebody_left() {
        let outlook = Outlook {
            share: 1.0,
            lead_s: 1.0,
            coming: 0.0,
        };
        let now = Situation {
            calling: true,
            uncalled: 3,
            capacity: 5,
            active: 4,
            rate_per_minute: 120,
            permits: 2,
            burst: 2,
            departures_per_s: 0.02,
            claimants: 0,
            returners: 0,
            returner_share: 0.2,
            seats_free: None,
            box_office_silent: false,
            is_caller: true,
            outlook,
        };
        assert_eq!(policy(&now), 1);
    }

    proptest! {
        #[test]
        fn calls_are_of_people_who_are_there(now in situation()) {
            prop_assert!(policy(&now) <= now.uncalled);
            prop_assert_eq!(policy(&Situation { calling: false, ..now }), 0);
        }

        #[test]
        fn the_expected_never_exceed_what_the_house_can_take(now in situation()) {
            let calls = policy(&now);
            if calls > 0 {
                let expected = f64::from(calls) * now.outlook.share + now.outlook.coming + f64::from(now.claimants);
                prop_assert!(expected <= f64::from(now.capacity) + 1e-6);
                prop_assert!(expected <= f64::from(now.permits) + f64::from(now.rate_per_minute) + 1e-6, "never more than a minute ahead");
            }
        }

        #[test]
        fn more_room_never_calls_fewer_and_more_claimants_never_more(now in situation()) {
            let calls = policy(&now);
            let with = |change: &dyn Fn(&mut Situation)| {
                let mut changed = now;
                change(&mut changed);
                policy(&changed)
            };
            prop_assert!(with(&|s| s.active = s.active.saturating_sub(5)) >= calls);
            prop_assert!(with(&|s| s.rate_per_minute += 60) >= calls);
            prop_assert!(with(&|s| s.claimants += 1) <= calls);
            prop_assert!(with(&|s| s.active += 1) <= calls);
        }

        #[test]
        fn no_window_holds_more_entries_than_rate_and_burst_allow(
            rate in 1_u32..10_000,
            burst in proptest::option::of(1_u32..50),
            steps in proptest::collection::vec((0_u64..3_000_000, 1_u32..40, any::<bool>()), 1..120),
        ) {
            let mut bucket = Bucket::empty(rate, burst, Duration::ZERO);
            let mut entries: Vec<u128> = Vec::new();
            let mut now = Duration::ZERO;
            for (wait_us, tries, put_back) in steps {
                now += Duration::from_micros(wait_us);
                for _ in 0..tries {
                    if bucket.take(now) {
                        if put_back { bucket.give_back(); break; }
                        entries.push(now.as_micros());
                    }
                }
            }
            let burst = burst.unwrap_or_else(|| rate.div_ceil(60).max(1));
            for (i, from) in entries.iter().enumerate() {
                for (j, to) in entries.iter().enumerate().skip(i) {
                    let count = (j - i + 1) as u128;
                    prop_assert!(count * 60_000_000 <= u128::from(rate) * (to - from) + u128::from(burst) * 60_000_000);
                }
            }
        }
    }

    proptest! {
        /// On the door's own clock, which goes forward only, whatever the machine's does and whatever is ordered.
        #[test]
        fn a_clock_that_steps_and_rates_that_change_give_nothing_on_top(
            steps in proptest::collection::vec((-5_000_000_i64..5_000_000, 0_u32..5_000, 1_u32..30), 1..100),
        ) {
            const BURST: u32 = 7;
            let mut bucket = Bucket::empty(0, Some(BURST), Duration::ZERO);
            let (mut now, mut clock, mut rate, mut allowed) = (0_i64, 0_i64, 0, 0_u128);
            // Of each entry: what the rates had brought in all when it came.
            let mut entries: Vec<u128> = Vec::new();
            for (step_us, new_rate, tries) in steps {
                now = (now + step_us).max(0);
                allowed += u128::from(now.saturating_sub(clock).max(0).unsigned_abs()) * u128::from(rate);
                clock = clock.max(now);
                let monotonic = Duration::from_micros(now.unsigned_abs());
                entries.extend((0..tries).filter(|_| bucket.take(monotonic)).map(|_| allowed));
                rate = new_rate;
                bucket.set_rate(rate, monotonic);
            }
            for (i, from) in entries.iter().enumerate() {
                for (j, to) in entries.iter().enumerate().skip(i) {
                    prop_assert!((j - i + 1) as u128 * 60_000_000 <= (to - from) + u128::from(BURST) * 60_000_000);
                }
            }
        }
    }

    #[test]
    fn an_idle_door_is_filled() {
        let now = Situation {
            calling: true,
            uncalled: 10_000,
            capacity: 100,
            active: 0,
            rate_per_minute: 6_000,
            permits: 100,
            burst: 100,
            departures_per_s: 0.0,
            claimants: 0,
            returners: 0,
            returner_share: 0.25,
            outlook: Outlook {
                share: 0.5,
                lead_s: 4.0,
                coming: 0.0,
            },
            seats_free: None,
            box_office_silent: false,
            is_caller: true,
        };
        assert_eq!(policy(&now), 200, "half of them come, and fill the house");
        assert_eq!(
            policy(&Situation {
                seats_free: Some(7),
                ..now
            }),
            14,
            "a fan who comes for each free seat"
        );
        assert_eq!(
            policy(&Situation {
                seats_free: Some(0),
                ..now
            }),
            0,
            "all seats are in baskets"
        );
        assert_eq!(
            policy(&Situation {
                is_caller: false,
                ..now
            }),
            0,
            "another node calls"
        );
        let slowed = Situation {
            box_office_silent: true,
            permits: 0,
            ..now
        };
        assert_eq!(
            (
                policy(&Situation {
                    capacity: 900,
                    ..slowed
                }),
                policy(&Situation {
                    box_office_silent: false,
                    capacity: 900,
                    ..slowed
                })
            ),
            (360, 720)
        );
    }

    #[test]
    fn the_bucket_gives_the_whole_rate() {
        let mut bucket = Bucket::empty(90, None, Duration::ZERO);
        let entries = (1..=600)
            .filter(|tenth| bucket.take(Duration::from_millis(tenth * 100)))
            .count();
        assert_eq!(entries, 90, "one minute's worth, from an empty bucket");
    }
}

//! How many visitors to call now, and the bucket of permits that paces admissions. Pure and exact arithmetic.
//! Who is admitted when a slot is free is decided in `reserve_slot`.

use std::time::Duration;

use crate::waiting_room::state::{AdmissionState, SILENT_SHARE};

/// Permits that refill with time: admissions in any window `w` are at most `rate * w + burst`.
///
/// Counted in integers, so nothing is lost or won by rounding: one permit is [`PERMIT`] units and each
/// microsecond brings `rate_per_minute` of them.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    rate_per_minute: u32,
    burst: Option<u32>,
    units: u64,
    filled_at: Duration,
}

const PERMIT: u64 = 60_000_000;

impl TokenBucket {
    /// An empty bucket: after a restart it is not known how many have just entered.
    pub(crate) fn empty(rate_per_minute: u32, burst: Option<u32>, monotonic: Duration) -> Self {
        Self {
            rate_per_minute,
            burst,
            units: 0,
            filled_at: monotonic,
        }
    }

    /// Permits that can be used now.
    pub(crate) fn permits(&self, monotonic: Duration) -> u32 {
        u32::try_from(self.units_at(monotonic) / PERMIT).unwrap_or(u32::MAX)
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
    pub(crate) fn put_back(&mut self) {
        self.units = (self.units + PERMIT).min(self.units_max());
    }

    /// Changes the rate; gathered permits stay, as far as the new burst holds them.
    pub(crate) fn set_rate(&mut self, rate_per_minute: u32, monotonic: Duration) {
        self.fill(monotonic);
        self.rate_per_minute = rate_per_minute;
        self.units = self.units.min(self.units_max());
    }

    fn units_at(&self, monotonic: Duration) -> u64 {
        let passed_us = monotonic.saturating_sub(self.filled_at).as_micros();
        let brought =
            u64::try_from(passed_us.saturating_mul(u128::from(self.rate_per_minute))).unwrap_or(u64::MAX);
        self.units.saturating_add(brought).min(self.units_max())
    }

    fn fill(&mut self, monotonic: Duration) {
        self.units = self.units_at(monotonic);
        self.filled_at = self.filled_at.max(monotonic);
    }

    fn units_max(&self) -> u64 {
        u64::from(burst_of(self.rate_per_minute, self.burst)) * PERMIT
    }
}

/// The rate in force while so many millionths of it are taken away; never 0 unless the rate is 0.
pub(crate) fn effective_rate(rate_per_minute: u32, by_ppm: u32) -> u32 {
    let left = u64::from(rate_per_minute) * u64::from(1_000_000_u32.saturating_sub(by_ppm)) / 1_000_000;
    u32::try_from(left)
        .unwrap_or(rate_per_minute)
        .max(u32::from(rate_per_minute > 0))
}

/// Admissions that may happen at once: as configured, else one second's worth; at least 1, or none could ever
/// happen.
pub(crate) fn burst_of(rate_per_minute: u32, configured: Option<u32>) -> u32 {
    configured.unwrap_or_else(|| rate_per_minute.div_ceil(60)).max(1)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range of a count"
)]
/// Rounds to a count; 0 below, a billion at most.
pub(crate) fn round_to_count(expected: f64) -> usize {
    expected.round().clamp(0.0, 1e9) as usize
}

/// Slots left idle on purpose: so many standard deviations of what ends within a lead, and at most this share
/// of the limit.
const SLACK_DEVIATIONS: f64 = 3.0;
const SLACK_SHARE_MAX: f64 = 0.02;
/// Share of the burst beyond the first permit that is left unused.
const RESERVE_SHARE: f64 = 0.4;

/// How many visitors can enter until one who is called now would come: as the rate allows, and as the slots
/// do.
pub(crate) fn enterable(now: &AdmissionState) -> (f64, f64) {
    let lead_s = now.show_forecast.lead_s.clamp(0.5, 60.0);
    let flow = f64::from(now.rate_per_minute) / 60.0 * lead_s;
    // Visitors who happen to come together must find permits, so some are left unused: permits are lost only
    // when the bucket is full.
    let reserve = (flow.sqrt() * SLACK_DEVIATIONS)
        .min(flow / 2.0)
        .min(f64::from(now.burst.saturating_sub(1)) * RESERVE_SHARE);
    let by_rate = f64::from(now.permits) + flow - reserve;
    let free = f64::from(now.active_visits_max) - f64::from(now.active_visits);
    let leaving = now.departures_per_s.max(0.0) * lead_s;
    // Without slack, visitors would be turned away as often as chance decides; a little slack makes it rare.
    // Less than one slot of it would leave the only free slot of a small sale idle.
    let slack =
        (leaving.sqrt() * SLACK_DEVIATIONS).min((f64::from(now.active_visits_max) * SLACK_SHARE_MAX).floor());
    (by_rate, free + leaving - slack)
}

/// How many more visitors to call now.
///
/// Expected visitors (called and not come yet, weighted by what is known of their kind) and claimants
/// together should be as many as can enter until a visitor called now would come: then admission neither
/// idles nor turns visitors away. By Little's law that number is the flow of entries times the mean lead.
#[must_use]
pub(crate) fn calls_due(now: &AdmissionState) -> u32 {
    if !now.calling || !now.is_caller || now.uncalled == 0 {
        return 0;
    }
    let (by_rate, by_slots) = enterable(now);
    // When hardly a seat is free, as many visitors are called as there are seats: no visitor is called to
    // find every seat held, and released seats are offered in the order of the queue.
    let by_seats = now.seats_free.map_or(f64::INFINITY, f64::from);
    // Without news from the box office admission slows and does not stop, as the silence may be the
    // connection's.
    let by_rate = if now.box_office_silent {
        by_rate * SILENT_SHARE
    } else {
        by_rate
    };
    let enterable = by_rate
        .min(by_slots)
        .min(by_seats)
        .min(f64::from(now.active_visits_max));
    let late_arrivals = f64::from(now.late_arrivals).min(enterable.max(0.0) * now.late_arrival_share);
    let wanting = now.show_forecast.expected_arrivals + f64::from(now.claimants) + late_arrivals;
    let share = now.show_forecast.share.clamp(0.05, 1.0);
    let more = ((enterable - wanting) / share).floor();
    u32::try_from(round_to_count(more.max(0.0)))
        .unwrap_or(u32::MAX)
        .min(now.uncalled)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::waiting_room::state::ShowForecast;

    fn situation() -> impl Strategy<Value = AdmissionState> {
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
                (uncalled, active_visits_max, active, rate_per_minute, permits, claimants, late_arrivals),
                (departures_per_s, share_r, share, lead_s, coming),
            )| {
                AdmissionState {
                    calling: true,
                    uncalled,
                    active_visits_max,
                    active_visits: active,
                    rate_per_minute,
                    permits,
                    burst: permits.max(1),
                    departures_per_s,
                    claimants,
                    late_arrivals,
                    late_arrival_share: share_r,
                    show_forecast: ShowForecast {
                        share,
                        lead_s,
                        expected_arrivals: coming,
                    },
                    seats_free: None,
                    box_office_silent: false,
                    is_caller: true,
                }
            },
        )
    }

    #[test]
    fn the_only_free_slot_of_a_small_sale_is_filled() {
        let show_forecast = ShowForecast {
            share: 1.0,
            lead_s: 1.0,
            expected_arrivals: 0.0,
        };
        let now = AdmissionState {
            calling: true,
            uncalled: 3,
            active_visits_max: 5,
            active_visits: 4,
            rate_per_minute: 120,
            permits: 2,
            burst: 2,
            departures_per_s: 0.02,
            claimants: 0,
            late_arrivals: 0,
            late_arrival_share: 0.2,
            seats_free: None,
            box_office_silent: false,
            is_caller: true,
            show_forecast,
        };
        assert_eq!(calls_due(&now), 1);
    }

    proptest! {
        #[test]
        fn calls_never_exceed_the_waiting(now in situation()) {
            prop_assert!(calls_due(&now) <= now.uncalled);
            prop_assert_eq!(calls_due(&AdmissionState { calling: false, ..now }), 0);
        }

        #[test]
        fn expected_visitors_never_exceed_what_can_enter(now in situation()) {
            let calls = calls_due(&now);
            if calls > 0 {
                let expected = f64::from(calls) * now.show_forecast.share
                    + now.show_forecast.expected_arrivals
                    + f64::from(now.claimants);
                prop_assert!(expected <= f64::from(now.active_visits_max) + 1e-6);
                prop_assert!(expected <= f64::from(now.permits) + f64::from(now.rate_per_minute) + 1e-6,
                    "never more than a minute ahead");
            }
        }

        #[test]
        fn more_slots_never_call_fewer_and_more_claimants_never_more(now in situation()) {
            let calls = calls_due(&now);
            let with = |change: &dyn Fn(&mut AdmissionState)| {
                let mut changed = now;
                change(&mut changed);
                calls_due(&changed)
            };
            prop_assert!(with(&|s| s.active_visits = s.active_visits.saturating_sub(5)) >= calls);
            prop_assert!(with(&|s| s.rate_per_minute += 60) >= calls);
            prop_assert!(with(&|s| s.claimants += 1) <= calls);
            prop_assert!(with(&|s| s.active_visits += 1) <= calls);
        }

        #[test]
        fn no_window_exceeds_rate_and_burst(
            rate in 1_u32..10_000,
            burst in proptest::option::of(1_u32..50),
            steps in proptest::collection::vec((0_u64..3_000_000, 1_u32..40, any::<bool>()), 1..120),
        ) {
            let mut bucket = TokenBucket::empty(rate, burst, Duration::ZERO);
            let mut entries: Vec<u128> = Vec::new();
            let mut now = Duration::ZERO;
            for (wait_us, tries, put_back) in steps {
                now += Duration::from_micros(wait_us);
                for _ in 0..tries {
                    if bucket.take(now) {
                        if put_back { bucket.put_back(); break; }
                        entries.push(now.as_micros());
                    }
                }
            }
            let burst = burst.unwrap_or_else(|| rate.div_ceil(60).max(1));
            for (i, from) in entries.iter().enumerate() {
                for (j, to) in entries.iter().enumerate().skip(i) {
                    let count = (j - i + 1) as u128;
                    let bound = u128::from(rate) * (to - from) + u128::from(burst) * 60_000_000;
                    prop_assert!(count * 60_000_000 <= bound);
                }
            }
        }
    }

    proptest! {
        /// On the bucket's own clock, which goes forward only, whatever the machine's does and whatever is
        /// ordered.
        #[test]
        fn clock_steps_and_rate_changes_give_no_extra_permits(
            steps in proptest::collection::vec((-5_000_000_i64..5_000_000, 0_u32..5_000, 1_u32..30), 1..100),
        ) {
            const BURST: u32 = 7;
            let mut bucket = TokenBucket::empty(0, Some(BURST), Duration::ZERO);
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
                    let bound = (to - from) + u128::from(BURST) * 60_000_000;
                    prop_assert!((j - i + 1) as u128 * 60_000_000 <= bound);
                }
            }
        }
    }

    #[test]
    fn idle_slots_are_filled() {
        let now = AdmissionState {
            calling: true,
            uncalled: 10_000,
            active_visits_max: 100,
            active_visits: 0,
            rate_per_minute: 6_000,
            permits: 100,
            burst: 100,
            departures_per_s: 0.0,
            claimants: 0,
            late_arrivals: 0,
            late_arrival_share: 0.25,
            show_forecast: ShowForecast {
                share: 0.5,
                lead_s: 4.0,
                expected_arrivals: 0.0,
            },
            seats_free: None,
            box_office_silent: false,
            is_caller: true,
        };
        assert_eq!(calls_due(&now), 200, "half of them come, and fill all slots");
        assert_eq!(
            calls_due(&AdmissionState {
                seats_free: Some(7),
                ..now
            }),
            14,
            "one visitor who comes for each free seat"
        );
        assert_eq!(
            calls_due(&AdmissionState {
                seats_free: Some(0),
                ..now
            }),
            0,
            "all seats are held"
        );
        assert_eq!(
            calls_due(&AdmissionState {
                is_caller: false,
                ..now
            }),
            0,
            "another node calls"
        );
        let slowed = AdmissionState {
            box_office_silent: true,
            permits: 0,
            ..now
        };
        assert_eq!(
            (
                calls_due(&AdmissionState {
                    active_visits_max: 900,
                    ..slowed
                }),
                calls_due(&AdmissionState {
                    box_office_silent: false,
                    active_visits_max: 900,
                    ..slowed
                })
            ),
            (360, 720)
        );
    }

    #[test]
    fn the_bucket_gives_the_whole_rate() {
        let mut bucket = TokenBucket::empty(90, None, Duration::ZERO);
        let entries = (1..=600)
            .filter(|tenth| bucket.take(Duration::from_millis(tenth * 100)))
            .count();
        assert_eq!(entries, 90, "one minute's worth, from an empty bucket");
    }
}

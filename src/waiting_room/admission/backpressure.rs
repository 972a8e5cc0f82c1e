//! Backpressure: by how much the admission rate is reduced while the box office suffers. Pure.
//!
//! Additive increase, multiplicative decrease (Chiu and Jain 1989), one step a second; where little of the
//! rate is left, the increase is a part of it. Latency is compared with its usual value, as in gradient
//! limiters: its excess over what is bearable is how much less is admitted, within bounds for one step.
//! Between well and suffering the rate stands still, so that it does not oscillate about the threshold. Good
//! news from a box office with hardly any visitors says little of what it could bear, so there the rate grows
//! slowly (as an unused congestion window does not grow, RFC 7661).
//!
//! A configured rate may be far above what comes in, and reducing it would then change nothing: the reduction
//! starts at the recent rate of entries (as the RFC has it for an unused window when packets are lost).
//!
//! - the reduction leaves at least [`share_min`] of the rate, and the rate is never above the configured one;
//! - worse news never admits more;
//! - from any state the full rate is back after [`RECOVERED_WITHIN_S`] steps of good news from a box office
//!   that has visitors.

use std::{collections::VecDeque, time::Duration};

use crate::waiting_room::types::BoxOfficeHealth;

/// Shares of a rate are counted in millionths.
const WHOLE: u32 = 1_000_000;
/// What is left of the configured rate in the worst case, in millionths. A rate may be configured far above
/// what any box office bears: of such a rate less is left.
const SHARES_MIN: std::ops::RangeInclusive<u32> = 5_000..=100_000;
const LEFT_PER_MINUTE: u32 = 6_000;
/// Millionths that one step restores at most, and the part of the share that it restores at most: where
/// little is admitted, little more is a lot.
const STEP_UP: u32 = 25_000;
const PART_UP: u32 = 4;
/// The same for a box office with hardly any visitors.
const PART_UP_EMPTY: u32 = 16;
/// Steps of good news until nothing is reduction away.
#[cfg(test)]
const RECOVERED_WITHIN_S: u16 = 60;
/// So many times the usual latency is bearable.
const LATENCY_TIMES: f64 = 3.0;
/// So many failures of a thousand are bearable.
const FAILED_PER_MILLE: f64 = 50.0;
/// Below this share of the bearable all is well again.
const WELL: f64 = 0.8;
/// What one step leaves of the share, at least and at most.
const STEP_DOWN: std::ops::RangeInclusive<f64> = 0.7..=0.95;

/// What is always left of a rate, in millionths.
fn share_min(rate_per_minute: u32) -> u32 {
    share_of(LEFT_PER_MINUTE, rate_per_minute).clamp(*SHARES_MIN.start(), *SHARES_MIN.end())
}

fn share_of(per_minute: u32, rate_per_minute: u32) -> u32 {
    let share = u64::from(per_minute) * u64::from(WHOLE) / u64::from(rate_per_minute.max(1));
    u32::try_from(share).unwrap_or(u32::MAX)
}

/// Entries of the last seconds.
#[derive(Debug, Default)]
pub(crate) struct RecentRate(VecDeque<(Duration, u64)>);

/// Seconds that are remembered: in some of them hardly any visitor enters, because active visits are served
/// first.
const LATELY: usize = 5;

impl RecentRate {
    /// `total` entries by this moment of the steady clock; it is evaluated once a second at most.
    pub(crate) fn observe(&mut self, monotonic: Duration, total: impl FnOnce() -> u64) {
        if self
            .0
            .back()
            .is_some_and(|(at, _)| monotonic.saturating_sub(*at) < Duration::from_secs(1))
        {
            return;
        }
        self.0.push_back((monotonic, total()));
        if self.0.len() > LATELY + 1 {
            self.0.pop_front();
        }
    }

    /// Entries per minute at the rate of the busiest second; `None` before there was one.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "far below 2^32 a minute"
    )]
    /// Entries per minute at the rate of the busiest second; `None` before there was one.
    pub(crate) fn per_minute(&self) -> Option<u32> {
        let seconds = self.0.iter().zip(self.0.iter().skip(1));
        let rates = seconds.map(|((from, before), (to, after))| {
            (after.saturating_sub(*before) as f64 * 60.0 / to.saturating_sub(*from).as_secs_f64()).ceil()
                as u32
        });
        rates.max()
    }
}

/// How many millionths of the configured rate are reduction away from now on, when `slowed` were before and
/// `lately_per_minute` entered recently. Nothing changes without reports from the box office.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a million"
)]
/// One step of the controller: how many millionths of the rate are taken away from now on.
pub(crate) fn step(
    slowed: u32,
    rate_per_minute: u32,
    lately_per_minute: Option<u32>,
    healths: &[BoxOfficeHealth],
) -> u32 {
    let share_min = share_min(rate_per_minute);
    let share = WHOLE.saturating_sub(slowed).clamp(share_min, WHOLE);
    let share = match healths.iter().map(pressure).reduce(f64::max) {
        None => share,
        Some(pressure) if pressure <= WELL => {
            let is_told = healths.iter().any(|health| health.latency_ms.is_some());
            let part = if is_told { PART_UP } else { PART_UP_EMPTY };
            (share + (share / part).min(STEP_UP)).min(WHOLE)
        }
        Some(pressure) if pressure <= 1.0 => share,
        Some(pressure) => {
            let used = lately_per_minute.map_or(WHOLE, |it| share_of(it, rate_per_minute).min(WHOLE));
            let left =
                f64::from(share.min(used)) * (1.0 / pressure).clamp(*STEP_DOWN.start(), *STEP_DOWN.end());
            (left as u32).max(share_min)
        }
    };
    WHOLE - share
}

/// Measured load over bearable load.
fn pressure(health: &BoxOfficeHealth) -> f64 {
    let latency = health.latency_ms.map_or(0.0, |ms| {
        f64::from(ms) / (f64::from(health.usual_latency_ms.max(1)) * LATENCY_TIMES)
    });
    latency.max(f64::from(health.failures_per_mille) / FAILED_PER_MILLE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::waiting_room::admission::call_policy::effective_rate;

    fn health() -> impl Strategy<Value = BoxOfficeHealth> {
        (proptest::option::of(0_u32..40_000), 0_u32..5_000, 0_u16..=1_000).prop_map(
            |(latency_ms, usual_ms, failed_per_mille)| BoxOfficeHealth {
                latency_ms,
                usual_latency_ms: usual_ms,
                failures_per_mille: failed_per_mille,
            },
        )
    }

    const WELL_NOW: BoxOfficeHealth = BoxOfficeHealth {
        latency_ms: Some(100),
        usual_latency_ms: 50,
        failures_per_mille: 0,
    };
    const SLOW: BoxOfficeHealth = BoxOfficeHealth {
        latency_ms: Some(300),
        usual_latency_ms: 50,
        failures_per_mille: 0,
    };
    const FAILING: BoxOfficeHealth = BoxOfficeHealth {
        latency_ms: Some(20),
        usual_latency_ms: 50,
        failures_per_mille: 200,
    };

    proptest! {
        #[test]
        fn the_rate_stays_between_its_minimum_and_the_configured_one(
            rate in any::<u32>(),
            recent_per_minute in any::<Option<u32>>(),
            news in proptest::collection::vec(proptest::collection::vec(health(), 0..4), 0..200),
        ) {
            let mut reduction = 0;
            for healths in news {
                reduction = step(reduction, rate, recent_per_minute, &healths);
                let in_force = effective_rate(rate, reduction);
                prop_assert!(reduction <= WHOLE - share_min(rate));
                prop_assert!(in_force <= rate);
                prop_assert!(in_force >= (rate / 10).min(LEFT_PER_MINUTE - 1).max(rate / 200));
                prop_assert_eq!(in_force == 0, rate == 0, "only a command stops admission");
            }
        }

        #[test]
        fn worse_news_never_admits_more(rate in any::<u32>(), recent_per_minute in any::<Option<u32>>(),
            before in 0_u32..=995_000, health in health(), others in proptest::collection::vec(health(),
            0..3)) {
            let with = |change: &dyn Fn(&mut BoxOfficeHealth)| {
                let mut changed = health;
                change(&mut changed);
                step(before, rate, recent_per_minute, &[others.clone(), vec![changed]].concat())
            };
            let now = with(&|_| {});
            prop_assert!(with(&|h| h.failures_per_mille = (h.failures_per_mille + 30).min(1_000)) >= now);
            prop_assert!(with(&|h| h.latency_ms = h.latency_ms.map(|ms| ms + 100)) >= now);
            let is_told = others.iter().any(|it| it.latency_ms.is_some());
            prop_assert!(step(before, rate, recent_per_minute, &others) <= now || !is_told,
                "one more who suffers never helps");
            prop_assert!(step(before.saturating_sub(50_000), rate, recent_per_minute,
                &[health]) <= step(before, rate, recent_per_minute, &[health]),
                "who was slower stays slower");
        }

        #[test]
        fn it_recovers_in_time(rate in any::<u32>(), recent_per_minute in any::<Option<u32>>(),
            news in proptest::collection::vec(health(), 0..50)) {
            let mut reduction = news.iter().fold(0, |reduction, health| step(reduction, rate,
                recent_per_minute, &[*health]));
            for _ in 0..RECOVERED_WITHIN_S {
                reduction = step(reduction, rate, recent_per_minute, &[WELL_NOW]);
            }
            prop_assert_eq!(reduction, 0);
        }
    }

    #[test]
    fn suffering_slows_admission_and_silence_changes_nothing() {
        for suffering in [SLOW, FAILING] {
            let mut reduction = 0;
            for _ in 0..7 {
                reduction = step(reduction, 600, None, &[WELL_NOW, suffering]);
            }
            assert!(reduction > 850_000, "{suffering:?}: {reduction}");
            assert_eq!(step(reduction, 600, None, &[]), reduction);
        }
        let bearable = BoxOfficeHealth {
            latency_ms: Some(140),
            ..WELL_NOW
        };
        assert_eq!(
            (
                step(0, 600, None, &[bearable]),
                step(400_000, 600, None, &[bearable])
            ),
            (0, 400_000)
        );
        assert_eq!(step(0, 600, None, &[WELL_NOW]), 0);
    }

    #[test]
    fn an_idle_box_office_restores_the_rate_slowly() {
        let empty = BoxOfficeHealth {
            latency_ms: None,
            ..WELL_NOW
        };
        let after = |health: BoxOfficeHealth, steps: u32| {
            (0..steps).fold(900_000, |reduction, _| step(reduction, 600, None, &[health]))
        };
        assert!(
            after(empty, 10) > 800_000 && after(WELL_NOW, 10) < 760_000,
            "{} {}",
            after(empty, 10),
            after(WELL_NOW, 10)
        );
        assert_eq!(after(empty, 120), 0, "but it does not stay shut for ever");
        assert_eq!(
            step(900_000, 600, None, &[empty, WELL_NOW]),
            step(900_000, 600, None, &[WELL_NOW]),
            "another one has visitors"
        );
    }

    #[test]
    fn the_reduction_starts_at_the_recent_rate() {
        let rate = 1_000_000;
        let in_force = |recent_per_minute: Option<u32>, healths: &[BoxOfficeHealth]| {
            WHOLE - step(0, rate, recent_per_minute, healths)
        };
        assert_eq!(
            (in_force(None, &[FAILING]), in_force(Some(rate), &[FAILING])),
            (700_000, 700_000)
        );
        assert_eq!(in_force(Some(20_000), &[FAILING]), 14_000);
        assert_eq!(
            in_force(Some(0), &[FAILING]),
            share_min(rate),
            "some always come in"
        );
        assert_eq!(in_force(Some(0), &[WELL_NOW]), WHOLE);
        assert_eq!(
            WHOLE - step(950_000, rate, Some(90_000), &[FAILING]),
            35_000,
            "more than is let in now came in before"
        );
    }

    #[test]
    fn the_busiest_recent_second_counts() {
        let mut recent_per_minute = RecentRate::default();
        let (mut at, mut total) = (Duration::ZERO, 0);
        let mut seconds = |entries: &[u64]| {
            for more in entries {
                total += more;
                recent_per_minute.observe(at, || total);
                recent_per_minute.observe(at + Duration::from_millis(900), || {
                    panic!("a second has not passed")
                });
                at += Duration::from_secs(1);
            }
            recent_per_minute.per_minute()
        };
        assert_eq!(seconds(&[7]), None);
        assert_eq!(seconds(&[10]), Some(600));
        assert_eq!(seconds(&[30, 0, 0]), Some(1_800));
        assert_eq!(seconds(&[5, 0]), Some(1_800));
        assert_eq!(seconds(&[0]), Some(300), "what was before is forgotten");
    }
}

//! Limit use: which share of the configured rate, and of the limit of active visits, admission uses. Pure.
//!
//! Called visitors come at random moments. A permit that finds the bucket full is lost, so a sale that admits
//! one or two a second uses 70 to 95 of 100 permits. Likewise a slot stands idle until the next visitor
//! comes, which weighs most where slots are few. A forecast that takes the limits for the pace promises such
//! a sale too short a wait. Each share is measured while its limit is the one that holds.

use crate::waiting_room::{
    admission::call_policy::enterable, forecast::observation::Observation, state::AdmissionState,
};

/// Which share of its limits admission uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LimitUse {
    /// Share of the permits, 0 to 1.
    pub rate: f64,
    /// Standard deviation of that estimate.
    pub rate_deviation: f64,
    /// Share of the limit of active visits while visitors wait for a slot, 0 to 1.
    pub capacity: f64,
}

/// Model of one sale's use of its limits.
#[derive(Debug, Default)]
pub(crate) struct LimitUseModel {
    /// Seconds since anything but the rate was the limit, up to [`SETTLED_S`].
    by_rate_s: u32,
    admissions_total: Option<u64>,
    rate_per_minute: u32,
    /// Permits of the seconds in which the rate was the limit, and the admissions in them.
    permits: f64,
    admitted: f64,
    /// Seconds since all slots were taken.
    since_full_s: Option<u32>,
    capacity: Option<f64>,
}

/// Share of the permits that is lost with a burst of one, before anything is measured; with a burst of `n` an
/// `n`-th part of it. Its standard deviation is half of it.
const LOST_WITH_ONE: f64 = 0.25;
/// So many permits outweigh that.
const PRIOR_PERMITS: f64 = 20.0;
/// Measurements of the rate fade with this time constant, in seconds.
const RATE_MEMORY_S: f64 = 480.0;
/// Variance over mean of how many are admitted while the rate is the limit: far less than that of chance.
pub(crate) const RATE_DISPERSION: f64 = 0.25;
/// The rate must have been the limit for so many seconds before it is measured: until then visitors come who
/// were called under another limit.
const SETTLED_S: u32 = 15;
/// All slots are taken at this share of the limit, as the policy leaves a slot or two of a hundred free. The
/// limit is taken to hold for so many seconds after.
const FULL: f64 = 0.97;
const FULL_LASTS_S: u32 = 20;
/// Share of the limit that is in use before it has been measured; a limit of `n` uses so much less of it,
/// divided by the square root of `n`.
const CAPACITY: f64 = 0.99;
const CAPACITY_IDLE: f64 = 0.3;
const CAPACITY_MIN: f64 = 0.5;
const CAPACITY_MEMORY_S: f64 = 60.0;

impl LimitUseModel {
    /// Learns from one second of a running sale.
    #[expect(clippy::cast_precision_loss, reason = "admissions of a second")]
    pub(crate) fn observe(&mut self, seen: &Observation<'_>) {
        let total = seen.counts.admissions_total;
        let before = self.admissions_total.replace(total);
        let Some(admission) = seen.admission.filter(is_calling) else {
            self.skip();
            return;
        };
        let share = f64::from(admission.active_visits) / f64::from(admission.active_visits_max.max(1));
        self.since_full_s = if share >= FULL {
            Some(0)
        } else {
            self.since_full_s
                .map(|seconds| seconds + 1)
                .filter(|seconds| *seconds <= FULL_LASTS_S)
        };
        if self.since_full_s.is_some() {
            let usual = usual_capacity(admission.active_visits_max);
            let used = self.capacity.get_or_insert(usual);
            *used += (share - *used) / CAPACITY_MEMORY_S;
        }
        if std::mem::replace(&mut self.rate_per_minute, admission.rate_per_minute)
            != admission.rate_per_minute
        {
            (self.permits, self.admitted) = (0.0, 0.0);
        }
        let (by_rate, by_slots) = enterable(&admission);
        self.by_rate_s = if by_rate <= by_slots && self.since_full_s.is_none() {
            (self.by_rate_s + 1).min(SETTLED_S)
        } else {
            0
        };
        let keep = (-1.0 / RATE_MEMORY_S).exp();
        self.permits *= keep;
        self.admitted *= keep;
        if let Some(before) = before.filter(|_| self.by_rate_s == SETTLED_S) {
            self.permits += f64::from(admission.rate_per_minute) / 60.0;
            self.admitted += total.saturating_sub(before) as f64;
        }
    }

    /// Skips a second in which no calls are possible.
    pub(crate) fn skip(&mut self) {
        self.by_rate_s = 0;
    }

    /// The forecast for a burst of so many and a limit of so many active visits.
    pub(crate) fn forecast(&self, burst: u32, active_visits_max: u32) -> LimitUse {
        let lost = LOST_WITH_ONE / f64::from(burst.max(1));
        let weight = PRIOR_PERMITS / (self.permits + PRIOR_PERMITS);
        let rate = (self.admitted + (1.0 - lost) * PRIOR_PERMITS) / (self.permits + PRIOR_PERMITS);
        let counted = RATE_DISPERSION / (self.permits + PRIOR_PERMITS);
        LimitUse {
            rate: rate.clamp(0.05, 1.0),
            rate_deviation: (counted + (lost / 2.0 * weight).powi(2)).sqrt(),
            capacity: self
                .capacity
                .unwrap_or_else(|| usual_capacity(active_visits_max))
                .clamp(CAPACITY_MIN, 1.0),
        }
    }
}

/// Whether calls are limited by nothing but the rate and the limit of active visits.
fn is_calling(admission: &AdmissionState) -> bool {
    let flow = f64::from(admission.rate_per_minute) / 60.0 * admission.show_forecast.lead_s.max(1.0);
    admission.calling
        && admission.uncalled > 0
        && !admission.box_office_silent
        && admission.seats_free.is_none_or(|free| f64::from(free) > flow)
}

fn usual_capacity(active_visits_max: u32) -> f64 {
    CAPACITY - CAPACITY_IDLE / f64::from(active_visits_max.max(1)).sqrt()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        kernel::Timestamp,
        waiting_room::{
            forecast::visit_length::VisitLengthModel,
            state::{Counts, Settings, ShowForecast},
            types::Phase,
        },
    };

    /// Each second `admitted` visitors enter, and so many visits are active.
    fn observed(
        rate_per_minute: u32,
        seconds: u32,
        admitted: impl Fn(u32) -> u64,
        active: u32,
    ) -> LimitUseModel {
        let mut model = LimitUseModel::default();
        let (settings, mut counts) = (Settings::default(), Counts::default());
        for second in 0..seconds {
            counts.admissions_total += admitted(second);
            let now = Timestamp::from_secs(second.into());
            model.observe(&Observation {
                now,
                phase: Phase::OnSale,
                settings: &settings,
                admission: Some(admission(rate_per_minute, active)),
                counts,
                visits: VisitLengthModel::new(Duration::from_mins(15), Duration::from_mins(2)).forecast(now),
                call_window: Duration::from_mins(3),
                seats: None,
                until_open_s: 0,
            });
        }
        model
    }

    fn admission(rate_per_minute: u32, active_visits: u32) -> AdmissionState {
        AdmissionState {
            calling: true,
            uncalled: 1_000,
            active_visits_max: 100,
            active_visits,
            rate_per_minute,
            permits: 1,
            burst: 1,
            departures_per_s: 0.0,
            claimants: 0,
            late_arrivals: 0,
            late_arrival_share: 0.2,
            show_forecast: ShowForecast {
                share: 0.8,
                lead_s: 4.0,
                expected_arrivals: 0.0,
            },
            seats_free: None,
            box_office_silent: false,
            is_caller: true,
        }
    }

    #[test]
    fn a_small_burst_loses_permits_before_anything_is_measured() {
        let [small, large] = [1, 200].map(|burst| LimitUseModel::default().forecast(burst, 100));
        assert!(
            (0.7..0.8).contains(&small.rate) && small.rate_deviation > 0.1,
            "{small:?}"
        );
        assert!(large.rate > 0.995 && large.rate_deviation < 0.15, "{large:?}");
    }

    #[test]
    fn the_used_share_of_the_rate_is_measured() {
        let learned = observed(60, 600, |second| u64::from(second % 10 < 6), 50).forecast(1, 100);
        assert!((0.58..0.65).contains(&learned.rate), "{learned:?}");
        assert!(learned.rate_deviation < 0.04, "{learned:?}");
    }

    #[test]
    fn a_full_sale_says_nothing_of_the_rate_and_all_of_the_slots() {
        let full = observed(60, 600, |_| 0, 100).forecast(1, 100);
        assert!(
            (full.rate - LimitUseModel::default().forecast(1, 100).rate).abs() < 1e-9,
            "{full:?}"
        );
        assert!(full.capacity > 0.99, "{full:?}");
    }

    #[test]
    fn a_start_under_the_slots_says_nothing_of_the_rate() {
        // Visitors are called as slots get free, before the sale is full.
        let slow = observed(60, 600, |second| u64::from(second % 10 < 4), 96).forecast(1, 100);
        assert!(slow.rate > 0.7, "{slow:?}");
    }

    #[test]
    fn few_slots_stand_idle_more_often() {
        let [few, many] = [10, 4_000].map(|max| LimitUseModel::default().forecast(100, max).capacity);
        assert!(few < 0.92 && many > 0.98, "{few} {many}");
    }
}

//! Wait model: combines the forecast models into the published table of waits. Stepped once a second. Pure;
//! the room and the simulation step the same model.
//!
//! A forecast has these parts. [`project`] plays admission forward by its own rules, with what is known of
//! visits, of late arrivals ([`LateArrivalModel`]) and of the stock ([`SeatsPerVisitModel`]).
//! [`CallsPerEntryModel`] says how many calls one entry takes. [`IntervalCalibration`] makes the range wider
//! or narrower until eight of ten forecasts come true.

use std::time::Duration;

use crate::kernel::Timestamp;
use crate::waiting_room::{
    admission::call_policy::burst_of,
    forecast::{
        call_curve::{CallCurve, CurvePoint},
        calls_per_entry::CallsPerEntryModel,
        interval_calibration::IntervalCalibration,
        late_arrivals::LateArrivalModel,
        limit_use::LimitUseModel,
        observation::Observation,
        projection::{ProjectionInput, project},
        seats_per_visit::{SeatCounts, SeatsPerVisitModel},
        stock_reach,
        wait_table::{self, WaitPoint},
        zone_availability::AvailabilityDistances,
    },
    state::{AdmissionState, SILENT_SHARE, Settings},
    status::people_ahead::PeopleAhead,
    types::{DelayReason, Phase},
};

/// How long the status gives a lowered limit as the reason for a longer wait.
const REASON_LASTS: Duration = Duration::from_mins(5);
/// Model of one sale's waits.
#[derive(Debug, Default)]
pub(crate) struct WaitModel {
    calls_per_entry: CallsPerEntryModel,
    late_arrivals: LateArrivalModel,
    seats_per_visit: SeatsPerVisitModel,
    limit_use: LimitUseModel,
    calibration: IntervalCalibration,
    is_at_capacity: bool,
    settings: Option<Settings>,
    lowered: Option<(DelayReason, Timestamp)>,
}

impl WaitModel {
    /// Learns from one second.
    pub(crate) fn observe(&mut self, seen: &Observation<'_>) {
        if let Some(before) = self.settings.replace(seen.settings.clone()) {
            if seen.settings.active_visits_max < before.active_visits_max {
                self.lowered = Some((DelayReason::VisitLimitLowered, seen.now));
            } else if seen.settings.rate_configured_per_minute < before.rate_configured_per_minute {
                self.lowered = Some((DelayReason::RateLowered, seen.now));
            }
            let input = |s: &Settings| (s.rate_effective_per_minute, s.active_visits_max, s.is_paused());
            if input(seen.settings) != input(&before) {
                self.calibration.discard_pending();
            }
        }
        if let Some(AdmissionState {
            active_visits: active,
            active_visits_max: capacity,
            ..
        }) = seen.admission
        {
            // The gap between the bounds keeps it from flapping.
            let share = f64::from(active) / f64::from(capacity.max(1));
            self.is_at_capacity = if self.is_at_capacity {
                share > 0.85
            } else {
                share >= 0.97
            };
        }
        if seen.phase == Phase::OnSale {
            self.calls_per_entry.observe(seen);
            self.limit_use.observe(seen);
            self.late_arrivals.observe(seen);
            if let Some(seats) = seen.seats {
                self.seats_per_visit.observe(
                    seats,
                    seen.counts.active_visits,
                    seen.counts.visits_ended_total,
                );
            }
            self.calibration.compare(seen.counts.now_serving);
            if self.calibration.is_due() {
                let steps = self.project(seen, IntervalCalibration::LONGEST_S);
                self.calibration
                    .record(seen.counts.now_serving, seen.waiting(), &steps);
            }
        } else {
            self.calls_per_entry.skip();
            self.limit_use.skip();
            self.calibration.discard_pending();
        }
    }

    /// How far back in the queue there will be a seat; `None` before the first report of the stock, and
    /// before a position says who is called first. `before` is what was published last, with the number that
    /// had been called then.
    pub(crate) fn stock_reach(
        &self,
        seen: &Observation<'_>,
        line: &PeopleAhead,
        before: Option<(AvailabilityDistances, u32)>,
    ) -> Option<AvailabilityDistances> {
        if !matches!(seen.phase, Phase::Prequeue | Phase::OnSale | Phase::Paused) {
            return None;
        }
        let stock = self
            .seats_per_visit
            .forecast(seen.seats?, seen.counts.active_visits);
        let entering = seen.expected_entries();
        let next = stock_reach::stock_reach(&stock, entering, seen.show_share(), line, seen.waiting());
        let Some((before, served)) = before else {
            return Some(next);
        };
        let called_since = seen.counts.now_serving.saturating_sub(served);
        Some(stock_reach::steadied(next, before, called_since, seen.waiting()))
    }

    /// The wait table, empty while no forecast can be made. It ends where visitors will hardly find a seat:
    /// behind `reach` numbers.
    pub(crate) fn estimate(&self, seen: &Observation<'_>, reach: Option<u32>) -> Vec<WaitPoint> {
        if !matches!(
            seen.phase,
            Phase::Scheduled | Phase::Prequeue | Phase::Drawing | Phase::OnSale
        ) {
            return Vec::new();
        }
        let steps = self.project(seen, 0.0);
        let z = |t_s: f64| self.calibration.z(t_s);
        let courses = [
            CallCurve::new(&steps, z),
            CallCurve::new(&steps, |_| 0.0),
            CallCurve::new(&steps, |t_s| -z(t_s)),
        ];
        let waits_s =
            |ahead: f64| std::array::from_fn(|at| (courses[at].after_s(ahead + 1.0) - STATUS_AGE_S).max(0.0));
        let waiting = seen
            .waiting()
            .min(reach.map_or(u32::MAX, |reach| reach.saturating_add(1)));
        wait_table::table(waits_s, waiting, seen.until_open_s)
    }

    /// Why the wait has grown, beyond what follows from the settings.
    pub(crate) fn reason(&self, seen: &Observation<'_>) -> Option<DelayReason> {
        match seen.phase {
            Phase::SoldOut => Some(DelayReason::SoldOut),
            Phase::OnSale if seen.seats.is_some_and(SeatCounts::has_only_wheelchair_spaces) => {
                Some(DelayReason::OnlyWheelchairSpaces)
            }
            Phase::OnSale => self
                .lowered
                .filter(|(_, since)| seen.now.since(*since) < REASON_LASTS)
                .map(|(reason, _)| reason)
                .or(seen
                    .seats
                    .is_some_and(|it| it.free == 0)
                    .then_some(DelayReason::AllSeatsHeld))
                .or(self.is_at_capacity.then_some(DelayReason::AtCapacity)),
            _ => None,
        }
    }

    fn project(&self, seen: &Observation<'_>, at_least_s: f64) -> Vec<CurvePoint> {
        let rate_per_s = f64::from(seen.settings.rate_effective_per_minute) / 60.0;
        let burst = seen.admission.map_or_else(
            || burst_of(seen.settings.rate_effective_per_minute, None),
            |s| s.burst,
        );
        let limit_use = self.limit_use.forecast(burst, seen.settings.active_visits_max);
        let is_silent = seen.admission.is_some_and(|s| s.box_office_silent);
        let input = ProjectionInput {
            rate_per_s: rate_per_s * limit_use.rate,
            rate_deviation: limit_use.rate_deviation / limit_use.rate,
            reduced_rate_s: if is_silent { SILENCE_LASTS_S } else { 0.0 },
            reduced_rate_share: SILENT_SHARE,
            capacity: f64::from(seen.settings.active_visits_max) * limit_use.capacity,
            lead_s: seen.admission.map_or(0.0, |s| s.show_forecast.lead_s),
            expected: seen.expected_entries(),
            late_arrivals: self.late_arrivals.forecast(seen),
            stock: seen.seats.map(|seats| {
                self.seats_per_visit
                    .forecast(seats.to_call_for(), seen.counts.active_visits)
            }),
        };
        project(
            &input,
            &seen.visits,
            &self.calls_per_entry.forecast(seen.show_share()),
            seen.waiting().into(),
            at_least_s,
        )
    }
}

/// Mean age of a status when it is read, in seconds.
const STATUS_AGE_S: f64 = 0.5;
/// A silence of the box office is taken to end after so many seconds.
const SILENCE_LASTS_S: f64 = 60.0;

//! What the forecast models see of a sale in one second.

use std::time::Duration;

use crate::{
    kernel::Timestamp,
    waiting_room::{
        forecast::{seats_per_visit::SeatCounts, visit_length::VisitForecast},
        state::{AdmissionState, Counts, Settings},
        types::Phase,
    },
};

/// What the models see of admission in one second.
#[derive(Debug)]
pub(crate) struct Observation<'a> {
    /// The moment of the observation.
    pub now: Timestamp,
    /// The phase at that moment.
    pub phase: Phase,
    /// The settings in force.
    pub settings: &'a Settings,
    /// The admission state of the last tick; `None` before the first.
    pub admission: Option<AdmissionState>,
    /// Counts of the queue.
    pub counts: Counts,
    /// How long visits last, as far as it has been measured.
    pub visits: VisitForecast,
    /// How long a called visitor may take to enter.
    pub call_window: Duration,
    /// Seats of all zones, as last reported; `None` before the first report.
    pub seats: Option<SeatCounts>,
    /// Seconds until calls can begin; 0 once they have.
    pub until_open_s: u32,
}

impl Observation<'_> {
    /// Numbers that were assigned and not called yet.
    pub(crate) fn waiting(&self) -> u32 {
        self.counts.numbers_issued.saturating_sub(self.counts.now_serving)
    }

    /// Called visitors who are still expected to enter.
    pub(crate) fn expected_entries(&self) -> f64 {
        self.admission.map_or(0.0, |s| {
            s.show_forecast.expected_arrivals + f64::from(s.claimants)
        })
    }

    /// Expected share of called visitors who come, 0 to 1.
    pub(crate) fn show_share(&self) -> f64 {
        self.admission.map_or(1.0, |s| s.show_forecast.share)
    }
}

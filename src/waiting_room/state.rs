//! State that store, forecast and admission policy share: how admission is set, what is counted, and what the
//! policy decides by.
//!
//! Plain values on the ground floor of the waiting room, so that none of the three has to name another.

use std::sync::Arc;

use crate::{
    kernel::Timestamp,
    waiting_room::types::{Config, Milestones},
};

/// Share of the rate that is used while the box office is silent.
pub(crate) const SILENT_SHARE: f64 = 0.5;

/// How admission is set: by operators, by the stock, and by backpressure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Rate in force: as configured, less what backpressure takes away.
    pub rate_effective_per_minute: u32,
    /// Rate as configured or set by command.
    pub rate_configured_per_minute: u32,
    /// How many millionths of the configured rate backpressure takes away.
    pub rate_reduction_ppm: u32,
    /// When that was last decided.
    pub rate_reduced_at: Option<Timestamp>,
    /// Active visits at most.
    pub active_visits_max: u32,
    /// Paused by command. See also [`Settings::is_stopped`].
    pub paused: bool,
    /// When the sale closes by command.
    pub closes_at: Option<Timestamp>,
    /// Every seat is booked or blocked.
    pub sold_out: bool,
    /// A draw has given the queue its order.
    pub drawn: bool,
    /// The operators' notice.
    pub notice: Option<Arc<str>>,
    /// Raised when all passes are revoked.
    pub pass_generation: u32,
    /// Commands so far: each is another version of the settings, and the last one counts.
    pub commands: u32,
    /// What the sale has reached.
    pub milestones: Milestones,
}

impl Settings {
    /// The settings of a sale that begins.
    pub(crate) fn of(config: &Config) -> Self {
        let (rate, capacity) = (config.admission_rate_per_minute, config.active_visits_max);
        Self {
            rate_effective_per_minute: rate,
            rate_configured_per_minute: rate,
            active_visits_max: capacity,
            ..Self::default()
        }
    }

    /// Paused by command, or about to close: that can be withdrawn, so nothing is lost meanwhile.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused || self.closes_at.is_some()
    }

    /// No visitor is called or enters, and call windows stand still: by command, or because rate or limit is
    /// 0.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_paused() || self.rate_configured_per_minute == 0 || self.active_visits_max == 0
    }
}

/// Counts for the status, metrics and operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Numbers assigned so far.
    pub numbers_issued: u32,
    /// Highest number that has been called.
    pub now_serving: u32,
    /// Active visits.
    pub active_visits: u32,
    /// Called visitors who wait for a slot.
    pub claimants: u32,
    /// Late arrivals who wait for a slot.
    pub late_arrivals: u32,
    /// Numbers that wait to be called.
    pub waiting: u32,
    /// Calls that were missed and not made up for.
    pub missed: u32,
    /// Admissions so far.
    pub admissions_total: u64,
    /// Admissions of late arrivals so far.
    pub late_admissions_total: u64,
    /// Visits that have ended so far.
    pub visits_ended_total: u64,
}

/// What the policy knows of admission at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AdmissionState {
    /// The sale is on and not paused, and there are seats.
    pub calling: bool,
    /// Numbers assigned and not called yet.
    pub uncalled: u32,
    /// Active visits at most.
    pub active_visits_max: u32,
    /// Active visits.
    pub active_visits: u32,
    /// Rate in force.
    pub rate_per_minute: u32,
    /// Entries that the rate allows at this moment.
    pub permits: u32,
    /// Permits at most.
    pub burst: u32,
    /// Visits that ended per second, recently.
    pub departures_per_s: f64,
    /// Called visitors who wait for a slot.
    pub claimants: u32,
    /// Late arrivals who wait for a slot.
    pub late_arrivals: u32,
    /// Share of contested slots that late arrivals may take, 0 to 1.
    pub late_arrival_share: f64,
    /// What is expected of calls.
    pub show_forecast: ShowForecast,
    /// Free seats as last reported; `None` before the first report.
    pub seats_free: Option<u32>,
    /// The box office has not reported for a while.
    pub box_office_silent: bool,
    /// Whether it is this node's turn to call, of several.
    pub is_caller: bool,
}

/// What is expected of calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ShowForecast {
    /// Share of called visitors who enter within the call window, 0 to 1.
    pub share: f64,
    /// Mean seconds between call and entry of those who come.
    pub lead_s: f64,
    /// Called visitors who have not come yet and are still expected.
    pub expected_arrivals: f64,
}

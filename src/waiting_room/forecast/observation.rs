//! What the forecast models see of a sale in one second.

use std::time::Duration;

use crate::{
    kernel::Timestamp,
    waiting_room::{
        forecast::{seats_per_visit::Seats, visit_length::VisitsOutlook},
        state::{Counts, Settings, Situation},
        types::Phase,
    },
};

/// What is seen of the door in one second.
#[derive(Debug)]
pub(crate) struct Glimpse<'a> {
    pub now: Timestamp,
    pub phase: Phase,
    pub settings: &'a Settings,
    /// As at the last tick; `None` before the first.
    pub situation: Option<Situation>,
    pub counts: Counts,
    pub visits: VisitsOutlook,
    pub call_window: Duration,
    /// As the box office last said.
    pub seats: Option<Seats>,
    pub until_open_s: u32,
}

impl Glimpse<'_> {
    /// Numbers that were assigned and not called yet.
    pub(crate) fn waiting(&self) -> u32 {
        self.counts.issued.saturating_sub(self.counts.now_serving)
    }

    /// Called fans who are still to enter, as far as they are expected to.
    pub(crate) fn expected(&self) -> f64 {
        self.situation
            .map_or(0.0, |s| s.outlook.coming + f64::from(s.claimants))
    }

    pub(crate) fn share(&self) -> f64 {
        self.situation.map_or(1.0, |s| s.outlook.share)
    }
}

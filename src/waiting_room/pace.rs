//! How the line moves and what is to be said of it: stepped once a second. Pure; the room and its rehearsal step the
//! same.

use std::time::Duration;

use super::{
    Phase,
    admission::Situation,
    board::Reason,
    estimate::{self, Measure, Point},
    store::{Counts, Settings},
};
use crate::kernel::Timestamp;

/// How long the board says why the wait has grown.
const REASON_LASTS: Duration = Duration::from_mins(5);

/// What is seen of the door in one second.
#[derive(Debug)]
pub(super) struct Glimpse<'a> {
    pub now: Timestamp,
    pub phase: Phase,
    pub settings: &'a Settings,
    /// As at the last tick; `None` before the first.
    pub situation: Option<Situation>,
    pub counts: Counts,
    /// Free seats as the box office last said.
    pub seats_free: Option<u32>,
    pub until_open_s: u32,
}

#[derive(Debug)]
pub(super) struct Pace {
    visit_max: Duration,
    measure: Measure,
    house_is_full: bool,
    settings: Option<Settings>,
    lowered: Option<(Reason, Timestamp)>,
}

impl Pace {
    pub(super) fn new(visit_max: Duration) -> Self {
        Self { visit_max, measure: Measure::default(), house_is_full: false, settings: None, lowered: None }
    }

    /// A second has passed.
    pub(super) fn second(&mut self, seen: &Glimpse<'_>) {
        if let Some(before) = self.settings.replace(seen.settings.clone()) {
            if seen.settings.capacity < before.capacity {
                self.lowered = Some((Reason::CapacityLowered, seen.now));
            } else if seen.settings.rate_per_minute < before.rate_per_minute {
                self.lowered = Some((Reason::RateLowered, seen.now));
            }
            if (seen.settings.rate_per_minute, seen.settings.capacity) != (before.rate_per_minute, before.capacity) {
                self.measure.disturbed();
            }
        }
        // A house that fills up, or empties, moves at another pace; the gap between the bounds keeps it from flapping.
        if let Some(Situation { active, capacity, .. }) = seen.situation {
            let share = f64::from(active) / f64::from(capacity.max(1));
            let full = if self.house_is_full { share > 0.85 } else { share >= 0.97 };
            if full != self.house_is_full {
                self.house_is_full = full;
                self.measure.disturbed();
            }
        }
        if seen.phase == Phase::OnSale {
            self.measure.second(seen.counts.now_serving);
        } else {
            self.measure.idle(seen.counts.now_serving);
        }
    }

    /// The table of waits, empty while nobody can say.
    pub(super) fn estimate(&self, seen: &Glimpse<'_>) -> Vec<Point> {
        if !matches!(seen.phase, Phase::Scheduled | Phase::Prequeue | Phase::Drawing | Phase::OnSale) {
            return Vec::new();
        }
        let process = self.measure.process(self.modelled_flow(seen));
        estimate::table(&process, seen.counts.issued.saturating_sub(seen.counts.now_serving), seen.until_open_s)
    }

    /// Why the wait is not what it was.
    pub(super) fn reason(&self, seen: &Glimpse<'_>) -> Option<Reason> {
        match seen.phase {
            Phase::Paused => Some(Reason::Paused),
            Phase::SoldOut => Some(Reason::SoldOut),
            Phase::OnSale => self
                .lowered
                .filter(|(_, since)| seen.now.since(*since) < REASON_LASTS)
                .map(|(reason, _)| reason)
                .or((seen.seats_free == Some(0)).then_some(Reason::AllInBaskets))
                .or(self.house_is_full.then_some(Reason::FullHouse)),
            _ => None,
        }
    }

    /// Calls per second as the door's rules have it, before they are measured.
    fn modelled_flow(&self, seen: &Glimpse<'_>) -> f64 {
        let by_rate = f64::from(seen.settings.rate_per_minute) / 60.0;
        let (share, by_house) = seen.situation.map_or((1.0, f64::INFINITY), |s| {
            // A full house lets in as many as leave; at the very least everybody leaves in the end.
            let slowest = f64::from(s.capacity) / self.visit_max.as_secs_f64().max(1.0);
            let by_house = if self.house_is_full { s.departures_per_s.max(slowest) } else { f64::INFINITY };
            (s.outlook.share, by_house)
        });
        by_rate.min(by_house) / share.max(0.05)
    }
}

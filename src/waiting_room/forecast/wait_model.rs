//! How the line moves and what is to be said of it: stepped once a second. Pure; the room and its rehearsal step the
//! same.
//!
//! An estimate has these parts. What the door will do is played forward by its own rules ([`prospect`]), with what is
//! known of visits, of those who come back ([`Returners`]) and of the stock ([`Takings`]). How many calls one entry takes
//! (some are away, some have left) is a regression of what was seen, with a trend, as patience ends with time. And
//! [`Hindsight`] makes the range wider or narrower until eight of ten statements come true.

use std::time::Duration;

use crate::kernel::Timestamp;
use crate::waiting_room::{
    forecast::{
        call_curve::{Course, Step},
        calls_per_entry::Yields,
        late_arrivals::Returners,
        observation::Glimpse,
        projection::{DoorNow, prospect},
        scoring::Hindsight,
        seats_per_visit::Takings,
        wait_table::{self, Point},
    },
    state::{SILENT_SHARE, Settings, Situation},
    types::{Phase, Reason},
};

/// How long the board says why the wait has grown.
const REASON_LASTS: Duration = Duration::from_mins(5);
#[derive(Debug, Default)]
pub(crate) struct Pace {
    yields: Yields,
    returners: Returners,
    takings: Takings,
    hindsight: Hindsight,
    house_is_full: bool,
    /// While it was full, how much of its capacity was used.
    house_used: Option<f64>,
    settings: Option<Settings>,
    lowered: Option<(Reason, Timestamp)>,
}

impl Pace {
    /// A second has passed.
    pub(crate) fn second(&mut self, seen: &Glimpse<'_>) {
        if let Some(before) = self.settings.replace(seen.settings.clone()) {
            if seen.settings.capacity < before.capacity {
                self.lowered = Some((Reason::CapacityLowered, seen.now));
            } else if seen.settings.rate_ordered < before.rate_ordered {
                self.lowered = Some((Reason::RateLowered, seen.now));
            }
            let door = |s: &Settings| (s.rate_per_minute, s.capacity, s.paused);
            if door(seen.settings) != door(&before) {
                self.hindsight.forget_the_open();
            }
        }
        if let Some(Situation { active, capacity, .. }) = seen.situation {
            // The gap between the bounds keeps it from flapping.
            let share = f64::from(active) / f64::from(capacity.max(1));
            self.house_is_full = if self.house_is_full {
                share > 0.85
            } else {
                share >= 0.97
            };
            if self.house_is_full {
                let used = self.house_used.get_or_insert(HOUSE_USED);
                *used += (share.clamp(HOUSE_USED_MIN, 1.0) - *used) / HOUSE_USED_MEMORY_S;
            }
        }
        if seen.phase == Phase::OnSale {
            self.yields.second(seen);
            self.returners.second(seen);
            if let Some(seats) = seen.seats {
                self.takings
                    .second(seats, seen.counts.active, seen.counts.ended_total);
            }
            self.hindsight.judge(seen.counts.now_serving);
            if self.hindsight.is_to_say() {
                let steps = self.prospect(seen, Hindsight::LONGEST_S);
                self.hindsight
                    .say(seen.counts.now_serving, seen.waiting(), &steps);
            }
        } else {
            self.yields.skip();
            self.hindsight.forget_the_open();
        }
    }

    /// The table of waits, empty while nobody can say.
    pub(crate) fn estimate(&self, seen: &Glimpse<'_>) -> Vec<Point> {
        if !matches!(
            seen.phase,
            Phase::Scheduled | Phase::Prequeue | Phase::Drawing | Phase::OnSale
        ) {
            return Vec::new();
        }
        let steps = self.prospect(seen, 0.0);
        let z = |t_s: f64| self.hindsight.z(t_s);
        let courses = [
            Course::new(&steps, z),
            Course::new(&steps, |_| 0.0),
            Course::new(&steps, |t_s| -z(t_s)),
        ];
        let waits_s =
            |ahead: f64| std::array::from_fn(|at| (courses[at].after_s(ahead + 1.0) - BOARD_AGE_S).max(0.0));
        wait_table::table(waits_s, seen.waiting(), seen.until_open_s)
    }

    /// Why the wait is not what it was, beyond what follows from how the door is set.
    pub(crate) fn reason(&self, seen: &Glimpse<'_>) -> Option<Reason> {
        match seen.phase {
            Phase::SoldOut => Some(Reason::SoldOut),
            Phase::OnSale => self
                .lowered
                .filter(|(_, since)| seen.now.since(*since) < REASON_LASTS)
                .map(|(reason, _)| reason)
                .or(seen
                    .seats
                    .is_some_and(|it| it.free == 0)
                    .then_some(Reason::AllInBaskets))
                .or(self.house_is_full.then_some(Reason::FullHouse)),
            _ => None,
        }
    }

    fn prospect(&self, seen: &Glimpse<'_>, at_least_s: f64) -> Vec<Step> {
        let rate_per_s = f64::from(seen.settings.rate_per_minute) / 60.0;
        let is_silent = seen.situation.is_some_and(|s| s.box_office_silent);
        let door = DoorNow {
            rate_per_s,
            slowed_s: if is_silent { SILENCE_LASTS_S } else { 0.0 },
            slowed_share: SILENT_SHARE,
            // The policy leaves a slot or two of a hundred free.
            capacity: f64::from(seen.settings.capacity) * self.house_used.unwrap_or(HOUSE_USED),
            lead_s: seen.situation.map_or(0.0, |s| s.outlook.lead_s),
            expected: seen.expected(),
            returners: self.returners.look(seen),
            stock: seen
                .seats
                .map(|seats| self.takings.look(seats, seen.counts.active)),
        };
        prospect(
            &door,
            &seen.visits,
            &self.yields.look(seen.share()),
            seen.waiting().into(),
            at_least_s,
        )
    }
}

/// So old is a board on average when it is read.
const BOARD_AGE_S: f64 = 0.5;
/// How much of its capacity a full house is taken to use, before it is seen; then it is remembered for about so long.
const HOUSE_USED: f64 = 0.99;
const HOUSE_USED_MIN: f64 = 0.9;
const HOUSE_USED_MEMORY_S: f64 = 60.0;
/// A silence is taken to end after so long.
const SILENCE_LASTS_S: f64 = 60.0;

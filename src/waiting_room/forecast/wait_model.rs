//! How the line moves and what is to be said of it: stepped once a second. Pure; the room and its rehearsal step the
//! same.
//!
//! An estimate has these parts. What the door will do is played forward by its own rules ([`prospect`]), with what is
//! known of visits, of those who come back ([`Returners`]) and of the stock ([`Takings`]). How many calls one entry takes
//! (some are away, some have left) is a regression of what was seen, with a trend, as patience ends with time. And
//! [`Hindsight`] makes the range wider or narrower until eight of ten statements come true.

use std::{collections::VecDeque, time::Duration};

use crate::kernel::Timestamp;
use crate::waiting_room::{
    Phase,
    admission::policy::Situation,
    forecast::{
        late_arrivals::Returners,
        projection::{Course, DoorNow, Step, Yield, prospect},
        scoring::Hindsight,
        seats_per_visit::{Seats, Takings},
        visit_length::VisitsOutlook,
        wait_table::{self, Point},
    },
    status::snapshot::Reason,
    store::{Counts, Settings},
};

/// How long the board says why the wait has grown.
const REASON_LASTS: Duration = Duration::from_mins(5);
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
    fn waiting(&self) -> u32 {
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
            slowed_share: crate::waiting_room::admission::policy::SILENT_SHARE,
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

/// Calls and the entries that came or are to come of them, block by block.
#[derive(Debug, Default)]
struct Yields {
    seconds: f64,
    /// Where the block began: the line as it was then, entries, and when.
    from: Option<(VecDeque<u32>, f64, f64)>,
    /// The line as it was second by second, youngest last: who enters now was called a lead ago.
    served: VecDeque<u32>,
    /// When (the block's middle), the logarithm of calls over entries, and its variance.
    blocks: VecDeque<(f64, f64, f64)>,
}

/// The first seconds of calling are not measured: everybody who is called then is still on her way.
const SETTLED_S: usize = 20;
const BLOCK_S: f64 = 20.0;
const BLOCK_ENTRIES: f64 = 15.0;
const BLOCKS_MAX: usize = 90;
/// The weight of a block halves in so many seconds.
const HALF_LIFE_S: f64 = 420.0;
/// What the show-up share alone says: the standard deviation of the logarithm of the truth around it.
const SHARE_DEVIATION: f64 = 0.06;
/// And by how much it is too high at first, when those who will never come are still expected.
const NEVER_COME: f64 = 0.02;
/// When the first calls go out nobody knows: nearly all may come, or one in three. So far it is more uncertain, and so
/// many deviations higher, and that is over in about so long.
const EARLY_DEVIATION: f64 = 0.4;
const EARLY_SHIFT: f64 = 0.5;
const EARLY_S: f64 = 10.0;
/// Patience ends with time: what is known of trends beforehand, per second.
const TREND: f64 = 0.000_1;
const TREND_DEVIATION: f64 = 0.000_2;
/// Blocks differ by so much more than by counting.
const BLOCK_DEVIATION: f64 = 0.01;

impl Yields {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn second(&mut self, seen: &Glimpse<'_>) {
        self.seconds += 1.0;
        self.served.push_back(seen.counts.now_serving);
        if self.served.len() < SETTLED_S {
            return;
        }
        while self.served.len() > SETTLED_S {
            self.served.pop_front();
        }
        let in_time = seen
            .counts
            .entries_total
            .saturating_sub(seen.counts.returned_total);
        let entries = in_time as f64 + f64::from(seen.counts.claimants);
        let (served_then, entries_before, since) = self
            .from
            .get_or_insert_with(|| (self.served.clone(), entries, self.seconds));
        let (entries_before, since) = (*entries_before, *since);
        // With one lead for both ends: what is learnt of it meanwhile is not a call.
        let lead_s = seen.situation.map_or(0.0, |s| s.outlook.lead_s);
        let calls = served_ago(&self.served, lead_s) - served_ago(served_then, lead_s);
        let came = entries - entries_before;
        if self.seconds - since >= BLOCK_S && came >= BLOCK_ENTRIES && calls >= 1.0 {
            // By what was expected of the block: if its own ratio said how much it weighs, low ones would weigh more.
            let usual = self.look(seen.share()).level.exp().max(1.0);
            let variance = (usual - 1.0).max(0.1) * usual / calls + BLOCK_DEVIATION * BLOCK_DEVIATION;
            self.blocks
                .push_front((f64::midpoint(since, self.seconds), (calls / came).ln(), variance));
            self.blocks.truncate(BLOCKS_MAX);
            self.from = Some((self.served.clone(), entries, self.seconds));
        }
    }

    /// A second in which nobody could be called says nothing.
    fn skip(&mut self) {
        self.from = None;
        self.served.clear();
    }

    /// Bayesian linear regression on the blocks (Gelman and others, Bayesian Data Analysis, ch. 14), old ones fading.
    fn look(&self, share: f64) -> Yield {
        let early = EARLY_DEVIATION * (-self.seconds / EARLY_S).exp();
        let prior = NEVER_COME + EARLY_SHIFT * early - share.clamp(0.05, 1.0).ln();
        let (mut p00, mut p01, mut p11) = ((SHARE_DEVIATION + early).powi(-2), 0.0, TREND_DEVIATION.powi(-2));
        let (mut q0, mut q1) = (p00 * prior, p11 * TREND);
        for &(at, value, variance) in &self.blocks {
            let x = at - self.seconds;
            let weight = (x / HALF_LIFE_S).exp2() / variance;
            p00 += weight;
            p01 += weight * x;
            p11 += weight * x * x;
            q0 += weight * value;
            q1 += weight * x * value;
        }
        let determinant = p00 * p11 - p01 * p01;
        Yield {
            level: (p11 * q0 - p01 * q1) / determinant,
            trend_per_s: (p00 * q1 - p01 * q0) / determinant,
            level_variance: p11 / determinant,
            trend_variance: p00 / determinant,
            covariance: -p01 / determinant,
        }
    }
}

/// How many had been called so long ago, between the seconds.
#[expect(clippy::cast_precision_loss, reason = "a few seconds")]
fn served_ago(served: &VecDeque<u32>, ago_s: f64) -> f64 {
    let last = served.len().saturating_sub(1);
    let ago_s = ago_s.clamp(0.0, last as f64);
    let at = |ago: usize| f64::from(served.get(last.saturating_sub(ago)).copied().unwrap_or(0));
    let whole = wait_table::whole(ago_s.floor()) as usize;
    at(whole) + (at(whole + 1) - at(whole)) * ago_s.fract()
}

//! How the line moves and what is to be said of it: stepped once a second. Pure; the room and its rehearsal step the
//! same.
//!
//! An estimate has three parts. What the door will do is played forward by its own rules ([`prospect`]). How many calls
//! one entry takes (some are away, some have left, some come back) is a regression of what was seen, with a trend, as
//! patience ends with time. And [`Hindsight`] holds earlier statements against what then happened, and makes the range
//! wider or narrower until eight of ten are within it (adaptive conformal inference: Gibbs and Candes 2021).

use std::{collections::VecDeque, time::Duration};

use super::{
    Phase,
    admission::Situation,
    board::Reason,
    estimate::{self, Point},
    prospect::{DoorNow, Step, Yield, prospect, reached_after_s},
    store::{Counts, Settings},
    visits::VisitsOutlook,
};
use crate::kernel::Timestamp;

/// How long the board says why the wait has grown.
const REASON_LASTS: Duration = Duration::from_mins(5);
/// The 90th percentile of the standard normal distribution.
const Z90: f64 = 1.281_551_565_5;

/// What is seen of the door in one second.
#[derive(Debug)]
pub(super) struct Glimpse<'a> {
    pub now: Timestamp,
    pub phase: Phase,
    pub settings: &'a Settings,
    /// As at the last tick; `None` before the first.
    pub situation: Option<Situation>,
    pub counts: Counts,
    pub visits: VisitsOutlook,
    /// Free seats as the box office last said.
    pub seats_free: Option<u32>,
    pub until_open_s: u32,
}

impl Glimpse<'_> {
    fn waiting(&self) -> u32 {
        self.counts.issued.saturating_sub(self.counts.now_serving)
    }

    /// Called fans who are still to enter, as far as they are expected to.
    pub(super) fn expected(&self) -> f64 {
        self.situation.map_or(0.0, |s| s.outlook.coming + f64::from(s.claimants))
    }

    pub(super) fn share(&self) -> f64 {
        self.situation.map_or(1.0, |s| s.outlook.share)
    }
}

#[derive(Debug, Default)]
pub(super) struct Pace {
    yields: Yields,
    hindsight: Hindsight,
    house_is_full: bool,
    settings: Option<Settings>,
    lowered: Option<(Reason, Timestamp)>,
}

impl Pace {
    /// A second has passed.
    pub(super) fn second(&mut self, seen: &Glimpse<'_>) {
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
            self.house_is_full = if self.house_is_full { share > 0.85 } else { share >= 0.97 };
        }
        if seen.phase == Phase::OnSale {
            self.yields.second(seen);
            self.hindsight.judge(seen.counts.now_serving);
            if self.hindsight.is_to_say() {
                let steps = self.prospect(seen, Hindsight::LONGEST_S);
                self.hindsight.say(seen.counts.now_serving, seen.waiting(), &steps);
            }
        } else {
            self.yields.skip();
            self.hindsight.forget_the_open();
        }
    }

    /// The table of waits, empty while nobody can say.
    pub(super) fn estimate(&self, seen: &Glimpse<'_>) -> Vec<Point> {
        if !matches!(seen.phase, Phase::Scheduled | Phase::Prequeue | Phase::Drawing | Phase::OnSale) {
            return Vec::new();
        }
        let steps = self.prospect(seen, 0.0);
        let scale = |t_s: f64| Z90 * self.hindsight.scale(t_s);
        let waits_s = |ahead: f64| {
            let n = ahead + 1.0;
            [reached_after_s(&steps, n, scale), reached_after_s(&steps, n, |_| 0.0), reached_after_s(&steps, n, |t_s| -scale(t_s))]
        };
        estimate::table(waits_s, seen.waiting(), seen.until_open_s)
    }

    /// Why the wait is not what it was, beyond what follows from how the door is set.
    pub(super) fn reason(&self, seen: &Glimpse<'_>) -> Option<Reason> {
        match seen.phase {
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

    fn prospect(&self, seen: &Glimpse<'_>, at_least_s: f64) -> Vec<Step> {
        let rate_per_s = f64::from(seen.settings.rate_per_minute) / 60.0;
        let permits = seen.situation.map_or(rate_per_s, |s| f64::from(s.permits));
        let is_silent = seen.situation.is_some_and(|s| s.box_office_silent);
        let door = DoorNow {
            rate_per_s,
            slowed_s: if is_silent { SILENCE_LASTS_S } else { 0.0 },
            slowed_share: super::admission::SILENT_SHARE,
            permits,
            // The policy leaves a slot or two of a hundred free.
            capacity: f64::from(seen.settings.capacity) * HOUSE_USED,
            lead_s: seen.situation.map_or(0.0, |s| s.outlook.lead_s),
            expected: seen.expected(),
        };
        prospect(&door, &seen.visits, &self.yields.look(seen.share()), seen.waiting().into(), at_least_s)
    }
}

/// How much of its capacity a full house uses.
const HOUSE_USED: f64 = 0.99;
/// A silence is taken to end after so long.
const SILENCE_LASTS_S: f64 = 60.0;

/// Calls and the entries that came or are to come of them, block by block.
#[derive(Debug, Default)]
struct Yields {
    returners: Returners,
    seconds: f64,
    from: Option<(u32, f64, f64)>,
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
const SHARE_DEVIATION: f64 = 0.08;
/// Patience ends with time: what is known of trends beforehand, per second.
const TREND: f64 = 0.000_05;
const TREND_DEVIATION: f64 = 0.000_2;
/// Blocks differ by so much more than by counting.
const BLOCK_DEVIATION: f64 = 0.01;

/// The share of entries that went to those who had been passed over, lately.
#[derive(Debug, Default)]
struct Returners {
    seen: Option<(u64, u64)>,
    entries: f64,
    returned: f64,
}

/// It remembers about so long.
const RETURNERS_MEMORY_S: f64 = 120.0;

impl Returners {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn second(&mut self, entries: u64, returned: u64) {
        let (entries_before, returned_before) = self.seen.replace((entries, returned)).unwrap_or((entries, returned));
        let keep = (-1.0 / RETURNERS_MEMORY_S).exp();
        self.entries = self.entries * keep + entries.saturating_sub(entries_before) as f64;
        self.returned = self.returned * keep + returned.saturating_sub(returned_before) as f64;
    }

    fn share(&self) -> f64 {
        self.returned / self.entries.max(1.0)
    }
}

impl Yields {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    fn second(&mut self, seen: &Glimpse<'_>) {
        self.seconds += 1.0;
        self.served.push_back(seen.counts.now_serving);
        if self.served.len() < SETTLED_S {
            return;
        }
        let lead_s = seen.situation.map_or(0, |s| estimate::whole(s.outlook.lead_s)) as usize;
        let served = self.served[SETTLED_S - 1 - lead_s.min(SETTLED_S - 1)];
        self.served.pop_front();
        let in_time = seen.counts.entries_total.saturating_sub(seen.counts.returned_total);
        let entries = in_time as f64 + f64::from(seen.counts.claimants);
        self.returners.second(seen.counts.entries_total, seen.counts.returned_total);
        let (calls_before, entries_before, since) = *self.from.get_or_insert((served, entries, self.seconds));
        let calls = f64::from(served.saturating_sub(calls_before));
        let came = entries - entries_before;
        if self.seconds - since >= BLOCK_S && came >= BLOCK_ENTRIES && calls >= 1.0 {
            let ratio = calls / came;
            let variance = (ratio - 1.0).max(0.1) / came + BLOCK_DEVIATION * BLOCK_DEVIATION;
            self.blocks.push_front((f64::midpoint(since, self.seconds), ratio.ln(), variance));
            self.blocks.truncate(BLOCKS_MAX);
            self.from = Some((served, entries, self.seconds));
        }
    }

    /// A second in which nobody could be called says nothing.
    fn skip(&mut self) {
        self.from = None;
        self.served.clear();
    }

    /// Bayesian linear regression on the blocks (Gelman and others, Bayesian Data Analysis, ch. 14), old ones fading.
    fn look(&self, share: f64) -> Yield {
        let prior = -share.clamp(0.05, 1.0).ln();
        let (mut p00, mut p01, mut p11) = (SHARE_DEVIATION.powi(-2), 0.0, TREND_DEVIATION.powi(-2));
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
            level: (p11 * q0 - p01 * q1) / determinant + (1.0 - self.returners.share()).ln(),
            trend_per_s: (p00 * q1 - p01 * q0) / determinant,
            level_variance: p11 / determinant,
            trend_variance: p00 / determinant,
            covariance: -p01 / determinant,
        }
    }
}

/// Earlier statements, held against what then happened.
#[derive(Debug, Default)]
struct Hindsight {
    horizons: [Horizon; HORIZONS_S.len()],
    seconds: u32,
}

const HORIZONS_S: [u32; 4] = [15, 60, 240, 720];
/// How far a whole horizon of statements that were all wrong, or all right, moves the scale.
const LEARNING: f64 = 2.5;
const SAYS_EVERY_S: u32 = 5;
/// Statements that should not come true.
const MISSES: f64 = 0.2;
const SCALE: std::ops::RangeInclusive<f64> = 0.2..=6.0;

#[derive(Debug, Default)]
struct Horizon {
    /// Logarithm of the factor of the width.
    scale: f64,
    /// Due when, number called when it was said, how many were to be called meanwhile, standard deviation.
    said: VecDeque<(u32, u32, f64, f64)>,
}

impl Hindsight {
    const LONGEST_S: f64 = 720.0;

    /// A second has passed: what was to be so by now is compared with how it is.
    fn judge(&mut self, now_serving: u32) {
        self.seconds += 1;
        for (horizon, length_s) in self.horizons.iter_mut().zip(HORIZONS_S) {
            while let Some((_, from, calls, deviation)) = horizon.said.front().copied().filter(|(due, ..)| *due <= self.seconds) {
                horizon.said.pop_front();
                let off = (f64::from(now_serving.saturating_sub(from)) - calls).abs();
                let missed = off > Z90 * horizon.scale.exp() * deviation + 0.5;
                let step = LEARNING * f64::from(SAYS_EVERY_S) / f64::from(length_s) * (if missed { 1.0 - MISSES } else { -MISSES });
                horizon.scale = (horizon.scale + step).clamp(SCALE.start().ln(), SCALE.end().ln());
            }
        }
    }

    fn is_to_say(&self) -> bool {
        self.seconds.is_multiple_of(SAYS_EVERY_S)
    }

    /// Takes down how it will be.
    fn say(&mut self, now_serving: u32, waiting: u32, steps: &[Step]) {
        for (horizon, length_s) in self.horizons.iter_mut().zip(HORIZONS_S) {
            if let Some(Step { calls, deviation, .. }) = at(steps, length_s.into()).filter(|step| step.calls < f64::from(waiting)) {
                horizon.said.push_back((self.seconds + length_s, now_serving, calls, deviation));
            }
        }
    }

    /// Something has changed that nobody could foresee: what was said before it is not judged by what came after.
    fn forget_the_open(&mut self) {
        for horizon in &mut self.horizons {
            horizon.said.clear();
        }
    }

    /// By how much a range that lies `t_s` ahead is made wider or narrower.
    fn scale(&self, t_s: f64) -> f64 {
        let next = HORIZONS_S.partition_point(|&s| f64::from(s) < t_s);
        let of = |at: usize| self.horizons[at].scale;
        match (next.checked_sub(1), HORIZONS_S.get(next)) {
            (None, _) => of(0).exp(),
            (Some(last), None) => of(last).exp(),
            (Some(before), Some(&to)) => {
                let from = f64::from(HORIZONS_S[before]);
                let along = (t_s / from).ln() / (f64::from(to) / from).ln();
                (of(before) + (of(next) - of(before)) * along).exp()
            }
        }
    }
}

fn at(steps: &[Step], t_s: f64) -> Option<Step> {
    let next = steps.partition_point(|step| step.t_s < t_s);
    let (a, b) = (steps.get(next.checked_sub(1)?)?, steps.get(next)?);
    let along = (t_s - a.t_s) / (b.t_s - a.t_s).max(1e-9);
    let between = |from: f64, to: f64| from + (to - from) * along;
    Some(Step { t_s, calls: between(a.calls, b.calls), deviation: between(a.deviation, b.deviation) })
}

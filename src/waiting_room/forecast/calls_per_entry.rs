//! How many calls one entry takes (some visitors are away, some have left): a regression of what was seen, with a trend,
//! as patience ends with time. Pure.

use std::collections::VecDeque;

use crate::waiting_room::forecast::{observation::Glimpse, wait_table};

/// Calls that one entry takes: its logarithm now, how it changes per second, how soon that change dies away, and the
/// variances of level and trend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Yield {
    pub level: f64,
    pub trend_per_s: f64,
    pub level_variance: f64,
    pub trend_variance: f64,
    pub covariance: f64,
}

/// A trend goes on for about so long (a damped trend: Gardner and McKenzie 1985).
const TREND_LASTS_S: f64 = 600.0;

/// Patience may end much sooner than is thought, and hardly later than never: on the side of more calls the trend is so
/// many times as uncertain, as a variance.
const TREND_SKEW: f64 = 1.6;

impl Yield {
    /// Calls per entry then, and the standard deviations of its logarithm towards more and towards fewer.
    pub(crate) fn at(&self, t_s: f64) -> (f64, [f64; 2]) {
        let h = TREND_LASTS_S * (1.0 - (-t_s / TREND_LASTS_S).exp());
        let deviation = |skew: f64| {
            let variance =
                self.level_variance + 2.0 * h * self.covariance + h * h * self.trend_variance * skew;
            variance.max(0.0).sqrt()
        };
        (
            (self.level + h * self.trend_per_s).clamp(-3.0, 4.0).exp(),
            [deviation(TREND_SKEW), deviation(1.0)],
        )
    }
}

/// Calls and the entries that came or are to come of them, block by block.
#[derive(Debug, Default)]
pub(crate) struct Yields {
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
    pub(crate) fn second(&mut self, seen: &Glimpse<'_>) {
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
    pub(crate) fn skip(&mut self) {
        self.from = None;
        self.served.clear();
    }

    /// Bayesian linear regression on the blocks (Gelman and others, Bayesian Data Analysis, ch. 14), old ones fading.
    pub(crate) fn look(&self, share: f64) -> Yield {
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

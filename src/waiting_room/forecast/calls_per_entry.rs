//! Calls that one entry takes: some visitors are away, some have left. A regression of what was seen, with a
//! trend, because patience ends with time. Pure.

use std::collections::VecDeque;

use crate::waiting_room::forecast::{observation::Observation, wait_table};

/// Forecast of the calls that one entry takes, as a logarithm: level now, change per second, and their
/// variances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CallsPerEntry {
    /// Logarithm of calls per entry now.
    pub level: f64,
    /// Change of the logarithm per second; it dies away.
    pub trend_per_s: f64,
    /// Variance of the level.
    pub level_variance: f64,
    /// Variance of the trend.
    pub trend_variance: f64,
    /// Covariance of level and trend.
    pub covariance: f64,
}

/// A trend lasts for about so long (a damped trend: Gardner and McKenzie 1985).
const TREND_LASTS_S: f64 = 600.0;

/// Patience may end much sooner than expected, and hardly later than never: toward more calls the variance of
/// the trend is so many times as large.
const TREND_SKEW: f64 = 1.6;

impl CallsPerEntry {
    /// Calls per entry at `t_s`, and the standard deviations of its logarithm toward more and toward fewer.
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

/// Model of calls and the entries that they lead to, block by block.
#[derive(Debug, Default)]
pub(crate) struct CallsPerEntryModel {
    seconds: f64,
    /// Start of the current block: the queue as it was then, entries, and when.
    from: Option<(VecDeque<u32>, f64, f64)>,
    /// Numbers called, second by second, the latest last: who enters now was called one lead ago.
    served: VecDeque<u32>,
    /// Middle of the block in seconds, logarithm of calls over entries, and its variance.
    blocks: VecDeque<(f64, f64, f64)>,
}

/// The first seconds of calling are not measured: all who are called then are still on their way.
const SETTLED_S: usize = 20;
const BLOCK_S: f64 = 20.0;
const BLOCK_ENTRIES: f64 = 15.0;
const BLOCKS_MAX: usize = 90;
/// The weight of a block halves in so many seconds.
const HALF_LIFE_S: f64 = 420.0;
/// Standard deviation of the logarithm when only the show share is known.
const SHARE_DEVIATION: f64 = 0.06;
/// Correction at first, when those who will never come are still expected.
const NEVER_COME: f64 = 0.02;
/// Extra uncertainty when the first calls go out (nearly all may come, or one in three), with the shift that
/// goes with it in deviations; both fade with this time constant.
const EARLY_DEVIATION: f64 = 0.4;
const EARLY_SHIFT: f64 = 0.5;
const EARLY_S: f64 = 10.0;
/// Prior of the trend, per second.
const TREND: f64 = 0.000_1;
const TREND_DEVIATION: f64 = 0.000_2;
/// Standard deviation between blocks beyond that of counting.
const BLOCK_DEVIATION: f64 = 0.01;

impl CallsPerEntryModel {
    /// Learns from one second of a running sale.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub(crate) fn observe(&mut self, seen: &Observation<'_>) {
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
            .admissions_total
            .saturating_sub(seen.counts.late_admissions_total);
        let entries = in_time as f64 + f64::from(seen.counts.claimants);
        let (served_then, entries_before, since) = self
            .from
            .get_or_insert_with(|| (self.served.clone(), entries, self.seconds));
        let (entries_before, since) = (*entries_before, *since);
        // One lead for both ends: what is learned of the lead meanwhile is not a call.
        let lead_s = seen.admission.map_or(0.0, |s| s.show_forecast.lead_s);
        let calls = served_ago(&self.served, lead_s) - served_ago(served_then, lead_s);
        let came = entries - entries_before;
        if self.seconds - since >= BLOCK_S && came >= BLOCK_ENTRIES && calls >= 1.0 {
            // Weighted by the expectation: if its own ratio decided its weight, low ratios would weigh more.
            let usual = self.forecast(seen.show_share()).level.exp().max(1.0);
            let variance = (usual - 1.0).max(0.1) * usual / calls + BLOCK_DEVIATION * BLOCK_DEVIATION;
            self.blocks
                .push_front((f64::midpoint(since, self.seconds), (calls / came).ln(), variance));
            self.blocks.truncate(BLOCKS_MAX);
            self.from = Some((self.served.clone(), entries, self.seconds));
        }
    }

    /// Skips a second in which no calls are possible; it says nothing about the ratio.
    pub(crate) fn skip(&mut self) {
        self.from = None;
        self.served.clear();
    }

    /// Bayesian linear regression on the blocks (Gelman and others, Bayesian Data Analysis, ch. 14), older
    /// blocks fading.
    pub(crate) fn forecast(&self, share: f64) -> CallsPerEntry {
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
        CallsPerEntry {
            level: (p11 * q0 - p01 * q1) / determinant,
            trend_per_s: (p00 * q1 - p01 * q0) / determinant,
            level_variance: p11 / determinant,
            trend_variance: p00 / determinant,
            covariance: -p01 / determinant,
        }
    }
}

/// Numbers called `ago_s` seconds ago, interpolated between seconds.
#[expect(clippy::cast_precision_loss, reason = "a few seconds")]
fn served_ago(served: &VecDeque<u32>, ago_s: f64) -> f64 {
    let last = served.len().saturating_sub(1);
    let ago_s = ago_s.clamp(0.0, last as f64);
    let at = |ago: usize| f64::from(served.get(last.saturating_sub(ago)).copied().unwrap_or(0));
    let whole = wait_table::round_to_u32(ago_s.floor()) as usize;
    at(whole) + (at(whole + 1) - at(whole)) * ago_s.fract()
}

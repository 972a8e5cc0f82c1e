//! A rate limit for queries to the shop's database, so that a sale never slows the shop down.

use std::time::Duration;

use parking_lot::Mutex;

/// Limits the rate of queries: a leaky bucket (ITU-T I.371, GCRA). Without a burst they are spaced evenly, so
/// that no period of one second has more queries than the budget.
pub(super) struct QueryBudget {
    interval: Duration,
    /// How far the bucket may be ahead: the time of a burst's further queries.
    tolerance: Duration,
    /// When the next query may start.
    next: Mutex<Duration>,
}

impl QueryBudget {
    pub(super) fn per_second(queries_max: u32) -> Self {
        Self::new(Duration::from_secs(1), queries_max, 1)
    }

    /// At most `queries_max` a minute in the long run, and up to `burst` at once.
    pub(super) fn per_minute(queries_max: u32, burst: u32) -> Self {
        Self::new(Duration::from_mins(1), queries_max, burst)
    }

    fn new(period: Duration, queries_max: u32, burst: u32) -> Self {
        // Rounded up, because rounding down would allow one query too many.
        let nanos = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        let interval = Duration::from_nanos(nanos.div_ceil(u64::from(queries_max.max(1))));
        Self {
            interval,
            tolerance: interval * burst.saturating_sub(1),
            next: Mutex::new(Duration::ZERO),
        }
    }

    /// Reserves the next turn and returns how long to wait for it. If that is longer than `wait_max`,
    /// reserves nothing and returns the wait as the error.
    pub(super) fn reserve(&self, now: Duration, wait_max: Duration) -> Result<Duration, Duration> {
        let mut next = self.next.lock();
        let turn = (*next).max(now);
        let wait = turn.saturating_sub(now + self.tolerance);
        if wait > wait_max {
            return Err(wait);
        }
        *next = turn + self.interval;
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Entropy, SeededEntropy};

    #[test]
    fn no_second_exceeds_the_budget() {
        let entropy = SeededEntropy::new(3);
        for rate in [1, 3, 7, 200, 999] {
            let budget = QueryBudget::per_second(rate);
            let mut now = Duration::ZERO;
            let mut starts = Vec::new();
            for _ in 0..5_000 {
                now += Duration::from_micros(entropy.below(2_000_000 / u64::from(rate)));
                if let Ok(wait) = budget.reserve(now, Duration::from_millis(500)) {
                    assert!(wait <= Duration::from_millis(500));
                    starts.push(now + wait);
                }
            }
            let per_second = rate as usize;
            assert!(starts.len() > per_second, "the budget is used");
            assert!(
                starts
                    .windows(per_second + 1)
                    .all(|w| w[per_second].saturating_sub(w[0]) >= Duration::from_secs(1)),
                "{rate} a second"
            );
        }
    }

    #[test]
    fn a_refused_query_reserves_no_turn() {
        let budget = QueryBudget::per_second(2);
        let reserve = |ms| {
            budget
                .reserve(Duration::ZERO, Duration::from_millis(ms))
                .map_err(|wait| wait.as_millis())
        };
        assert_eq!(reserve(0), Ok(Duration::ZERO));
        assert_eq!(reserve(100), Err(500));
        assert_eq!(
            reserve(500),
            Ok(Duration::from_millis(500)),
            "the refused query took no turn"
        );
    }
}

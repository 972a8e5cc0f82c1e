//! What keeps a sale from slowing the shop down: a budget of queries and a circuit breaker.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::kernel::{Clock, Entropy};

/// Paces queries evenly, as a leaky bucket without a burst does (ITU-T I.371, GCRA with no tolerance): in no second
/// are there more than the budget.
pub(super) struct QueryBudget {
    interval: Duration,
    /// When the next query may start.
    next: Mutex<Duration>,
}

impl QueryBudget {
    pub(super) fn new(queries_per_second_max: u32) -> Self {
        // Rounded up: rounding down would allow one more.
        let interval =
            Duration::from_nanos(1_000_000_000_u64.div_ceil(u64::from(queries_per_second_max.max(1))));
        Self {
            interval,
            next: Mutex::new(Duration::ZERO),
        }
    }

    /// Reserves the next turn and says how long to wait for it, or, when that is longer than `patience`, reserves
    /// nothing and gives the wait as the error.
    pub(super) fn reserve(&self, now: Duration, patience: Duration) -> Result<Duration, Duration> {
        let mut next = self.next.lock();
        let turn = (*next).max(now);
        let wait = turn.saturating_sub(now);
        if wait > patience {
            return Err(wait);
        }
        *next = turn + self.interval;
        Ok(wait)
    }
}

const FAILURES_TO_OPEN: u32 = 5;
const OPEN_FOR_MIN: Duration = Duration::from_secs(2);
const OPEN_FOR_MAX: Duration = Duration::from_secs(30);

/// Stops asking a database that does not answer, and asks again, carefully, after a while.
///
/// Closed: all may ask; after [`FAILURES_TO_OPEN`] failures in a row it opens. Open: nobody may ask, for 2 s at first
/// and up to 30 s, then it is half open. Half open: one may ask; her answer closes or opens it.
pub(super) struct CircuitBreaker {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

enum State {
    Closed { failures: u32 },
    Open { until: Duration, open_for: Duration },
    HalfOpen { open_for: Duration },
}

/// The right to ask once. Dropped without an outcome it counts as a failure.
pub(super) struct Permit<'b> {
    breaker: &'b CircuitBreaker,
    answered: bool,
}

impl CircuitBreaker {
    pub(super) fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            state: Mutex::new(State::Closed { failures: 0 }),
            clock,
            entropy,
        }
    }

    /// For how long nobody may ask; `None` when somebody may.
    pub(super) fn open_for(&self) -> Option<Duration> {
        match *self.state.lock() {
            State::Closed { .. } => None,
            State::Open { until, .. } => {
                Some(until.saturating_sub(self.clock.monotonic())).filter(|left| !left.is_zero())
            }
            State::HalfOpen { .. } => Some(OPEN_FOR_MIN),
        }
    }

    pub(super) fn try_acquire(&self) -> Option<Permit<'_>> {
        let mut state = self.state.lock();
        match *state {
            State::Closed { .. } => {}
            State::Open { until, open_for } if self.clock.monotonic() >= until => {
                *state = State::HalfOpen { open_for }
            }
            State::Open { .. } | State::HalfOpen { .. } => return None,
        }
        Some(Permit {
            breaker: self,
            answered: false,
        })
    }

    fn succeeded(&self) {
        let mut state = self.state.lock();
        if let State::HalfOpen { .. } = *state {
            tracing::info!("the shop's database answers again");
        }
        // A late answer of a query that began before it opened does not close it.
        if !matches!(*state, State::Open { .. }) {
            *state = State::Closed { failures: 0 };
        }
    }

    fn failed(&self) {
        let mut state = self.state.lock();
        let open_for = match *state {
            State::Closed { failures } if failures + 1 < FAILURES_TO_OPEN => {
                *state = State::Closed {
                    failures: failures + 1,
                };
                return;
            }
            State::Closed { .. } => OPEN_FOR_MIN,
            State::HalfOpen { open_for } => (open_for * 2).min(OPEN_FOR_MAX),
            State::Open { .. } => return,
        };
        // Several nodes must not all ask in the same moment.
        let jitter = open_for.mul_f64(self.entropy.unit() / 4.0);
        *state = State::Open {
            until: self.clock.monotonic() + open_for + jitter,
            open_for,
        };
        metrics::counter!("shop_breaker_opened_total").increment(1);
        tracing::warn!(
            open_for_ms = open_for.as_millis(),
            "the shop's database is left alone for a while"
        );
    }
}

impl Permit<'_> {
    pub(super) fn succeeded(mut self) {
        self.answered = true;
        self.breaker.succeeded();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.breaker.failed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{ManualClock, SeededEntropy, Timestamp};

    #[test]
    fn no_second_has_more_queries_than_the_budget() {
        let entropy = SeededEntropy::new(3);
        for rate in [1, 3, 7, 200, 999] {
            let budget = QueryBudget::new(rate);
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
    fn who_would_wait_too_long_reserves_nothing() {
        let budget = QueryBudget::new(2);
        let ask = |ms| {
            budget
                .reserve(Duration::ZERO, Duration::from_millis(ms))
                .map_err(|w| w.as_millis())
        };
        assert_eq!(ask(0), Ok(Duration::ZERO));
        assert_eq!(ask(100), Err(500));
        assert_eq!(
            ask(500),
            Ok(Duration::from_millis(500)),
            "the refused one took no turn"
        );
    }

    fn fail(breaker: &CircuitBreaker) -> bool {
        breaker.try_acquire().is_some()
    }

    #[test]
    fn the_breaker_opens_probes_and_closes() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let breaker = CircuitBreaker::new(clock.clone(), Arc::new(SeededEntropy::new(1)));
        for _ in 0..4 {
            assert!(fail(&breaker));
        }
        breaker.try_acquire().unwrap().succeeded();
        for _ in 0..5 {
            assert!(fail(&breaker), "a success in between starts the count anew");
        }
        assert!(breaker.try_acquire().is_none());
        let left = breaker.open_for().unwrap();
        assert!((2.0..=2.5).contains(&left.as_secs_f64()), "{left:?}");

        clock.advance(Duration::from_millis(2_600));
        let probe = breaker.try_acquire().expect("one may ask");
        assert!(breaker.try_acquire().is_none(), "only one");
        drop(probe);
        assert!(
            breaker.open_for().unwrap() >= Duration::from_secs(4),
            "it waits longer after each failed probe"
        );

        clock.advance(Duration::from_secs(6));
        breaker.try_acquire().unwrap().succeeded();
        assert!(breaker.open_for().is_none());
        assert!(
            fail(&breaker) && breaker.try_acquire().is_some(),
            "one failure is forgiven again"
        );
    }
}

//! A circuit breaker for queries to the shop's database.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::kernel::{Clock, Entropy};

const FAILURES_TO_OPEN: u32 = 5;
const OPEN_FOR_MIN: Duration = Duration::from_secs(2);
const OPEN_FOR_MAX: Duration = Duration::from_secs(30);

/// Stops querying a database that does not respond, and probes it again after a while.
///
/// Closed: all queries pass; [`FAILURES_TO_OPEN`] failures in a row open it. Open: no query passes, for 2 s
/// at first and up to 30 s, then it is half open. Half open: one query passes as a probe; its outcome closes
/// or reopens the breaker.
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

/// A permit for one query. Dropped without an outcome it counts as a failure, so a canceled query counts as
/// one.
pub(super) struct Permit<'b> {
    breaker: &'b CircuitBreaker,
    is_recorded: bool,
}

impl CircuitBreaker {
    pub(super) fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            state: Mutex::new(State::Closed { failures: 0 }),
            clock,
            entropy,
        }
    }

    /// For how long no query passes; `None` when one may pass.
    pub(super) fn open_for(&self) -> Option<Duration> {
        match *self.state.lock() {
            State::Closed { .. } => None,
            State::Open { until, .. } => {
                Some(until.saturating_sub(self.clock.monotonic())).filter(|left| !left.is_zero())
            }
            State::HalfOpen { .. } => Some(OPEN_FOR_MIN),
        }
    }

    /// `None` while the breaker is open or a probe is running.
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
            is_recorded: false,
        })
    }

    fn succeeded(&self) {
        let mut state = self.state.lock();
        if let State::HalfOpen { .. } = *state {
            tracing::info!("the shop's database responds again; the circuit breaker is closed");
        }
        // A late success of a query that began before the breaker opened does not close it.
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
        // Jitter, so that several nodes do not probe at the same time.
        let jitter = open_for.mul_f64(self.entropy.unit() / 4.0);
        *state = State::Open {
            until: self.clock.monotonic() + open_for + jitter,
            open_for,
        };
        metrics::counter!("stagedoor_shop_circuit_breaker_opened_total").increment(1);
        tracing::warn!(
            open_for_ms = open_for.as_millis(),
            "the shop's database fails repeatedly; the circuit breaker stops queries for a while"
        );
    }
}

impl Permit<'_> {
    /// Records a success.
    pub(super) fn succeeded(mut self) {
        self.is_recorded = true;
        self.breaker.succeeded();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.is_recorded {
            self.breaker.failed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{ManualClock, SeededEntropy, Timestamp};

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
            assert!(fail(&breaker), "a success resets the count");
        }
        assert!(breaker.try_acquire().is_none());
        let left = breaker.open_for().unwrap();
        assert!((2.0..=2.5).contains(&left.as_secs_f64()), "{left:?}");

        clock.advance(Duration::from_millis(2_600));
        let probe = breaker.try_acquire().expect("one probe passes");
        assert!(breaker.try_acquire().is_none(), "only one");
        drop(probe);
        assert!(
            breaker.open_for().unwrap() >= Duration::from_secs(4),
            "it stays open longer after each failed probe"
        );

        clock.advance(Duration::from_secs(6));
        breaker.try_acquire().unwrap().succeeded();
        assert!(breaker.open_for().is_none());
        assert!(
            fail(&breaker) && breaker.try_acquire().is_some(),
            "one failure does not open it again"
        );
    }
}

//! How the box office performs for its visitors: how long calls about seats take, and what share of all calls
//! fails. The waiting room slows admission by it.
//!
//! Calls that wait for the payment gateway count for the failures only: their response time says nothing
//! about the box office's own speed.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use crate::waiting_room::BoxOfficeHealth;

/// Upper bounds of latency grow by a quarter of an octave, from a millisecond to half a minute.
const BUCKETS: usize = 61;
const STEPS_PER_OCTAVE: f64 = 4.0;

/// Counters since they were last taken.
#[derive(Debug)]
pub struct HealthCounters {
    latencies: [AtomicU32; BUCKETS],
    responses: AtomicU32,
    failures: AtomicU32,
    order_queue_probes: AtomicU32,
    order_queue_waits: AtomicU32,
}

/// What was counted between two calls of [`HealthCounters::take`].
#[derive(Clone, Debug)]
pub struct HealthSample {
    latencies: [u32; BUCKETS],
    responses: u32,
    failures: u32,
    order_queue_probes: u32,
    order_queue_waits: u32,
}

/// The part of the box office that a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subsystem {
    /// Seats and holds.
    Seats,
    /// Orders; how long these take depends on the payment gateway.
    Orders,
}

impl Default for HealthCounters {
    fn default() -> Self {
        Self {
            latencies: [const { AtomicU32::new(0) }; BUCKETS],
            responses: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            order_queue_probes: AtomicU32::new(0),
            order_queue_waits: AtomicU32::new(0),
        }
    }
}

impl HealthCounters {
    /// Counts a response.
    pub(crate) fn record_response(&self, subsystem: Subsystem, took: Duration, failed: bool) {
        self.responses.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(u32::from(failed), Ordering::Relaxed);
        if subsystem == Subsystem::Seats {
            self.latencies[bucket(took)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a probe of the order limiter, and whether new orders had to wait then.
    pub(crate) fn record_order_queue(&self, are_waiting: bool) {
        self.order_queue_probes.fetch_add(1, Ordering::Relaxed);
        self.order_queue_waits
            .fetch_add(u32::from(are_waiting), Ordering::Relaxed);
    }

    /// Returns what was counted since the last call, and starts anew.
    pub fn take(&self) -> HealthSample {
        let take = |counter: &AtomicU32| counter.swap(0, Ordering::Relaxed);
        HealthSample {
            latencies: std::array::from_fn(|bucket| take(&self.latencies[bucket])),
            responses: take(&self.responses),
            failures: take(&self.failures),
            order_queue_probes: take(&self.order_queue_probes),
            order_queue_waits: take(&self.order_queue_waits),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limited to the number of buckets"
)]
fn bucket(took: Duration) -> usize {
    let ms = took.as_secs_f64() * 1_000.0;
    if ms <= 1.0 {
        0
    } else {
        ((ms.log2() * STEPS_PER_OCTAVE).ceil() as usize).min(BUCKETS - 1)
    }
}

/// The upper bound of a bucket.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "below a minute"
)]
fn upper_bound_ms(bucket: usize) -> u32 {
    (bucket as f64 / STEPS_PER_OCTAVE).exp2().ceil() as u32
}

/// Samples in the window: two seconds' worth.
const SAMPLES: usize = 4;
/// Fewer responses say nothing.
const RESPONSES_MIN: u32 = 10;
/// Orders that wait four fifths of the time are as bad as one failure in twenty. The limiter is meant to be
/// saturated often, since it is never idle then, and while it is no visitor is admitted anyway: this leaves
/// the rate time to follow.
const ORDER_WAIT_WEIGHT: u16 = 16;
/// The usual latency is the lowest of the last so many periods.
const PERIODS: usize = 10;
const PERIOD: Duration = Duration::from_mins(1);
/// The usual latency is at least this: visitors do not notice less.
const USUAL_MS_MIN: u32 = 50;

/// The recent samples together: the health now, and the usual latency it is compared with.
#[derive(Debug, Default)]
pub struct HealthWindow {
    recent: VecDeque<HealthSample>,
    /// The start and the lowest latency of each period, the latest last.
    period_lows: VecDeque<(Duration, u32)>,
}

impl HealthWindow {
    /// Adds a sample, taken at this moment of the monotonic clock, and returns the health.
    pub fn record(&mut self, sample: HealthSample, monotonic: Duration) -> BoxOfficeHealth {
        self.recent.push_back(sample);
        if self.recent.len() > SAMPLES {
            self.recent.pop_front();
        }
        let latency_ms = self.latency_ms();
        if let Some(latency_ms) = latency_ms {
            self.record_low(latency_ms, monotonic);
        }
        let usual_ms = self
            .period_lows
            .iter()
            .map(|(_, low)| *low)
            .min()
            .unwrap_or(USUAL_MS_MIN);
        BoxOfficeHealth {
            latency_ms,
            usual_latency_ms: usual_ms.max(USUAL_MS_MIN),
            failures_per_mille: self.failed_per_mille(),
        }
    }

    fn record_low(&mut self, latency_ms: u32, monotonic: Duration) {
        match self.period_lows.back_mut() {
            Some((started, low)) if monotonic.saturating_sub(*started) < PERIOD => {
                *low = latency_ms.min(*low);
            }
            _ => self.period_lows.push_back((monotonic, latency_ms)),
        }
        if self.period_lows.len() > PERIODS {
            self.period_lows.pop_front();
        }
    }

    fn failed_per_mille(&self) -> u16 {
        let total = |count: fn(&HealthSample) -> u32| self.recent.iter().map(count).sum::<u32>();
        let responses = total(|sample| sample.responses);
        let failed_per_mille = if responses < RESPONSES_MIN {
            0
        } else {
            u16::try_from(total(|sample| sample.failures) * 1_000 / responses).unwrap_or(1_000)
        };
        // Where new orders always wait, a visitor who is called in addition would only be refused at
        // admission.
        let probes = total(|sample| sample.order_queue_probes).max(1);
        let waits = total(|sample| sample.order_queue_waits);
        let waiting_per_mille = u16::try_from(waits * 1_000 / probes).unwrap_or(1_000);
        failed_per_mille.max(waiting_per_mille / ORDER_WAIT_WEIGHT)
    }

    /// The 90th percentile of the recent latencies; `None` while there are too few.
    fn latency_ms(&self) -> Option<u32> {
        let latencies: [u32; BUCKETS] =
            std::array::from_fn(|bucket| self.recent.iter().map(|sample| sample.latencies[bucket]).sum());
        let all: u32 = latencies.iter().sum();
        let mut up_to_here = 0;
        let reaches_90_percent = |count: &u32| {
            up_to_here += count;
            u64::from(up_to_here) * 10 >= u64::from(all) * 9
        };
        latencies
            .iter()
            .position(reaches_90_percent)
            .filter(|_| all >= RESPONSES_MIN)
            .map(upper_bound_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_latency_lies_within_the_bounds_of_its_bucket() {
        for took in [0, 1, 2, 3, 7, 50, 120, 999, 5_000, 29_000] {
            let at = bucket(ms(took));
            let upper_ms = upper_bound_ms(at);
            assert!(
                u64::from(upper_ms) >= took,
                "{took} ms is in the bucket up to {upper_ms}"
            );
            assert!(at == 0 || took == 0 || u64::from(upper_bound_ms(at - 1)) <= took + 1);
        }
        assert_eq!(bucket(Duration::from_hours(1)), BUCKETS - 1);
    }

    #[test]
    fn latency_is_the_90th_percentile_of_enough_responses() {
        let (counters, mut window) = (HealthCounters::default(), HealthWindow::default());
        for _ in 0..9 {
            counters.record_response(Subsystem::Seats, ms(20), true);
        }
        let few = window.record(counters.take(), ms(0));
        assert_eq!(
            few,
            BoxOfficeHealth {
                latency_ms: None,
                usual_latency_ms: 50,
                failures_per_mille: 0
            }
        );
        for n in 0..91 {
            counters.record_response(Subsystem::Seats, ms(if n < 80 { 20 } else { 900 }), false);
            counters.record_response(Subsystem::Orders, ms(9_000), false);
        }
        let health = window.record(counters.take(), ms(500));
        assert!(health.latency_ms.unwrap() >= 900, "{health:?}");
        assert_eq!(health.failures_per_mille, 9 * 1_000 / (9 + 91 + 91));
        // What was counted two seconds ago no longer counts.
        for round in 2..6 {
            for _ in 0..25 {
                counters.record_response(Subsystem::Seats, ms(20), false);
            }
            window.record(counters.take(), ms(round * 500));
        }
        let health = window.record(counters.take(), ms(3_000));
        assert!(
            health.latency_ms.unwrap() <= 24 && health.failures_per_mille == 0,
            "{health:?}"
        );
    }

    #[test]
    fn orders_that_wait_count_as_failures() {
        let (counters, mut window) = (HealthCounters::default(), HealthWindow::default());
        (0..5).for_each(|_| counters.record_order_queue(true));
        assert_eq!(window.record(counters.take(), ms(0)).failures_per_mille, 62);
        (0..5).for_each(|_| counters.record_order_queue(false));
        assert_eq!(window.record(counters.take(), ms(500)).failures_per_mille, 31);
        for round in 2..6 {
            counters.record_order_queue(false);
            window.record(counters.take(), ms(round * 500));
        }
        assert_eq!(window.record(counters.take(), ms(3_000)).failures_per_mille, 0);
    }

    #[test]
    fn the_usual_latency_is_the_best_of_the_last_minutes() {
        let (counters, mut window) = (HealthCounters::default(), HealthWindow::default());
        let mut minute = |minute: u64, took: u64| {
            let mut last = None;
            for round in 0..SAMPLES as u64 {
                for _ in 0..20 {
                    counters.record_response(Subsystem::Seats, ms(took), false);
                }
                last = Some(window.record(counters.take(), Duration::from_mins(minute) + ms(round * 500)));
            }
            last.unwrap().usual_latency_ms
        };
        assert_eq!(minute(0, 2), USUAL_MS_MIN);
        assert_eq!(minute(1, 200), USUAL_MS_MIN, "a slow minute changes nothing");
        for n in 2..=9 {
            assert_eq!(minute(n, 200), USUAL_MS_MIN);
        }
        for n in 10..=20 {
            minute(n, 200);
        }
        assert!(
            (200..=240).contains(&minute(21, 200)),
            "after ten minutes it is the usual latency"
        );
    }
}

//! Latencies by kind of call, the outcome of each call, and one row of counters a second.
//!
//! A latency counts from the moment when the call was due, not from when a connection or a worker was free. A
//! server that stalls delays every call that was due meanwhile, and each of them is counted (Tene:
//! coordinated omission).

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use stagedoor::demo::client::{Call, Reply};

use crate::http1::SendError;

/// What happened in one second of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Calls that were due.
    pub due: u64,
    /// Calls that were answered, with success or with a definite refusal.
    pub answered: u64,
    /// Calls that were asked to come again (429, 503).
    pub refused: u64,
    /// Calls without a reply, or with a server error.
    pub failed: u64,
    /// The slowest answer, in microseconds.
    #[serde(default)]
    pub slowest_us: u64,
    /// Acknowledged joins.
    pub joins: u64,
    /// Admissions.
    pub entries: u64,
    /// Delivered tickets.
    pub tickets: u64,
    /// Waiting visitors, by the queue status.
    pub waiting: u64,
    /// Admitted visits, by the queue status.
    pub active: u64,
    /// Resident memory of the server's process, where the run started it.
    pub rss_kib: u64,
    /// CPU time of that process in this second, in milliseconds.
    pub cpu_ms: u64,
}

impl Second {
    /// Adds the same second of another part of the run.
    pub fn add(&mut self, other: &Self) {
        self.due += other.due;
        self.answered += other.answered;
        self.refused += other.refused;
        self.failed += other.failed;
        self.slowest_us = self.slowest_us.max(other.slowest_us);
        self.joins += other.joins;
        self.entries += other.entries;
        self.tickets += other.tickets;
        // Not sums: all parts look at the same server.
        self.waiting = self.waiting.max(other.waiting);
        self.active = self.active.max(other.active);
        self.rss_kib = self.rss_kib.max(other.rss_kib);
        self.cpu_ms = self.cpu_ms.max(other.cpu_ms);
    }
}

/// Latencies of one kind of call: answers and refusals apart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CallStats {
    /// Latencies of answers.
    pub answered: Latency,
    /// Latencies of refusals.
    pub refused: Latency,
    /// How many calls failed.
    pub failed: u64,
}

/// A latency distribution that can be stored and merged.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    /// How many calls.
    pub count: u64,
    /// The mean in milliseconds.
    pub mean_ms: f64,
    /// The median in milliseconds.
    pub p50_ms: f64,
    /// The 90th percentile in milliseconds.
    pub p90_ms: f64,
    /// The 99th percentile in milliseconds.
    pub p99_ms: f64,
    /// The 99.9th percentile in milliseconds.
    pub p999_ms: f64,
    /// The maximum in milliseconds.
    pub max_ms: f64,
    /// `[microseconds, count]`, ascending, to three significant digits.
    pub buckets: Vec<(u64, u64)>,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let quantile = |q: f64| ms(histogram.value_at_quantile(q));
        Self {
            count: histogram.len(),
            mean_ms: if histogram.is_empty() {
                0.0
            } else {
                histogram.mean() / 1_000.0
            },
            p50_ms: quantile(0.5),
            p90_ms: quantile(0.9),
            p99_ms: quantile(0.99),
            p999_ms: quantile(0.999),
            max_ms: ms(histogram.max()),
            buckets: histogram
                .iter_recorded()
                .map(|value| (value.value_iterated_to(), value.count_at_value()))
                .collect(),
        }
    }

    /// The distribution of both together.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let mut sum = empty_histogram();
        for &(us, count) in self.buckets.iter().chain(&other.buckets) {
            sum.saturating_record_n(us, count);
        }
        Self::of(&sum)
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of minutes")]
fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

/// From a microsecond to an hour.
fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("these bounds make a histogram")
}

struct CallRecord {
    answered: Histogram<u64>,
    refused: Histogram<u64>,
    failed: u64,
}

/// Records the calls of all visitors of one process.
pub struct Recorder {
    /// By `Call as usize`.
    calls: Vec<Mutex<CallRecord>>,
    seconds: Mutex<Vec<Second>>,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Default for Recorder {
    fn default() -> Self {
        let record = || CallRecord {
            answered: empty_histogram(),
            refused: empty_histogram(),
            failed: 0,
        };
        Self {
            calls: Call::ALL.iter().map(|_| Mutex::new(record())).collect(),
            seconds: Mutex::default(),
            errors: Mutex::default(),
        }
    }
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// Success or a definite refusal.
    Answered,
    /// The server asks to come again.
    Refused,
    /// No reply, or a server error.
    Failed,
}

impl CallOutcome {
    /// Classifies what came back.
    pub fn of(result: &Result<Reply, SendError>) -> Self {
        match result {
            Ok(reply) if reply.asks_to_wait() => Self::Refused,
            Ok(reply) if reply.status < 500 => Self::Answered,
            _ => Self::Failed,
        }
    }
}

impl Recorder {
    /// Records a call that was due at `due` and ended at `now`, both counted from the start of the run.
    pub fn record(&self, call: Call, due: Duration, now: Duration, result: &Result<Reply, SendError>) {
        let us = u64::try_from(now.saturating_sub(due).as_micros()).unwrap_or(u64::MAX);
        let outcome = CallOutcome::of(result);
        {
            let mut record = self.calls[call as usize].lock();
            match outcome {
                CallOutcome::Answered => record.answered.saturating_record(us),
                CallOutcome::Refused => record.refused.saturating_record(us),
                CallOutcome::Failed => record.failed += 1,
            }
        }
        self.second(due, |second| second.due += 1);
        self.second(now, |second| match outcome {
            CallOutcome::Answered => {
                second.answered += 1;
                second.slowest_us = second.slowest_us.max(us);
            }
            CallOutcome::Refused => second.refused += 1,
            CallOutcome::Failed => second.failed += 1,
        });
        match result {
            Ok(reply) if outcome != CallOutcome::Answered => {
                self.error(&format!("{} {}", call.name(), reply.status));
            }
            Err(error) => self.error(&format!("{}: {error}", call.name())),
            Ok(_) => {}
        }
    }

    /// Changes the second in which `at` lies.
    pub fn second(&self, at: Duration, change: impl FnOnce(&mut Second)) {
        let mut seconds = self.seconds.lock();
        let at = usize::try_from(at.as_secs()).unwrap_or(usize::MAX).min(1 << 20);
        if seconds.len() <= at {
            seconds.resize(at + 1, Second::default());
        }
        change(&mut seconds[at]);
    }

    /// Counts an error of this kind.
    pub fn error(&self, kind: &str) {
        let mut errors = self.errors.lock();
        match errors.get_mut(kind) {
            Some(count) => *count += 1,
            None => {
                errors.insert(kind.to_owned(), 1);
            }
        }
    }

    /// All seconds so far.
    pub fn seconds(&self) -> Vec<Second> {
        self.seconds.lock().clone()
    }

    /// All errors so far by kind.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().clone()
    }

    /// One kind of call so far.
    pub fn call(&self, call: Call) -> CallStats {
        let record = self.calls[call as usize].lock();
        CallStats {
            answered: Latency::of(&record.answered),
            refused: Latency::of(&record.refused),
            failed: record.failed,
        }
    }

    /// The kinds of calls that were made, by name.
    pub fn calls(&self) -> BTreeMap<String, CallStats> {
        let was_made = |stats: &CallStats| stats.answered.count + stats.refused.count + stats.failed > 0;
        Call::ALL
            .iter()
            .map(|&call| (call.name().to_owned(), self.call(call)))
            .filter(|(_, stats)| was_made(stats))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn result(status: u16) -> Result<Reply, SendError> {
        if status == 0 {
            return Err(SendError::Timeout);
        }
        Ok(Reply {
            status,
            retry_after: None,
            etag: None,
            body: Bytes::new(),
            wire_bytes: 0,
        })
    }

    #[test]
    fn a_stall_counts_for_every_call_that_was_due_in_it() {
        let recorder = Recorder::default();
        // Ten calls, due every 100 ms. The server stalls for a second and then answers all at once.
        for n in 0..10 {
            let due = Duration::from_millis(100 * n);
            recorder.record(Call::Join, due, Duration::from_secs(1), &result(201));
        }
        let join = recorder.call(Call::Join).answered;
        assert!(
            (490.0..=510.0).contains(&join.p50_ms) && (998.0..=1_002.0).contains(&join.max_ms),
            "{join:?}"
        );
        assert_eq!(recorder.seconds()[0].due, 10);
        assert_eq!(recorder.seconds()[1].answered, 10);
    }

    #[test]
    fn refusals_and_failures_count_apart_from_answers() {
        let recorder = Recorder::default();
        for status in [201, 409, 503, 429, 500, 0] {
            recorder.record(
                Call::Hold,
                Duration::ZERO,
                Duration::from_millis(2),
                &result(status),
            );
        }
        let hold = recorder.call(Call::Hold);
        assert_eq!((hold.answered.count, hold.refused.count, hold.failed), (2, 2, 2));
        let errors = recorder.errors();
        assert_eq!(
            errors.keys().map(String::as_str).collect::<Vec<_>>(),
            ["hold 429", "hold 500", "hold 503", "hold: timeout"]
        );
    }

    #[test]
    fn latencies_of_parts_merge() {
        let (one, other) = (Recorder::default(), Recorder::default());
        for n in 1..=99 {
            one.record(
                Call::Status,
                Duration::ZERO,
                Duration::from_millis(n),
                &result(200),
            );
        }
        other.record(Call::Status, Duration::ZERO, Duration::from_secs(5), &result(200));
        let sum = one
            .call(Call::Status)
            .answered
            .merged(&other.call(Call::Status).answered);
        assert_eq!(sum.count, 100);
        assert!(
            (49.0..51.0).contains(&sum.p50_ms) && sum.max_ms > 4_990.0,
            "{sum:?}"
        );
    }
}

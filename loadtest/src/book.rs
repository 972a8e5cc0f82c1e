//! What is written down while a crowd is there: latencies by step, what came of each call, and a line a second.
//!
//! A latency counts from the moment when the call was due, not from when a connection or a worker was free for it: a
//! server that stalls delays everybody who was due meanwhile, and each of them is counted (Tene: coordinated omission).

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::wire::{Lost, Reply};

/// One kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// By a hand-off from the shop.
    SignIn,
    Join,
    Place,
    Board,
    Enter,
    Renew,
    EndVisit,
    Plan,
    Seats,
    Hold,
    Order,
    OrderLook,
    Tickets,
    /// A call without the proof it needs.
    Forged,
}

pub const STEPS: [Step; 14] = [
    Step::SignIn,
    Step::Join,
    Step::Place,
    Step::Board,
    Step::Enter,
    Step::Renew,
    Step::EndVisit,
    Step::Plan,
    Step::Seats,
    Step::Hold,
    Step::Order,
    Step::OrderLook,
    Step::Tickets,
    Step::Forged,
];

impl Step {
    pub fn name(self) -> &'static str {
        match self {
            Self::SignIn => "sign in",
            Self::Join => "join",
            Self::Place => "place",
            Self::Board => "board",
            Self::Enter => "enter",
            Self::Renew => "renew",
            Self::EndVisit => "end visit",
            Self::Plan => "plan",
            Self::Seats => "seats",
            Self::Hold => "hold",
            Self::Order => "order",
            Self::OrderLook => "order look-up",
            Self::Tickets => "tickets",
            Self::Forged => "forged",
        }
    }
}

/// What happened in one second of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Calls that were due.
    pub due: u64,
    /// Calls that were answered with what they asked for, or with a plain no.
    pub answered: u64,
    /// Calls that were told to come again (429, 503).
    pub refused: u64,
    /// Calls without an answer, or with one that nobody should get.
    pub failed: u64,
    /// The slowest answer, in microseconds.
    #[serde(default)]
    pub slowest_us: u64,
    pub joins: u64,
    pub entries: u64,
    pub tickets: u64,
    /// As the board said.
    pub waiting: u64,
    pub active: u64,
    /// Of the server's process, where it is ours.
    pub rss_kib: u64,
    pub cpu_ms: u64,
}

impl Second {
    /// Adds what another part of the same run saw in this second.
    pub fn add(&mut self, other: &Self) {
        self.due += other.due;
        self.answered += other.answered;
        self.refused += other.refused;
        self.failed += other.failed;
        self.slowest_us = self.slowest_us.max(other.slowest_us);
        self.joins += other.joins;
        self.entries += other.entries;
        self.tickets += other.tickets;
        // Not sums: all parts look at one house.
        self.waiting = self.waiting.max(other.waiting);
        self.active = self.active.max(other.active);
        self.rss_kib = self.rss_kib.max(other.rss_kib);
        self.cpu_ms = self.cpu_ms.max(other.cpu_ms);
    }
}

/// Latencies of one step, in microseconds: of answers, and of refusals apart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StepFigures {
    pub answered: Latency,
    pub refused: Latency,
    pub failed: u64,
}

/// A histogram that can be written down and added up: value in microseconds -> how often.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    pub count: u64,
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
    /// `[microseconds, count]`, ascending; to three significant digits.
    pub buckets: Vec<(u64, u64)>,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |q: f64| ms(histogram.value_at_quantile(q));
        Self {
            count: histogram.len(),
            mean_ms: if histogram.is_empty() {
                0.0
            } else {
                histogram.mean() / 1_000.0
            },
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: ms(histogram.max()),
            buckets: histogram
                .iter_recorded()
                .map(|it| (it.value_iterated_to(), it.count_at_value()))
                .collect(),
        }
    }

    /// Both together.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let mut all = fresh();
        for &(us, count) in self.buckets.iter().chain(&other.buckets) {
            all.saturating_record_n(us, count);
        }
        Self::of(&all)
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of minutes")]
fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

/// From a microsecond to an hour.
fn fresh() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("these bounds make a histogram")
}

struct StepBook {
    answered: Histogram<u64>,
    refused: Histogram<u64>,
    failed: u64,
}

/// Shared by everybody who measures in one process.
pub struct Book {
    steps: Vec<Mutex<StepBook>>,
    seconds: Mutex<Vec<Second>>,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Default for Book {
    fn default() -> Self {
        let step = || {
            Mutex::new(StepBook {
                answered: fresh(),
                refused: fresh(),
                failed: 0,
            })
        };
        Self {
            steps: STEPS.iter().map(|_| step()).collect(),
            seconds: Mutex::default(),
            errors: Mutex::default(),
        }
    }
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    Answered,
    Refused,
    Failed,
}

/// A plain no is an answer; being told to come again is a refusal.
pub fn became(outcome: &Result<Reply, Lost>) -> Became {
    match outcome {
        Ok(reply) if reply.status == 429 || reply.status == 503 => Became::Refused,
        Ok(reply) if reply.status < 500 => Became::Answered,
        _ => Became::Failed,
    }
}

impl Book {
    /// A call that was due at `due` came to its end at `now`, both counted from the run's beginning.
    pub fn note(&self, step: Step, due: Duration, now: Duration, outcome: &Result<Reply, Lost>) {
        let us = u64::try_from(now.saturating_sub(due).as_micros()).unwrap_or(u64::MAX);
        let became = became(outcome);
        {
            let mut book = self.steps[step as usize].lock();
            match became {
                Became::Answered => book.answered.saturating_record(us),
                Became::Refused => book.refused.saturating_record(us),
                Became::Failed => book.failed += 1,
            }
        }
        self.second(due, |second| second.due += 1);
        self.second(now, |second| match became {
            Became::Answered => {
                second.answered += 1;
                second.slowest_us = second.slowest_us.max(us);
            }
            Became::Refused => second.refused += 1,
            Became::Failed => second.failed += 1,
        });
        match outcome {
            Ok(reply) if became != Became::Answered => {
                self.error(&format!("{} {}", step.name(), reply.status))
            }
            Err(lost) => self.error(&format!("{}: {}", step.name(), lost.name())),
            Ok(_) => {}
        }
    }

    /// The second in which `at` lies, to be added to.
    pub fn second(&self, at: Duration, change: impl FnOnce(&mut Second)) {
        let mut seconds = self.seconds.lock();
        let at = usize::try_from(at.as_secs()).unwrap_or(usize::MAX).min(1 << 20);
        if seconds.len() <= at {
            seconds.resize(at + 1, Second::default());
        }
        change(&mut seconds[at]);
    }

    pub fn error(&self, kind: &str) {
        let mut errors = self.errors.lock();
        match errors.get_mut(kind) {
            Some(count) => *count += 1,
            None => {
                errors.insert(kind.to_owned(), 1);
            }
        }
    }

    pub fn seconds(&self) -> Vec<Second> {
        self.seconds.lock().clone()
    }

    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().clone()
    }

    pub fn step(&self, step: Step) -> StepFigures {
        let book = self.steps[step as usize].lock();
        StepFigures {
            answered: Latency::of(&book.answered),
            refused: Latency::of(&book.refused),
            failed: book.failed,
        }
    }

    /// Those steps that were taken, by name.
    pub fn steps(&self) -> BTreeMap<String, StepFigures> {
        let taken =
            |figures: &StepFigures| figures.answered.count + figures.refused.count + figures.failed > 0;
        STEPS
            .iter()
            .map(|&step| (step.name().to_owned(), self.step(step)))
            .filter(|(_, figures)| taken(figures))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16) -> Result<Reply, Lost> {
        if status == 0 {
            Err(Lost::Late)
        } else {
            Ok(Reply {
                status,
                retry_after: None,
                etag: None,
                body: Vec::new(),
                bytes: 0,
            })
        }
    }

    #[test]
    fn a_stall_is_counted_for_everybody_who_was_due_in_it() {
        let book = Book::default();
        // Ten calls, due every 100 ms; the server stalls for a second and then answers all at once.
        for n in 0..10 {
            book.note(
                Step::Join,
                Duration::from_millis(100 * n),
                Duration::from_secs(1),
                &reply(201),
            );
        }
        let join = book.step(Step::Join).answered;
        assert!(
            (490.0..=510.0).contains(&join.p50_ms) && (998.0..=1_002.0).contains(&join.max_ms),
            "{join:?}"
        );
        assert_eq!(book.seconds()[0].due, 10);
        assert_eq!(book.seconds()[1].answered, 10);
    }

    #[test]
    fn refusals_and_failures_are_kept_apart_from_answers() {
        let book = Book::default();
        let (due, now) = (Duration::ZERO, Duration::from_millis(2));
        for outcome in [
            reply(201),
            reply(409),
            reply(503),
            reply(429),
            reply(500),
            reply(0),
        ] {
            book.note(Step::Hold, due, now, &outcome);
        }
        let hold = book.step(Step::Hold);
        assert_eq!((hold.answered.count, hold.refused.count, hold.failed), (2, 2, 2));
        let errors = book.errors();
        assert_eq!(
            errors.keys().map(String::as_str).collect::<Vec<_>>(),
            ["hold 429", "hold 500", "hold 503", "hold: no answer in time"]
        );
    }

    #[test]
    fn histograms_of_parts_add_up() {
        let (one, other) = (Book::default(), Book::default());
        for n in 1..=99 {
            one.note(Step::Board, Duration::ZERO, Duration::from_millis(n), &reply(200));
        }
        other.note(Step::Board, Duration::ZERO, Duration::from_secs(5), &reply(200));
        let all = one
            .step(Step::Board)
            .answered
            .merged(&other.step(Step::Board).answered);
        assert_eq!(all.count, 100);
        assert!(
            (49.0..51.0).contains(&all.p50_ms) && all.max_ms > 4_990.0,
            "{all:?}"
        );
    }
}

//! The state that all visitors of one process share.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use stagedoor::{
    demo::client::{
        Abandoned, Call, ObservationLog, Reply, Request, Transport, VisitorRng, messages::QueueStatus,
    },
    kernel::{Clock, SystemClock, Timestamp},
};
use tokio::sync::{Semaphore, watch};

use super::config::CrowdConfig;
use crate::{
    forecast_check::ForecastCheck,
    http1::{Http1Client, HttpRequest, SendError},
    recorder::{CallOutcome, Recorder},
    sse_client::StreamStats,
};

/// The value of `Authorization`; empty where the sale requires no sign-in.
pub(super) type Session = Box<str>;

/// A visitor who waits with a number.
pub(super) struct Waiting {
    pub(super) customer: u32,
    pub(super) token: Box<str>,
    pub(super) session: Session,
}

/// A visitor whose number the draw will give.
pub(super) struct Undrawn {
    pub(super) customer: u32,
    /// The index of the join in the observation log.
    pub(super) join: usize,
    pub(super) token: Box<str>,
    pub(super) session: Session,
}

/// A join that is due.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DueJoin {
    pub(super) due: Duration,
    pub(super) customer: u32,
    pub(super) attempts: u32,
    pub(super) session: Session,
}

/// Everything that the visitors of one process share.
pub struct Crowd {
    /// Who comes, when and how.
    pub config: CrowdConfig,
    /// The connections to the server.
    pub client: Http1Client,
    /// Latencies and outcomes.
    pub recorder: Recorder,
    /// What the visitors were told.
    pub log: ObservationLog,
    /// What the event streams carried.
    pub streams: StreamStats,
    pub(super) clock: SystemClock,
    started: Duration,
    pub(super) status: watch::Sender<QueueStatus>,
    /// What was told of waits.
    pub forecasts: Mutex<ForecastCheck>,
    pub(super) waiting: Mutex<BTreeMap<u64, Waiting>>,
    pub(super) undrawn: Mutex<Vec<Undrawn>>,
    /// Visitors who wait without a number.
    pub(super) unnumbered: AtomicU32,
    pub(super) due: Mutex<VecDeque<DueJoin>>,
    pub(super) due_permits: Semaphore,
    /// Joins that were asked to come again.
    pub(super) postponed: Mutex<BinaryHeap<Reverse<DueJoin>>>,
    /// Joins in flight or postponed.
    pub(super) joining: AtomicU32,
    /// How often in a row the server could not be reached.
    pub(super) unreachable: AtomicU64,
    pub(super) is_over: AtomicBool,
}

/// How long one call is retried while the server asks to wait.
const PATIENCE: Duration = Duration::from_mins(2);
/// Retries of a call that fails.
const FAILURES_MAX: u32 = 5;
/// Polls of the status without any reply, in a row, before the server counts as gone.
const UNREACHABLE_MAX: u64 = 8;

impl Crowd {
    /// A crowd that has not started to arrive.
    pub fn new(config: CrowdConfig, client: Http1Client) -> Self {
        let clock = SystemClock::new();
        Self {
            log: ObservationLog::new(u32::try_from(config.arrivals.len()).unwrap_or(u32::MAX)),
            started: clock.monotonic(),
            clock,
            config,
            client,
            recorder: Recorder::default(),
            streams: StreamStats::default(),
            status: watch::Sender::new(QueueStatus::default()),
            forecasts: Mutex::default(),
            waiting: Mutex::default(),
            undrawn: Mutex::default(),
            unnumbered: AtomicU32::new(0),
            due: Mutex::default(),
            due_permits: Semaphore::new(0),
            postponed: Mutex::default(),
            joining: AtomicU32::new(0),
            unreachable: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.started)
    }

    /// The wall clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The queue status as last read.
    pub fn queue_status(&self) -> QueueStatus {
        self.status.borrow().clone()
    }

    /// Waiting visitors, and joins that are not answered yet.
    pub fn waiting_and_joining(&self) -> (usize, u32) {
        (
            self.waiting.lock().len() + self.unnumbered.load(Ordering::Relaxed) as usize,
            self.joining.load(Ordering::Relaxed),
        )
    }

    /// The server has not answered for some seconds.
    pub fn is_unreachable(&self) -> bool {
        self.unreachable.load(Ordering::Relaxed) >= UNREACHABLE_MAX
    }

    /// The run has ended.
    pub fn is_finished(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Sends one request once and records it. `due`: when it should have been sent.
    pub async fn send_recorded(
        &self,
        call: Call,
        due: Duration,
        request: &HttpRequest<'_>,
    ) -> Result<Reply, SendError> {
        let result = self.client.send(request).await;
        self.recorder.record(call, due, self.elapsed(), &result);
        result
    }

    /// A visitor's random decisions at this point of their day.
    pub fn rng(&self, customer: u32, point: u32) -> VisitorRng {
        VisitorRng::new(self.config.seed.wrapping_add(u64::from(point) << 32), customer)
    }
}

/// The transport of admitted visitors: retries while the server asks to wait. Each attempt's latency counts
/// from when the attempt was due.
impl Transport for Crowd {
    async fn send(&self, rng: &VisitorRng, request: Request) -> Result<Reply, Abandoned> {
        let headers: Vec<(&'static str, &str)> = request
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let http_request = HttpRequest {
            method: request.method,
            path: &request.path,
            headers: &headers,
            body: request.body.as_deref(),
        };
        let began = self.elapsed();
        let mut due = began;
        for attempt in 0_u32.. {
            let result = self.send_recorded(request.call, due, &http_request).await;
            let pause = match &result {
                Ok(reply) if reply.asks_to_wait() => {
                    let advised = reply.retry_after.unwrap_or(Duration::from_secs(1));
                    advised + rng.jitter(advised)
                }
                Ok(reply) if reply.status < 500 => return result.map_err(|_| Abandoned),
                _ => rng.jitter(Duration::from_millis(200 << attempt.min(5))),
            };
            due = self.elapsed() + pause;
            let has_failed = CallOutcome::of(&result) == CallOutcome::Failed;
            if due.saturating_sub(began) > PATIENCE || (has_failed && attempt >= FAILURES_MAX) {
                return Err(Abandoned);
            }
            tokio::time::sleep(pause).await;
        }
        Err(Abandoned)
    }

    fn error(&self, kind: &str) -> Abandoned {
        self.recorder.error(kind);
        Abandoned
    }

    fn observations(&self) -> &ObservationLog {
        &self.log
    }

    fn now(&self) -> Timestamp {
        Crowd::now(self)
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn pause(&self, rng: &VisitorRng, median: Duration) -> Duration {
        rng.pause(median.mul_f64(self.config.visit_pace))
    }

    fn is_over(&self) -> bool {
        self.status.borrow().is_over()
    }

    fn count_entry(&self) {
        self.recorder.second(self.elapsed(), |second| second.entries += 1);
    }

    fn count_tickets(&self, count: u32) {
        self.recorder
            .second(self.elapsed(), |second| second.tickets += u64::from(count));
    }
}

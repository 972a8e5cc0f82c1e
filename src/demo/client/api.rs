//! How fans call the server: few connections, a deadline on every call, retries that a server can bear.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::sync::Semaphore;

use crate::demo::crowd::{CrowdConfig, dice::Dice, report::Notebook};
use crate::{
    kernel::{Clock, Timestamp},
    platform::http_client::{Response, CallError, HttpClient},
};

/// Calls at once: looking and queueing.
const QUICK_MAX: usize = 48;
/// Calls at once: paying, where a slow gateway must not keep others from queueing.
const SLOW_MAX: usize = 128;
const QUICK_DEADLINE: Duration = Duration::from_secs(10);
const SLOW_DEADLINE: Duration = Duration::from_secs(30);
/// How long one wish is pursued while the server is away or asks to wait.
const PATIENCE: Duration = Duration::from_mins(1);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A seat map of a stadium fits.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// The budget for retries after failures: each call earns a tenth of a retry, and so many are in hand at most.
const BUDGET_TENTHS_MAX: i64 = 1_000;

pub(crate) struct Api {
    client: HttpClient,
    base: String,
    pub(crate) sale: String,
    quick: Semaphore,
    slow: Semaphore,
    budget_tenths: AtomicI64,
    /// The last that any fan knows is that nobody answers.
    is_away: AtomicBool,
    /// How often the server was away and came back.
    outages: AtomicU32,
    clock: Arc<dyn Clock>,
    notebook: Arc<Notebook>,
}

/// Which deadline and which connections a call takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Quick,
    Slow,
}

/// One wish. Every one may be sent twice: the contract makes it idempotent, by its method, its key or its meaning.
pub(crate) struct Ask {
    /// What the error list calls it.
    pub(crate) name: &'static str,
    pub(crate) method: Method,
    /// Below the base, for instance `/v1/orders`.
    pub(crate) path: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Option<serde_json::Value>,
    pub(crate) lane: Lane,
}

/// A wish that came to nothing; noted already.
#[derive(Debug)]
pub(crate) struct NoAnswer;

impl Ask {
    pub(crate) fn new(name: &'static str, method: Method, path: String) -> Self {
        Self {
            name,
            method,
            path,
            headers: Vec::new(),
            body: None,
            lane: Lane::Quick,
        }
    }

    pub(crate) fn with(mut self, header: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((HeaderName::from_static(header), value));
        }
        self
    }

    pub(crate) fn json(mut self, body: serde_json::Value) -> Self {
        self.body = Some(body);
        self
    }

    pub(crate) fn slow(mut self) -> Self {
        self.lane = Lane::Slow;
        self
    }
}

impl Api {
    pub(crate) fn new(config: &CrowdConfig, clock: Arc<dyn Clock>, notebook: Arc<Notebook>) -> Self {
        Self {
            client: HttpClient::new(QUICK_DEADLINE, ANSWER_BYTES_MAX),
            base: config.base.trim_end_matches('/').to_owned(),
            sale: config.sale.to_string(),
            quick: Semaphore::new(QUICK_MAX),
            slow: Semaphore::new(SLOW_MAX),
            budget_tenths: AtomicI64::new(BUDGET_TENTHS_MAX),
            is_away: AtomicBool::new(false),
            outages: AtomicU32::new(0),
            clock,
            notebook,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How often the server was away and came back, as far as any fan has noticed.
    pub(crate) fn outages(&self) -> u32 {
        self.outages.load(Ordering::Relaxed)
    }

    pub(crate) fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// A path of this sale: `/v1/sales/{sale}/{rest}`.
    pub(crate) fn sale_path(&self, rest: &str) -> String {
        format!("/v1/sales/{}/{rest}", self.sale)
    }

    /// Sends the wish until it is answered, or patience, budget or sense run out. A refusal is an answer.
    pub(crate) async fn ask(&self, dice: &Dice, ask: &Ask) -> Result<Response, NoAnswer> {
        let began = self.clock.monotonic();
        for attempt in 0_u32.. {
            let outcome = self.once(ask).await;
            if outcome.is_ok() && self.is_away.swap(false, Ordering::Relaxed) {
                self.outages.fetch_add(1, Ordering::Relaxed);
                self.notebook.outage();
            }
            let (kind, pause) = match outcome {
                Ok(answer) if asks_to_wait(answer.status) => {
                    let told = retry_after(&answer).unwrap_or(Duration::from_secs(1));
                    (
                        format!("{} {}", ask.name, answer.status.as_u16()),
                        Some(told + dice.up_to(told / 2)),
                    )
                }
                Ok(answer) if answer.status.is_server_error() => (
                    format!("{} {}", ask.name, answer.status.as_u16()),
                    self.budgeted_backoff(dice, attempt),
                ),
                Ok(answer) => {
                    self.earn();
                    return Ok(answer);
                }
                Err(CallError::Timeout(_)) => (
                    format!("{} unanswered", ask.name),
                    self.budgeted_backoff(dice, attempt),
                ),
                // The server is away: it cannot be overloaded by retries, and it is expected back.
                Err(CallError::NotSent | CallError::ConnectionLost) => {
                    self.is_away.store(true, Ordering::Relaxed);
                    (
                        format!("{} no connection", ask.name),
                        Some(backoff(dice, attempt)),
                    )
                }
            };
            let Some(pause) = pause.filter(|p| self.clock.monotonic().saturating_sub(began) + *p < PATIENCE)
            else {
                self.notebook.error(&kind);
                return Err(NoAnswer);
            };
            tokio::time::sleep(pause).await;
        }
        Err(NoAnswer)
    }

    async fn once(&self, ask: &Ask) -> Result<Response, CallError> {
        let (turns, deadline) = match ask.lane {
            Lane::Quick => (&self.quick, QUICK_DEADLINE),
            Lane::Slow => (&self.slow, SLOW_DEADLINE),
        };
        let _turn = turns.acquire().await.expect("the semaphores are never closed");
        let uri = format!("{}{}", self.base, ask.path)
            .parse()
            .map_err(|_| CallError::NotSent)?;
        let mut headers = ask.headers.clone();
        let body = match &ask.body {
            Some(body) => {
                headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        self.client
            .with_timeout(deadline)
            .send(ask.method.clone(), uri, &headers, body)
            .await
    }

    fn earn(&self) {
        // Two fans may overshoot the bound by one; a budget does not mind.
        if self.budget_tenths.load(Ordering::Relaxed) < BUDGET_TENTHS_MAX {
            self.budget_tenths.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn budgeted_backoff(&self, dice: &Dice, attempt: u32) -> Option<Duration> {
        if self.budget_tenths.fetch_sub(10, Ordering::Relaxed) < 10 {
            self.budget_tenths.fetch_add(10, Ordering::Relaxed);
            return None;
        }
        Some(backoff(dice, attempt))
    }
}

/// Full jitter under a doubling ceiling.
fn backoff(dice: &Dice, attempt: u32) -> Duration {
    dice.up_to(
        Duration::from_millis(200)
            .saturating_mul(1 << attempt.min(6))
            .min(BACKOFF_MAX),
    )
}

fn asks_to_wait(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE
}

/// The seconds of `Retry-After`; its date form is not used by this contract.
pub(crate) fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds: u64 = answer
        .headers
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds.min(300)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_ceiling_and_keeps_full_jitter() {
        let dice = Dice::new(1, 1);
        let longest = |attempt| (0..500).map(|_| backoff(&dice, attempt)).max().unwrap();
        assert!(longest(0) <= Duration::from_millis(200));
        assert!(longest(40) <= BACKOFF_MAX && longest(40) > BACKOFF_MAX / 2);
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_bounded() {
        let answer = |text: &'static str| Response {
            status: StatusCode::TOO_MANY_REQUESTS,
            headers: [(header::RETRY_AFTER, HeaderValue::from_static(text))]
                .into_iter()
                .collect(),
            body: Bytes::new(),
        };
        assert_eq!(retry_after(&answer("3")), Some(Duration::from_secs(3)));
        assert_eq!(retry_after(&answer("999999")), Some(Duration::from_mins(5)));
        assert_eq!(retry_after(&answer("soon")), None);
    }

    /// Serves one connection a canned answer.
    async fn answer_once(listener: &tokio::net::TcpListener, answer: &str) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 4_096];
        let _ = socket.read(&mut request).await.unwrap();
        socket.write_all(answer.as_bytes()).await.unwrap();
    }

    fn api(port: u16) -> (Api, Arc<Notebook>) {
        let config = CrowdConfig {
            base: format!("http://127.0.0.1:{port}/"),
            sale: "sale".parse().unwrap(),
            fans: 1,
            seed: 1,
            handoff: Arc::new(|_| String::new()),
            arrive_within: Duration::ZERO,
            first_customer: 1,
            pace: crate::demo::crowd::Pace::Brisk,
        };
        let notebook = Arc::new(Notebook::new(1));
        (
            Api::new(
                &config,
                Arc::new(crate::kernel::SystemClock::new()),
                Arc::clone(&notebook),
            ),
            notebook,
        )
    }

    #[tokio::test]
    async fn a_server_that_is_away_busy_and_broken_is_asked_until_it_answers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (api, notebook) = api(address.port());
        let asking = tokio::spawn(async move {
            let dice = Dice::new(1, 1);
            let answer = api
                .ask(&dice, &Ask::new("board", Method::GET, api.sale_path("board")))
                .await;
            (answer, api.outages())
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        answer_once(&listener, "").await;
        answer_once(&listener, "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await;
        let told = tokio::time::Instant::now();
        answer_once(
            &listener,
            "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(told.elapsed() >= Duration::from_secs(1), "Retry-After is kept");
        answer_once(
            &listener,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        )
        .await;
        let (answer, outages) = asking.await.unwrap();
        assert_eq!((answer.unwrap().status, outages), (StatusCode::NOT_FOUND, 1));
        assert!(
            notebook.report().errors.is_empty(),
            "what came right in the end is no error"
        );
    }

    #[tokio::test]
    async fn without_budget_a_failure_is_not_retried() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (api, notebook) = api(listener.local_addr().unwrap().port());
        api.budget_tenths.store(9, Ordering::Relaxed);
        let serving = tokio::spawn(async move {
            answer_once(&listener, "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n").await
        });
        let ask = Ask::new("board", Method::GET, api.sale_path("board"));
        assert!(api.ask(&Dice::new(1, 1), &ask).await.is_err());
        serving.await.unwrap();
        assert_eq!(notebook.report().errors["board 500"], 1);
    }
}

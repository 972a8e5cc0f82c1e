//! A transport for a crowd: few connections, a timeout on every call, and retries that a server can bear.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use tokio::sync::Semaphore;

use super::{
    call::{Abandoned, Reply, Request, parse_retry_after},
    observation_log::ObservationLog,
    rng::VisitorRng,
};
use crate::{
    kernel::{Clock, Timestamp},
    platform::http_client::{CallError, HttpClient, Response},
};

/// Calls in flight that do not wait for the payment gateway.
const QUICK_MAX: usize = 48;
/// Calls in flight that may: a slow gateway must not keep other visitors from joining.
const SLOW_MAX: usize = 128;
const QUICK_TIMEOUT: Duration = Duration::from_secs(10);
const SLOW_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one call is retried while the server is away or asks to wait.
const PATIENCE: Duration = Duration::from_mins(1);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Enough for a stadium's seat map.
const RESPONSE_BYTES_MAX: usize = 32 << 20;
/// The retry budget in tenths of a retry: each success earns one tenth, up to this.
const BUDGET_TENTHS_MAX: i64 = 1_000;

/// Sends requests with retries on behalf of many visitors, and notices outages.
pub struct RetryingClient {
    client: HttpClient,
    base: String,
    quick: Semaphore,
    slow: Semaphore,
    budget_tenths: AtomicI64,
    is_unreachable: AtomicBool,
    outages: AtomicU32,
    clock: Arc<dyn Clock>,
    log: Arc<ObservationLog>,
}

impl RetryingClient {
    /// A client of the service at `base`, such as `http://127.0.0.1:8080`. Errors and outages go to `log`.
    pub fn new(base: &str, clock: Arc<dyn Clock>, log: Arc<ObservationLog>) -> Self {
        Self {
            client: HttpClient::new(QUICK_TIMEOUT, RESPONSE_BYTES_MAX),
            base: base.trim_end_matches('/').to_owned(),
            quick: Semaphore::new(QUICK_MAX),
            slow: Semaphore::new(SLOW_MAX),
            budget_tenths: AtomicI64::new(BUDGET_TENTHS_MAX),
            is_unreachable: AtomicBool::new(false),
            outages: AtomicU32::new(0),
            clock,
            log,
        }
    }

    /// The wall clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The monotonic clock.
    pub fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Where errors and outages are recorded.
    pub fn log(&self) -> &ObservationLog {
        &self.log
    }

    /// How often the server was unreachable and came back, as far as any visitor noticed.
    pub fn outages(&self) -> u32 {
        self.outages.load(Ordering::Relaxed)
    }

    /// Sends the request until there is an answer other than "come again", or patience or budget run out.
    ///
    /// # Errors
    /// [`Abandoned`]; the error is recorded.
    pub async fn send(&self, rng: &VisitorRng, request: &Request) -> Result<Reply, Abandoned> {
        let began = self.clock.monotonic();
        let name = request.call.name();
        for attempt in 0_u32.. {
            let outcome = self.send_once(request).await;
            if outcome.is_ok() && self.is_unreachable.swap(false, Ordering::Relaxed) {
                self.outages.fetch_add(1, Ordering::Relaxed);
                self.log.outage();
            }
            let (error, pause) = match outcome {
                Ok(reply) if reply.asks_to_wait() => {
                    let advised = reply.retry_after.unwrap_or(Duration::from_secs(1));
                    (
                        format!("{name} {}", reply.status),
                        Some(advised + rng.jitter(advised / 2)),
                    )
                }
                Ok(reply) if reply.status >= 500 => (
                    format!("{name} {}", reply.status),
                    self.budgeted_backoff(rng, attempt),
                ),
                Ok(reply) => {
                    self.earn();
                    return Ok(reply);
                }
                Err(CallError::Timeout(_)) => {
                    (format!("{name}: timeout"), self.budgeted_backoff(rng, attempt))
                }
                // An unreachable server cannot be overloaded by retries, and it is expected back: no budget.
                Err(CallError::NotSent | CallError::ConnectionLost) => {
                    self.is_unreachable.store(true, Ordering::Relaxed);
                    (format!("{name}: no connection"), Some(backoff(rng, attempt)))
                }
            };
            let elapsed = self.clock.monotonic().saturating_sub(began);
            let Some(pause) = pause.filter(|pause| elapsed + *pause < PATIENCE) else {
                self.log.error(&error);
                return Err(Abandoned);
            };
            tokio::time::sleep(pause).await;
        }
        Err(Abandoned)
    }

    async fn send_once(&self, request: &Request) -> Result<Reply, CallError> {
        let (permits, timeout) = if request.call.is_slow() {
            (&self.slow, SLOW_TIMEOUT)
        } else {
            (&self.quick, QUICK_TIMEOUT)
        };
        let _permit = permits.acquire().await.expect("the semaphores are never closed");
        let uri = format!("{}{}", self.base, request.path)
            .parse()
            .map_err(|_| CallError::NotSent)?;
        let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| CallError::NotSent)?;
        let mut headers = Vec::with_capacity(request.headers.len() + 1);
        for (name, value) in &request.headers {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.push((HeaderName::from_static(name), value));
            }
        }
        let body = match &request.body {
            Some(body) => {
                headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
                Bytes::from(body.clone())
            }
            None => Bytes::new(),
        };
        let response = self
            .client
            .with_timeout(timeout)
            .send(method, uri, &headers, body)
            .await?;
        Ok(reply(response))
    }

    fn earn(&self) {
        // Two visitors may overshoot the bound by one, which does not matter for a budget.
        if self.budget_tenths.load(Ordering::Relaxed) < BUDGET_TENTHS_MAX {
            self.budget_tenths.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn budgeted_backoff(&self, rng: &VisitorRng, attempt: u32) -> Option<Duration> {
        if self.budget_tenths.fetch_sub(10, Ordering::Relaxed) < 10 {
            self.budget_tenths.fetch_add(10, Ordering::Relaxed);
            return None;
        }
        Some(backoff(rng, attempt))
    }
}

/// Full jitter under a doubling ceiling.
fn backoff(rng: &VisitorRng, attempt: u32) -> Duration {
    let ceiling = Duration::from_millis(200).saturating_mul(1 << attempt.min(6));
    rng.jitter(ceiling.min(BACKOFF_MAX))
}

fn reply(response: Response) -> Reply {
    let text = |name| {
        response
            .headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    Reply {
        status: response.status.as_u16(),
        retry_after: text(header::RETRY_AFTER).and_then(parse_retry_after),
        etag: text(header::ETAG).map(str::to_owned),
        wire_bytes: response.body.len(),
        body: response.body,
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        demo::client::{call::Call, paths},
        kernel::SystemClock,
    };

    #[test]
    fn backoff_grows_to_its_ceiling_with_full_jitter() {
        let rng = VisitorRng::new(1, 1);
        let longest = |attempt| (0..500).map(|_| backoff(&rng, attempt)).max().unwrap();
        assert!(longest(0) <= Duration::from_millis(200));
        assert!(longest(40) <= BACKOFF_MAX && longest(40) > BACKOFF_MAX / 2);
    }

    /// Serves one connection a fixed answer.
    async fn answer_once(listener: &TcpListener, answer: &str) {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 4_096];
        let _ = socket.read(&mut request).await.unwrap();
        socket.write_all(answer.as_bytes()).await.unwrap();
    }

    fn client(port: u16) -> (RetryingClient, Arc<ObservationLog>) {
        let log = Arc::new(ObservationLog::new(1));
        let base = format!("http://127.0.0.1:{port}/");
        (
            RetryingClient::new(&base, Arc::new(SystemClock::new()), Arc::clone(&log)),
            log,
        )
    }

    fn status_request() -> Request {
        Request::new(Call::Status, "GET", paths::status("sale"))
    }

    #[tokio::test]
    async fn an_unreachable_busy_or_failing_server_is_retried() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (client, log) = client(address.port());
        let sending = tokio::spawn(async move {
            let reply = client.send(&VisitorRng::new(1, 1), &status_request()).await;
            (reply, client.outages())
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let listener = TcpListener::bind(address).await.unwrap();
        answer_once(&listener, "").await;
        answer_once(
            &listener,
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n",
        )
        .await;
        let refused_at = tokio::time::Instant::now();
        answer_once(
            &listener,
            "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(
            refused_at.elapsed() >= Duration::from_secs(1),
            "Retry-After is kept"
        );
        answer_once(
            &listener,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        )
        .await;
        let (reply, outages) = sending.await.unwrap();
        assert_eq!((reply.unwrap().status, outages), (404, 1));
        assert!(
            log.snapshot().errors.is_empty(),
            "a retry that succeeds is no error"
        );
    }

    #[tokio::test]
    async fn a_failure_is_not_retried_without_budget() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, log) = client(listener.local_addr().unwrap().port());
        client.budget_tenths.store(9, Ordering::Relaxed);
        let serving = tokio::spawn(async move {
            answer_once(&listener, "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n").await;
        });
        assert!(
            client
                .send(&VisitorRng::new(1, 1), &status_request())
                .await
                .is_err()
        );
        serving.await.unwrap();
        assert_eq!(log.snapshot().errors["status 500"], 1);
    }
}

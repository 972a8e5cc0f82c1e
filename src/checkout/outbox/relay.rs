//! The relay: sends the outbox to the shop's receiver.
//!
//! Any number of nodes relay one outbox. Each leases streams and sends the events of a leased stream one
//! after another. The lease of a node that died ends by itself, and another node goes on. A failed event is
//! sent again with growing pauses; the later events of its stream wait for it.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;

use crate::{
    checkout::{
        ledger::port::LedgerError,
        outbox::{
            event::{CloudEvent, VISITOR_CALLED},
            port::{AfterFailure, LeasedEvent, Outbox},
            receiver::{DeliveryOutcome, EventReceiver},
        },
    },
    kernel::{Clock, Entropy, Timestamp},
    platform::shutdown::Lifecycle,
};

/// How long a failing event is sent again before it becomes a dead letter.
pub(super) const RETRY_FOR: Duration = Duration::from_hours(72);
/// How long it is worth telling a visitor that they are called.
pub(super) const TELL_CALL_FOR: Duration = Duration::from_mins(10);
const RETRY_BASE: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_mins(10);
/// What a lease lasts beyond the receiver's time limit: enough to record a result.
const LEASE_MARGIN: Duration = Duration::from_secs(10);
/// How often the ledger is asked for new events.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// An outage is over once no attempt has failed for this long, so that a receiver that fails now and then is
/// logged once.
const OUTAGE_ENDS_AFTER: Duration = Duration::from_mins(1);
/// Pause after the ledger failed.
const LEDGER_PAUSE: Duration = Duration::from_secs(1);

/// Sends events to one receiver.
pub(crate) struct Relay {
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) receiver: Arc<dyn EventReceiver>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) lifecycle: Lifecycle,
    /// URL of the service, the beginning of each event's source.
    pub(super) public_base: String,
    /// The receiver's time limit.
    pub(super) timeout: Duration,
    /// Requests at a time.
    pub(super) requests_max: u32,
    /// When an attempt failed last, while an outage goes on.
    pub(super) last_failure_at: Mutex<Option<Timestamp>>,
}

impl Relay {
    /// Relays until the process stops. Requests in flight are finished.
    pub(crate) async fn run(&self) {
        let mut deliveries = FuturesUnordered::new();
        while !self.lifecycle.is_stopping() {
            let free = self
                .requests_max
                .saturating_sub(u32::try_from(deliveries.len()).unwrap_or(u32::MAX));
            let mut pause = POLL_INTERVAL;
            if free > 0 {
                match self.lease(free).await {
                    Ok(leased) => {
                        deliveries.extend(leased.into_iter().map(|event| self.deliver_stream(event)));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot lease events for the shop; retrying");
                        pause = LEDGER_PAUSE;
                    }
                }
            }
            let is_full = deliveries.len() >= self.requests_max as usize;
            tokio::select! {
                biased;
                () = self.lifecycle.stopping() => break,
                Some(()) = deliveries.next() => {}
                () = tokio::time::sleep(pause), if !is_full => {}
            }
        }
        while deliveries.next().await.is_some() {}
    }

    /// Leases up to `limit` streams that are due.
    pub(super) async fn lease(&self, limit: u32) -> Result<Vec<LeasedEvent>, LedgerError> {
        let now = self.clock.now();
        self.outbox.lease_streams(now, self.lease_end(now), limit).await
    }

    fn lease_end(&self, now: Timestamp) -> Timestamp {
        now.plus(self.timeout + LEASE_MARGIN)
    }

    /// Sends the events of a leased stream until there are none, one fails, or the lease is lost.
    pub(super) async fn deliver_stream(&self, first: LeasedEvent) {
        let mut next = Some(first);
        while let Some(event) = next {
            if self.lifecycle.is_stopping() {
                // Best effort: the lease ends by itself.
                let _ = self.outbox.release_stream(&event.lease, self.clock.now()).await;
                return;
            }
            next = self.deliver(event).await;
        }
    }

    /// Sends one event and records the result. Returns the next one of the stream.
    async fn deliver(&self, leased: LeasedEvent) -> Option<LeasedEvent> {
        let outcome = self.send(&leased).await;
        let now = self.clock.now();
        let failure = match outcome {
            DeliveryOutcome::Accepted => None,
            DeliveryOutcome::Failed(error) => Some((error, self.after_failure(&leased, now))),
        };
        self.log(&leased, failure.as_ref(), now);
        let recorded = if let Some((error, after)) = failure {
            count(match after {
                AfterFailure::RetryAt(_) => "failed",
                AfterFailure::Dead => "dead",
                AfterFailure::Expired => "expired",
            });
            let failed = self.outbox.record_failure(&leased.lease, &error, after, now);
            failed.await.map(|()| None)
        } else {
            count("accepted");
            let sequence = leased.event.id.sequence;
            self.outbox
                .record_accepted(&leased.lease, sequence, now, self.lease_end(now))
                .await
        };
        recorded.unwrap_or_else(|error| {
            tracing::warn!(
                event = %leased.event.id,
                %error,
                "cannot record the delivery of an event; it is sent again when its lease ends"
            );
            None
        })
    }

    async fn send(&self, leased: &LeasedEvent) -> DeliveryOutcome {
        let event = &leased.event;
        match CloudEvent::new(event, &self.public_base).and_then(|event| serde_json::to_vec(&event)) {
            Ok(body) => self.receiver.deliver(&event.id.to_string(), body.into()).await,
            Err(error) => DeliveryOutcome::Failed(format!("its data cannot be read: {error}")),
        }
    }

    fn after_failure(&self, leased: &LeasedEvent, now: Timestamp) -> AfterFailure {
        let is_over = leased
            .failing_since
            .is_some_and(|since| now.since(since) >= RETRY_FOR);
        if leased.event.kind == VISITOR_CALLED && now.since(leased.event.at) >= TELL_CALL_FOR {
            AfterFailure::Expired
        } else if is_over {
            AfterFailure::Dead
        } else {
            AfterFailure::RetryAt(now.plus(backoff(leased.attempts, self.entropy.as_ref())))
        }
    }

    /// One line when an outage begins, one when it ends, one for each dead letter.
    fn log(&self, leased: &LeasedEvent, failure: Option<&(String, AfterFailure)>, now: Timestamp) {
        let event = &leased.event.id;
        let mut last_failure_at = self.last_failure_at.lock();
        let Some((error, after)) = failure else {
            if last_failure_at.is_some_and(|last| now.since(last) >= OUTAGE_ENDS_AFTER) {
                *last_failure_at = None;
                tracing::info!(%event, "the shop's receiver accepts events again");
            }
            return;
        };
        let is_new = last_failure_at.replace(now).is_none();
        if *after == AfterFailure::Dead {
            tracing::error!(
                %event,
                error,
                "an event for the shop is a dead letter and stops the later ones of its order: an operator \
                must send it again or skip it"
            );
        } else if is_new {
            tracing::warn!(
                %event,
                error,
                "the shop's receiver did not accept an event; retrying with growing pauses"
            );
        }
    }
}

/// Exponential backoff of which half is random.
fn backoff(attempts: u32, entropy: &dyn Entropy) -> Duration {
    let longest = RETRY_BASE.saturating_mul(1 << attempts.min(16)).min(RETRY_MAX);
    longest.mul_f64(0.5 + entropy.unit() / 2.0)
}

fn count(outcome: &'static str) {
    metrics::counter!("stagedoor_outbox_deliveries_total", "outcome" => outcome).increment(1);
}

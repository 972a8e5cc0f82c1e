//! What operators and the feed do with the outbox, and what both roles record in it.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    checkout::{
        errors::CheckoutError,
        ledger::port::LedgerError,
        outbox::{
            event::{CloudEvent, SaleMilestone},
            port::{DeadLetter, EventId, Outbox, OutboxCounts, ReplayRange},
            receiver::EventReceiver,
            relay::Relay,
        },
    },
    kernel::{Clock, Entropy, SaleId},
    platform::shutdown::Lifecycle,
};

/// How often events get their positions in the feed, and are counted.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(2);
/// Events of one step of a replay: one transaction, which other writers wait for.
const REPLAY_STEP: u32 = 1_000;

/// Where events go, and within which limits.
#[derive(Clone)]
pub struct EventDelivery {
    /// The receiver.
    pub receiver: Arc<dyn EventReceiver>,
    /// Its time limit.
    pub timeout: Duration,
    /// Requests at a time, from this node.
    pub requests_max: u32,
}

/// The events of a ledger.
pub struct Events {
    outbox: Arc<dyn Outbox>,
    clock: Arc<dyn Clock>,
    public_base: String,
    /// Whether a receiver is configured.
    has_receiver: bool,
    counts: Mutex<OutboxCounts>,
    recorded: Mutex<HashSet<(SaleId, SaleMilestone)>>,
    is_ledger_failing: AtomicBool,
}

/// One page of the feed.
#[derive(Debug)]
pub struct FeedPage {
    /// The events, in the order of the feed.
    pub events: Vec<CloudEvent>,
    /// The position behind which the next page begins.
    pub next: i64,
}

impl Events {
    pub(crate) fn new(
        outbox: Arc<dyn Outbox>,
        clock: Arc<dyn Clock>,
        public_base: String,
        has_receiver: bool,
    ) -> Self {
        Self {
            outbox,
            clock,
            public_base,
            has_receiver,
            counts: Mutex::default(),
            recorded: Mutex::default(),
            is_ledger_failing: AtomicBool::new(false),
        }
    }

    /// Starts the upkeep, and the relay if there is a receiver.
    pub(crate) fn start(
        self: &Arc<Self>,
        delivery: Option<EventDelivery>,
        entropy: &Arc<dyn Entropy>,
        lifecycle: &Lifecycle,
    ) {
        let (events, stop) = (Arc::clone(self), lifecycle.clone());
        lifecycle.supervise("outbox upkeep", UPKEEP_INTERVAL, move || {
            let (events, stop) = (Arc::clone(&events), stop.clone());
            async move {
                let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
                while stop.until_stopping(interval.tick()).await.is_some() {
                    events.keep_up().await;
                }
            }
        });
        let Some(delivery) = delivery else { return };
        let relay = Arc::new(Relay {
            outbox: Arc::clone(&self.outbox),
            receiver: delivery.receiver,
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(entropy),
            lifecycle: lifecycle.clone(),
            public_base: self.public_base.clone(),
            timeout: delivery.timeout,
            requests_max: delivery.requests_max,
            is_failing: AtomicBool::new(false),
        });
        lifecycle.supervise("event relay", Duration::from_secs(1), move || {
            let relay = Arc::clone(&relay);
            async move { relay.run().await }
        });
    }

    /// Numbers events for the feed, and counts what is not delivered.
    pub(crate) async fn keep_up(&self) {
        let done = async {
            self.outbox.number_events().await?;
            let counts = self.outbox.outbox_counts().await?;
            *self.counts.lock() = counts;
            Ok::<(), LedgerError>(())
        };
        match done.await {
            Ok(()) => self.is_ledger_failing.store(false, Ordering::Relaxed),
            Err(error) if !self.is_ledger_failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "cannot count the outbox; its metrics stand still until this succeeds");
            }
            Err(_) => {}
        }
    }

    /// What was not delivered a moment ago. All zero without a receiver: then nothing is to be delivered.
    #[must_use]
    pub fn counts(&self) -> OutboxCounts {
        if self.has_receiver {
            *self.counts.lock()
        } else {
            OutboxCounts::default()
        }
    }

    /// Age of the oldest undelivered event; zero without one.
    #[must_use]
    pub fn oldest_age(&self) -> Duration {
        let oldest_at = self.counts().oldest_at;
        oldest_at.map_or(Duration::ZERO, |at| self.clock.now().since(at))
    }

    /// Records that the sale has reached these milestones. Any node may say so at any time; each is recorded
    /// once.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`]; repeating the call is safe.
    pub async fn record_milestones(
        &self,
        sale: &SaleId,
        milestones: &[SaleMilestone],
    ) -> Result<(), CheckoutError> {
        for milestone in milestones {
            let key = (sale.clone(), *milestone);
            if self.recorded.lock().contains(&key) {
                continue;
            }
            let (event, at) = (milestone.event(sale), self.clock.now());
            self.outbox
                .record_sale_event(sale, *milestone as i64, event, at)
                .await?;
            self.recorded.lock().insert(key);
        }
        Ok(())
    }

    /// The events behind the position `after`, at most `limit`. An event that is committed later has a later
    /// position than any that was read.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`]
    pub async fn page(&self, after: i64, limit: u32) -> Result<FeedPage, CheckoutError> {
        self.outbox.number_events().await?;
        let rows = self.outbox.events_after(after, limit).await?;
        let next = rows.last().map_or(after, |(position, _)| *position);
        let events = rows
            .iter()
            .map(|(_, event)| CloudEvent::new(event, &self.public_base))
            .collect::<Result<_, _>>();
        let events = events
            .map_err(|error| LedgerError::Unavailable(format!("the stored data of an event: {error}")))?;
        Ok(FeedPage { events, next })
    }

    /// Dead letters whose stream comes after `after`.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`]
    pub async fn dead_letters(&self, after: &str, limit: u32) -> Result<Vec<DeadLetter>, CheckoutError> {
        Ok(self.outbox.dead_letters(after, limit).await?)
    }

    /// Sends a dead letter again, with three more days. Returns false when there is no such dead letter.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`]
    pub async fn resend(&self, id: &EventId) -> Result<bool, CheckoutError> {
        Ok(self.outbox.resend_dead_letter(id, self.clock.now()).await?)
    }

    /// Gives a dead letter up. Returns false when there is no such dead letter.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`]
    pub async fn skip(&self, id: &EventId, operator: &str) -> Result<bool, CheckoutError> {
        Ok(self
            .outbox
            .skip_dead_letter(id, operator, self.clock.now())
            .await?)
    }

    /// Sends the events of a range again, whether they were delivered, skipped or not. Returns how many.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`]; part of the range may be sent again then, and repeating the call is safe.
    pub async fn replay(&self, range: &ReplayRange) -> Result<u64, CheckoutError> {
        self.outbox.number_events().await?;
        let (mut events, mut after) = (0, Some(0));
        while let Some(position) = after {
            let step = self
                .outbox
                .replay(range, position, REPLAY_STEP, self.clock.now())
                .await?;
            events += step.events;
            after = step.next;
        }
        Ok(events)
    }
}

//! What operators and the feed do with the outbox, and what both roles record in it.

use std::{
    collections::BTreeMap,
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
            event::{self, CloudEvent, SaleMilestone, VisitorEvent},
            port::{DeadLetter, EventId, Outbox, OutboxCounts, ReplayRange},
            receiver::EventReceiver,
            relay::Relay,
        },
    },
    kernel::{Clock, Entropy, SaleId, Timestamp},
    platform::shutdown::Lifecycle,
};

/// How often events get their positions in the feed, and are counted.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(2);
/// Events, or streams, of one step of a replay: one transaction, which other writers wait for.
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
    milestones: Mutex<BTreeMap<(SaleId, SaleMilestone), Milestone>>,
    is_ledger_failing: AtomicBool,
}

/// What this process knows of one milestone.
struct Milestone {
    /// When the sale reached it.
    at: Timestamp,
    is_recorded: bool,
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
            milestones: Mutex::default(),
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
            last_failure_at: Mutex::default(),
        });
        lifecycle.supervise("event relay", Duration::from_secs(1), move || {
            let relay = Arc::clone(&relay);
            async move { relay.run().await }
        });
    }

    /// Records milestones, numbers events for the feed, and counts what a receiver has yet to accept.
    async fn keep_up(&self) {
        let done = async {
            self.record_milestones().await?;
            self.outbox.number_events().await?;
            if self.has_receiver {
                let counts = self.outbox.outbox_counts().await?;
                *self.counts.lock() = counts;
            }
            Ok::<(), LedgerError>(())
        };
        match done.await {
            Ok(()) => self.is_ledger_failing.store(false, Ordering::Relaxed),
            Err(error) if !self.is_ledger_failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(
                    %error,
                    "cannot read the outbox; its metrics and the events of sales wait until this succeeds"
                );
            }
            Err(_) => {}
        }
    }

    /// What was not delivered a moment ago. All zero without a receiver: then nothing is to be delivered.
    #[must_use]
    pub fn counts(&self) -> OutboxCounts {
        *self.counts.lock()
    }

    /// Age of the oldest undelivered event; zero without one.
    #[must_use]
    pub fn oldest_age(&self) -> Duration {
        let oldest_at = self.counts().oldest_at;
        oldest_at.map_or(Duration::ZERO, |at| self.clock.now().since(at))
    }

    /// Takes note of when the sale reached a milestone; the upkeep records it. Any node may say so at any
    /// time: each milestone is recorded once.
    pub fn note_milestone(&self, sale: &SaleId, milestone: SaleMilestone, at: Timestamp) {
        self.milestones
            .lock()
            .entry((sale.clone(), milestone))
            .or_insert(Milestone {
                at,
                is_recorded: false,
            });
    }

    /// Records the milestones that this process has not recorded yet, in their order.
    async fn record_milestones(&self) -> Result<(), LedgerError> {
        let open: Vec<_> = {
            let noted = self.milestones.lock();
            let open = noted.iter().filter(|(_, milestone)| !milestone.is_recorded);
            open.map(|(key, milestone)| (key.clone(), milestone.at)).collect()
        };
        for ((sale, milestone), at) in open {
            self.outbox
                .record_events(&sale, vec![milestone.event(&sale, at)])
                .await?;
            if let Some(noted) = self.milestones.lock().get_mut(&(sale, milestone)) {
                noted.is_recorded = true;
            }
        }
        Ok(())
    }

    /// Records that visitors were called, each with the arrival number and the moment. Any node may record
    /// them, at any time.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`]; recording them again is safe.
    pub async fn record_called(
        &self,
        sale: &SaleId,
        visitors: &[(VisitorEvent, u32, Timestamp)],
    ) -> Result<(), CheckoutError> {
        let events = visitors
            .iter()
            .map(|(visitor, arrival, called_at)| event::visitor_called(visitor, *arrival, *called_at));
        Ok(self.outbox.record_events(sale, events.collect()).await?)
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

    /// Sends all dead letters again, or those of one sale. Returns how many.
    ///
    /// # Errors
    /// [`CheckoutError::Ledger`]; part of them may be sent again then, and repeating the call is safe.
    pub async fn resend_all(&self, sale: Option<&SaleId>) -> Result<u64, CheckoutError> {
        let (mut resent, now) = (0, self.clock.now());
        loop {
            let step = self.outbox.resend_dead_letters(sale, REPLAY_STEP, now).await?;
            resent += step;
            if step < u64::from(REPLAY_STEP) {
                return Ok(resent);
            }
        }
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
        // Only numbered events are replayed.
        while self.outbox.number_events().await? > 0 {}
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

//! The outbox port: events in the ledger, and the state of their delivery.
//!
//! The events of an order, or of a sale, are one stream. Each method is one transaction, durable when it
//! returns. The same conformance suite runs on each implementation.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;

use crate::{
    checkout::ledger::port::{LedgerError, NewEvent},
    kernel::{OrderId, SaleId, Timestamp},
};

/// Names an event: its stream, and its place there. As text `STREAM:SEQUENCE`, the same over all retries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventId {
    /// Id of the order, or of the sale.
    pub stream: String,
    /// Grows within the stream.
    pub sequence: i64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.stream, self.sequence)
    }
}

/// The text is not `STREAM:SEQUENCE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of an event")]
pub struct InvalidEventId;

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        let (stream, sequence) = text.split_once(':').ok_or(InvalidEventId)?;
        let sequence = sequence.parse().map_err(|_| InvalidEventId)?;
        // Sale ids and order ids are both of this form.
        stream.parse::<SaleId>().map_err(|_| InvalidEventId)?;
        Ok(Self {
            stream: stream.to_owned(),
            sequence,
        })
    }
}

/// An event in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEvent {
    /// Its id.
    pub id: EventId,
    /// The sale that it is about.
    pub sale: SaleId,
    /// Its type, for instance `stagedoor.order.booked.v1`.
    pub kind: String,
    /// JSON object.
    pub data: String,
    /// When it happened.
    pub at: Timestamp,
}

impl OutboxEvent {
    /// The order that it is about; `None` for events of a sale.
    #[must_use]
    pub fn order(&self) -> Option<OrderId> {
        (self.id.stream != self.sale.as_str())
            .then(|| self.id.stream.parse().ok())
            .flatten()
    }
}

/// An event that no order's transaction writes: of a sale, or of one of its visitors.
#[derive(Clone, Debug)]
pub(crate) struct StandaloneEvent {
    pub id: EventId,
    pub event: NewEvent,
    pub at: Timestamp,
}

/// The right to send the events of a stream, valid while it is the stream's latest lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamLease {
    /// The leased stream.
    pub stream: String,
    /// Grows by one with every lease of the stream.
    pub fence: i64,
}

/// The event of a leased stream that is to be sent next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeasedEvent {
    /// The lease of its stream.
    pub lease: StreamLease,
    /// The event.
    pub event: OutboxEvent,
    /// Failed attempts so far.
    pub attempts: u32,
    /// When the first of them failed.
    pub failing_since: Option<Timestamp>,
}

/// What becomes of an event that the receiver did not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterFailure {
    /// It is sent again from then on.
    RetryAt(Timestamp),
    /// It is a dead letter: its stream stops until an operator decides.
    Dead,
    /// It is worth nothing any more: it is given up, and its stream goes on.
    Expired,
}

/// An event that is not sent any more, and keeps the later ones of its stream from being sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event.
    pub event: OutboxEvent,
    /// When it became one.
    pub dead_at: Timestamp,
    /// Failed attempts.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub last_error: String,
    /// Later events of the stream, which wait for it.
    pub waiting: u64,
}

/// Which events to send again: those that happened from `from` on and before `until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayRange {
    /// Only events of this sale.
    pub sale: Option<SaleId>,
    /// Earliest time.
    pub from: Timestamp,
    /// First time that is not part of the range.
    pub until: Timestamp,
}

/// One step of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplayStep {
    /// Events of this step that are to be sent again.
    pub events: u64,
    /// Where the next step begins; `None` after the last one.
    pub next: Option<i64>,
}

/// What is not delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxCounts {
    /// Events that are still to be sent, dead letters and what waits for them included.
    pub undelivered: u64,
    /// Dead letters.
    pub dead: u64,
    /// When the oldest undelivered event happened.
    pub oldest_at: Option<Timestamp>,
}

/// The outbox of a ledger.
#[async_trait]
pub(crate) trait Outbox: Send + Sync + 'static {
    /// Records events that no order's transaction writes, except those whose ids are there already. Any
    /// number of nodes may record them.
    async fn record_events(&self, sale: &SaleId, events: Vec<StandaloneEvent>) -> Result<(), LedgerError>;

    /// Leases up to `limit` streams that are due at `now`, until `until`.
    async fn lease_streams(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<LeasedEvent>, LedgerError>;

    /// The receiver has accepted the event. Returns the stream's next one, under the same lease until
    /// `lease_until`; `None` when there is none, or when the lease was lost.
    async fn record_accepted(
        &self,
        lease: &StreamLease,
        sequence: i64,
        at: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<LeasedEvent>, LedgerError>;

    /// The receiver did not accept the stream's first pending event. Ends the lease.
    async fn record_failure(
        &self,
        lease: &StreamLease,
        error: &str,
        after: AfterFailure,
        at: Timestamp,
    ) -> Result<(), LedgerError>;

    /// Ends the lease; the stream is due at once.
    async fn release_stream(&self, lease: &StreamLease, at: Timestamp) -> Result<(), LedgerError>;

    /// Dead letters whose stream comes after `after`, in the order of the streams.
    async fn dead_letters(&self, after: &str, limit: u32) -> Result<Vec<DeadLetter>, LedgerError>;

    /// Sends a dead letter again. Returns false when there is no such dead letter.
    async fn resend_dead_letter(&self, id: &EventId, at: Timestamp) -> Result<bool, LedgerError>;

    /// Sends up to `limit` dead letters again, of all sales or of one. Returns how many.
    async fn resend_dead_letters(
        &self,
        sale: Option<&SaleId>,
        limit: u32,
        at: Timestamp,
    ) -> Result<u64, LedgerError>;

    /// Gives a dead letter up, for an operator: its stream goes on without it. Returns false when there is no
    /// such dead letter.
    async fn skip_dead_letter(
        &self,
        id: &EventId,
        operator: &str,
        at: Timestamp,
    ) -> Result<bool, LedgerError>;

    /// Marks events of the range as to be sent again, at most `limit` behind the feed position `after`.
    /// Streams that a dead letter stops are left out, and calls of visitors, which are over. The others are
    /// due at once, their leases end, and their failures are forgotten.
    async fn replay(
        &self,
        range: &ReplayRange,
        after: i64,
        limit: u32,
        at: Timestamp,
    ) -> Result<ReplayStep, LedgerError>;

    /// Gives committed events their positions in the feed, and returns how many got one. Any node may call
    /// this at any time.
    async fn number_events(&self) -> Result<u64, LedgerError>;

    /// Events of the feed behind the position `after`, with their positions. An event that is committed later
    /// has a higher position than any that was read.
    async fn events_after(&self, after: i64, limit: u32) -> Result<Vec<(i64, OutboxEvent)>, LedgerError>;

    /// What is not delivered.
    async fn outbox_counts(&self) -> Result<OutboxCounts, LedgerError>;
}

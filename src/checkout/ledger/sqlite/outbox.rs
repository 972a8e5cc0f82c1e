//! The outbox of a single node. Its one writer numbers events as it writes them.

mod decisions;
mod delivery;
mod feed;

use async_trait::async_trait;

pub(super) use self::delivery::append_event;
use super::ledger::SqliteLedger;
use crate::{
    checkout::{
        ledger::port::LedgerError,
        outbox::port::{
            AfterFailure, DeadLetter, EventId, LeasedEvent, Outbox, OutboxCounts, OutboxEvent, ReplayRange,
            ReplayStep, StandaloneEvent, StreamLease,
        },
    },
    kernel::{SaleId, Timestamp},
};

#[async_trait]
impl Outbox for SqliteLedger {
    async fn record_events(&self, sale: &SaleId, events: Vec<StandaloneEvent>) -> Result<(), LedgerError> {
        let sale = sale.to_string();
        self.write(move |db| Box::pin(delivery::record_events(db, sale, events)))
            .await
    }

    async fn lease_streams(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<LeasedEvent>, LedgerError> {
        // A write costs a flush of the disk, so there is none while nothing is due.
        let is_due = delivery::is_due(self.reader(), now).await?;
        if !is_due {
            return Ok(Vec::new());
        }
        self.write(move |db| Box::pin(delivery::lease_streams(db, now, until, limit)))
            .await
    }

    async fn record_accepted(
        &self,
        lease: &StreamLease,
        sequence: i64,
        at: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<LeasedEvent>, LedgerError> {
        let lease = lease.clone();
        self.write(move |db| Box::pin(delivery::record_accepted(db, lease, sequence, at, lease_until)))
            .await
    }

    async fn record_failure(
        &self,
        lease: &StreamLease,
        error: &str,
        after: AfterFailure,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let (lease, error) = (lease.clone(), error.to_owned());
        self.write(move |db| Box::pin(delivery::record_failure(db, lease, error, after, at)))
            .await
    }

    async fn release_stream(&self, lease: &StreamLease, at: Timestamp) -> Result<(), LedgerError> {
        let lease = lease.clone();
        self.write(move |db| Box::pin(delivery::release_stream(db, lease, at)))
            .await
    }

    async fn dead_letters(&self, after: &str, limit: u32) -> Result<Vec<DeadLetter>, LedgerError> {
        decisions::dead_letters(self.reader(), after, limit).await
    }

    async fn resend_dead_letter(&self, id: &EventId, at: Timestamp) -> Result<bool, LedgerError> {
        let id = id.clone();
        self.write(move |db| Box::pin(async move { decisions::revive(db, &id, at).await }))
            .await
    }

    async fn resend_dead_letters(
        &self,
        sale: Option<&SaleId>,
        limit: u32,
        at: Timestamp,
    ) -> Result<u64, LedgerError> {
        let sale = sale.cloned();
        self.write(move |db| Box::pin(decisions::revive_all(db, sale, limit, at)))
            .await
    }

    async fn skip_dead_letter(
        &self,
        id: &EventId,
        operator: &str,
        at: Timestamp,
    ) -> Result<bool, LedgerError> {
        let (id, operator) = (id.clone(), operator.to_owned());
        self.write(move |db| Box::pin(decisions::skip(db, id, operator, at)))
            .await
    }

    async fn replay(
        &self,
        range: &ReplayRange,
        after: i64,
        limit: u32,
        at: Timestamp,
    ) -> Result<ReplayStep, LedgerError> {
        let range = range.clone();
        self.write(move |db| Box::pin(decisions::replay(db, range, after, limit, at)))
            .await
    }

    /// The single writer numbers each event as it writes it, so there is nothing left to do.
    async fn number_events(&self) -> Result<u64, LedgerError> {
        Ok(0)
    }

    async fn events_after(&self, after: i64, limit: u32) -> Result<Vec<(i64, OutboxEvent)>, LedgerError> {
        feed::events_after(self.reader(), after, limit).await
    }

    async fn outbox_counts(&self) -> Result<OutboxCounts, LedgerError> {
        feed::counts(self.reader()).await
    }
}

//! The outbox of many nodes. A transaction that writes an event of a stream, or records a delivery, locks the
//! stream's row first, so that neither misses what the other has written.

mod decisions;
mod delivery;
mod feed;
#[cfg(test)]
mod tests;

use async_trait::async_trait;

pub(super) use self::delivery::append_event;
use super::ledger::PostgresLedger;
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
impl Outbox for PostgresLedger {
    async fn record_events(&self, sale: &SaleId, events: Vec<StandaloneEvent>) -> Result<(), LedgerError> {
        let recorded = self.db.write((sale.clone(), events), |db, (sale, events)| {
            Box::pin(delivery::record_events(db, sale, events))
        });
        Ok(recorded.await?)
    }

    async fn lease_streams(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<LeasedEvent>, LedgerError> {
        // Not repeated after an unknown outcome: a second run would lease others.
        let leased = self
            .db
            .write_once((now, until, limit), |db, (now, until, limit)| {
                Box::pin(delivery::lease_streams(db, now, until, limit))
            });
        Ok(leased.await?)
    }

    async fn record_accepted(
        &self,
        lease: &StreamLease,
        sequence: i64,
        at: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<LeasedEvent>, LedgerError> {
        let given = (lease.clone(), sequence, at, lease_until);
        let recorded = self.db.write(given, |db, (lease, sequence, at, lease_until)| {
            Box::pin(delivery::record_accepted(db, lease, sequence, at, lease_until))
        });
        Ok(recorded.await?)
    }

    async fn record_failure(
        &self,
        lease: &StreamLease,
        error: &str,
        after: AfterFailure,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let given = (lease.clone(), error.to_owned(), after, at);
        let recorded = self.db.write(given, |db, (lease, error, after, at)| {
            Box::pin(delivery::record_failure(db, lease, error, after, at))
        });
        Ok(recorded.await?)
    }

    async fn release_stream(&self, lease: &StreamLease, at: Timestamp) -> Result<(), LedgerError> {
        let released = self.db.write((lease.clone(), at), |db, (lease, at)| {
            Box::pin(delivery::release_stream(db, lease, at))
        });
        Ok(released.await?)
    }

    async fn dead_letters(&self, after: &str, limit: u32) -> Result<Vec<DeadLetter>, LedgerError> {
        let read = self.db.read((after.to_owned(), limit), |db, (after, limit)| {
            Box::pin(decisions::dead_letters(db, after, limit))
        });
        Ok(read.await?)
    }

    async fn resend_dead_letter(&self, id: &EventId, at: Timestamp) -> Result<bool, LedgerError> {
        // Not repeated after an unknown outcome: a second run would find no dead letter.
        let revived = self.db.write_once((id.clone(), at), |db, (id, at)| {
            Box::pin(async move { decisions::revive(db, &id, at).await })
        });
        Ok(revived.await?)
    }

    async fn resend_dead_letters(
        &self,
        sale: Option<&SaleId>,
        limit: u32,
        at: Timestamp,
    ) -> Result<u64, LedgerError> {
        // Not repeated after an unknown outcome, as above.
        let revived = self
            .db
            .write_once((sale.cloned(), limit, at), |db, (sale, limit, at)| {
                Box::pin(decisions::revive_all(db, sale, limit, at))
            });
        Ok(revived.await?)
    }

    async fn skip_dead_letter(
        &self,
        id: &EventId,
        operator: &str,
        at: Timestamp,
    ) -> Result<bool, LedgerError> {
        let given = (id.clone(), operator.to_owned(), at);
        // Not repeated after an unknown outcome, as above.
        let skipped = self.db.write_once(given, |db, (id, operator, at)| {
            Box::pin(decisions::skip(db, id, operator, at))
        });
        Ok(skipped.await?)
    }

    async fn replay(
        &self,
        range: &ReplayRange,
        after: i64,
        limit: u32,
        at: Timestamp,
    ) -> Result<ReplayStep, LedgerError> {
        let given = (range.clone(), after, limit, at);
        let replayed = self.db.write(given, |db, (range, after, limit, at)| {
            Box::pin(decisions::replay(db, range, after, limit, at))
        });
        Ok(replayed.await?)
    }

    async fn number_events(&self) -> Result<u64, LedgerError> {
        Ok(self
            .db
            .write((), |db, ()| Box::pin(feed::number_events(db)))
            .await?)
    }

    async fn events_after(&self, after: i64, limit: u32) -> Result<Vec<(i64, OutboxEvent)>, LedgerError> {
        let read = self.db.read((after, limit), |db, (after, limit)| {
            Box::pin(feed::events_after(db, after, limit))
        });
        Ok(read.await?)
    }

    async fn outbox_counts(&self) -> Result<OutboxCounts, LedgerError> {
        Ok(self.db.read((), |db, ()| Box::pin(feed::counts(db))).await?)
    }
}

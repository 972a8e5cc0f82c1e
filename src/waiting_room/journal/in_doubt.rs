//! Settles what a failed commit leaves in doubt: which records were written after all, which reservations are
//! released, and which joins are journaled again.

use crate::waiting_room::{
    journal::{
        port::JournalError,
        record::{Event, PendingJoin, Record},
        request::{WriteRequest, undo_event},
        writer::{JournalWriter, Progress, WriteError},
    },
    types::Durability,
};

impl JournalWriter {
    /// Records that these requests may or may not have been written.
    pub(crate) fn mark_in_doubt(&self, requests: &[WriteRequest]) {
        let mut progress = self.progress.lock();
        progress.in_doubt = true;
        self.lag.set(true);
        for request in requests {
            progress.undo.extend_from_slice(request.events());
            if let WriteRequest::Join(promise) = request {
                progress.pending.push(*promise);
            }
        }
    }

    /// After a failure: applies the records that were written after all, and releases what the others have
    /// reserved. Joins of an epoch that is over are in doubt too, even where no commit failed.
    pub(crate) async fn resolve_in_doubt(&self) -> Result<(), WriteError> {
        let epoch = self.store.epoch();
        let is_settled =
            |progress: &Progress| !progress.in_doubt && progress.pending.iter().all(|it| it.epoch == epoch);
        if is_settled(&self.progress.lock()) {
            return Ok(());
        }
        self.catch_up().await?;
        self.reissue_pending().await?;
        let undo = self.progress.lock().undo.clone();
        for event in undo {
            self.undo(&event).await?;
            self.progress.lock().undo.remove(0);
        }
        let mut progress = self.progress.lock();
        progress.in_doubt = false;
        self.lag.set_unavailable(false);
        self.lag.set(!progress.pending.is_empty());
        Ok(())
    }

    /// Reissues the joins of an epoch that is over and that were never journaled. A join that was answered
    /// (durability `async`) must stand; any other failed, and its number may belong to another subject by
    /// now.
    async fn reissue_pending(&self) -> Result<(), WriteError> {
        let epoch = self.store.epoch();
        let outlived = || {
            self.progress
                .lock()
                .pending
                .iter()
                .filter(|it| it.epoch != epoch)
                .copied()
                .collect::<Vec<PendingJoin>>()
        };
        let answered = match self.durability {
            Durability::Committed => Vec::new(),
            Durability::Async => self.not_journaled(outlived())?,
        };
        let stand = if answered.is_empty() {
            answered
        } else {
            self.store.reinstate_numbers(&answered).await?
        };
        let mut progress = self.progress.lock();
        progress.pending.retain(|it| it.epoch == epoch);
        progress
            .pending
            .extend(stand.into_iter().map(|it| PendingJoin { epoch, ..it }));
        Ok(())
    }

    /// Releases what an event that was not written has reserved; for one that was written this does nothing.
    async fn undo(&self, event: &Event) -> Result<(), WriteError> {
        match event {
            // The commit that failed here may still be in progress in the database. The lapse excludes it, so
            // that it cannot succeed after the slot has been given to another visitor.
            Event::Admitted { number, visit, .. } if self.journal.is_shared() => {
                let lapsed = Record::Event {
                    at: self.clock.now(),
                    event: Event::ReservationLapsed {
                        number: *number,
                        visit: *visit,
                    },
                };
                match self.append(vec![lapsed]).await {
                    // The entry was written, or the reservation was lost with the store's dataset.
                    Err(WriteError::Journal(JournalError::Conflict)) => Ok(self.catch_up().await?),
                    other => other,
                }
            }
            event => Ok(undo_event(self.store.as_ref(), event).await?),
        }
    }
}

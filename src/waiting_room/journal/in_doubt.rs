//! After a failed commit: what was written after all, what is undone, what must be promised again.

use std::sync::atomic::Ordering;

use crate::waiting_room::{
    Durability,
    journal::{
        port::JournalError,
        record::{Event, Promise, Record},
        request::{Ask, undo_event},
        writer::{Progress, WriteError, Writer},
    },
};

impl Writer {
    pub(crate) fn doubt(&self, asks: &[Ask]) {
        let mut progress = self.progress.lock();
        progress.in_doubt = true;
        self.behind.0.store(true, Ordering::Relaxed);
        for ask in asks {
            progress.undo.extend_from_slice(ask.events());
            if let Ask::Join(promise) = ask {
                progress.unwritten.push(*promise);
            }
        }
    }

    /// After a failure: reads what was written after all, and undoes in memory what was not. What is promised and not
    /// written is in doubt too once its epoch is over, however soon after the last doubt was settled that came.
    pub(crate) async fn settle_doubt(&self) -> Result<(), WriteError> {
        let epoch = self.store.epoch();
        let is_settled =
            |progress: &Progress| !progress.in_doubt && progress.unwritten.iter().all(|it| it.epoch == epoch);
        if is_settled(&self.progress.lock()) {
            return Ok(());
        }
        self.catch_up().await?;
        self.renew_promises().await?;
        let undo = self.progress.lock().undo.clone();
        for event in undo {
            self.undo(&event).await?;
            self.progress.lock().undo.remove(0);
        }
        let mut progress = self.progress.lock();
        progress.in_doubt = false;
        self.behind
            .0
            .store(!progress.unwritten.is_empty(), Ordering::Relaxed);
        Ok(())
    }

    /// What was promised under an epoch that is over and never written down. Where it was answered, it must stand; else
    /// whoever asked is told to ask again, and the number may be somebody else's by now.
    async fn renew_promises(&self) -> Result<(), WriteError> {
        let epoch = self.store.epoch();
        let outlived = || {
            self.progress
                .lock()
                .unwritten
                .iter()
                .filter(|it| it.epoch != epoch)
                .copied()
                .collect::<Vec<Promise>>()
        };
        let answered = match self.durability {
            Durability::Journaled => Vec::new(),
            Durability::Acknowledged => self.not_written(outlived())?,
        };
        let stand = if answered.is_empty() {
            answered
        } else {
            self.store.adopt(&answered).await?
        };
        let mut progress = self.progress.lock();
        progress.unwritten.retain(|it| it.epoch == epoch);
        progress
            .unwritten
            .extend(stand.into_iter().map(|it| Promise { epoch, ..it }));
        Ok(())
    }

    /// Frees what an event that was not written has taken in memory; one that was written has taken nothing any more.
    async fn undo(&self, event: &Event) -> Result<(), WriteError> {
        match event {
            // A commit that was given up here may still be under way there: it must not come after the slot is given to
            // somebody else.
            Event::Entered { number, visit, .. } if self.journal.is_shared() => {
                let lapsed = Record::Event {
                    at: self.clock.now(),
                    event: Event::Lapsed {
                        number: *number,
                        visit: *visit,
                    },
                };
                match self.append(vec![lapsed]).await {
                    // It was written, or her reservation went with the engine's memory.
                    Err(WriteError::Journal(JournalError::Conflict)) => Ok(self.catch_up().await?),
                    other => other,
                }
            }
            event => Ok(undo_event(self.store.as_ref(), event).await?),
        }
    }
}

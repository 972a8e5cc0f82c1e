//! Single writer for a queue's journal. Batches every change: append to the journal, apply to the store, then
//! reply.
//!
//! The order makes an answer durable: what a visitor was told is in the journal, and the store never holds
//! what the journal may still lose. What a failed commit leaves behind is settled before the next batch (see
//! `in_doubt`).

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{
    kernel::{Clock, Timestamp},
    platform::{group_commit::GroupCommit, shutdown::Lifecycle},
    waiting_room::{
        journal::{
            port::{Journal, JournalError},
            record::{Event, PendingJoin, Record, StoredRecord},
            request::{WriteLag, WriteRequest, WriterHandle},
        },
        store::port::{Moment, QueueStore, StoreError},
        types::Durability,
    },
};

/// Requests that wait for the writer at most; further ones are refused at once.
const QUEUE_MAX: usize = 32_768;
/// Requests per commit at most: the joins of 20 ms at full load.
const BATCH_MAX: usize = 2_048;
/// Small batches start at least this far apart, so that joins at full load leave the disk time for other
/// writers.
const LINGER: Duration = Duration::from_millis(3);
/// A shorter gap between records is no interruption.
const INTERRUPTION_MIN: Duration = Duration::from_secs(2);
/// How often a process records that it can admit visitors.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
/// A batch that fails after this time was a long wait already for those that came meanwhile.
pub(super) const SLOW_FAILURE: Duration = Duration::from_millis(500);
/// Records per read when the journal is replayed.
const PAGE: u32 = 512;

/// Writes one sale's journal, before it is started.
pub(crate) struct JournalWriter {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) store: Arc<dyn QueueStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) durability: Durability,
    pub(super) progress: Mutex<Progress>,
    pub(super) lag: WriteLag,
}

/// How far journal and store have come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The last record that is applied to the store.
    pub(super) seq: u64,
    /// When it happened.
    pub(super) at: Option<Timestamp>,
    /// A commit failed, so the journal may hold records that are not applied.
    pub(super) in_doubt: bool,
    /// Events of commits in doubt, to be undone where the commit turns out to have failed.
    pub(super) undo: Vec<Event>,
    /// Joins whose commit failed. Their numbers stay assigned, so they are written with the next batch.
    pub(super) pending: Vec<PendingJoin>,
    /// The last batch failed only after a while.
    pub(super) failed_slowly: bool,
    /// When this process last recorded a heartbeat.
    pub(super) heartbeat_at: Option<Timestamp>,
}

/// A batch could not be written or applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl JournalWriter {
    pub(crate) fn new(
        journal: Arc<dyn Journal>,
        store: Arc<dyn QueueStore>,
        clock: Arc<dyn Clock>,
        durability: Durability,
    ) -> Self {
        Self {
            journal,
            store,
            clock,
            durability,
            progress: Mutex::default(),
            lag: WriteLag::default(),
        }
    }

    /// Applies the records that the store does not hold yet.
    pub(crate) async fn catch_up(&self) -> Result<(), WriteError> {
        loop {
            let after = self.progress.lock().seq;
            let page = self.journal.read(after, PAGE).await?;
            let full = page.len() == PAGE as usize;
            let Some(last) = page.last() else { return Ok(()) };
            let (seq, at) = (last.seq, last.record.at());
            self.store.apply(&page, self.moment()).await?;
            let mut progress = self.progress.lock();
            (progress.seq, progress.at) = (seq, at);
            if !full {
                return Ok(());
            }
        }
    }

    /// After a restart: records that no visitor could enter since the last record, so that a crash costs no
    /// visitor their call window. On a shared journal another process may have gone on; there the heartbeat
    /// tells.
    pub(crate) async fn resume(&self) -> Result<(), WriteError> {
        let last = self.progress.lock().at.filter(|_| !self.journal.is_shared());
        let now = self.clock.now();
        match last.filter(|&at| now.since(at) >= INTERRUPTION_MIN) {
            Some(since) => {
                self.append(vec![Record::Event {
                    at: now,
                    event: Event::Interrupted { since },
                }])
                .await
            }
            None => Ok(()),
        }
    }

    pub(crate) fn lag(&self) -> WriteLag {
        self.lag.clone()
    }

    /// Starts to serve requests.
    pub(crate) fn start(self, life: &Lifecycle) -> WriterHandle {
        let writer = Arc::new(self);
        GroupCommit::start_paced(
            life,
            QUEUE_MAX,
            BATCH_MAX,
            LINGER,
            move |requests: Vec<WriteRequest>| {
                let writer = Arc::clone(&writer);
                async move { writer.write(requests).await }
            },
        )
    }

    /// Appends an event that must be journaled before the first visitor, unless `is_there` says that it is.
    pub(crate) async fn write_once(
        &self,
        event: Event,
        is_there: impl Fn() -> bool,
    ) -> Result<(), WriteError> {
        while !is_there() {
            match self
                .append(vec![Record::Event {
                    at: self.clock.now(),
                    event: event.clone(),
                }])
                .await
            {
                // Another node wrote this or something else first.
                Err(WriteError::Journal(JournalError::Conflict)) if self.journal.is_shared() => {
                    self.catch_up().await?;
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// The joins that the journal does not hold, in the order of their numbers.
    pub(super) fn not_journaled(
        &self,
        mut promises: Vec<PendingJoin>,
    ) -> Result<Vec<PendingJoin>, StoreError> {
        promises.sort_unstable_by_key(|it| it.number);
        promises.dedup_by_key(|it| it.number);
        let mut parted = Ok(());
        promises.retain(|it| match self.store.subject_of(it.number) {
            None => true,
            Some(owner) => {
                if owner != it.join.subject {
                    parted = Err(StoreError::Diverged("a number belongs to two subjects"));
                }
                false
            }
        });
        parted.map(|()| promises)
    }

    pub(super) async fn append(&self, records: Vec<Record>) -> Result<(), WriteError> {
        let last = self.journal.append(self.store.epoch(), &records).await?;
        let before = last - records.len() as u64;
        if self.journal.is_shared() && self.progress.lock().seq != before {
            // Other processes wrote meanwhile: their records and these are read back in order.
            return self.catch_up().await;
        }
        let at = records.last().and_then(Record::at);
        let stored: Vec<StoredRecord> = (before + 1..)
            .zip(records)
            .map(|(seq, record)| StoredRecord { seq, record })
            .collect();
        self.store.apply(&stored, self.moment()).await?;
        let mut progress = self.progress.lock();
        (progress.seq, progress.at) = (last, at);
        Ok(())
    }

    /// Records regularly that this process can admit visitors. When no process could for a while, the open
    /// call windows are extended by that time.
    pub(super) async fn heartbeat(&self, now: Timestamp) -> Result<(), WriteError> {
        if self
            .progress
            .lock()
            .heartbeat_at
            .is_some_and(|at| now.since(at) < HEARTBEAT_INTERVAL && now >= at)
        {
            return Ok(());
        }
        let before = self.journal.heartbeat(now).await?;
        self.progress.lock().heartbeat_at = Some(now);
        match before.filter(|&at| now.since(at) >= INTERRUPTION_MIN) {
            Some(since) => {
                self.append(vec![Record::Event {
                    at: now,
                    event: Event::Interrupted { since },
                }])
                .await
            }
            None => Ok(()),
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.clock.now(),
            monotonic: self.clock.monotonic(),
        }
    }
}

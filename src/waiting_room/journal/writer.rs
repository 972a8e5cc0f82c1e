//! The line's one pen: all changes go through it in groups, first into the journal, then into memory, then the answer.


#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{
    kernel::{Clock, Timestamp},
    platform::{group_commit::GroupCommit, shutdown::Lifecycle},
    waiting_room::{
        Durability,
        journal::{
            port::{Journal, JournalError},
            record::{Event, Record, Stored},

        },
        store::port::{Moment, QueueStore, StoreError},
    },
};

#[allow(unused_imports)]
pub(crate) use crate::waiting_room::journal::request::{Answer, follow, write_for_a_visitor, write_for_the_house, Ask, Behind, Pen};
#[allow(unused_imports)]
pub(crate) use crate::waiting_room::journal::record::Promise;

/// Joins and events that wait for the pen at most; whoever comes on top is told to come again.
const QUEUE_MAX: usize = 32_768;
/// Written with one commit at most: a flood's joins of 20 ms.
const GROUP_MAX: usize = 2_048;
/// Small groups begin at least so long after each other: else a flood of joins keeps the disk from everybody else.
const PACE: Duration = Duration::from_millis(3);
/// A shorter silence of the journal at the start is no interruption.
const INTERRUPTION_MIN: Duration = Duration::from_secs(2);
/// How often a process says that it is at the door.
const BEAT_EVERY: Duration = Duration::from_millis(500);
/// Records read at once when the journal is replayed.
const PAGE: u32 = 512;

pub(crate) struct Writer {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) store: Arc<dyn QueueStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) durability: Durability,
    pub(super) progress: Mutex<Progress>,
    pub(super) behind: Behind,
}

#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The last record that memory holds.
    pub(super) seq: u64,
    /// When it happened.
    pub(super) at: Option<Timestamp>,
    /// A commit failed, so the journal may hold more than memory does.
    pub(super) in_doubt: bool,
    /// What rested on commits in doubt, to be undone where it turns out that they failed.
    pub(super) undo: Vec<Event>,
    /// Joins whose writing failed. Their numbers stay taken, so they are written with the next group.
    pub(super) unwritten: Vec<Promise>,
    /// When this process last said that it is at the door.
    pub(super) beat_at: Option<Timestamp>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Writer {
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
            behind: Behind::default(),
        }
    }

    /// Brings memory up to what the journal holds.
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

    /// After a restart: writes down that nobody could come since the last record, so that a crash makes nobody miss her
    /// call. Of a shared journal another process may have gone on; there the beat tells.
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

    pub(crate) fn behind(&self) -> Behind {
        self.behind.clone()
    }

    /// Starts to write what is asked.
    pub(crate) fn start(self, life: &Lifecycle) -> Pen {
        let writer = Arc::new(self);
        GroupCommit::start_paced(life, QUEUE_MAX, GROUP_MAX, PACE, move |asks: Vec<Ask>| {
            let writer = Arc::clone(&writer);
            async move { writer.write(asks).await }
        })
    }

    /// Writes down something that has to be there before anybody comes, unless it is there.
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
                // Another node was faster with this or with something else.
                Err(WriteError::Journal(JournalError::Conflict)) if self.journal.is_shared() => {
                    self.catch_up().await?
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// In the order of their numbers, without those that the journal has.
    pub(super) fn not_written(&self, mut promises: Vec<Promise>) -> Result<Vec<Promise>, StoreError> {
        promises.sort_unstable_by_key(|it| it.number);
        promises.dedup_by_key(|it| it.number);
        let mut parted = Ok(());
        promises.retain(|it| match self.store.owner(it.number) {
            None => true,
            Some(owner) => {
                if owner != it.join.subject {
                    parted = Err(StoreError::Parted("a number is two subjects'"));
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
            // Others have written meanwhile; this reads their records and its own, in order.
            return self.catch_up().await;
        }
        let at = records.last().and_then(Record::at);
        let stored: Vec<Stored> = (before + 1..)
            .zip(records)
            .map(|(seq, record)| Stored { seq, record })
            .collect();
        self.store.apply(&stored, self.moment()).await?;
        let mut progress = self.progress.lock();
        (progress.seq, progress.at) = (last, at);
        Ok(())
    }

    /// Says once a second that somebody is at the door; when nobody has been there for a while, the open call windows
    /// are lengthened by it.
    pub(super) async fn beat(&self, now: Timestamp) -> Result<(), WriteError> {
        if self
            .progress
            .lock()
            .beat_at
            .is_some_and(|at| now.since(at) < BEAT_EVERY && now >= at)
        {
            return Ok(());
        }
        let before = self.journal.beat(now).await?;
        self.progress.lock().beat_at = Some(now);
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

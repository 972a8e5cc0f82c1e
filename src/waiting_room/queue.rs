//! The line's one pen: all changes go through it in groups, first into the journal, then into memory, then the answer.

mod doubt;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    Durability,
    journal::{Event, Join, Journal, JournalError, Record, Stored},
    store::{Moment, QueueStore, StoreError},
};
use crate::{
    kernel::{Clock, Timestamp},
    platform::{
        group_commit::{GroupCommit, GroupCommitError},
        lifecycle::Lifecycle,
    },
};

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

/// Something to be written down.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Join(Promise),
    /// Somebody goes in, since her slot was taken. It was taken under this epoch; under a later one it is nobody's.
    Entry {
        event: Event,
        at: Timestamp,
        epoch: u64,
    },
    /// All of them or none.
    Events(Vec<Event>),
}

/// A number that the engine has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    pub number: u32,
    pub join: Join,
    /// Which of the engine's memories gave it.
    pub epoch: u64,
}

impl Ask {
    /// Under which epoch alone it makes sense.
    fn epoch(&self) -> Option<u64> {
        match self {
            Self::Join(promise) => Some(promise.epoch),
            Self::Entry { epoch, .. } => Some(*epoch),
            Self::Events(_) => None,
        }
    }

    /// When it happened, if that was before the writing.
    fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Entry { at, .. } => Some(*at),
            Self::Join(_) | Self::Events(_) => None,
        }
    }

    fn events(&self) -> &[Event] {
        match self {
            Self::Join(_) => &[],
            Self::Entry { event, .. } => std::slice::from_ref(event),
            Self::Events(events) => events,
        }
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Written,
    /// It was not written, or nobody knows.
    Failed,
}

pub(super) type Pen = GroupCommit<Ask, Answer>;

pub(super) struct Writer {
    journal: Arc<dyn Journal>,
    store: Arc<dyn QueueStore>,
    clock: Arc<dyn Clock>,
    durability: Durability,
    progress: Mutex<Progress>,
    behind: Behind,
}

/// Whether the journal lacks something that was promised: nothing more is promised meanwhile.
#[derive(Clone, Debug, Default)]
pub(super) struct Behind(Arc<AtomicBool>);

impl Behind {
    pub(super) fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct Progress {
    /// The last record that memory holds.
    seq: u64,
    /// When it happened.
    at: Option<Timestamp>,
    /// A commit failed, so the journal may hold more than memory does.
    in_doubt: bool,
    /// What rested on commits in doubt, to be undone where it turns out that they failed.
    undo: Vec<Event>,
    /// Joins whose writing failed. Their numbers stay taken, so they are written with the next group.
    unwritten: Vec<Promise>,
    /// When this process last said that it is at the door.
    beat_at: Option<Timestamp>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Writer {
    pub(super) fn new(
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
    pub(super) async fn catch_up(&self) -> Result<(), WriteError> {
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
    pub(super) async fn resume(&self) -> Result<(), WriteError> {
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

    pub(super) fn behind(&self) -> Behind {
        self.behind.clone()
    }

    /// Starts to write what is asked.
    pub(super) fn start(self, life: &Lifecycle) -> Pen {
        let writer = Arc::new(self);
        GroupCommit::start_paced(life, QUEUE_MAX, GROUP_MAX, PACE, move |asks: Vec<Ask>| {
            let writer = Arc::clone(&writer);
            async move { writer.write(asks).await }
        })
    }

    async fn write(&self, asks: Vec<Ask>) -> Vec<Answer> {
        if let Err(error) = self.settle_doubt().await {
            return self.fail(&asks, &error);
        }
        let epoch = self.store.epoch();
        let holds = |ask: &Ask| ask.epoch().is_none_or(|it| it == epoch);
        if asks.iter().all(holds) {
            return self.write_standing(&asks).await;
        }
        // The engine has lost its memory since some of them were decided.
        let (standing, outlived): (Vec<Ask>, Vec<Ask>) = asks.iter().cloned().partition(holds);
        self.doubt(&outlived);
        let mut written = self.write_standing(&standing).await.into_iter();
        asks.iter()
            .map(|ask| {
                if holds(ask) {
                    written.next().unwrap_or(Answer::Failed)
                } else {
                    Answer::Failed
                }
            })
            .collect()
    }

    /// A draw was closed before this join could be written down: it is not written any more.
    fn comes_late(&self, ask: &Ask) -> bool {
        matches!(ask, Ask::Join(promise) if self.store.missed_draw(promise.number))
    }

    /// Nobody may be written down behind the back of a root: what is closed must be what the journal holds.
    fn closes_rightly(&self, asks: &[Ask], promises: &[Promise]) -> bool {
        let closed = asks.iter().flat_map(Ask::events).find_map(|event| {
            if let Event::EntriesClosed(it) = event {
                Some(it)
            } else {
                None
            }
        });
        closed.is_none_or(|closed| {
            super::drawing::count_persons(self.store.as_ref(), closed.entries) == closed.persons
                && promises.iter().all(|it| it.number > closed.entries)
        })
    }

    async fn write_standing(&self, asks: &[Ask]) -> Vec<Answer> {
        match self.write_group(asks).await {
            Ok(answers) => answers,
            Err(WriteError::Journal(JournalError::Conflict)) if self.journal.is_shared() => {
                match self.catch_up().await {
                    // Another node was faster with one of them; what is left may stand.
                    Ok(()) => self.write_each(asks).await,
                    Err(error) => self.fail(asks, &error),
                }
            }
            Err(WriteError::Journal(JournalError::Conflict)) if asks.len() > 1 || only_calls(asks) => {
                self.write_each(asks).await
            }
            Err(error) => self.fail(asks, &error),
        }
    }

    fn fail(&self, asks: &[Ask], error: &WriteError) -> Vec<Answer> {
        if matches!(error, WriteError::Journal(JournalError::Stale)) {
            self.store.is_stale();
        }
        // While it lasts, once is enough.
        if !self.progress.lock().in_doubt {
            tracing::error!(%error, asks = asks.len(), "the queue's journal cannot be written");
        }
        self.doubt(asks);
        vec![Answer::Failed; asks.len()]
    }

    /// One of a group cannot be written: the others must not suffer for it.
    async fn write_each(&self, asks: &[Ask]) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(asks.len());
        for ask in asks.chunks(1) {
            answers.push(match self.write_group(ask).await {
                Ok(answer) => answer[0],
                // Of several nodes that call at once one is heard.
                Err(WriteError::Journal(JournalError::Conflict)) if only_calls(ask) => Answer::Failed,
                Err(error) => self.fail(ask, &error)[0],
            });
        }
        answers
    }

    async fn write_group(&self, asks: &[Ask]) -> Result<Vec<Answer>, WriteError> {
        let (now, epoch) = (self.clock.now(), self.store.epoch());
        let mut promises = self.progress.lock().unwritten.clone();
        promises.extend(asks.iter().filter_map(|ask| {
            if let Ask::Join(promise) = ask {
                Some(*promise)
            } else {
                None
            }
        }));
        promises.retain(|promise| promise.epoch == epoch && !self.store.missed_draw(promise.number));
        if !self.closes_rightly(asks, &promises) {
            return Err(JournalError::Conflict.into());
        }
        let answers = asks
            .iter()
            .map(|ask| {
                if self.comes_late(ask) {
                    Answer::Failed
                } else {
                    Answer::Written
                }
            })
            .collect();
        let mut records = runs(self.not_written(promises)?);
        let of_ask = |ask: &Ask| {
            let at = ask.at().unwrap_or(now);
            ask.events()
                .iter()
                .map(move |event| Record::Event {
                    at,
                    event: event.clone(),
                })
                .collect::<Vec<_>>()
        };
        records.extend(asks.iter().flat_map(of_ask));
        if !records.is_empty() {
            self.append(records).await?;
            let mut progress = self.progress.lock();
            progress.unwritten.retain(|promise| promise.epoch != epoch);
            self.behind
                .0
                .store(!progress.unwritten.is_empty(), Ordering::Relaxed);
        } else if self.journal.is_shared() {
            self.catch_up().await?;
            if self.store.is_complete() {
                self.beat(now).await?;
            }
        }
        Ok(answers)
    }

    /// Writes down something that has to be there before anybody comes, unless it is there.
    pub(super) async fn write_once(
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
    fn not_written(&self, mut promises: Vec<Promise>) -> Result<Vec<Promise>, StoreError> {
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

    async fn append(&self, records: Vec<Record>) -> Result<(), WriteError> {
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
    async fn beat(&self, now: Timestamp) -> Result<(), WriteError> {
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

/// Hands events to the pen for the house itself and waits until they are written; says whether they are.
pub(super) async fn write_for_the_house(pen: &Pen, events: Vec<Event>) -> bool {
    pen.submit_patiently(Ask::Events(events)).await == Ok(Answer::Written)
}

/// Brings memory up to a journal that others write too; beside one of its own there is nothing to follow.
pub(super) async fn follow(pen: &Pen) -> Result<(), GroupCommitError> {
    pen.submit(Ask::Events(Vec::new())).await.map(|_| ())
}

/// Hands a visitor's event to the pen. When there is no room for it, what it has taken is freed at once.
pub(super) async fn write_for_a_visitor(
    pen: &Pen,
    store: &dyn QueueStore,
    ask: Ask,
) -> Result<Answer, GroupCommitError> {
    let written = pen.submit(ask.clone()).await;
    if written == Err(GroupCommitError::Full) {
        // The embedded engine cannot fail here; another one lets the reservation lapse.
        for event in ask.events() {
            let _ = doubt::undo_event(store, event).await;
        }
    }
    written
}

fn only_calls(asks: &[Ask]) -> bool {
    let of_the_house = |event: &Event| {
        matches!(
            event,
            Event::Called { .. }
                | Event::Phase { .. }
                | Event::Stock { .. }
                | Event::Slowed { .. }
                | Event::EntriesClosed(_)
                | Event::Drawn(_)
        )
    };
    asks.iter()
        .all(|ask| !matches!(ask, Ask::Join(_)) && ask.events().iter().all(of_the_house))
}

/// Groups joins in number order into runs without gaps.
fn runs(promises: Vec<Promise>) -> Vec<Record> {
    let mut runs: Vec<Record> = Vec::new();
    for Promise { number, join, .. } in promises {
        match runs.last_mut() {
            Some(Record::Joins { first, joins })
                if u64::from(*first) + joins.len() as u64 == u64::from(number) =>
            {
                joins.push(join)
            }
            _ => runs.push(Record::Joins {
                first: number,
                joins: vec![join],
            }),
        }
    }
    runs
}

//! The line's one pen: all changes go through it in groups, first into the journal, then into memory, then the answer.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    draw,
    journal::{Event, Join, Journal, JournalError, Record},
    store::{Found, Moment, QueueStore, StoreError},
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
/// Written with one commit at most.
const GROUP_MAX: usize = 1_024;
/// A shorter silence of the journal at the start is no interruption.
const INTERRUPTION_MIN: Duration = Duration::from_secs(2);
/// Records read at once when the journal is replayed.
const PAGE: u32 = 512;

/// Something to be written down.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Join(Join),
    /// All of them or none.
    Events(Vec<Event>),
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Joined(Found),
    Already(Found),
    /// No number is left.
    Full,
    Written,
    /// It was not written, or nobody knows.
    Failed,
}

/// The place in line that belongs to what was found.
pub(super) fn queue_number(found: &Found) -> u64 {
    draw::queue_number(u64::from(found.number))
}

pub(super) type Pen = GroupCommit<Ask, Answer>;

pub(super) struct Writer {
    journal: Box<dyn Journal>,
    store: Arc<dyn QueueStore>,
    clock: Arc<dyn Clock>,
    numbers_max: u32,
    progress: Mutex<Progress>,
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
}

#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Writer {
    pub(super) fn new(journal: Box<dyn Journal>, store: Arc<dyn QueueStore>, clock: Arc<dyn Clock>, numbers_max: u32) -> Self {
        Self { journal, store, clock, numbers_max, progress: Mutex::default() }
    }

    /// Brings memory up to what the journal holds.
    pub(super) async fn catch_up(&self) -> Result<(), WriteError> {
        loop {
            let after = self.progress.lock().seq;
            let page = self.journal.read(after, PAGE).await?;
            let Some(last) = page.last().map(|stored| stored.seq) else { return Ok(()) };
            let records: Vec<Record> = page.into_iter().map(|stored| stored.record).collect();
            self.store.apply(&records, self.moment()).await?;
            let mut progress = self.progress.lock();
            progress.seq = last;
            progress.at = records.last().and_then(Record::at);
        }
    }

    /// After a restart: writes down that nobody could come since the last record, so that a crash makes nobody miss her
    /// call.
    pub(super) async fn resume(&self) -> Result<(), WriteError> {
        let now = self.clock.now();
        let last = self.progress.lock().at;
        if let Some(since) = last.filter(|&at| now.since(at) >= INTERRUPTION_MIN) {
            let record = [Record::Event { at: now, event: Event::Interrupted { since } }];
            let seq = self.journal.append(&record).await?;
            self.store.apply(&record, self.moment()).await?;
            self.progress.lock().seq = seq;
        }
        Ok(())
    }

    /// Starts to write what is asked.
    pub(super) fn start(self, life: &Lifecycle) -> Pen {
        let writer = Arc::new(self);
        GroupCommit::start(life, QUEUE_MAX, GROUP_MAX, move |asks: Vec<Ask>| {
            let writer = Arc::clone(&writer);
            async move { writer.write(asks).await }
        })
    }

    async fn write(&self, asks: Vec<Ask>) -> Vec<Answer> {
        if let Err(error) = self.settle_doubt().await {
            tracing::error!(%error, "the queue's journal cannot be read; nothing can be written");
            self.doubt(&asks);
            return vec![Answer::Failed; asks.len()];
        }
        match self.write_group(&asks).await {
            Ok(answers) => answers,
            Err(WriteError::Journal(JournalError::Conflict)) if asks.len() > 1 => self.write_each(&asks).await,
            Err(error) => {
                tracing::error!(%error, asks = asks.len(), "a group was not written to the queue's journal");
                self.doubt(&asks);
                vec![Answer::Failed; asks.len()]
            }
        }
    }

    /// One of a group cannot be written: the others must not suffer for it.
    async fn write_each(&self, asks: &[Ask]) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(asks.len());
        for ask in asks.chunks(1) {
            answers.push(match self.write_group(ask).await {
                Ok(answer) => answer[0],
                Err(error) => {
                    tracing::error!(%error, "an entry in the queue's journal was refused");
                    self.doubt(ask);
                    Answer::Failed
                }
            });
        }
        answers
    }

    async fn write_group(&self, asks: &[Ask]) -> Result<Vec<Answer>, WriteError> {
        let now = self.clock.now();
        let (mut records, answers) = self.take_joins(asks).await?;
        records.extend(asks.iter().flat_map(|ask| match ask {
            Ask::Events(events) => events.iter().map(|event| Record::Event { at: now, event: event.clone() }).collect(),
            Ask::Join(_) => Vec::new(),
        }));
        if !records.is_empty() {
            let seq = self.journal.append(&records).await?;
            self.store.apply(&records, self.moment()).await?;
            self.progress.lock().seq = seq;
        }
        Ok(answers)
    }

    /// Gives the next numbers to those of the group who have none, and says for all asks what the answer will be.
    async fn take_joins(&self, asks: &[Ask]) -> Result<(Vec<Record>, Vec<Answer>), WriteError> {
        let subjects: Vec<u64> = asks.iter().filter_map(|ask| if let Ask::Join(join) = ask { Some(join.subject) } else { None }).collect();
        let (issued, found) = self.store.find(&subjects).await?;
        let mut found = found.into_iter();
        let mut taken: HashMap<u64, Found> = HashMap::new();
        let mut joins = Vec::new();
        let mut next = issued;
        let mut answers = Vec::with_capacity(asks.len());
        for ask in asks {
            let Ask::Join(join) = ask else {
                answers.push(Answer::Written);
                continue;
            };
            let standing = found.next().flatten().filter(|f| !f.left);
            answers.push(if let Some(place) = standing.or_else(|| taken.get(&join.subject).copied()) {
                Answer::Already(place)
            } else if next >= self.numbers_max {
                Answer::Full
            } else {
                next += 1;
                let place = Found { number: next, joined_at: join.joined_at, left: false };
                taken.insert(join.subject, place);
                joins.push(*join);
                Answer::Joined(place)
            });
        }
        let group = if joins.is_empty() { Vec::new() } else { vec![Record::Joins { first: issued + 1, joins }] };
        Ok((group, answers))
    }

    fn doubt(&self, asks: &[Ask]) {
        let mut progress = self.progress.lock();
        progress.in_doubt = true;
        for ask in asks {
            if let Ask::Events(events) = ask {
                progress.undo.extend(events.iter().cloned());
            }
        }
    }

    /// After a failure: reads what was written after all, and undoes in memory what was not.
    async fn settle_doubt(&self) -> Result<(), WriteError> {
        if !self.progress.lock().in_doubt {
            return Ok(());
        }
        self.catch_up().await?;
        let undo = std::mem::take(&mut self.progress.lock().undo);
        for event in undo {
            undo_event(self.store.as_ref(), &event).await?;
        }
        self.progress.lock().in_doubt = false;
        Ok(())
    }

    fn moment(&self) -> Moment {
        Moment { now: self.clock.now(), monotonic: self.clock.monotonic() }
    }
}

/// Frees what an event that was not written has taken in memory; one that was written has taken nothing any more.
async fn undo_event(store: &dyn QueueStore, event: &Event) -> Result<(), StoreError> {
    match event {
        Event::Entered { visit, .. } => store.give_back(*visit).await,
        Event::VisitEnded { number, visit } => store.reopen_visits(&[super::store::EndedVisit { visit: *visit, number: *number }]).await,
        _ => Ok(()),
    }
}

/// Hands events to the pen for the house itself and waits until they are written; says whether they are.
pub(super) async fn write_for_the_house(pen: &Pen, events: Vec<Event>) -> bool {
    pen.submit_patiently(Ask::Events(events)).await == Ok(Answer::Written)
}

/// Hands a visitor's event to the pen. When there is no room for it, what it has taken is freed at once.
pub(super) async fn write_for_a_visitor(pen: &Pen, store: &dyn QueueStore, event: Event) -> Result<Answer, GroupCommitError> {
    let written = pen.submit(Ask::Events(vec![event.clone()])).await;
    if written == Err(GroupCommitError::Full) {
        // The embedded engine cannot fail here; another one lets the reservation lapse.
        let _ = undo_event(store, &event).await;
    }
    written
}

/// A join as it is handed to the pen.
pub(super) fn join(subject: u64, joined_at: Timestamp) -> Ask {
    Ask::Join(Join { subject, joined_at })
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::{
        kernel::{ManualClock, SeededEntropy, VisitId},
        waiting_room::{
            journal::Stored,
            store::{EntryAsk, MemoryStore, Reservation, contract},
        },
    };

    #[derive(Clone, Copy, PartialEq)]
    enum Disk {
        Well,
        /// The commit fails and leaves nothing.
        Refuses,
        /// The commit takes place, but its answer is lost.
        LosesAnswer,
        /// As before, and then it cannot be read either.
        Hangs,
    }

    #[derive(Clone)]
    struct FlakyJournal(Arc<Mutex<(Disk, Vec<Record>)>>);

    #[async_trait]
    impl Journal for FlakyJournal {
        async fn append(&self, records: &[Record]) -> Result<u64, JournalError> {
            let mut state = self.0.lock();
            if matches!(state.0, Disk::Refuses) {
                return Err(JournalError::Unavailable("full".into()));
            }
            state.1.extend(records.iter().cloned());
            let seq = state.1.len() as u64;
            if state.0 == Disk::Well { Ok(seq) } else { Err(JournalError::Unavailable("no answer".into())) }
        }

        async fn read(&self, after: u64, limit: u32) -> Result<Vec<Stored>, JournalError> {
            let state = self.0.lock();
            if state.0 == Disk::Hangs {
                return Err(JournalError::Unavailable("no answer".into()));
            }
            let stored = (1..).zip(&state.1).skip(usize::try_from(after).unwrap()).take(limit as usize);
            Ok(stored.map(|(seq, record)| Stored { seq, record: record.clone() }).collect())
        }
    }

    struct Desk {
        journal: FlakyJournal,
        store: Arc<MemoryStore>,
        writer: Writer,
    }

    impl Desk {
        fn new() -> Self {
            let journal = FlakyJournal(Arc::new(Mutex::new((Disk::Well, Vec::new()))));
            let store = Arc::new(MemoryStore::new(contract::config(1), contract::at(0)));
            let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1)));
            let writer = Writer::new(Box::new(journal.clone()), Arc::clone(&store) as Arc<dyn QueueStore>, clock, 1_000);
            Self { journal, store, writer }
        }

        fn disk(&self, disk: Disk) {
            self.journal.0.lock().0 = disk;
        }

        async fn write(&self, ask: Ask) -> Answer {
            self.writer.write(vec![ask]).await[0]
        }

        /// Three have joined and are called; the first has a reservation.
        async fn with_a_reservation() -> (Self, Event) {
            let desk = Self::new();
            for subject in 1..=3 {
                assert!(matches!(desk.write(join(subject, Timestamp::default())).await, Answer::Joined(_)));
            }
            let called = Event::Called { from: 0, upto: 3, ends_at: Timestamp::from_secs(100) };
            assert_eq!(desk.write(Ask::Events(vec![called])).await, Answer::Written);
            let visit = VisitId::random(&SeededEntropy::new(1));
            let ask = EntryAsk { number: 1, visit };
            assert_eq!(desk.store.reserve(&ask, contract::at(10)).await.unwrap(), Reservation::Reserved);
            (desk, Event::Entered { number: 1, subject: 1, visit })
        }

        fn active(&self) -> u32 {
            self.store.counts(contract::at(10)).active
        }
    }

    #[tokio::test]
    async fn a_refused_commit_changes_nothing_and_gives_the_slot_back() {
        let (desk, entered) = Desk::with_a_reservation().await;
        desk.disk(Disk::Refuses);
        assert_eq!(desk.write(Ask::Events(vec![entered.clone()])).await, Answer::Failed);
        assert_eq!(desk.write(join(4, Timestamp::default())).await, Answer::Failed);
        desk.disk(Disk::Well);
        let Answer::Joined(place) = desk.write(join(4, Timestamp::default())).await else { panic!("she had no place") };
        assert_eq!((place.number, desk.active()), (4, 0));
    }

    #[tokio::test]
    async fn a_commit_whose_answer_was_lost_stands() {
        let (desk, entered) = Desk::with_a_reservation().await;
        for disk in [Disk::LosesAnswer, Disk::Hangs] {
            desk.disk(disk);
            let subject = if disk == Disk::Hangs { 5 } else { 4 };
            assert_eq!(desk.write(join(subject, Timestamp::default())).await, Answer::Failed);
        }
        assert_eq!(desk.write(Ask::Events(vec![entered])).await, Answer::Failed, "nothing is written while the journal cannot be read");
        assert_eq!(desk.active(), 1, "while nobody knows, the slot is not given away");
        desk.disk(Disk::Well);
        let Answer::Already(place) = desk.write(join(4, Timestamp::default())).await else { panic!("her join was written") };
        assert_eq!((place.number, desk.active()), (4, 0));
        assert!(matches!(desk.write(join(6, Timestamp::default())).await, Answer::Joined(Found { number: 5, .. })));
    }
}

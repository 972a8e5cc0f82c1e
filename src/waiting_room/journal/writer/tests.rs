//! What is written though the disk fails, and what is not.

use async_trait::async_trait;

use crate::waiting_room::journal::writer::*;
use crate::{
    kernel::{ManualClock, SeededEntropy, VisitId},
    waiting_room::{
        Inside,
        journal::request::Answer,
        store::{EntryAsk, MemoryStore, Numbered, Reservation, conformance},
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
    async fn append(&self, _epoch: u64, records: &[Record]) -> Result<u64, JournalError> {
        let mut state = self.0.lock();
        if matches!(state.0, Disk::Refuses) {
            return Err(JournalError::Unavailable("full".into()));
        }
        state.1.extend(records.iter().cloned());
        let seq = state.1.len() as u64;
        if state.0 == Disk::Well {
            Ok(seq)
        } else {
            Err(JournalError::Unavailable("no answer".into()))
        }
    }

    async fn read(&self, after: u64, limit: u32) -> Result<Vec<Stored>, JournalError> {
        let state = self.0.lock();
        if state.0 == Disk::Hangs {
            return Err(JournalError::Unavailable("no answer".into()));
        }
        let stored = (1..)
            .zip(&state.1)
            .skip(usize::try_from(after).unwrap())
            .take(limit as usize);
        Ok(stored
            .map(|(seq, record)| Stored {
                seq,
                record: record.clone(),
            })
            .collect())
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
        let store = Arc::new(MemoryStore::new(conformance::config(1), 0, conformance::at(0)));
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1)));
        let writer = Writer::new(
            Arc::new(journal.clone()),
            Arc::clone(&store) as Arc<dyn QueueStore>,
            clock,
            Durability::Journaled,
        );
        Self {
            journal,
            store,
            writer,
        }
    }

    fn disk(&self, disk: Disk) {
        self.journal.0.lock().0 = disk;
    }

    async fn write(&self, ask: Ask) -> Answer {
        self.writer.write(vec![ask]).await[0]
    }

    /// Her number, and whether it was written.
    async fn join(&self, subject: u64) -> (u32, Answer) {
        let join = Join {
            subject,
            joined_at: Timestamp::default(),
        };
        let (Numbered::New(found) | Numbered::Had { found, .. }) = self.store.number(join).await.unwrap()
        else {
            panic!("no number")
        };
        (
            found.number,
            self.write(Ask::Join(Promise {
                number: found.number,
                join,
                epoch: 0,
            }))
            .await,
        )
    }

    /// Three have joined and are called; the first has a reservation.
    async fn with_a_reservation() -> (Self, Event) {
        let desk = Self::new();
        for number in 1..=3 {
            assert_eq!(desk.join(number.into()).await, (number, Answer::Written));
        }
        let called = Event::Called {
            from: 0,
            upto: 3,
            ends_at: Timestamp::from_secs(100),
        };
        assert_eq!(desk.write(Ask::Events(vec![called])).await, Answer::Written);
        let visit = VisitId::random(&SeededEntropy::new(1));
        let ask = EntryAsk {
            number: 1,
            visit,
            inside: Inside::Served,
        };
        let reserved = Reservation::Reserved {
            at: conformance::at(10).now,
        };
        assert_eq!(
            desk.store.reserve(&ask, conformance::at(10)).await.unwrap(),
            reserved
        );
        (
            desk,
            Event::Entered {
                number: 1,
                subject: 1,
                visit,
            },
        )
    }

    fn active(&self) -> u32 {
        self.store.counts(conformance::at(10)).active
    }
}

#[tokio::test]
async fn a_refused_commit_writes_nothing_gives_the_slot_back_and_keeps_the_number() {
    let (desk, entered) = Desk::with_a_reservation().await;
    desk.disk(Disk::Refuses);
    assert_eq!(
        desk.write(Ask::Events(vec![entered.clone()])).await,
        Answer::Failed
    );
    assert_eq!(desk.join(4).await, (4, Answer::Failed));
    assert_eq!(desk.store.known(4), None);
    desk.disk(Disk::Well);
    assert_eq!(desk.join(5).await, (5, Answer::Written));
    assert_eq!(
        (desk.store.owner(4), desk.active()),
        (Some(4), 0),
        "what was promised is written with the next group"
    );
    assert_eq!(desk.join(4).await, (4, Answer::Written));
    assert_eq!(
        desk.journal.0.lock().1.len(),
        5,
        "three joins, a call, two joins in one run"
    );
}

#[tokio::test]
async fn a_promise_whose_epoch_ends_just_after_a_doubt_was_settled_holds_nobody_up() {
    let desk = Desk::new();
    let join = Join {
        subject: 9,
        joined_at: Timestamp::default(),
    };
    desk.writer.progress.lock().unwritten.push(Promise {
        number: 9,
        join,
        epoch: 7,
    });
    desk.writer.behind.0.store(true, Ordering::Relaxed);
    assert_eq!(desk.write(Ask::Events(Vec::new())).await, Answer::Written);
    assert_eq!(
        (
            desk.writer.progress.lock().unwritten.len(),
            desk.writer.behind().is()
        ),
        (0, false)
    );
}

#[tokio::test]
async fn she_came_in_when_her_slot_was_taken_however_long_the_writing_took() {
    let (desk, event) = Desk::with_a_reservation().await;
    let at = Timestamp::from_millis(900);
    assert_eq!(
        desk.write(Ask::Entry { event, at, epoch: 0 }).await,
        Answer::Written
    );
    let written = desk.journal.0.lock().1.last().and_then(Record::at);
    assert_eq!(written, Some(at), "the clock stands at a second by now");
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_stands() {
    let (desk, entered) = Desk::with_a_reservation().await;
    for (disk, subject) in [(Disk::LosesAnswer, 4), (Disk::Hangs, 5)] {
        desk.disk(disk);
        assert_eq!(desk.join(subject).await.1, Answer::Failed);
    }
    assert_eq!(
        desk.write(Ask::Events(vec![entered])).await,
        Answer::Failed,
        "nothing is written while the journal cannot be read"
    );
    assert_eq!(desk.active(), 1, "while nobody knows, the slot is not given away");
    desk.disk(Disk::Well);
    assert_eq!((desk.join(4).await, desk.active()), ((4, Answer::Written), 0));
    assert_eq!(desk.join(6).await, (6, Answer::Written));
    let joins = desk
        .journal
        .0
        .lock()
        .1
        .iter()
        .map(|record| {
            if let Record::Joins { joins, .. } = record {
                joins.len()
            } else {
                0
            }
        })
        .sum::<usize>();
    assert_eq!(joins, 6, "each is written once");
}

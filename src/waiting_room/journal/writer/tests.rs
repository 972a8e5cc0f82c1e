//! The writer on a disk that fails.

use async_trait::async_trait;

use crate::waiting_room::journal::writer::*;
use crate::{
    kernel::{ManualClock, SeededEntropy, VisitId},
    waiting_room::{
        journal::{record::Join, request::WriteResult},
        store::{
            conformance,
            memory::store::MemoryStore,
            port::{Assigned, Reservation, SlotRequest},
        },
        types::BoxOfficeLoad,
    },
};

#[derive(Clone, Copy, PartialEq)]
enum Disk {
    Healthy,
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
        if state.0 == Disk::Healthy {
            Ok(seq)
        } else {
            Err(JournalError::Unavailable("no answer".into()))
        }
    }

    async fn read(&self, after: u64, limit: u32) -> Result<Vec<StoredRecord>, JournalError> {
        let state = self.0.lock();
        if state.0 == Disk::Hangs {
            return Err(JournalError::Unavailable("no answer".into()));
        }
        let stored = (1..)
            .zip(&state.1)
            .skip(usize::try_from(after).unwrap())
            .take(limit as usize);
        Ok(stored
            .map(|(seq, record)| StoredRecord {
                seq,
                record: record.clone(),
            })
            .collect())
    }
}

struct Fixture {
    journal: FlakyJournal,
    store: Arc<MemoryStore>,
    writer: JournalWriter,
}

impl Fixture {
    fn new() -> Self {
        let journal = FlakyJournal(Arc::new(Mutex::new((Disk::Healthy, Vec::new()))));
        let store = Arc::new(MemoryStore::new(conformance::config(1), 0, conformance::at(0)));
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1)));
        let writer = JournalWriter::new(
            Arc::new(journal.clone()),
            Arc::clone(&store) as Arc<dyn QueueStore>,
            clock,
            Durability::Committed,
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

    async fn write(&self, request: WriteRequest) -> WriteResult {
        self.writer.write(vec![request]).await[0]
    }

    /// The assigned number, and whether it was journaled.
    async fn join(&self, subject: u64) -> (u32, WriteResult) {
        let join = Join {
            subject,
            joined_at: Timestamp::default(),
        };
        let (Assigned::New(entry) | Assigned::Existing { entry, .. }) =
            self.store.assign_number(join).await.unwrap()
        else {
            panic!("no number")
        };
        (
            entry.number,
            self.write(WriteRequest::Join(PendingJoin {
                number: entry.number,
                join,
                epoch: 0,
            }))
            .await,
        )
    }

    /// Three have joined and are called; the first has a reservation.
    async fn with_a_reservation() -> (Self, Event) {
        let fixture = Self::new();
        for number in 1..=3 {
            assert_eq!(fixture.join(number.into()).await, (number, WriteResult::Written));
        }
        let called = Event::Called {
            after: 0,
            last: 3,
            window_ends_at: Timestamp::from_secs(100),
        };
        assert_eq!(
            fixture.write(WriteRequest::Events(vec![called])).await,
            WriteResult::Written
        );
        let visit = VisitId::random(&SeededEntropy::new(1));
        let request = SlotRequest {
            number: 1,
            visit,
            load: BoxOfficeLoad::Normal,
        };
        let reserved = Reservation::Reserved {
            at: conformance::at(10).now,
        };
        assert_eq!(
            fixture
                .store
                .reserve_slot(&request, conformance::at(10))
                .await
                .unwrap(),
            reserved
        );
        (
            fixture,
            Event::Admitted {
                number: 1,
                subject: 1,
                visit,
            },
        )
    }

    fn active(&self) -> u32 {
        self.store.counts(conformance::at(10)).active_visits
    }
}

#[tokio::test]
async fn a_refused_commit_releases_the_slot_and_keeps_the_number() {
    let (fixture, entered) = Fixture::with_a_reservation().await;
    fixture.disk(Disk::Refuses);
    assert_eq!(
        fixture.write(WriteRequest::Events(vec![entered.clone()])).await,
        WriteResult::Failed
    );
    assert_eq!(fixture.join(4).await, (4, WriteResult::Failed));
    assert_eq!(fixture.store.find_by_subject(4), None);
    fixture.disk(Disk::Healthy);
    assert_eq!(fixture.join(5).await, (5, WriteResult::Written));
    assert_eq!(
        (fixture.store.subject_of(4), fixture.active()),
        (Some(4), 0),
        "what was promised is written with the next group"
    );
    assert_eq!(fixture.join(4).await, (4, WriteResult::Written));
    assert_eq!(
        fixture.journal.0.lock().1.len(),
        5,
        "three joins, a call, two joins in one run"
    );
}

#[tokio::test]
async fn a_pending_join_of_a_past_epoch_blocks_no_one() {
    let fixture = Fixture::new();
    let join = Join {
        subject: 9,
        joined_at: Timestamp::default(),
    };
    fixture.writer.progress.lock().pending.push(PendingJoin {
        number: 9,
        join,
        epoch: 7,
    });
    fixture.writer.lag.set(true);
    assert_eq!(
        fixture.write(WriteRequest::Events(Vec::new())).await,
        WriteResult::Written
    );
    assert_eq!(
        (
            fixture.writer.progress.lock().pending.len(),
            fixture.writer.lag().is()
        ),
        (0, false)
    );
}

#[tokio::test]
async fn a_visit_starts_when_its_slot_was_reserved() {
    let (fixture, event) = Fixture::with_a_reservation().await;
    let at = Timestamp::from_millis(900);
    assert_eq!(
        fixture.write(WriteRequest::Entry { event, at, epoch: 0 }).await,
        WriteResult::Written
    );
    let written = fixture.journal.0.lock().1.last().and_then(Record::at);
    assert_eq!(written, Some(at), "the clock stands at a second by now");
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_stands() {
    let (fixture, entered) = Fixture::with_a_reservation().await;
    for (disk, subject) in [(Disk::LosesAnswer, 4), (Disk::Hangs, 5)] {
        fixture.disk(disk);
        assert_eq!(fixture.join(subject).await.1, WriteResult::Failed);
    }
    assert_eq!(
        fixture.write(WriteRequest::Events(vec![entered])).await,
        WriteResult::Failed,
        "nothing is written while the journal cannot be read"
    );
    assert_eq!(
        fixture.active(),
        1,
        "while the outcome is unknown, the slot stays taken"
    );
    fixture.disk(Disk::Healthy);
    assert_eq!(
        (fixture.join(4).await, fixture.active()),
        ((4, WriteResult::Written), 0)
    );
    assert_eq!(fixture.join(6).await, (6, WriteResult::Written));
    let joins = fixture
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

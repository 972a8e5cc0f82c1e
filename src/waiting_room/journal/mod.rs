//! The journal: what is answered is in it, what memory holds is a fold of it.

mod chain;
mod encoding;
mod postgres;
mod show;
mod sqlite;
mod verify;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub(super) use self::{
    chain::{Chain, Link, extend},
    postgres::{HEADROOM, Head, OpenError, PgJournal},
    sqlite::SqliteJournal,
};
pub use self::{
    show::{LogLine, read_log},
    verify::{CheckedLog, LogError, LogFault, LogHead, check_log},
};
use super::{
    OperatorCommand, Phase,
    draw::{Closed, Committed, Drawn},
};
use crate::kernel::{Timestamp, VisitId};

/// One change of a sale's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// Those who joined together, numbered on from `first`.
    Joins { first: u32, joins: Vec<Join> },
    /// One thing that happened at one moment.
    Event { at: Timestamp, event: Event },
}

/// Somebody joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Join {
    pub subject: u64,
    pub joined_at: Timestamp,
}

/// What happened to the line or to one who stands in it. Numbers are queue numbers, but where arrival numbers are named;
/// before a draw, and without one, they are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Event {
    /// Everybody after `from` up to `upto` was called and has until `ends_at` to come.
    Called {
        from: u32,
        upto: u32,
        ends_at: Timestamp,
    },
    Entered {
        number: u32,
        subject: u64,
        visit: VisitId,
    },
    VisitEnded {
        number: u32,
        visit: VisitId,
    },
    /// Left the line on purpose. By her arrival number, which a draw does not change: she may be leaving while it is held.
    Left {
        number: u32,
    },
    /// Every seat is gone, or one has come back.
    Stock {
        sold_out: bool,
    },
    Phase {
        phase: Phase,
    },
    /// Nobody could come between `since` and this moment.
    Interrupted {
        since: Timestamp,
    },
    /// This visit's entry was not written down in time: it will not be any more.
    Lapsed {
        number: u32,
        visit: VisitId,
    },
    /// An order, and who gave it; nobody is named where the house itself did, or before orders had names.
    Operator {
        command: OperatorCommand,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// So many millionths of the ordered rate are taken away, as the box office suffers; 0 when it does not.
    Slowed {
        by_ppm: u32,
    },
    /// A fair draw is promised.
    DrawCommitted(Box<Committed>),
    /// The arrivals so far are in the draw; a number among them that is nobody's now is nobody's for ever.
    EntriesClosed(Box<Closed>),
    /// The draw is held.
    Drawn(Box<Drawn>),
}

impl Record {
    /// When it happened; of joins, when the last of the group came.
    pub(super) fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Joins { joins, .. } => joins.last().map(|join| join.joined_at),
            Self::Event { at, .. } => Some(*at),
        }
    }
}

/// A record as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// Grows from record to record, with gaps.
    pub seq: u64,
    pub record: Record,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    /// A number or a visit is there already; nothing of the group was written.
    #[error("the journal holds a record that excludes this one")]
    Conflict,
    /// The engine under whose epoch this was decided has lost its memory since; nothing of the group was written.
    #[error("the journal is in a later epoch")]
    Stale,
    /// Whether the group was written is not known until the journal has been read again.
    #[error("the journal does not answer: {0}")]
    Unavailable(String),
    #[error("the journal's record {seq} cannot be read")]
    Unreadable { seq: u64 },
    #[error("the journal's link {number} cannot be read")]
    UnreadableLink { number: u64 },
}

/// One sale's journal.
#[async_trait]
pub(super) trait Journal: Send + Sync + 'static {
    /// Writes all records in this order with one commit, or none; returns when they would survive a power cut. Gives
    /// the sequence number of the last. A journal that several processes write refuses an epoch that is over.
    async fn append(&self, epoch: u64, records: &[Record]) -> Result<u64, JournalError>;

    /// At most `limit` records after `after` (0 for the beginning), oldest first.
    async fn read(&self, after: u64, limit: u32) -> Result<Vec<Stored>, JournalError>;

    /// Whether other processes write it too. Then sequence numbers have no gaps, and a gap means others' records.
    fn is_shared(&self) -> bool {
        false
    }

    /// Somebody is at the door at this moment; gives when that was last said. `None` where nobody asks.
    async fn beat(&self, _now: Timestamp) -> Result<Option<Timestamp>, JournalError> {
        Ok(None)
    }
}

#[cfg(test)]
pub(super) mod contract {
    //! What every journal must do, whatever it is made of. `open` gives the journal of the named sale on one and the
    //! same storage, as after a restart.

    use std::future::Future;

    use super::*;
    use crate::kernel::{Entropy, SeededEntropy};

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn joins(first: u32, subjects: &[u64]) -> Record {
        let joins = subjects
            .iter()
            .map(|&subject| Join {
                subject,
                joined_at: at(1_000 + i64::from(first)),
            })
            .collect();
        Record::Joins { first, joins }
    }

    fn event(event: Event) -> Record {
        Record::Event { at: at(5_000), event }
    }

    fn entered(entropy: &dyn Entropy, number: u32, subject: u64) -> (VisitId, Record) {
        let visit = VisitId::random(entropy);
        (
            visit,
            event(Event::Entered {
                number,
                subject,
                visit,
            }),
        )
    }

    pub(crate) async fn keeps_what_it_was_given<J: Journal, F: Future<Output = J>>(
        open: impl Fn(&'static str) -> F,
    ) {
        let entropy = SeededEntropy::new(1);
        let (visit, entry) = entered(&entropy, 1, u64::MAX);
        let given = vec![
            joins(1, &[u64::MAX, 0, 7]),
            event(Event::Called {
                from: 0,
                upto: 2,
                ends_at: at(9_000),
            }),
            entry,
            event(Event::VisitEnded { number: 1, visit }),
            event(Event::Left { number: 2 }),
            event(Event::Stock { sold_out: true }),
            event(Event::Phase {
                phase: Phase::SoldOut,
            }),
            event(Event::Interrupted { since: at(4_000) }),
            event(Event::Operator {
                command: OperatorCommand::Notice {
                    text: Some("곧 다시".into()),
                },
                by: Some("kim".into()),
            }),
            event(Event::Operator {
                command: OperatorCommand::Resume,
                by: None,
            }),
            event(Event::Slowed { by_ppm: 250_000 }),
        ];
        let journal = open("a").await;
        journal.append(0, &given[..3]).await.unwrap();
        journal.append(0, &given[3..]).await.unwrap();
        open("b").await.append(0, &[joins(1, &[9])]).await.unwrap();

        let again = open("a").await;
        let kept = again.read(0, 100).await.unwrap();
        assert_eq!(kept.iter().map(|s| s.record.clone()).collect::<Vec<_>>(), given);
        assert!(kept.windows(2).all(|w| w[0].seq < w[1].seq));
        let rest = again.read(kept[2].seq, 2).await.unwrap();
        assert_eq!(rest, kept[3..5]);
    }

    pub(crate) async fn refuses_a_number_or_a_visit_twice<J: Journal, F: Future<Output = J>>(
        open: impl Fn(&'static str) -> F,
    ) {
        let entropy = SeededEntropy::new(2);
        let journal = open("a").await;
        let (first_visit, entry) = entered(&entropy, 1, 11);
        journal
            .append(0, &[joins(1, &[11, 12, 11]), entry])
            .await
            .unwrap();
        let before = journal.read(0, 100).await.unwrap();
        let refused = |records: Vec<Record>| {
            let journal = &journal;
            async move { matches!(journal.append(0, &records).await, Err(JournalError::Conflict)) }
        };
        assert!(refused(vec![joins(1, &[13])]).await, "the same numbers again");
        assert!(
            refused(vec![event(Event::Left { number: 2 }), entered(&entropy, 1, 12).1]).await,
            "one number enters once"
        );
        assert!(
            refused(vec![entered(&entropy, 3, 11).1]).await,
            "one fan has one visit at a time"
        );
        assert_eq!(
            journal.read(0, 100).await.unwrap(),
            before,
            "a refused group leaves nothing behind"
        );
        journal
            .append(
                0,
                &[
                    event(Event::VisitEnded {
                        number: 1,
                        visit: first_visit,
                    }),
                    entered(&entropy, 3, 11).1,
                ],
            )
            .await
            .unwrap();
    }
}

//! What the journal holds: one record per change of a sale's queue.

use serde::{Deserialize, Serialize};

use crate::{
    kernel::{Timestamp, VisitId},
    waiting_room::{
        draw::progress::{ClosedEntries, DrawCommitment, DrawResult},
        types::{OperatorCommand, Phase},
    },
};

/// One change of a sale's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// Joins that were committed together, numbered on from `first`.
    Joins { first: u32, joins: Vec<Join> },
    /// One event.
    Event { at: Timestamp, event: Event },
}

/// A visitor joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Join {
    /// The keyed hash of the subject.
    pub subject: u64,
    pub joined_at: Timestamp,
}

/// An event of the queue or of one entry.
///
/// Numbers are queue numbers except where arrival numbers are named; before a draw, and without one, they are
/// the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Event {
    /// The entries after `after` up to `last` were called and may enter until `window_ends_at`.
    Called {
        after: u32,
        last: u32,
        window_ends_at: Timestamp,
    },
    /// A visitor entered.
    Admitted {
        number: u32,
        subject: u64,
        visit: VisitId,
    },
    /// A visit is over.
    VisitEnded { number: u32, visit: VisitId },
    /// The visitor left the queue. Carries the arrival number, which a draw does not change: the visitor may
    /// leave while a draw is held.
    Left { number: u32 },
    /// The last seat was sold, or one came back.
    Stock { sold_out: bool },
    /// The sale entered a phase.
    Phase { phase: Phase },
    /// No visitor could enter between `since` and this moment: call windows are extended by it.
    Interrupted { since: Timestamp },
    /// A reservation lapsed because its entry was not journaled in time; the entry is refused from then on.
    ReservationLapsed { number: u32, visit: VisitId },
    /// An operator's command. `operator` is `None` for commands that the service gave itself.
    Operator {
        command: OperatorCommand,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        operator: Option<String>,
    },
    /// The configured rate is reduced by so many millionths while the box office is slow; 0 when it no longer
    /// is.
    RateReduced { by_ppm: u32 },
    /// A fair draw is committed to.
    DrawCommitted(Box<DrawCommitment>),
    /// The draw is closed over the arrivals so far. A number among them without a journaled subject stays
    /// without one.
    EntriesClosed(Box<ClosedEntries>),
    /// The draw is held.
    Drawn(Box<DrawResult>),
}

impl Record {
    /// When it happened; of joins, when the last of the group joined.
    pub(crate) fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Joins { joins, .. } => joins.last().map(|join| join.joined_at),
            Self::Event { at, .. } => Some(*at),
        }
    }

    /// The result of a draw, if that is what this record holds, and when it was recorded.
    pub(crate) fn drawn(&self) -> Option<(Timestamp, &DrawResult)> {
        match self {
            Self::Event {
                at,
                event: Event::Drawn(result),
            } => Some((*at, result)),
            _ => None,
        }
    }
}

/// A record as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredRecord {
    /// The sequence number: grows from record to record, with gaps where several sales share a journal.
    pub seq: u64,
    pub record: Record,
}

/// A join whose number is assigned and not journaled yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PendingJoin {
    /// The arrival number.
    pub number: u32,
    pub join: Join,
    /// The store's epoch under which the number was assigned.
    pub epoch: u64,
}

//! What the journal holds: one record per change of a sale's queue.

use serde::{Deserialize, Serialize};

use crate::{
    kernel::{Timestamp, VisitId},
    waiting_room::{
        OperatorCommand, Phase,
        draw::progress::{Closed, Committed, Drawn},
    },
};

/// One change of a sale's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// Those who joined together, numbered on from `first`.
    Joins { first: u32, joins: Vec<Join> },
    /// One thing that happened at one moment.
    Event { at: Timestamp, event: Event },
}

/// Somebody joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Join {
    pub subject: u64,
    pub joined_at: Timestamp,
}

/// What happened to the line or to one who stands in it. Numbers are queue numbers, but where arrival numbers are named;
/// before a draw, and without one, they are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Event {
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
    pub(crate) fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Joins { joins, .. } => joins.last().map(|join| join.joined_at),
            Self::Event { at, .. } => Some(*at),
        }
    }

    /// The result of a draw, if that is what this record holds, and when it was recorded.
    pub(crate) fn drawn(&self) -> Option<(Timestamp, &Drawn)> {
        match self {
            Self::Event {
                at,
                event: Event::Drawn(drawn),
            } => Some((*at, drawn)),
            _ => None,
        }
    }
}

/// A record as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Grows from record to record, with gaps.
    pub seq: u64,
    pub record: Record,
}

/// A number that the engine has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Promise {
    pub number: u32,
    pub join: Join,
    /// Which of the engine's memories gave it.
    pub epoch: u64,
}

//! What the database checks of a record when it is appended.

use crate::{
    kernel::Timestamp,
    waiting_room::journal::record::{Event, Record},
};

/// What a record has to satisfy, as the database's function takes it.
#[derive(Default)]
pub(super) struct Effect {
    pub(super) name: &'static str,
    pub(super) a: i64,
    pub(super) b: i64,
    pub(super) visit: String,
    pub(super) at: Timestamp,
}

impl Effect {
    pub(super) fn of(record: &Record) -> Self {
        match record {
            Record::Joins { first, joins } => {
                let last = i64::from(*first) + i64::try_from(joins.len()).unwrap_or(i64::MAX) - 1;
                Self {
                    name: "joins",
                    a: i64::from(*first),
                    b: last,
                    ..Self::default()
                }
            }
            Record::Event { at, event } => {
                let of = |name, a: i64, b: i64, visit: String| Self {
                    name,
                    a,
                    b,
                    visit,
                    at: *at,
                };
                match event {
                    Event::Called { from, upto, .. } => {
                        of("call", i64::from(*from), i64::from(*upto), String::new())
                    }
                    Event::Entered {
                        number,
                        subject,
                        visit,
                    } => of(
                        "admission",
                        i64::from(*number),
                        subject.cast_signed(),
                        visit.to_string(),
                    ),
                    Event::VisitEnded { number, visit } => {
                        of("visit_end", i64::from(*number), 0, visit.to_string())
                    }
                    Event::EntriesClosed(closed) => of(
                        "close_entries",
                        i64::from(closed.entries),
                        i64::from(closed.persons),
                        String::new(),
                    ),
                    Event::Lapsed { visit, .. } => of("lapse", 0, 0, visit.to_string()),
                    _ => Self::default(),
                }
            }
        }
    }
}

//! What the database checks of a record when it is appended.

use crate::{
    kernel::Timestamp,
    waiting_room::journal::record::{Event, Record},
};

/// What a record has to satisfy, as the database's function takes it.
#[derive(Default)]
struct Effect {
    name: &'static str,
    a: i64,
    b: i64,
    visit: String,
    at: Timestamp,
}

impl Effect {
    fn of(record: &Record) -> Self {
        match record {
            Record::Joins { first, joins } => {
                let last = i64::from(*first) + i64::try_from(joins.len()).unwrap_or(i64::MAX) - 1;
                Self {
                    name: "joined",
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
                        of("called", i64::from(*from), i64::from(*upto), String::new())
                    }
                    Event::Entered {
                        number,
                        subject,
                        visit,
                    } => of(
                        "entered",
                        i64::from(*number),
                        subject.cast_signed(),
                        visit.to_string(),
                    ),
                    Event::VisitEnded { number, visit } => {
                        of("ended", i64::from(*number), 0, visit.to_string())
                    }
                    Event::EntriesClosed(closed) => of(
                        "closed",
                        i64::from(closed.entries),
                        i64::from(closed.persons),
                        String::new(),
                    ),
                    Event::Lapsed { visit, .. } => of("lapsed", 0, 0, visit.to_string()),
                    _ => Self::default(),
                }
            }
        }
    }
}

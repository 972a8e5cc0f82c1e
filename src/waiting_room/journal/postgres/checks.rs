//! What the database checks of a record when it is appended.

use crate::{
    kernel::Timestamp,
    waiting_room::journal::record::{Event, Record},
};

/// The check of one record, as `append_records` in the migration takes it.
#[derive(Default)]
pub(super) struct RecordCheck {
    pub(super) name: &'static str,
    pub(super) a: i64,
    pub(super) b: i64,
    pub(super) visit: String,
    pub(super) at: Timestamp,
}

impl RecordCheck {
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
                    Event::Called { after, last, .. } => {
                        of("call", i64::from(*after), i64::from(*last), String::new())
                    }
                    Event::Admitted {
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
                    Event::ReservationLapsed { visit, .. } => of("lapse", 0, 0, visit.to_string()),
                    _ => Self::default(),
                }
            }
        }
    }
}

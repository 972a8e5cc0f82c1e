//! What a journal record means to Redis.

use crate::{
    kernel::{Timestamp, VisitId},
    platform::redis::Call,
    waiting_room::{
        admission::call_policy::burst_of,
        journal::record::{Event, Record, StoredRecord},
        state::Settings,
        store::{
            memory::store::MemoryStore,
            port::{DrawStore, QueueStore},
            redis::subject_index::{Bucket, SubjectIndex},
        },
        tokens::queue_token::is_anonymous,
        types::Config,
    },
};

/// What one record changes in Redis.
#[derive(Clone, Debug)]
pub(super) struct Effect {
    /// The record's sequence number.
    pub(super) seq: u64,
    change: Change,
}

/// The kinds of `apply_effects.lua`.
#[derive(Clone, Debug)]
enum Change {
    Called {
        last: u32,
    },
    Admitted {
        number: u32,
        visit: VisitId,
        started: Timestamp,
    },
    Ended {
        arrival: u32,
        visit: VisitId,
        bucket: Option<Bucket>,
    },
    Left {
        arrival: u32,
        number: u32,
        bucket: Option<Bucket>,
    },
    Lapsed {
        number: u32,
        visit: VisitId,
    },
    Settings {
        rate_per_minute: u32,
        burst: u32,
        active_visits_max: u32,
        is_stopped: bool,
    },
}

impl Effect {
    /// The effect of a record; `None` where it changes nothing in Redis. `settings` are those before the
    /// record, and become those after it.
    pub(super) fn of(
        stored: &StoredRecord,
        mirror: &MemoryStore,
        settings: &mut Settings,
        config: &Config,
        index: &SubjectIndex,
    ) -> Option<Self> {
        let Record::Event { at, event } = &stored.record else {
            // Numbers are in Redis before they are in the journal.
            return None;
        };
        let bucket = |arrival| {
            mirror
                .subject_of(arrival)
                .filter(|subject| !is_anonymous(*subject))
                .map(|subject| index.bucket(subject))
        };
        let change = match event {
            Event::Called { last, .. } => Change::Called { last: *last },
            Event::Admitted { number, visit, .. } => Change::Admitted {
                number: *number,
                visit: *visit,
                started: *at,
            },
            Event::VisitEnded { number, visit } => {
                let arrival = mirror.arrival(*number);
                Change::Ended {
                    arrival,
                    visit: *visit,
                    bucket: bucket(arrival),
                }
            }
            Event::Left { number: arrival } => Change::Left {
                arrival: *arrival,
                number: mirror.queue_number(*arrival),
                bucket: bucket(*arrival),
            },
            Event::ReservationLapsed { number, visit } => Change::Lapsed {
                number: *number,
                visit: *visit,
            },
            Event::Operator { .. } | Event::RateReduced { .. } => {
                settings.apply_event(event, *at);
                Change::Settings {
                    rate_per_minute: settings.rate_effective_per_minute,
                    burst: burst_of(settings.rate_effective_per_minute, config.admission_burst),
                    active_visits_max: settings.active_visits_max,
                    is_stopped: settings.is_stopped(),
                }
            }
            Event::Stock { .. }
            | Event::Phase { .. }
            | Event::Interrupted { .. }
            | Event::DrawCommitted(_)
            | Event::EntriesClosed(_)
            | Event::Drawn(_) => return None,
        };
        Some(Self {
            seq: stored.seq,
            change,
        })
    }

    /// The bucket whose key the call needs.
    pub(super) fn bucket(&self) -> Option<&Bucket> {
        match &self.change {
            Change::Ended { bucket, .. } | Change::Left { bucket, .. } => bucket.as_ref(),
            _ => None,
        }
    }

    /// Adds the six items that `apply_effects.lua` reads; `bucket` is the index of its bucket among the keys,
    /// and the field.
    pub(super) fn encode(&self, call: Call, bucket: Option<(usize, Vec<u8>)>) -> Call {
        let (key_index, field) = bucket.unwrap_or_default();
        let call = call.arg(self.seq);
        match &self.change {
            Change::Called { last } => call.arg("called").arg(last).arg("").arg("").arg(""),
            Change::Admitted {
                number,
                visit,
                started,
            } => call
                .arg("admitted")
                .arg(number)
                .arg(visit.as_uuid().as_bytes())
                .arg(started.as_millis())
                .arg(""),
            Change::Ended { arrival, visit, .. } => call
                .arg("ended")
                .arg(arrival)
                .arg(visit.as_uuid().as_bytes())
                .arg(key_index)
                .arg(field),
            Change::Left { arrival, number, .. } => call
                .arg("left")
                .arg(arrival)
                .arg(number)
                .arg(key_index)
                .arg(field),
            Change::Lapsed { number, visit } => call
                .arg("lapsed")
                .arg(number)
                .arg(visit.as_uuid().as_bytes())
                .arg("")
                .arg(""),
            Change::Settings {
                rate_per_minute,
                burst,
                active_visits_max,
                is_stopped,
            } => call
                .arg("settings")
                .arg(rate_per_minute)
                .arg(burst)
                .arg(active_visits_max)
                .arg(u8::from(*is_stopped)),
        }
    }
}

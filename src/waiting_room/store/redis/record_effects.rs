//! What a journal's record means to Redis, and where a subject is kept there.

use crate::{
    kernel::{Timestamp, VisitId},
    platform::redis::Call,
    waiting_room::{
        admission::policy::burst_of,
        journal::record::{Event, Record, Stored},
        state::Settings,
        store::{
            memory::MemoryStore,
            port::{DrawnStore, QueueStore},
            redis::bucket::{Bucket, Layout},
        },
        tokens::queue_token::is_stranger,
        types::Config,
    },
};

#[derive(Clone, Debug)]
pub(crate) struct Effect {
    pub(crate) seq: u64,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Called {
        upto: u32,
    },
    Entered {
        number: u32,
        visit: VisitId,
        began: Timestamp,
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
    /// The door is set so.
    Door {
        rate: u32,
        burst: u32,
        capacity: u32,
        stopped: bool,
    },
}

impl Effect {
    /// `None`: it means nothing to Redis. `door` is how the door was set before this record, and is after it.
    pub(crate) fn of(
        stored: &Stored,
        mirror: &MemoryStore,
        door: &mut Settings,
        config: &Config,
        layout: &Layout,
    ) -> Option<Self> {
        let Record::Event { at, event } = &stored.record else {
            return None;
        };
        let bucket = |arrival| {
            mirror
                .owner(arrival)
                .filter(|subject| !is_stranger(*subject))
                .map(|subject| layout.bucket(subject))
        };
        let what = match event {
            Event::Called { upto, .. } => What::Called { upto: *upto },
            Event::Entered { number, visit, .. } => What::Entered {
                number: *number,
                visit: *visit,
                began: *at,
            },
            Event::VisitEnded { number, visit } => {
                let arrival = mirror.arrival(*number);
                What::Ended {
                    arrival,
                    visit: *visit,
                    bucket: bucket(arrival),
                }
            }
            Event::Left { number: arrival } => What::Left {
                arrival: *arrival,
                number: mirror.queue_number(*arrival),
                bucket: bucket(*arrival),
            },
            Event::Lapsed { number, visit } => What::Lapsed {
                number: *number,
                visit: *visit,
            },
            Event::Operator { .. } | Event::Slowed { .. } => {
                door.follow(event, *at);
                let (rate, burst) = (door.rate_per_minute, burst_of(door.rate_per_minute, config.burst));
                What::Door {
                    rate,
                    burst,
                    capacity: door.capacity,
                    stopped: door.is_stopped(),
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
            what,
        })
    }

    pub(crate) fn bucket(&self) -> Option<&Bucket> {
        match &self.what {
            What::Ended { bucket, .. } | What::Left { bucket, .. } => bucket.as_ref(),
            _ => None,
        }
    }

    /// As `apply.lua` reads it; `bucket` is the place of its bucket among the keys, and the field.
    pub(crate) fn encode(&self, call: Call, bucket: Option<(usize, Vec<u8>)>) -> Call {
        let (place, field) = bucket.unwrap_or_default();
        let call = call.arg(self.seq);
        let visit = |visit: &VisitId| visit.as_uuid().as_bytes().to_vec();
        match &self.what {
            What::Called { upto } => call.arg("C").arg(upto).arg("").arg("").arg(""),
            What::Entered {
                number,
                visit: id,
                began,
            } => call
                .arg("E")
                .arg(number)
                .arg(visit(id))
                .arg(began.as_millis())
                .arg(""),
            What::Ended {
                arrival, visit: id, ..
            } => call.arg("X").arg(arrival).arg(visit(id)).arg(place).arg(field),
            What::Left { arrival, number, .. } => {
                call.arg("L").arg(arrival).arg(number).arg(place).arg(field)
            }
            What::Lapsed { number, visit: id } => call.arg("V").arg(number).arg(visit(id)).arg("").arg(""),
            What::Door {
                rate,
                burst,
                capacity,
                stopped,
            } => call
                .arg("S")
                .arg(rate)
                .arg(burst)
                .arg(capacity)
                .arg(u8::from(*stopped)),
        }
    }
}

//! What a journal's record means to Redis, and where a subject is kept there.

use crate::{
    kernel::{Timestamp, VisitId},
    platform::redis::{Call, Line},
    waiting_room::{
        Config, OperatorCommand,
        admission::burst_of,
        journal::{Event, Record, Stored},
        store::{DrawnStore, QueueStore, memory::MemoryStore},
    },
};

/// Where a subject's number is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) key: String,
    pub(super) field: Vec<u8>,
}

/// How subjects are spread over buckets: the low bits of the hash choose one of a power of two, the rest is the field,
/// in as few bytes as hold it.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    prefix: String,
    bits: u32,
}

impl Bucket {
    pub(super) fn layout(line: &Line, buckets: u32) -> Layout {
        Layout { prefix: line.key("b:"), bits: buckets.max(1).next_power_of_two().trailing_zeros() }
    }
}

impl Layout {
    pub(super) fn bucket(&self, subject: u64) -> Bucket {
        let index = subject & ((1 << self.bits) - 1);
        let rest = (subject >> self.bits).to_be_bytes();
        let bytes = usize::try_from((64 - self.bits).div_ceil(8)).unwrap_or(8);
        Bucket { key: self.key(index), field: rest[8 - bytes..].to_vec() }
    }

    /// All there are.
    pub(super) fn keys(&self) -> impl Iterator<Item = String> {
        (0..1_u64 << self.bits).map(|index| self.key(index))
    }

    fn key(&self, index: u64) -> String {
        format!("{}{index}", self.prefix)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Effect {
    pub(super) seq: u64,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Called { upto: u32 },
    Entered { number: u32, visit: VisitId, began: Timestamp },
    Ended { arrival: u32, visit: VisitId, bucket: Option<Bucket> },
    Left { arrival: u32, number: u32, bucket: Option<Bucket> },
    Lapsed { number: u32, visit: VisitId },
    Set { name: &'static str, value: u64, more: u64 },
}

impl Effect {
    /// `None`: it means nothing to Redis.
    pub(super) fn of(stored: &Stored, mirror: &MemoryStore, config: &Config, layout: &Layout) -> Option<Self> {
        let Record::Event { at, event } = &stored.record else { return None };
        let bucket = |arrival| mirror.owner(arrival).map(|subject| layout.bucket(subject));
        let what = match event {
            Event::Called { upto, .. } => What::Called { upto: *upto },
            Event::Entered { number, visit, .. } => What::Entered { number: *number, visit: *visit, began: *at },
            Event::VisitEnded { number, visit } => {
                let arrival = mirror.arrival(*number);
                What::Ended { arrival, visit: *visit, bucket: bucket(arrival) }
            }
            Event::Left { number: arrival } => {
                What::Left { arrival: *arrival, number: mirror.queue_number(*arrival), bucket: bucket(*arrival) }
            }
            Event::Lapsed { number, visit } => What::Lapsed { number: *number, visit: *visit },
            Event::Operator { command } => match command {
                OperatorCommand::Pause => What::Set { name: "paused", value: 1, more: 0 },
                OperatorCommand::Resume => What::Set { name: "paused", value: 0, more: 0 },
                OperatorCommand::Capacity { visitors } => What::Set { name: "capacity", value: (*visitors).into(), more: 0 },
                OperatorCommand::Rate { per_minute } => {
                    What::Set { name: "rate", value: (*per_minute).into(), more: burst_of(*per_minute, config.burst).into() }
                }
                OperatorCommand::Notice { .. } | OperatorCommand::Close | OperatorCommand::RevokePasses => return None,
            },
            Event::Stock { .. }
            | Event::Phase { .. }
            | Event::Interrupted { .. }
            | Event::DrawCommitted(_)
            | Event::EntriesClosed(_)
            | Event::Drawn(_) => return None,
        };
        Some(Self { seq: stored.seq, what })
    }

    pub(super) fn bucket(&self) -> Option<&Bucket> {
        match &self.what {
            What::Ended { bucket, .. } | What::Left { bucket, .. } => bucket.as_ref(),
            _ => None,
        }
    }

    /// As `apply.lua` reads it; `bucket` is the place of its bucket among the keys, and the field.
    pub(super) fn encode(&self, call: Call, bucket: Option<(usize, Vec<u8>)>) -> Call {
        let (place, field) = bucket.unwrap_or_default();
        let call = call.arg(self.seq);
        let visit = |visit: &VisitId| visit.as_uuid().as_bytes().to_vec();
        match &self.what {
            What::Called { upto } => call.arg("C").arg(upto).arg("").arg("").arg(""),
            What::Entered { number, visit: id, began } => call.arg("E").arg(number).arg(visit(id)).arg(began.as_millis()).arg(""),
            What::Ended { arrival, visit: id, .. } => call.arg("X").arg(arrival).arg(visit(id)).arg(place).arg(field),
            What::Left { arrival, number, .. } => call.arg("L").arg(arrival).arg(number).arg(place).arg(field),
            What::Lapsed { number, visit: id } => call.arg("V").arg(number).arg(visit(id)).arg("").arg(""),
            What::Set { name, value, more } => call.arg("S").arg(*name).arg(value).arg(more).arg(""),
        }
    }
}

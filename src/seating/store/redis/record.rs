//! Holds, changes and answers as the scripts write them (`shared.lua`).

use redis::Value;
use uuid::Uuid;

use crate::{
    kernel::{HoldId, Subject, Timestamp, VisitId},
    seating::{
        hold::{HoldState, RestoredClaim},
        seat::{SeatIx, SeatState},
    },
};

use super::super::{HoldRecord, StoreError};

/// Versions of one epoch; 2^13 epochs of so many stay whole numbers in a browser.
const VERSIONS_BITS: u32 = 40;

/// A record from the visit on.
pub(super) fn tail(visit: VisitId, seats: &[SeatIx], who: &Subject) -> Vec<u8> {
    let mut tail = Vec::with_capacity(18 + 4 * seats.len() + who.as_str().len());
    tail.extend(visit.as_uuid().as_bytes());
    tail.extend(u16::try_from(seats.len()).unwrap_or(u16::MAX).to_be_bytes());
    tail.extend(seats.iter().flat_map(|it| it.0.to_be_bytes()));
    tail.extend(who.as_str().as_bytes());
    tail
}

/// A claim as `restore.lua` reads it.
pub(super) fn claim(claim: &RestoredClaim, into: &mut Vec<u8>) {
    let (state, deadline) = if claim.booked { (b'B', Timestamp::default()) } else { (b'P', claim.until) };
    let mut record = vec![state, 0];
    record.extend(format!("{:013}", deadline.as_millis().max(0)).bytes());
    record.extend(tail(claim.visit, &claim.seats, &claim.subject));
    into.extend(claim.hold.as_uuid().as_bytes());
    into.extend(u32::try_from(record.len()).unwrap_or(u32::MAX).to_be_bytes());
    into.extend(record);
}

/// `None` when it is no record of ours.
pub(super) fn read(id: HoldId, record: &[u8]) -> Option<HoldRecord> {
    let state = if *record.first()? == b'H' { HoldState::Held } else { HoldState::Paying };
    let deadline: i64 = std::str::from_utf8(record.get(2..15)?).ok()?.parse().ok()?;
    let visit = Uuid::from_slice(record.get(15..31)?).ok()?;
    let count = usize::from(u16::from_be_bytes(record.get(31..33)?.try_into().ok()?));
    let (seats, who) = record.get(33..)?.split_at_checked(4 * count)?;
    Some(HoldRecord {
        id,
        subject: Subject::from_stored(std::str::from_utf8(who).ok()?).ok()?,
        visit: VisitId::from_uuid(visit),
        seats: seats_in(seats).collect(),
        expires_at: Timestamp::from_millis(deadline),
        extensions_left: record[1],
        state,
    })
}

/// Groups of seats that came into one state, in their order; what cannot be read ends them.
pub(super) fn read_changes(packed: &[u8]) -> Vec<(SeatIx, SeatState)> {
    let (mut changes, mut rest) = (Vec::new(), packed);
    while let Some(([state, high, low], after)) = rest.split_first_chunk::<3>()
        && let Some((seats, after)) = after.split_at_checked(4 * usize::from(u16::from_be_bytes([*high, *low])))
    {
        let state = SeatState::ALL[usize::from(*state) % SeatState::ALL.len()];
        changes.extend(seats_in(seats).map(|seat| (seat, state)));
        rest = after;
    }
    changes
}

fn seats_in(packed: &[u8]) -> impl Iterator<Item = SeatIx> {
    packed.chunks_exact(4).map(|it| SeatIx(u32::from_be_bytes([it[0], it[1], it[2], it[3]])))
}

/// `epoch-number`, as the stream of changes names its entries.
pub(super) fn version(name: &[u8]) -> Option<u64> {
    let (epoch, number) = std::str::from_utf8(name).ok()?.split_once('-')?;
    let (epoch, number): (u64, u64) = (epoch.parse().ok()?, number.parse().ok()?);
    Some(epoch << VERSIONS_BITS | number)
}

pub(super) fn name_of(version: u64) -> String {
    format!("{}-{}", epoch_of(version), version & ((1 << VERSIONS_BITS) - 1))
}

pub(super) fn epoch_of(version: u64) -> u64 {
    version >> VERSIONS_BITS
}

/// Where a seat's state stands among the bits.
pub(super) fn bit_of(seat: SeatIx) -> u64 {
    let seat = u64::from(seat.0);
    seat / 4 * 8 + 6 - 2 * (seat % 4)
}

/// A script's answer: a word and what belongs to it.
pub(super) struct Answer(Vec<Value>);

impl Answer {
    pub(super) fn new(value: Value) -> Result<Self, StoreError> {
        match value {
            Value::Array(parts) => Ok(Self(parts)),
            _ => Err(unreadable()),
        }
    }

    pub(super) fn word(&self) -> &[u8] {
        self.bytes(0).unwrap_or_default()
    }

    pub(super) fn bytes(&self, at: usize) -> Result<&[u8], StoreError> {
        match self.0.get(at) {
            Some(Value::BulkString(bytes)) => Ok(bytes),
            _ => Err(unreadable()),
        }
    }

    pub(super) fn number(&self, at: usize) -> Result<i64, StoreError> {
        match self.0.get(at) {
            Some(Value::Int(number)) => Ok(*number),
            Some(Value::BulkString(digits)) => std::str::from_utf8(digits).ok().and_then(|it| it.parse().ok()).ok_or_else(unreadable),
            _ => Err(unreadable()),
        }
    }

    /// Its parts from there on, each an answer of its own or a number.
    pub(super) fn parts(self, from: usize) -> impl Iterator<Item = Value> {
        self.0.into_iter().skip(from)
    }

    /// The seats from there on.
    pub(super) fn seats(&self, from: usize) -> Result<Vec<SeatIx>, StoreError> {
        seats(self.0.get(from..).unwrap_or_default())
    }

    pub(super) fn list(&self, at: usize) -> Result<Vec<SeatIx>, StoreError> {
        match self.0.get(at) {
            Some(Value::Array(list)) => seats(list),
            _ => Err(unreadable()),
        }
    }

    pub(super) fn record(&self, id: HoldId, at: usize) -> Result<HoldRecord, StoreError> {
        read(id, self.bytes(at)?).ok_or_else(unreadable)
    }
}

fn seats(values: &[Value]) -> Result<Vec<SeatIx>, StoreError> {
    let seat = |value: &Value| match value {
        Value::Int(seat) => u32::try_from(*seat).ok().map(SeatIx),
        _ => None,
    };
    values.iter().map(seat).collect::<Option<_>>().ok_or_else(unreadable)
}

/// It may have been done: what was answered cannot be understood.
pub(super) fn unreadable() -> StoreError {
    tracing::error!("the seat engine's answer cannot be read; is another version of this program running on it?");
    StoreError::NoAnswer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_and_its_name_are_the_same_thing() {
        for name in ["1-1", "3-17", "8191-1099511627775"] {
            assert_eq!(name_of(version(name.as_bytes()).unwrap()), name);
        }
        assert!(version(b"2-1").unwrap() > version(b"1-1099511627775").unwrap(), "they grow over a rebuild");
        assert_eq!(version(b"17"), None);
    }

    #[test]
    fn changes_are_read_group_by_group() {
        let packed = [1, 0, 2, 0, 0, 0, 7, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 9];
        let (held, free) = (SeatState::Held, SeatState::Free);
        assert_eq!(read_changes(&packed), [(SeatIx(7), held), (SeatIx(65_536), held), (SeatIx(9), free)]);
        assert_eq!(read_changes(&packed[..packed.len() - 1]).len(), 2, "half a group is none");
        assert_eq!(read_changes(&[]), []);
    }

    #[test]
    fn what_is_no_record_is_not_read() {
        let seats = [SeatIx(7), SeatIx(66_000)];
        let who = Subject::customer("1").unwrap();
        let mut record = b"H\x021795464000000".to_vec();
        record.extend(tail(VisitId::from_uuid(Uuid::from_u128(7)), &seats, &who));
        let id = HoldId::from_uuid(Uuid::from_u128(1));
        let read_back = read(id, &record).unwrap();
        assert_eq!((&read_back.subject, &*read_back.seats, read_back.extensions_left), (&who, &seats[..], 2));
        assert!((0..record.len() - "customer:1".len()).all(|length| read(id, &record[..length]).is_none()));
    }
}

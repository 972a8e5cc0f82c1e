//! Holds, changes and answers as the scripts write them (`shared.lua`).

use redis::Value;
use uuid::Uuid;

use crate::{
    kernel::{HoldId, Subject, Timestamp, VisitId},
    seating::{
        hold::{HoldState, RestoredClaim},
        seat::{SeatIx, SeatState, SeatStates},
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
    let (state, deadline) = if claim.booked {
        (b'B', Timestamp::default())
    } else {
        (b'P', claim.until)
    };
    let mut record = vec![state, 0];
    record.extend(format!("{:013}", deadline.as_millis().max(0)).bytes());
    record.extend(tail(claim.visit, &claim.seats, &claim.subject));
    into.extend(claim.hold.as_uuid().as_bytes());
    into.extend(u32::try_from(record.len()).unwrap_or(u32::MAX).to_be_bytes());
    into.extend(record);
}

/// `None` when it is no record of ours.
pub(super) fn read(id: HoldId, record: &[u8]) -> Option<HoldRecord> {
    let state = if *record.first()? == b'H' {
        HoldState::Held
    } else {
        HoldState::Paying
    };
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
        && let Some((seats, after)) =
            after.split_at_checked(4 * usize::from(u16::from_be_bytes([*high, *low])))
    {
        let state = SeatState::ALL[usize::from(*state) % SeatState::ALL.len()];
        changes.extend(seats_in(seats).map(|seat| (seat, state)));
        rest = after;
    }
    changes
}

fn seats_in(packed: &[u8]) -> impl Iterator<Item = SeatIx> {
    packed
        .chunks_exact(4)
        .map(|it| SeatIx(u32::from_be_bytes([it[0], it[1], it[2], it[3]])))
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

/// Sixteen seats' states as scripts read them at once, the most significant byte first.
const WORD_BYTES: usize = 4;

/// `None` when the bits are not those of a house of so many seats; once its last word was written they are whole words.
pub(super) fn states(seats: usize, bits: &[u8]) -> Option<SeatStates> {
    let used = seats.div_ceil(4);
    let own = bits
        .get(..used)
        .filter(|_| bits.len() <= used.next_multiple_of(WORD_BYTES));
    own.and_then(|own| SeatStates::from_bytes(seats, own))
}

/// Where a seat's word stands among the bits, and its place in it as a one.
fn word_of(seat: SeatIx) -> (u64, u32) {
    let (byte, place) = (seat.0 / 4, seat.0 % 4);
    (u64::from(byte / 4) * 32, 1 << (24 - 8 * (byte % 4) + 2 * place))
}

/// The words of these seats, each with a one for each of them.
pub(super) fn words(seats: &[SeatIx]) -> Vec<(u64, u32)> {
    let mut words: Vec<(u64, u32)> = Vec::with_capacity(2);
    for (at, one) in seats.iter().map(|it| word_of(*it)) {
        match words.iter_mut().find(|it| it.0 == at) {
            Some((_, ones)) => *ones |= one,
            None => words.push((at, one)),
        }
    }
    words
}

/// Whether all of [`words`], as the script found them, say that the seat is free.
pub(super) fn is_free_in(words: &[(u64, u32)], seat: SeatIx) -> bool {
    let (at, one) = word_of(seat);
    words
        .iter()
        .all(|(word, states)| *word != at || states & (3 * one) == 0)
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
            Some(Value::BulkString(digits)) => std::str::from_utf8(digits)
                .ok()
                .and_then(|it| it.parse().ok())
                .ok_or_else(unreadable),
            _ => Err(unreadable()),
        }
    }

    /// Its parts from there on, each an answer of its own or a number.
    pub(super) fn parts(self, from: usize) -> impl Iterator<Item = Value> {
        self.0.into_iter().skip(from)
    }

    /// The seats from there on.
    pub(super) fn seats(&self, from: usize) -> Result<Vec<SeatIx>, StoreError> {
        numbers(self.0.get(from..).unwrap_or_default()).map(seats)
    }

    /// What the script found in these words, from there on.
    pub(super) fn found_in(&self, words: &[(u64, u32)], from: usize) -> Result<Vec<(u64, u32)>, StoreError> {
        let found = numbers(self.0.get(from..).unwrap_or_default())?;
        if found.len() != words.len() {
            return Err(unreadable());
        }
        Ok(words.iter().map(|it| it.0).zip(found).collect())
    }

    pub(super) fn list(&self, at: usize) -> Result<Vec<SeatIx>, StoreError> {
        match self.0.get(at) {
            Some(Value::Array(list)) => numbers(list).map(seats),
            _ => Err(unreadable()),
        }
    }

    pub(super) fn record(&self, id: HoldId, at: usize) -> Result<HoldRecord, StoreError> {
        read(id, self.bytes(at)?).ok_or_else(unreadable)
    }
}

fn numbers(values: &[Value]) -> Result<Vec<u32>, StoreError> {
    let number = |value: &Value| match value {
        Value::Int(number) => u32::try_from(*number).ok(),
        _ => None,
    };
    values
        .iter()
        .map(number)
        .collect::<Option<_>>()
        .ok_or_else(unreadable)
}

fn seats(numbers: Vec<u32>) -> Vec<SeatIx> {
    numbers.into_iter().map(SeatIx).collect()
}

/// It may have been done: what was answered cannot be understood.
pub(super) fn unreadable() -> StoreError {
    tracing::error!(
        "the seat engine's answer cannot be read; is another version of this program running on it?"
    );
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
        assert!(
            version(b"2-1").unwrap() > version(b"1-1099511627775").unwrap(),
            "they grow over a rebuild"
        );
        assert_eq!(version(b"17"), None);
    }

    #[test]
    fn words_have_seats_where_the_bits_of_a_house_have_them() {
        let seats = [SeatIx(3), SeatIx(4), SeatIx(15), SeatIx(16), SeatIx(45)];
        let words_of_them = words(&seats);
        let mut house = SeatStates::free(48);
        for seat in seats {
            house.set(seat, SeatState::Held);
        }
        let stored = house
            .to_bytes()
            .chunks(WORD_BYTES)
            .map(|it| u32::from_be_bytes(it.try_into().unwrap()))
            .collect::<Vec<_>>();
        assert_eq!(words_of_them, [(0, stored[0]), (32, stored[1]), (64, stored[2])]);
        let booked: Vec<(u64, u32)> = words_of_them.iter().map(|(at, ones)| (*at, 2 * ones)).collect();
        for seat in (0..48).map(SeatIx) {
            assert_eq!(is_free_in(&booked, seat), !seats.contains(&seat), "{seat:?}");
        }
    }

    #[test]
    fn a_house_is_read_whether_its_last_word_was_written_or_not_and_another_is_not() {
        let house = SeatStates::free(50);
        let read = |seats: usize, more: usize| states(seats, &[house.to_bytes(), vec![0; more]].concat());
        assert_eq!(
            (read(50, 0), read(50, 3)),
            (Some(house.clone()), Some(house.clone()))
        );
        assert_eq!((read(50, 4), read(53, 0), read(44, 0)), (None, None, None));
    }

    #[test]
    fn changes_are_read_group_by_group() {
        let packed = [1, 0, 2, 0, 0, 0, 7, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 9];
        let (held, free) = (SeatState::Held, SeatState::Free);
        assert_eq!(
            read_changes(&packed),
            [(SeatIx(7), held), (SeatIx(65_536), held), (SeatIx(9), free)]
        );
        assert_eq!(
            read_changes(&packed[..packed.len() - 1]).len(),
            2,
            "half a group is none"
        );
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
        assert_eq!(
            (&read_back.subject, &*read_back.seats, read_back.extensions_left),
            (&who, &seats[..], 2)
        );
        assert!((0..record.len() - "customer:1".len()).all(|length| read(id, &record[..length]).is_none()));
    }
}

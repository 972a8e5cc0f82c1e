//! The binary forms of holds, claims, changes and versions, as the scripts read and write them
//! (`shared.lua`).

use uuid::Uuid;

use crate::{
    kernel::{HoldId, Subject, Timestamp, VisitId},
    seating::{
        hold::{HoldState, RestoredClaim},
        seat::{SeatIx, SeatState, SeatStates},
        store::{port::HoldRecord, redis::seat_words::WORD_BYTES},
    },
};

/// Bits of a version below the epoch. With 2^13 epochs, versions stay exact integers in a browser (2^53).
const NUMBER_BITS: u32 = 40;

/// A hold's record from the visit on.
pub(super) fn hold_tail(visit: VisitId, seats: &[SeatIx], subject: &Subject) -> Vec<u8> {
    let mut tail = Vec::with_capacity(18 + 4 * seats.len() + subject.as_str().len());
    tail.extend(visit.as_uuid().as_bytes());
    tail.extend(u16::try_from(seats.len()).unwrap_or(u16::MAX).to_be_bytes());
    tail.extend(seats.iter().flat_map(|seat| seat.0.to_be_bytes()));
    tail.extend(subject.as_str().as_bytes());
    tail
}

/// Appends a claim as `restore.lua` reads it.
pub(super) fn write_claim(claim: &RestoredClaim, into: &mut Vec<u8>) {
    let (state, deadline) = if claim.booked {
        (b'B', Timestamp::default())
    } else {
        (b'P', claim.until)
    };
    let mut record = vec![state, 0];
    record.extend(format!("{:013}", deadline.as_millis().max(0)).bytes());
    record.extend(hold_tail(claim.visit, &claim.seats, &claim.subject));
    into.extend(claim.hold.as_uuid().as_bytes());
    into.extend(u32::try_from(record.len()).unwrap_or(u32::MAX).to_be_bytes());
    into.extend(record);
}

/// Parses a hold's record; `None` when the bytes are not one.
pub(super) fn parse_hold(id: HoldId, record: &[u8]) -> Option<HoldRecord> {
    let state = if *record.first()? == b'H' {
        HoldState::Held
    } else {
        HoldState::Paying
    };
    let deadline: i64 = std::str::from_utf8(record.get(2..15)?).ok()?.parse().ok()?;
    let visit = Uuid::from_slice(record.get(15..31)?).ok()?;
    let count = usize::from(u16::from_be_bytes(record.get(31..33)?.try_into().ok()?));
    let (seats, subject) = record.get(33..)?.split_at_checked(4 * count)?;
    Some(HoldRecord {
        id,
        subject: Subject::from_stored(std::str::from_utf8(subject).ok()?).ok()?,
        visit: VisitId::from_uuid(visit),
        seats: parse_seats(seats).collect(),
        expires_at: Timestamp::from_millis(deadline),
        extensions_left: record[1],
        state,
    })
}

/// Parses groups of seats with their new states, in their order. The first unreadable group ends the list.
pub(super) fn parse_changes(packed: &[u8]) -> Vec<(SeatIx, SeatState)> {
    let mut changes = Vec::new();
    let mut rest = packed;
    while let Some(([state, high, low], after)) = rest.split_first_chunk::<3>()
        && let Some((seats, after)) =
            after.split_at_checked(4 * usize::from(u16::from_be_bytes([*high, *low])))
    {
        let state = SeatState::ALL[usize::from(*state) % SeatState::ALL.len()];
        changes.extend(parse_seats(seats).map(|seat| (seat, state)));
        rest = after;
    }
    changes
}

fn parse_seats(packed: &[u8]) -> impl Iterator<Item = SeatIx> {
    packed
        .chunks_exact(4)
        .map(|bytes| SeatIx(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])))
}

/// The version of a stream entry's id, `epoch-number`.
pub(super) fn parse_version(entry_id: &[u8]) -> Option<u64> {
    let (epoch, number) = std::str::from_utf8(entry_id).ok()?.split_once('-')?;
    let epoch: u64 = epoch.parse().ok()?;
    let number: u64 = number.parse().ok()?;
    Some(epoch << NUMBER_BITS | number)
}

/// The stream entry's id of a version.
pub(super) fn entry_id(version: u64) -> String {
    format!("{}-{}", epoch_of(version), version & ((1 << NUMBER_BITS) - 1))
}

pub(super) fn epoch_of(version: u64) -> u64 {
    version >> NUMBER_BITS
}

/// Parses the bits of `seats` seats. Once a script has written the last word, they are padded to whole words.
pub(super) fn parse_states(seats: usize, bits: &[u8]) -> Option<SeatStates> {
    let used = seats.div_ceil(4);
    let own = bits
        .get(..used)
        .filter(|_| bits.len() <= used.next_multiple_of(WORD_BYTES));
    own.and_then(|own| SeatStates::from_bytes(seats, own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_entry_id_convert_both_ways() {
        for id in ["1-1", "3-17", "8191-1099511627775"] {
            assert_eq!(entry_id(parse_version(id.as_bytes()).unwrap()), id);
        }
        assert!(
            parse_version(b"2-1").unwrap() > parse_version(b"1-1099511627775").unwrap(),
            "versions grow over a rebuild"
        );
        assert_eq!(parse_version(b"17"), None);
    }

    #[test]
    fn states_of_the_right_size_are_read_with_or_without_padding() {
        let states = SeatStates::free(50);
        let parse = |seats: usize, padding: usize| {
            parse_states(seats, &[states.to_bytes(), vec![0; padding]].concat())
        };
        assert_eq!(
            (parse(50, 0), parse(50, 3)),
            (Some(states.clone()), Some(states.clone()))
        );
        assert_eq!((parse(50, 4), parse(53, 0), parse(44, 0)), (None, None, None));
    }

    #[test]
    fn changes_are_read_group_by_group() {
        let packed = [1, 0, 2, 0, 0, 0, 7, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 9];
        let (held, free) = (SeatState::Held, SeatState::Free);
        assert_eq!(
            parse_changes(&packed),
            [(SeatIx(7), held), (SeatIx(65_536), held), (SeatIx(9), free)]
        );
        assert_eq!(
            parse_changes(&packed[..packed.len() - 1]).len(),
            2,
            "a truncated group is left out"
        );
        assert_eq!(parse_changes(&[]), []);
    }

    #[test]
    fn truncated_hold_records_are_rejected() {
        let seats = [SeatIx(7), SeatIx(66_000)];
        let subject = Subject::customer("1").unwrap();
        let mut record = b"H\x021795464000000".to_vec();
        record.extend(hold_tail(
            VisitId::from_uuid(Uuid::from_u128(7)),
            &seats,
            &subject,
        ));
        let id = HoldId::from_uuid(Uuid::from_u128(1));
        let parsed = parse_hold(id, &record).unwrap();
        assert_eq!(
            (&parsed.subject, &*parsed.seats, parsed.extensions_left),
            (&subject, &seats[..], 2)
        );
        let lengths = 0..record.len() - "customer:1".len();
        assert!(
            lengths
                .into_iter()
                .all(|length| parse_hold(id, &record[..length]).is_none())
        );
    }
}

//! Seats by 32-bit words of sixteen states, as `hold.lua` reads and writes them with one BITFIELD argument
//! each.

use crate::seating::seat::SeatIx;

/// Bytes of a word. Scripts read words with the most significant byte first.
pub(super) const WORD_BYTES: usize = 4;

/// The words that these seats are in: each word's bit offset, and a word with a one in the low bit of each
/// seat.
pub(super) fn seat_words(seats: &[SeatIx]) -> Vec<(u64, u32)> {
    let mut words: Vec<(u64, u32)> = Vec::with_capacity(2);
    for (offset, one) in seats.iter().map(|seat| word_of(*seat)) {
        match words.iter_mut().find(|word| word.0 == offset) {
            Some((_, ones)) => *ones |= one,
            None => words.push((offset, one)),
        }
    }
    words
}

/// Whether the seat is free in words as the script found them. A seat in none of the words counts as free.
pub(super) fn is_free_in(words: &[(u64, u32)], seat: SeatIx) -> bool {
    let (offset, one) = word_of(seat);
    words
        .iter()
        .all(|(word, states)| *word != offset || states & (3 * one) == 0)
}

fn word_of(seat: SeatIx) -> (u64, u32) {
    let byte = seat.0 / 4;
    let pair = seat.0 % 4;
    (u64::from(byte / 4) * 32, 1 << (24 - 8 * (byte % 4) + 2 * pair))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seating::seat::{SeatState, SeatStates};

    #[test]
    fn words_match_the_stored_bits() {
        let seats = [SeatIx(3), SeatIx(4), SeatIx(15), SeatIx(16), SeatIx(45)];
        let words = seat_words(&seats);
        let mut states = SeatStates::free(48);
        for seat in seats {
            states.set(seat, SeatState::Held);
        }
        let stored = states
            .to_bytes()
            .chunks(WORD_BYTES)
            .map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()))
            .collect::<Vec<_>>();
        assert_eq!(words, [(0, stored[0]), (32, stored[1]), (64, stored[2])]);
        let booked: Vec<(u64, u32)> = words.iter().map(|(offset, ones)| (*offset, 2 * ones)).collect();
        for seat in (0..48).map(SeatIx) {
            assert_eq!(is_free_in(&booked, seat), !seats.contains(&seat), "{seat:?}");
        }
    }
}

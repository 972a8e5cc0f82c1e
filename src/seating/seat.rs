//! Seat index, seat state, and the packed states of all seats of a performance.

use serde::Serialize;

/// 0-based index of a seat, in the order in which the plan's file lists the seats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SeatIx(pub u32);

impl SeatIx {
    /// The index as a `usize`, for slices.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Whether a seat can be had. The discriminants are the two bits of the packed form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum SeatState {
    /// Can be held.
    #[default]
    Free = 0,
    /// In a hold or being paid.
    Held = 1,
    /// Sold.
    Booked = 2,
    /// Withheld from sale by the promoter.
    Blocked = 3,
}

impl SeatState {
    /// All states, indexed by their discriminants.
    pub const ALL: [Self; 4] = [Self::Free, Self::Held, Self::Booked, Self::Blocked];

    /// The state's name in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Held => "held",
            Self::Booked => "booked",
            Self::Blocked => "blocked",
        }
    }
}

const SEATS_PER_WORD: usize = 32;

/// The states of all seats of a performance, two bits each: 66,000 seats are 16.5 kB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeatStates {
    words: Box<[u64]>,
    seats: usize,
}

impl SeatStates {
    /// The states of `seats` free seats.
    #[must_use]
    pub fn free(seats: usize) -> Self {
        let mut words = vec![0; seats.div_ceil(SEATS_PER_WORD)];
        // Unused bits of the last word read as blocked, so that `get` needs no bounds check of its own.
        if let (Some(last), used @ 1..) = (words.last_mut(), seats % SEATS_PER_WORD) {
            *last = u64::MAX << (2 * used);
        }
        Self {
            words: words.into(),
            seats,
        }
    }

    /// The states of `seats` blocked seats.
    #[must_use]
    pub fn blocked(seats: usize) -> Self {
        Self {
            words: vec![u64::MAX; seats.div_ceil(SEATS_PER_WORD)].into(),
            seats,
        }
    }

    /// Number of seats.
    #[must_use]
    pub fn seat_count(&self) -> usize {
        self.seats
    }

    /// Whether the index is below [`SeatStates::seat_count`].
    #[must_use]
    pub fn contains(&self, seat: SeatIx) -> bool {
        seat.index() < self.seats
    }

    /// The seat's state; [`SeatState::Blocked`] for an index out of range.
    #[inline]
    #[must_use]
    pub fn get(&self, seat: SeatIx) -> SeatState {
        let shift = 2 * (seat.index() % SEATS_PER_WORD);
        match self
            .words
            .get(seat.index() / SEATS_PER_WORD)
            .map(|word| (word >> shift) & 3)
        {
            Some(0) => SeatState::Free,
            Some(1) => SeatState::Held,
            Some(2) => SeatState::Booked,
            _ => SeatState::Blocked,
        }
    }

    /// Whether the seat is in range and free.
    #[inline]
    #[must_use]
    pub fn is_free(&self, seat: SeatIx) -> bool {
        self.get(seat) == SeatState::Free
    }

    /// Sets the seat's state; does nothing for an index out of range.
    #[inline]
    pub fn set(&mut self, seat: SeatIx, state: SeatState) {
        let shift = 2 * (seat.index() % SEATS_PER_WORD);
        if self.contains(seat) {
            let word = &mut self.words[seat.index() / SEATS_PER_WORD];
            *word = (*word & !(3 << shift)) | (u64::from(state as u8) << shift);
        }
    }

    /// The reverse of [`SeatStates::to_bytes`]; `None` when the length does not match `seats`.
    #[must_use]
    pub fn from_bytes(seats: usize, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != seats.div_ceil(4) {
            return None;
        }
        let mut states = Self::free(seats);
        for (word, bytes) in states.words.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word |= u64::from_le_bytes(whole);
        }
        Some(states)
    }

    /// Two bits a seat: seat `i` in byte `i / 4` at bits `2 * (i % 4)`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(self.seats.div_ceil(4));
        if let (Some(last), used @ 1..) = (bytes.last_mut(), self.seats % 4) {
            *last &= (1 << (2 * used)) - 1;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_a_seat_leaves_its_neighbors_unchanged() {
        let mut states = SeatStates::free(70);
        states.set(SeatIx(31), SeatState::Booked);
        states.set(SeatIx(32), SeatState::Held);
        states.set(SeatIx(33), SeatState::Blocked);
        states.set(SeatIx(33), SeatState::Held);
        let seen: Vec<_> = (30..35).map(|i| states.get(SeatIx(i))).collect();
        assert_eq!(
            seen,
            [
                SeatState::Free,
                SeatState::Booked,
                SeatState::Held,
                SeatState::Held,
                SeatState::Free
            ]
        );
        states.set(SeatIx(70), SeatState::Free);
        assert!(
            [70, 71, 95, 96]
                .iter()
                .all(|i| states.get(SeatIx(*i)) == SeatState::Blocked),
            "no such seats"
        );
    }

    #[test]
    fn packed_form_matches_its_documentation() {
        let mut states = SeatStates::free(9);
        states.set(SeatIx(0), SeatState::Held);
        states.set(SeatIx(3), SeatState::Blocked);
        states.set(SeatIx(8), SeatState::Booked);
        assert_eq!(states.to_bytes(), [0b1100_0001, 0, 0b10]);
        assert_eq!(SeatStates::from_bytes(9, &states.to_bytes()), Some(states));
        assert_eq!(SeatStates::from_bytes(9, &[0, 0]), None);
    }
}

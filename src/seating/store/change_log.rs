//! Ring buffer of the latest seat changes, from which copies catch up.

use crate::seating::{
    seat::{SeatIx, SeatState},
    store::port::SeatChange,
};

/// Seat changes kept. A copy that falls further behind must load all states.
const CAPACITY: usize = 1 << 14;

/// The latest changes, by version.
pub(crate) struct ChangeLog {
    version: u64,
    /// Version before the first change ever written.
    start: u64,
    ring: Box<[SeatChange; CAPACITY]>,
    /// Changes written so far, including overwritten ones.
    written: usize,
}

impl ChangeLog {
    /// An empty log of which copies at `version` miss nothing.
    pub(crate) fn new(version: u64) -> Self {
        let ring = vec![SeatChange::default(); CAPACITY]
            .into_boxed_slice()
            .try_into()
            .expect("the slice has exactly this length");
        Self {
            version,
            start: version,
            ring,
            written: 0,
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Begins the next step: changes written from now on have the next version.
    #[inline]
    pub(crate) fn next_version(&mut self) {
        self.version += 1;
    }

    #[inline]
    pub(crate) fn write(&mut self, seat: SeatIx, state: SeatState) {
        self.ring[self.written % CAPACITY] = SeatChange {
            version: self.version,
            seat,
            state,
        };
        self.written += 1;
    }

    /// Appends the changes after a version; `false`, and nothing appended, when some of them are overwritten.
    pub(crate) fn since(&self, after: u64, into: &mut Vec<SeatChange>) -> bool {
        // Other changes of the oldest kept version may be overwritten, so only what comes after it is
        // complete.
        let complete_after = if self.written <= CAPACITY {
            self.start
        } else {
            self.ring[self.written % CAPACITY].version
        };
        if after < complete_after || after > self.version {
            return false;
        }
        let at = |back: usize| &self.ring[(self.written - 1 - back) % CAPACITY];
        let new = (0..self.written.min(CAPACITY))
            .take_while(|back| at(*back).version > after)
            .count();
        into.extend((0..new).rev().map(|back| *at(back)));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_that_fell_too_far_behind_must_reload() {
        let start = 1_000;
        let mut log = ChangeLog::new(start);
        for _ in 0..CAPACITY / 4 {
            log.next_version();
            (0..4).for_each(|seat| log.write(SeatIx(seat), SeatState::Held));
        }
        let mut all = Vec::new();
        assert!(log.since(start, &mut all));
        assert_eq!(
            (all.len(), log.version()),
            (CAPACITY, start + CAPACITY as u64 / 4)
        );
        log.next_version();
        log.write(SeatIx(1), SeatState::Free);
        assert!(
            !log.since(start, &mut all),
            "part of the first step is overwritten"
        );
        let mut some = Vec::new();
        assert!(log.since(start + 1, &mut some));
        assert_eq!((some.len(), some[0].version), (CAPACITY - 3, start + 2));
    }
}

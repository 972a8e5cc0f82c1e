//! What has changed of late, seat by seat, for whoever keeps a copy.

use crate::seating::{
    seat::{SeatIx, SeatState},
    store::SeatChange,
};

const KEPT: usize = 1 << 14;

pub(crate) struct Changes {
    version: u64,
    /// The version before the first change of all.
    start: u64,
    ring: Box<[SeatChange; KEPT]>,
    written: usize,
}

impl Changes {
    pub(crate) fn new(version: u64) -> Self {
        let ring = vec![SeatChange::default(); KEPT]
            .into_boxed_slice()
            .try_into()
            .expect("so long a slice was made");
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

    /// What is written from now on is one step further.
    #[inline]
    pub(crate) fn next_version(&mut self) {
        self.version += 1;
    }

    #[inline]
    pub(crate) fn write(&mut self, seat: SeatIx, state: SeatState) {
        self.ring[self.written % KEPT] = SeatChange {
            version: self.version,
            seat,
            state,
        };
        self.written += 1;
    }

    /// Appends what came after a version; `false` when that is not all here.
    pub(crate) fn since(&self, after: u64, into: &mut Vec<SeatChange>) -> bool {
        // The oldest kept change may have lost others of its version.
        let known_from = if self.written <= KEPT {
            self.start
        } else {
            self.ring[self.written % KEPT].version
        };
        if after < known_from || after > self.version {
            return false;
        }
        let at = |back: usize| &self.ring[(self.written - 1 - back) % KEPT];
        let new = (0..self.written.min(KEPT))
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
    fn a_copy_that_has_fallen_behind_is_told_so() {
        let (mut changes, start) = (Changes::new(1_000), 1_000);
        for _ in 0..KEPT / 4 {
            changes.next_version();
            (0..4).for_each(|seat| changes.write(SeatIx(seat), SeatState::Held));
        }
        let mut all = Vec::new();
        assert!(changes.since(start, &mut all));
        assert_eq!((all.len(), changes.version()), (KEPT, start + KEPT as u64 / 4));
        changes.next_version();
        changes.write(SeatIx(1), SeatState::Free);
        assert!(
            !changes.since(start, &mut all),
            "part of the first step is overwritten"
        );
        let mut some = Vec::new();
        assert!(changes.since(start + 1, &mut some));
        assert_eq!((some.len(), some[0].version), (KEPT - 3, start + 2));
    }
}

//! The holds themselves: found by their ids, ended in the order of their deadlines.

use std::{
    collections::BTreeSet,
    ops::{Deref, Index as At, IndexMut as AtMut},
    sync::Arc,
};

use crate::kernel::{HoldId, Timestamp, VisitId};

use crate::seating::{
    seat::SeatIx,
    store::{holder_counts::FanIx, index::Index},
};

pub(super) type HoldIx = u32;

const NONE: HoldIx = HoldIx::MAX;

/// A hold, or what it was booked as.
pub(super) struct Entry {
    pub(super) id: HoldId,
    pub(super) fan: FanIx,
    pub(super) visit: VisitId,
    pub(super) seats: Seats,
    pub(super) expires_at: Timestamp,
    pub(super) extensions_left: u8,
    pub(super) state: EntryState,
}

/// None in a slot that nobody has. The request's own list is shared: a copy within the slot, though it needs no counting,
/// is more to move at each end and measures slower.
#[derive(Clone, Default)]
pub(super) struct Seats(Option<Arc<[SeatIx]>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryState {
    Held,
    Paying,
    Booked,
}

/// All holds last equally long, so that each new or extended one goes to the end of one line and its neighbours in the
/// slab are all that its coming and going touch. Deadlines that do not fit there (a payment came to nothing, the clock was
/// set back) stand in a tree apart.
pub(super) struct Holds {
    slots: Vec<Slot>,
    vacant: Vec<HoldIx>,
    index: Index,
    first: HoldIx,
    last: HoldIx,
    apart: BTreeSet<(Timestamp, HoldIx)>,
}

struct Slot {
    entry: Entry,
    before: HoldIx,
    after: HoldIx,
    runs_out: RunsOut,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RunsOut {
    Never,
    InLine,
    Apart,
}

impl Holds {
    pub(super) fn with_room_for(holds: usize) -> Self {
        let (slots, index) = (Vec::with_capacity(holds), Index::with_room_for(holds));
        Self {
            slots,
            vacant: Vec::new(),
            index,
            first: NONE,
            last: NONE,
            apart: BTreeSet::new(),
        }
    }

    #[inline]
    pub(super) fn find(&self, id: HoldId) -> Option<HoldIx> {
        self.index.find(tag(id), |slot| self[slot].id == id)
    }

    /// A hold whose id is not known. One in `Held` will run out.
    #[inline]
    pub(super) fn insert(&mut self, new: Entry) -> HoldIx {
        let ix = self.vacant.pop().unwrap_or_else(|| self.another_slot());
        let Entry {
            id,
            fan,
            visit,
            seats,
            expires_at,
            extensions_left,
            state,
        } = new;
        // Each part by itself: put together first, they would be copied before they have arrived in memory, three times.
        let entry = &mut self.slots[ix as usize].entry;
        (entry.id, entry.fan, entry.visit, entry.seats) = (id, fan, visit, seats);
        (entry.expires_at, entry.extensions_left, entry.state) = (expires_at, extensions_left, state);
        self.index.insert(tag(id), ix);
        if state == EntryState::Held {
            self.line_up(ix);
        }
        ix
    }

    /// Its seats are given out, so that the caller says where their memory is given back.
    #[inline]
    pub(super) fn remove(&mut self, ix: HoldIx) -> Seats {
        self.step_out(ix);
        let entry = &mut self.slots[ix as usize].entry;
        let (id, seats) = (entry.id, std::mem::take(&mut entry.seats));
        self.index.remove(tag(id), ix);
        self.vacant.push(ix);
        seats
    }

    /// One in `Held` will run out then.
    pub(super) fn change(&mut self, ix: HoldIx, state: EntryState, expires_at: Timestamp) {
        self.step_out(ix);
        (self[ix].state, self[ix].expires_at) = (state, expires_at);
        if state == EntryState::Held {
            self.line_up(ix);
        }
    }

    /// One whose deadline has come.
    #[inline]
    pub(super) fn run_out(&self, now: Timestamp) -> Option<HoldIx> {
        if self.first != NONE && self[self.first].expires_at <= now {
            return Some(self.first);
        }
        self.apart.first().filter(|it| it.0 <= now).map(|it| it.1)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (HoldIx, &Entry)> {
        (0..)
            .zip(&self.slots)
            .map(|(ix, slot)| (ix, &slot.entry))
            .filter(|(_, it)| it.seats.0.is_some())
    }

    #[cold]
    fn another_slot(&mut self) -> HoldIx {
        let nobody = uuid::Uuid::nil();
        let (id, visit) = (HoldId::from_uuid(nobody), VisitId::from_uuid(nobody));
        let (seats, expires_at, state) = (Seats::default(), Timestamp::default(), EntryState::Booked);
        let entry = Entry {
            id,
            fan: 0,
            visit,
            seats,
            expires_at,
            extensions_left: 0,
            state,
        };
        self.slots.push(Slot {
            entry,
            before: NONE,
            after: NONE,
            runs_out: RunsOut::Never,
        });
        HoldIx::try_from(self.slots.len() - 1).expect("no more holds than seats")
    }

    fn line_up(&mut self, ix: HoldIx) {
        let (expires_at, last) = (self[ix].expires_at, self.last);
        if last == NONE {
            self.first = ix;
        } else if self[last].expires_at <= expires_at {
            self.slot(last).after = ix;
        } else {
            self.apart.insert((expires_at, ix));
            self.slot(ix).runs_out = RunsOut::Apart;
            return;
        }
        self.last = ix;
        let slot = self.slot(ix);
        (slot.before, slot.after, slot.runs_out) = (last, NONE, RunsOut::InLine);
    }

    fn step_out(&mut self, ix: HoldIx) {
        let slot = self.slot(ix);
        let (before, after) = (slot.before, slot.after);
        match std::mem::replace(&mut slot.runs_out, RunsOut::Never) {
            RunsOut::Never => {}
            RunsOut::InLine => {
                if before == NONE {
                    self.first = after;
                } else {
                    self.slot(before).after = after;
                }
                if after == NONE {
                    self.last = before
                } else {
                    self.slot(after).before = before
                }
            }
            RunsOut::Apart => _ = self.apart.remove(&(self[ix].expires_at, ix)),
        }
    }

    fn slot(&mut self, ix: HoldIx) -> &mut Slot {
        &mut self.slots[ix as usize]
    }
}

impl Seats {
    pub(super) fn new(seats: &Arc<[SeatIx]>) -> Self {
        Self(Some(Arc::clone(seats)))
    }

    pub(super) fn shared(&self) -> Arc<[SeatIx]> {
        self.0.clone().unwrap_or_default()
    }
}

impl Deref for Seats {
    type Target = [SeatIx];

    #[inline]
    fn deref(&self) -> &[SeatIx] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl At<HoldIx> for Holds {
    type Output = Entry;

    #[inline]
    fn index(&self, ix: HoldIx) -> &Entry {
        &self.slots[ix as usize].entry
    }
}

impl AtMut<HoldIx> for Holds {
    #[inline]
    fn index_mut(&mut self, ix: HoldIx) -> &mut Entry {
        &mut self.slots[ix as usize].entry
    }
}

/// Ids are drawn at random: 32 of their bits are hash enough.
#[expect(
    clippy::cast_possible_truncation,
    reason = "32 bits find, the whole id is compared"
)]
fn tag(id: HoldId) -> u32 {
    id.as_uuid().as_u128() as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entry(n: u32, expires_at: Timestamp, state: EntryState) -> Entry {
        let (id, visit) = (
            HoldId::from_uuid(uuid::Uuid::from_u128(n.into())),
            VisitId::from_uuid(uuid::Uuid::nil()),
        );
        Entry {
            id,
            fan: n,
            visit,
            seats: Seats::new(&[SeatIx(n)].into()),
            expires_at,
            extensions_left: 0,
            state,
        }
    }

    proptest! {
        /// Deadlines in any order, as if the clock were set at will.
        #[test]
        fn what_runs_out_is_found_and_nothing_else(steps in prop::collection::vec((0..20_u32, 0..60_i64, 0..4_u8, 0..60_i64), 1..200)) {
            let (mut holds, mut expected) = (Holds::with_room_for(1), BTreeMap::new());
            for (n, deadline, verb, now) in steps {
                let at = Timestamp::from_millis(deadline);
                let known = holds.find(entry(n, at, EntryState::Held).id);
                prop_assert_eq!(known.is_some(), expected.contains_key(&n));
                let state = if verb == 1 { EntryState::Paying } else { EntryState::Held };
                match known {
                    None => _ = holds.insert(entry(n, at, state)),
                    Some(ix) if verb == 0 => prop_assert_eq!(&*holds.remove(ix), &[SeatIx(n)]),
                    Some(ix) => holds.change(ix, state, at),
                }
                if known.is_some() && verb == 0 {
                    expected.remove(&n);
                } else {
                    expected.insert(n, (at, state));
                }
                let now = Timestamp::from_millis(now);
                let over = |it: &(Timestamp, EntryState)| it.1 == EntryState::Held && it.0 <= now;
                while let Some(ix) = holds.run_out(now) {
                    let n = holds[ix].fan;
                    prop_assert!(expected.remove(&n).is_some_and(|it| over(&it)));
                    holds.remove(ix);
                }
                prop_assert!(!expected.values().any(over), "all that had run out was found");
                let left: Vec<u32> = holds.iter().map(|(_, it)| it.fan).collect();
                prop_assert_eq!(left.len(), expected.len());
            }
        }
    }
}

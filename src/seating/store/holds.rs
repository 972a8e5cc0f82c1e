//! The holds themselves: found by their ids, ended in the order of their deadlines.

use std::{
    collections::BTreeSet,
    ops::{Index as At, IndexMut as AtMut},
    sync::Arc,
};

use crate::kernel::{HoldId, Timestamp, VisitId};

use super::{super::seat::SeatIx, fans::FanIx, index::Index};

pub(super) type HoldIx = u32;

const NONE: HoldIx = HoldIx::MAX;

/// A hold, or what it was booked as.
pub(super) struct Entry {
    pub(super) id: HoldId,
    pub(super) fan: FanIx,
    pub(super) visit: VisitId,
    pub(super) seats: Arc<[SeatIx]>,
    pub(super) expires_at: Timestamp,
    pub(super) extensions_left: u8,
    pub(super) state: EntryState,
}

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
    slots: Vec<Option<Slot>>,
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
        Self { slots, vacant: Vec::new(), index, first: NONE, last: NONE, apart: BTreeSet::new() }
    }

    #[inline]
    pub(super) fn find(&self, id: HoldId) -> Option<HoldIx> {
        self.index.find(tag(id), |slot| self[slot].id == id)
    }

    /// A hold whose id is not known. One in `Held` will run out.
    #[inline]
    pub(super) fn insert(&mut self, entry: Entry) -> HoldIx {
        let (tag, runs) = (tag(entry.id), entry.state == EntryState::Held);
        let ix = self.vacant.pop().unwrap_or_else(|| self.another_slot());
        self.slots[ix as usize] = Some(Slot { entry, before: NONE, after: NONE, runs_out: RunsOut::Never });
        self.index.insert(tag, ix);
        if runs {
            self.line_up(ix);
        }
        ix
    }

    #[inline]
    pub(super) fn remove(&mut self, ix: HoldIx) -> Entry {
        self.step_out(ix);
        let Slot { entry, .. } = self.slots[ix as usize].take().expect("what is found is there");
        self.index.remove(tag(entry.id), ix);
        self.vacant.push(ix);
        entry
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
        (0..).zip(&self.slots).filter_map(|(ix, slot)| Some((ix, &slot.as_ref()?.entry)))
    }

    #[cold]
    fn another_slot(&mut self) -> HoldIx {
        self.slots.push(None);
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
                    self.first = after
                } else {
                    self.slot(before).after = after
                }
                if after == NONE { self.last = before } else { self.slot(after).before = before }
            }
            RunsOut::Apart => _ = self.apart.remove(&(self[ix].expires_at, ix)),
        }
    }

    fn slot(&mut self, ix: HoldIx) -> &mut Slot {
        self.slots[ix as usize].as_mut().expect("what is found or lined up is there")
    }
}

impl At<HoldIx> for Holds {
    type Output = Entry;

    #[inline]
    fn index(&self, ix: HoldIx) -> &Entry {
        &self.slots[ix as usize].as_ref().expect("what is found or lined up is there").entry
    }
}

impl AtMut<HoldIx> for Holds {
    #[inline]
    fn index_mut(&mut self, ix: HoldIx) -> &mut Entry {
        &mut self.slot(ix).entry
    }
}

/// Ids are drawn at random: 32 of their bits are hash enough.
#[expect(clippy::cast_possible_truncation, reason = "32 bits find, the whole id is compared")]
fn tag(id: HoldId) -> u32 {
    id.as_uuid().as_u128() as u32
}

//! The holds of one performance: found by id, expired in the order of their deadlines.

use std::{
    collections::BTreeSet,
    ops::{Deref, Index, IndexMut},
    sync::Arc,
};

use hashbrown::HashTable;

use crate::kernel::{HoldId, Timestamp, VisitId};

use crate::seating::{seat::SeatIx, store::memory::holder_counts::HolderIx};

/// Index of a hold in [`Holds`], valid until the hold is removed.
pub(super) type HoldIx = u32;

/// Ends a linked list of holds.
pub(super) const NONE: HoldIx = HoldIx::MAX;

/// A hold, or the booking that it became.
pub(super) struct HoldEntry {
    pub(super) id: HoldId,
    pub(super) holder: HolderIx,
    pub(super) visit: VisitId,
    pub(super) seats: SeatList,
    pub(super) expires_at: Timestamp,
    pub(super) extensions_left: u8,
    pub(super) state: EntryState,
}

impl HoldEntry {
    /// Whether it is a hold that is not over. Its deadline counts even while the hold is not ended yet.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        match self.state {
            EntryState::Held => now < self.expires_at,
            EntryState::Paying => true,
            EntryState::Booked => false,
        }
    }
}

/// The seats of a hold; `None` in a vacant slot.
///
/// The list is shared with the request. Copying it into the slot would save the reference count, but moves
/// more bytes at each insertion and removal, and measures slower.
#[derive(Clone, Default)]
pub(super) struct SeatList(Option<Arc<[SeatIx]>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryState {
    Held,
    Paying,
    Booked,
}

/// A slab of holds, with an index by id and a queue by deadline.
///
/// All holds last equally long, so a new or extended one goes to the end of a linked queue, and only its
/// neighbors in the queue are touched. Deadlines that do not fit there (after a failed payment, or when the
/// clock was set back) are kept in a tree.
pub(super) struct Holds {
    slots: Vec<Slot>,
    vacant: Vec<HoldIx>,
    /// Slots by the holds' ids.
    index: HashTable<HoldIx>,
    first: HoldIx,
    last: HoldIx,
    out_of_order: BTreeSet<(Timestamp, HoldIx)>,
}

struct Slot {
    entry: HoldEntry,
    previous: HoldIx,
    next: HoldIx,
    deadline: Deadline,
    /// The next hold of the same holder, in a list that begins at the holder.
    next_of_holder: HoldIx,
}

/// Where a hold's deadline is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deadline {
    /// The hold does not expire.
    None,
    InQueue,
    OutOfOrder,
}

impl Holds {
    pub(super) fn with_capacity(holds: usize) -> Self {
        Self {
            slots: Vec::with_capacity(holds),
            vacant: Vec::new(),
            index: HashTable::with_capacity(holds),
            first: NONE,
            last: NONE,
            out_of_order: BTreeSet::new(),
        }
    }

    #[inline]
    pub(super) fn find(&self, id: HoldId) -> Option<HoldIx> {
        self.index
            .find(hash(id), |ix| self.slots[*ix as usize].entry.id == id)
            .copied()
    }

    /// Adds a hold whose id is not known yet. One in [`EntryState::Held`] will expire.
    #[inline]
    pub(super) fn insert(&mut self, new: HoldEntry) -> HoldIx {
        let ix = self.vacant.pop().unwrap_or_else(|| self.add_slot());
        let HoldEntry {
            id,
            holder,
            visit,
            seats,
            expires_at,
            extensions_left,
            state,
        } = new;
        // Each field is stored by itself: a whole struct would be built elsewhere first and copied, on the
        // hot path.
        let entry = &mut self.slots[ix as usize].entry;
        entry.id = id;
        entry.holder = holder;
        entry.visit = visit;
        entry.seats = seats;
        entry.expires_at = expires_at;
        entry.extensions_left = extensions_left;
        entry.state = state;
        let slots = &self.slots;
        self.index
            .insert_unique(hash(id), ix, |ix| hash(slots[*ix as usize].entry.id));
        if state == EntryState::Held {
            self.link_deadline(ix);
        }
        ix
    }

    /// Removes a hold. Its seats are returned, so that the caller decides where their memory is freed.
    #[inline]
    pub(super) fn remove(&mut self, ix: HoldIx) -> SeatList {
        self.unlink_deadline(ix);
        let entry = &mut self.slots[ix as usize].entry;
        let id = entry.id;
        let seats = std::mem::take(&mut entry.seats);
        if let Ok(found) = self.index.find_entry(hash(id), |found| *found == ix) {
            found.remove();
        }
        self.vacant.push(ix);
        seats
    }

    /// Puts a hold in front of its holder's list, which begins at `first`.
    #[inline]
    pub(super) fn link_to_holder(&mut self, ix: HoldIx, first: &mut HoldIx) {
        self.slot(ix).next_of_holder = std::mem::replace(first, ix);
    }

    /// Takes a hold out of its holder's list, which is as short as the limit of seats.
    #[inline]
    pub(super) fn unlink_from_holder(&mut self, ix: HoldIx, first: &mut HoldIx) {
        let next = self.slots[ix as usize].next_of_holder;
        if *first == ix {
            *first = next;
            return;
        }
        let before = self
            .of_holder(*first)
            .find(|at| self.slots[*at as usize].next_of_holder == ix);
        if let Some(before) = before {
            self.slot(before).next_of_holder = next;
        }
    }

    /// The holds of the holder whose list begins at `first`, the latest first.
    pub(super) fn of_holder(&self, first: HoldIx) -> impl Iterator<Item = HoldIx> {
        let known = |ix: HoldIx| (ix != NONE).then_some(ix);
        std::iter::successors(known(first), move |ix| {
            known(self.slots[*ix as usize].next_of_holder)
        })
    }

    /// Changes state and deadline. A hold in [`EntryState::Held`] will expire then.
    pub(super) fn change(&mut self, ix: HoldIx, state: EntryState, expires_at: Timestamp) {
        self.unlink_deadline(ix);
        self[ix].state = state;
        self[ix].expires_at = expires_at;
        if state == EntryState::Held {
            self.link_deadline(ix);
        }
    }

    /// A hold whose deadline has passed, if there is one.
    #[inline]
    pub(super) fn next_expired(&self, now: Timestamp) -> Option<HoldIx> {
        if self.first != NONE && self[self.first].expires_at <= now {
            return Some(self.first);
        }
        self.out_of_order
            .first()
            .filter(|(expires_at, _)| *expires_at <= now)
            .map(|(_, ix)| *ix)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (HoldIx, &HoldEntry)> {
        (0..)
            .zip(&self.slots)
            .map(|(ix, slot)| (ix, &slot.entry))
            .filter(|(_, entry)| entry.seats.0.is_some())
    }

    #[cold]
    fn add_slot(&mut self) -> HoldIx {
        let nil = uuid::Uuid::nil();
        let entry = HoldEntry {
            id: HoldId::from_uuid(nil),
            holder: 0,
            visit: VisitId::from_uuid(nil),
            seats: SeatList::default(),
            expires_at: Timestamp::default(),
            extensions_left: 0,
            state: EntryState::Booked,
        };
        self.slots.push(Slot {
            entry,
            previous: NONE,
            next: NONE,
            deadline: Deadline::None,
            next_of_holder: NONE,
        });
        HoldIx::try_from(self.slots.len() - 1).expect("no more holds than seats")
    }

    fn link_deadline(&mut self, ix: HoldIx) {
        let expires_at = self[ix].expires_at;
        let last = self.last;
        if last == NONE {
            self.first = ix;
        } else if self[last].expires_at <= expires_at {
            self.slot(last).next = ix;
        } else {
            self.out_of_order.insert((expires_at, ix));
            self.slot(ix).deadline = Deadline::OutOfOrder;
            return;
        }
        self.last = ix;
        let slot = self.slot(ix);
        slot.previous = last;
        slot.next = NONE;
        slot.deadline = Deadline::InQueue;
    }

    fn unlink_deadline(&mut self, ix: HoldIx) {
        let slot = self.slot(ix);
        let (previous, next) = (slot.previous, slot.next);
        match std::mem::replace(&mut slot.deadline, Deadline::None) {
            Deadline::None => {}
            Deadline::InQueue => {
                if previous == NONE {
                    self.first = next;
                } else {
                    self.slot(previous).next = next;
                }
                if next == NONE {
                    self.last = previous;
                } else {
                    self.slot(next).previous = previous;
                }
            }
            Deadline::OutOfOrder => _ = self.out_of_order.remove(&(self[ix].expires_at, ix)),
        }
    }

    fn slot(&mut self, ix: HoldIx) -> &mut Slot {
        &mut self.slots[ix as usize]
    }
}

impl SeatList {
    pub(super) fn new(seats: &Arc<[SeatIx]>) -> Self {
        Self(Some(Arc::clone(seats)))
    }

    pub(super) fn shared(&self) -> Arc<[SeatIx]> {
        self.0.clone().unwrap_or_default()
    }
}

impl Deref for SeatList {
    type Target = [SeatIx];

    #[inline]
    fn deref(&self) -> &[SeatIx] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl Index<HoldIx> for Holds {
    type Output = HoldEntry;

    #[inline]
    fn index(&self, ix: HoldIx) -> &HoldEntry {
        &self.slots[ix as usize].entry
    }
}

impl IndexMut<HoldIx> for Holds {
    #[inline]
    fn index_mut(&mut self, ix: HoldIx) -> &mut HoldEntry {
        &mut self.slots[ix as usize].entry
    }
}

/// Ids are random, so their bits need no further hashing. Both halves are used: a UUID has constant bits in
/// each.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
fn hash(id: HoldId) -> u64 {
    let bits = id.as_uuid().as_u128();
    bits as u64 ^ (bits >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entry(n: u32, expires_at: Timestamp, state: EntryState) -> HoldEntry {
        HoldEntry {
            id: HoldId::from_uuid(uuid::Uuid::from_u128(n.into())),
            holder: n,
            visit: VisitId::from_uuid(uuid::Uuid::nil()),
            seats: SeatList::new(&[SeatIx(n)].into()),
            expires_at,
            extensions_left: 0,
            state,
        }
    }

    /// Steps of hold number, deadline, action and present time. Deadlines are in any order, as with a clock
    /// set at will.
    fn steps() -> impl Strategy<Value = Vec<(u32, i64, u8, i64)>> {
        prop::collection::vec((0..20_u32, 0..60_i64, 0..4_u8, 0..60_i64), 1..200)
    }

    proptest! {
        #[test]
        fn exactly_the_expired_holds_are_found(steps in steps()) {
            let (mut holds, mut expected) = (Holds::with_capacity(1), BTreeMap::new());
            for (n, deadline, action, now) in steps {
                let at = Timestamp::from_millis(deadline);
                let known = holds.find(entry(n, at, EntryState::Held).id);
                prop_assert_eq!(known.is_some(), expected.contains_key(&n));
                let state = if action == 1 { EntryState::Paying } else { EntryState::Held };
                match known {
                    None => _ = holds.insert(entry(n, at, state)),
                    Some(ix) if action == 0 => prop_assert_eq!(&*holds.remove(ix), &[SeatIx(n)]),
                    Some(ix) => holds.change(ix, state, at),
                }
                if known.is_some() && action == 0 {
                    expected.remove(&n);
                } else {
                    expected.insert(n, (at, state));
                }
                let now = Timestamp::from_millis(now);
                let is_expired = |hold: &(Timestamp, EntryState)| hold.1 == EntryState::Held && hold.0 <= now;
                while let Some(ix) = holds.next_expired(now) {
                    let n = holds[ix].holder;
                    prop_assert!(expected.remove(&n).is_some_and(|hold| is_expired(&hold)));
                    holds.remove(ix);
                }
                prop_assert!(!expected.values().any(is_expired), "every expired hold was found");
                let left: Vec<u32> = holds.iter().map(|(_, entry)| entry.holder).collect();
                prop_assert_eq!(left.len(), expected.len());
            }
        }
    }
}

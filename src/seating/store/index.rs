//! Where things stand in a slab, found by their hashes.

const EMPTY: Cell = Cell {
    tag: 0,
    slot: u32::MAX,
};

/// Slot numbers by 32 bits of a hash: open addressing, at most half full, and removal closes its gap, so that a search
/// looks at one or two cells however many things have come and gone. What is equal is for the slab's owner to say.
pub(super) struct Index {
    /// A power of two.
    cells: Vec<Cell>,
    len: usize,
}

#[derive(Clone, Copy)]
struct Cell {
    tag: u32,
    slot: u32,
}

impl Index {
    pub(super) fn with_room_for(things: usize) -> Self {
        Self {
            cells: vec![EMPTY; (2 * things).next_power_of_two().max(16)],
            len: 0,
        }
    }

    #[inline]
    pub(super) fn find(&self, tag: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(tag);
        loop {
            let cell = self.cells[at];
            if cell.slot == EMPTY.slot {
                return None;
            }
            if cell.tag == tag && is_it(cell.slot) {
                return Some(cell.slot);
            }
            at = self.next(at);
        }
    }

    /// What is in `slot` is not in the index yet.
    #[inline]
    pub(super) fn insert(&mut self, tag: u32, slot: u32) {
        if 2 * (self.len + 1) > self.cells.len() {
            self.grow();
        }
        self.len += 1;
        self.put(Cell { tag, slot });
    }

    /// Takes out a slot that is in the index.
    #[inline]
    pub(super) fn remove(&mut self, tag: u32, slot: u32) {
        let mut gap = self.home(tag);
        while self.cells[gap].slot != slot {
            if self.cells[gap].slot == EMPTY.slot {
                return;
            }
            gap = self.next(gap);
        }
        self.len -= 1;
        let mut at = self.next(gap);
        loop {
            let cell = self.cells[at];
            if cell.slot == EMPTY.slot {
                break;
            }
            // A cell may close the gap unless its search starts behind the gap.
            let mask = self.cells.len() - 1;
            if at.wrapping_sub(self.home(cell.tag)) & mask >= at.wrapping_sub(gap) & mask {
                self.cells[gap] = cell;
                gap = at;
            }
            at = self.next(at);
        }
        self.cells[gap] = EMPTY;
    }

    fn put(&mut self, cell: Cell) {
        let mut at = self.home(cell.tag);
        while self.cells[at].slot != EMPTY.slot {
            at = self.next(at);
        }
        self.cells[at] = cell;
    }

    #[cold]
    fn grow(&mut self) {
        let cells = vec![EMPTY; 2 * self.cells.len()];
        for cell in std::mem::replace(&mut self.cells, cells)
            .into_iter()
            .filter(|it| it.slot != EMPTY.slot)
        {
            self.put(cell);
        }
    }

    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.cells.len() - 1)
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.cells.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few different tags, so that they crowd, also around the end of the table.
        #[test]
        fn what_was_put_in_is_found_and_what_was_taken_out_is_not(steps in prop::collection::vec((0..40_u32, any::<bool>()), 1..300)) {
            let tag_of = |slot: u32| (slot % 7).wrapping_sub(3).wrapping_mul(1 + slot % 2);
            let (mut index, mut expected) = (Index::with_room_for(1), BTreeMap::new());
            for (slot, put) in steps {
                let tag = tag_of(slot);
                if put && !expected.contains_key(&slot) {
                    index.insert(tag, slot);
                    expected.insert(slot, tag);
                } else if !put {
                    index.remove(tag, slot);
                    expected.remove(&slot);
                }
                for slot in 0..40 {
                    let found = index.find(tag_of(slot), |it| it == slot);
                    prop_assert_eq!(found.is_some(), expected.contains_key(&slot));
                }
                prop_assert_eq!(index.len, expected.len());
            }
        }
    }
}

//! This node's copy of the store's seat states.

use crate::seating::{
    plan::Plan,
    seat::{SeatIx, SeatState, SeatStates},
    store::{SeatChange, SeatStore},
};

/// The states as of a version, and which seats have changed since the last frame.
pub(super) struct Replica {
    pub(super) version: u64,
    pub(super) states: SeatStates,
    /// Seats by zone, then by state.
    pub(super) stock: Vec<[u32; 4]>,
    /// Changed since the last frame; a seat may be in it more than once.
    changed: Vec<SeatIx>,
    /// Reused between calls of [`Replica::apply_changes`].
    buffer: Vec<SeatChange>,
}

/// What has changed since the last frame.
pub(super) struct Delta {
    /// The version that the delta leads to.
    pub(super) version: u64,
    /// Each changed seat once, with its present state, by index.
    pub(super) seats: Vec<(SeatIx, SeatState)>,
}

impl Replica {
    pub(super) fn new(plan: &Plan, version: u64, states: SeatStates) -> Self {
        let mut stock = vec![[0; 4]; plan.zones().len()];
        for seat in plan.seats() {
            stock[plan.zone_index_of(seat) as usize][states.get(seat) as usize] += 1;
        }
        Self {
            version,
            states,
            stock,
            changed: Vec::new(),
            buffer: Vec::new(),
        }
    }

    /// Applies the store's changes since this version. `false` when the store no longer remembers all of
    /// them; then [`Replica::replace`] must follow.
    pub(super) fn apply_changes(&mut self, plan: &Plan, store: &dyn SeatStore) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let is_complete = store.changes_since(self.version, &mut buffer);
        for change in &buffer {
            self.set(plan, change.seat, change.state);
        }
        self.version = buffer.last().map_or(self.version, |change| change.version);
        self.buffer = buffer;
        is_complete
    }

    /// Takes over all states as loaded at `version`, unless the replica is ahead of it already.
    pub(super) fn replace(&mut self, plan: &Plan, version: u64, states: &SeatStates) {
        if version < self.version {
            return;
        }
        for seat in plan.seats() {
            self.set(plan, seat, states.get(seat));
        }
        self.version = version;
    }

    /// What has changed since the last call; `None` when nothing has.
    pub(super) fn take_delta(&mut self) -> Option<Delta> {
        if self.changed.is_empty() {
            return None;
        }
        let mut seats = std::mem::take(&mut self.changed);
        seats.sort_unstable();
        seats.dedup();
        Some(Delta {
            version: self.version,
            seats: seats
                .into_iter()
                .map(|seat| (seat, self.states.get(seat)))
                .collect(),
        })
    }

    fn set(&mut self, plan: &Plan, seat: SeatIx, state: SeatState) {
        let before = self.states.get(seat);
        if before != state {
            let stock = &mut self.stock[plan.zone_index_of(seat) as usize];
            stock[before as usize] -= 1;
            stock[state as usize] += 1;
            self.states.set(seat, state);
            self.changed.push(seat);
        }
    }
}

//! Counts the free seats that are reserved for wheelchair users.

use crate::seating::{
    allocation::windows::is_reserved,
    plan::{Attribute, Plan},
    seat::SeatStates,
};

/// The wheelchair spaces of a plan and the companion seats beside them, each by its run and its place in it.
/// They are few, so they are counted anew each time.
pub(crate) struct ReservableSeats(Vec<(u32, usize)>);

impl ReservableSeats {
    pub(crate) fn of(plan: &Plan) -> Self {
        let mut reservable = Vec::new();
        for run in plan.runs_of(None) {
            for (here, seat) in plan.seats_of(*run).iter().enumerate() {
                let has = |attribute| plan.has_attribute(*seat, attribute);
                if has(Attribute::Accessible) || has(Attribute::Companion) {
                    reservable.push((*run, here));
                }
            }
        }
        Self(reservable)
    }

    /// How many free seats of each zone are reserved now.
    pub(crate) fn count_free(&self, plan: &Plan, states: &SeatStates) -> Vec<u32> {
        let mut reserved = vec![0; plan.zones().len()];
        for (run, here) in &self.0 {
            let seats = plan.seats_of(*run);
            let seat = seats[*here];
            if states.is_free(seat) && is_reserved(plan, states, seats, *here) {
                reserved[plan.zone_index_of(seat) as usize] += 1;
            }
        }
        reserved
    }
}

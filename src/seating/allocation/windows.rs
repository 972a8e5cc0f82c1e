//! Windows of neighboring free seats, the candidates of every offer.

use crate::seating::{
    allocation::query::BestAvailableQuery,
    plan::{Attribute, Plan},
    seat::{SeatIx, SeatState, SeatStates},
};

/// Neighboring free seats of one run; how many there are is known from the search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// The run's index in the plan.
    pub(super) run: u32,
    /// Position of the first seat in the run.
    pub(super) start: usize,
    /// Compared before any score, less is better: single seats left over, and wheelchair spaces not
    /// requested.
    pub(super) faults: usize,
    /// Mean score of the seats, less is better.
    pub(super) score: f32,
}

impl Window {
    /// The first `size` seats of the window.
    pub(super) fn seats(self, plan: &Plan, size: usize) -> &[SeatIx] {
        &plan.seats_of(self.run)[self.start..self.start + size]
    }
}

/// A search for windows in the runs of a plan.
#[derive(Clone, Copy)]
pub(super) struct WindowSearch<'a> {
    pub(super) plan: &'a Plan,
    pub(super) states: &'a SeatStates,
    pub(super) query: &'a BestAvailableQuery,
    /// Seats of a window.
    pub(super) size: usize,
}

impl WindowSearch<'_> {
    /// Calls `found` with every window of the run that the query may get, with the mean of the seats'
    /// `score`s.
    pub(super) fn run(&self, run: u32, score: impl Fn(SeatIx) -> f32, mut found: impl FnMut(Window)) {
        let seats = self.plan.seats_of(run);
        let mut from = 0;
        while from < seats.len() {
            let free = seats[from..]
                .iter()
                .take_while(|seat| self.states.is_free(**seat))
                .count();
            let (start, end) = (from, from + free);
            from = end + 1;
            if free < self.size {
                continue;
            }
            // First seat from which on all seats up to `here` may be offered together, and the sum of the
            // scores of the last `size` of them.
            let mut since = start;
            let mut sum = 0.0;
            for here in start..end {
                let seat = seats[here];
                if !may_offer(self.plan, self.states, self.query, seats, here) {
                    since = here + 1;
                    sum = 0.0;
                    continue;
                }
                if here > since && self.plan.zone_index_of(seat) != self.plan.zone_index_of(seats[here - 1]) {
                    since = here;
                    sum = 0.0;
                }
                sum += score(seat);
                if here + 1 - since > self.size {
                    sum -= score(seats[here - self.size]);
                }
                if here + 1 - since >= self.size {
                    let first = here + 1 - self.size;
                    let orphans = usize::from(first - start == 1) + usize::from(end - here - 1 == 1);
                    let Some(excess) = self.excess_accessible(&seats[first..=here]) else {
                        continue;
                    };
                    #[expect(clippy::cast_precision_loss, reason = "a group is small")]
                    found(Window {
                        run,
                        start: first,
                        faults: orphans + 2 * excess,
                        score: sum / self.size as f32,
                    });
                }
            }
        }
    }

    /// Wheelchair spaces beyond the requested ones; `None` when there are fewer than requested.
    fn excess_accessible(&self, seats: &[SeatIx]) -> Option<usize> {
        if self.query.accessible == 0 {
            return Some(0);
        }
        seats
            .iter()
            .filter(|seat| self.plan.has_attribute(**seat, Attribute::Accessible))
            .count()
            .checked_sub(self.query.accessible)
    }
}

/// Whether the seat at `here` of its run is in the requested zone, and not reserved for wheelchair users.
pub(super) fn may_offer(
    plan: &Plan,
    states: &SeatStates,
    query: &BestAvailableQuery,
    seats: &[SeatIx],
    here: usize,
) -> bool {
    let in_zone = query
        .zone
        .is_none_or(|zone| plan.zone_index_of(seats[here]) == zone);
    in_zone && (query.accessible > 0 || !is_reserved(plan, states, seats, here))
}

/// Whether a seat that is picked by hand is reserved for wheelchair users.
pub(crate) fn is_reserved_seat(plan: &Plan, states: &SeatStates, seat: SeatIx) -> bool {
    if plan.has_attribute(seat, Attribute::Accessible) {
        return true;
    }
    if !plan.has_attribute(seat, Attribute::Companion) {
        return false;
    }
    let runs = plan.runs_of(Some(plan.zone_index_of(seat))).iter();
    let mut of_zone = runs.map(|run| plan.seats_of(*run));
    of_zone.any(|seats| {
        let here = seats.iter().position(|other| *other == seat);
        here.is_some_and(|here| is_reserved(plan, states, seats, here))
    })
}

/// Wheelchair spaces are reserved for customers who request one. A companion seat is reserved as long as the
/// space beside it can still be sold; after that anyone may have it, or the venue could never sell out.
pub(super) fn is_reserved(plan: &Plan, states: &SeatStates, seats: &[SeatIx], here: usize) -> bool {
    let has = |seat: SeatIx, attribute| plan.has_attribute(seat, attribute);
    let is_sellable_space = |seat: &SeatIx| {
        has(*seat, Attribute::Accessible) && matches!(states.get(*seat), SeatState::Free | SeatState::Held)
    };
    let is_not_companion = |seat: &&SeatIx| !has(**seat, Attribute::Companion);
    if has(seats[here], Attribute::Accessible) {
        return true;
    }
    if !has(seats[here], Attribute::Companion) {
        return false;
    }
    // The nearest seats on both sides that are not companion seats themselves.
    let before = seats[..here].iter().rev().find(is_not_companion);
    let after = seats[here..].iter().find(is_not_companion);
    before.is_some_and(is_sellable_space) || after.is_some_and(is_sellable_space)
}

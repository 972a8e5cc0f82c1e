//! The best free seats for a group, and alternatives to seats that were taken.
//!
//! The seats of one offer are in one price zone, and together where possible. Of all such offers, those that
//! leave no single seat between two neighbors come first, then those nearest to the middle in front of the
//! stage. Among offers of about the same quality the customer's seed decides, so that a crowd does not
//! compete for one of them. The same query always gives the same answer.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::seating::{
    allocation::{
        query::BestAvailableQuery,
        split_groups::split_offer,
        windows::{Window, WindowSearch},
    },
    plan::{Attribute, Plan},
    seat::{SeatIx, SeatStates},
};

/// Offers are of the same quality when they are worse than the best by at most so many seats' widths.
const TOLERANCE_SEATS: f32 = 2.0;
/// Offers of the same quality that customers are spread over.
const SPREAD_MAX: usize = 16;
const WINDOWS_MAX: usize = 256;
const ALTERNATIVES_MAX: usize = 3;
/// Offers from which alternatives are chosen.
const ALTERNATIVE_CANDIDATES: usize = 12;

/// The best seats, together or in as few groups as possible; `None` when there are not enough.
pub(crate) fn best_available(
    plan: &Plan,
    states: &SeatStates,
    query: &BestAvailableQuery,
) -> Option<Vec<SeatIx>> {
    if query.quantity == 0 {
        return None;
    }
    let search = WindowSearch {
        plan,
        states,
        query,
        size: query.quantity,
    };
    // Four times wider with each lost race, so that customers who compete spread out quickly.
    let tolerance = TOLERANCE_SEATS * plan.spacing() * f32::from(1_u16 << (2 * query.lost_races).min(10));
    let mut candidates = Candidates::default();
    for run in plan.runs_of(query.zone).iter().copied() {
        // Runs come best first: no later one can have an offer within the tolerance.
        if candidates
            .faultless_best
            .is_some_and(|best| plan.run(run).score_min > best + tolerance)
        {
            break;
        }
        if query
            .section
            .is_none_or(|section| plan.run(run).section == section)
        {
            search.run(
                run,
                |seat| plan.score(seat),
                |window| candidates.add(window, tolerance),
            );
        }
    }
    let equal = candidates.disjoint(query.quantity, tolerance, SPREAD_MAX);
    match pick(query.spread_seed, equal.len()) {
        Some(picked) => Some(equal[picked].seats(plan, query.quantity).to_vec()),
        None => split_offer(plan, states, query),
    }
}

/// Up to three offers as good as the requested seats: the same zone, as many seats together, near. Nearest
/// first.
pub(crate) fn alternatives(
    plan: &Plan,
    states: &SeatStates,
    requested: &[SeatIx],
    spread_seed: u64,
) -> Vec<Vec<SeatIx>> {
    let Some(first) = requested.first() else {
        return Vec::new();
    };
    let quantity = requested.len();
    let query = BestAvailableQuery {
        quantity,
        accessible: requested
            .iter()
            .filter(|seat| plan.has_attribute(**seat, Attribute::Accessible))
            .count(),
        zone: Some(plan.zone_index_of(*first)),
        section: None,
        spread_seed,
        lost_races: 0,
    };
    let mut candidates = nearest_windows(plan, states, &query, center(plan, requested));
    let offers = candidates.disjoint(quantity, f32::INFINITY, ALTERNATIVE_CANDIDATES);
    let Some(from) = pick(spread_seed, offers.len()) else {
        return Vec::new();
    };
    let count = offers.len().min(ALTERNATIVES_MAX);
    let mut chosen: Vec<usize> = (0..count)
        .map(|i| (from + i * offers.len() / count) % offers.len())
        .collect();
    chosen.sort_unstable();
    chosen
        .into_iter()
        .map(|i| offers[i].seats(plan, quantity).to_vec())
        .collect()
}

/// Windows by their distance from a point, searched run by run from the nearest on until enough are found.
fn nearest_windows(
    plan: &Plan,
    states: &SeatStates,
    query: &BestAvailableQuery,
    near: (f32, f32),
) -> Candidates {
    let search = WindowSearch {
        plan,
        states,
        query,
        size: query.quantity,
    };
    let distance = |seat: SeatIx| {
        let (x, y) = plan.position_of(seat);
        (x - near.0).hypot(y - near.1)
    };
    // The bits of a positive float sort as the float does.
    let runs = plan
        .runs_of(query.zone)
        .iter()
        .map(|run| Reverse((plan.run(*run).distance_min(near).to_bits(), *run)));
    let mut by_distance: BinaryHeap<_> = runs.collect();
    let mut candidates = Candidates::default();
    while let Some(Reverse((distance_min, run))) = by_distance.pop() {
        let distance_min = f32::from_bits(distance_min);
        if candidates.has_nearer_disjoint(query.quantity, ALTERNATIVE_CANDIDATES, distance_min) {
            break;
        }
        search.run(run, distance, |window| candidates.add(window, f32::INFINITY));
    }
    candidates
}

/// One of `of` choices by a seed; `None` when there is no choice.
fn pick(seed: u64, of: usize) -> Option<usize> {
    let of = u64::try_from(of).ok().filter(|it| *it > 0)?;
    usize::try_from(seed % of).ok()
}

#[expect(clippy::cast_precision_loss, reason = "a request is small")]
fn center(plan: &Plan, seats: &[SeatIx]) -> (f32, f32) {
    let positions = seats.iter().map(|seat| plan.position_of(*seat));
    let (x, y) = positions.fold((0.0, 0.0), |(x, y), position| (x + position.0, y + position.1));
    (x / seats.len().max(1) as f32, y / seats.len().max(1) as f32)
}

/// The best windows found so far.
#[derive(Default)]
struct Candidates {
    windows: Vec<Window>,
    /// Best score of a window without faults.
    faultless_best: Option<f32>,
}

impl Candidates {
    /// Adds a window unless a better one rules it out.
    fn add(&mut self, window: Window, tolerance: f32) {
        if window.faults == 0 {
            if self
                .faultless_best
                .is_some_and(|best| window.score > best + tolerance)
            {
                return;
            }
            self.faultless_best = Some(
                self.faultless_best
                    .map_or(window.score, |best| best.min(window.score)),
            );
        } else if self.faultless_best.is_some() {
            return;
        }
        self.windows.push(window);
        if self.windows.len() >= 2 * WINDOWS_MAX {
            self.sort();
            self.windows.truncate(WINDOWS_MAX);
        }
    }

    fn sort(&mut self) {
        self.windows
            .sort_unstable_by(|a, b| a.faults.cmp(&b.faults).then(a.score.total_cmp(&b.score)));
    }

    /// Whether `count` disjoint windows without faults are known that are all at least as near as
    /// `distance_min`.
    fn has_nearer_disjoint(&mut self, size: usize, count: usize, distance_min: f32) -> bool {
        if self.windows.len() < count {
            return false;
        }
        let offers = self.disjoint(size, f32::INFINITY, count);
        offers.len() == count
            && offers
                .iter()
                .all(|window| window.faults == 0 && window.score <= distance_min)
    }

    /// The best window, and up to `max` in all that are as good and share no seat with a better one.
    fn disjoint(&mut self, size: usize, tolerance: f32, max: usize) -> Vec<Window> {
        self.sort();
        let Some(best) = self.windows.first().copied() else {
            return Vec::new();
        };
        let mut chosen: Vec<Window> = Vec::with_capacity(max);
        for window in self
            .windows
            .iter()
            .filter(|window| window.faults == best.faults && window.score <= best.score + tolerance)
        {
            if chosen.len() == max {
                break;
            }
            if chosen
                .iter()
                .all(|better| better.run != window.run || better.start.abs_diff(window.start) >= size)
            {
                chosen.push(*window);
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests;

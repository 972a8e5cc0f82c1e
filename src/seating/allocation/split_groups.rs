//! Seats for a group that fits nowhere together: in as few parts as possible, near each other.

use crate::seating::{
    allocation::{
        query::BestAvailableQuery,
        windows::{Window, WindowSearch, may_offer},
    },
    plan::{Attribute, Plan},
    seat::{SeatIx, SeatStates},
};

/// Parts around which the others are looked for; the best result is taken.
const ANCHORS_MAX: usize = 16;

/// Neighboring free seats of one zone, at most as many as are requested.
#[derive(Clone, Copy, Debug)]
struct Part {
    run: u32,
    /// Of its first seat.
    position: (f32, f32),
    len: usize,
    /// The best seat's.
    score: f32,
}

/// An offer in several parts, of the best zone that has enough free seats; `None` when no zone has.
pub(super) fn split_offer(
    plan: &Plan,
    states: &SeatStates,
    query: &BestAvailableQuery,
) -> Option<Vec<SeatIx>> {
    let mut zones: Vec<u32> = match query.zone {
        Some(zone) => vec![zone],
        None => (0..).take(plan.zones().len()).collect(),
    };
    let best_score = |zone: &u32| {
        plan.runs_of(Some(*zone))
            .first()
            .map_or(f32::INFINITY, |run| plan.run(*run).score_min)
    };
    zones.sort_by(|a, b| best_score(a).total_cmp(&best_score(b)));
    zones.into_iter().find_map(|zone| {
        let query = BestAvailableQuery {
            zone: Some(zone),
            ..*query
        };
        if query.accessible > 0 {
            near_wheelchair_spaces(plan, states, &query)
        } else {
            in_parts(plan, states, &query)
        }
    })
}

fn in_parts(plan: &Plan, states: &SeatStates, query: &BestAvailableQuery) -> Option<Vec<SeatIx>> {
    let parts = parts(plan, states, query);
    let mut lengths: Vec<usize> = parts.iter().map(|part| part.len).collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    let count = fewest_parts(&lengths, query.quantity)?;
    let longest_others: usize = lengths.iter().take(count - 1).sum();
    let chosen = parts
        .iter()
        .enumerate()
        .filter(|(_, anchor)| anchor.len + longest_others >= query.quantity)
        .take(ANCHORS_MAX)
        .filter_map(|(at, anchor)| {
            let (distance, chosen) = parts_around(&parts, at, count, query.quantity)?;
            Some((anchor.score + distance, chosen))
        })
        .min_by(|a, b| a.0.total_cmp(&b.0))?
        .1;
    let mut seats = Vec::with_capacity(query.quantity);
    for (part, size) in share_evenly(chosen, query.quantity) {
        let search = WindowSearch {
            plan,
            states,
            query,
            size,
        };
        let mut best: Option<Window> = None;
        search.run(
            part.run,
            |seat| plan.score(seat),
            |window| {
                let is_better =
                    best.is_none_or(|best| (window.faults, window.score) < (best.faults, best.score));
                // Two parts may be in one run.
                if is_better && !window.seats(plan, size).iter().any(|seat| seats.contains(seat)) {
                    best = Some(window);
                }
            },
        );
        seats.extend_from_slice(best?.seats(plan, size));
    }
    Some(seats)
}

/// All parts that the query may get, best first.
fn parts(plan: &Plan, states: &SeatStates, query: &BestAvailableQuery) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for run in plan.runs_of(query.zone).iter().copied() {
        if query
            .section
            .is_some_and(|section| plan.run(run).section != section)
        {
            continue;
        }
        let mut open: Option<Part> = None;
        let seats = plan.seats_of(run);
        for (here, seat) in seats.iter().copied().enumerate() {
            if !states.is_free(seat) || !may_offer(plan, states, query, seats, here) {
                parts.extend(open.take());
                continue;
            }
            let part = open.get_or_insert(Part {
                run,
                position: plan.position_of(seat),
                len: 0,
                score: f32::INFINITY,
            });
            part.len = (part.len + 1).min(query.quantity);
            part.score = part.score.min(plan.score(seat));
        }
        parts.extend(open);
    }
    parts.sort_by(|a, b| a.score.total_cmp(&b.score));
    parts
}

/// How many of the longest parts are needed; `None` when all of them are not enough.
fn fewest_parts(lengths: &[usize], quantity: usize) -> Option<usize> {
    let mut sum = 0;
    lengths
        .iter()
        .position(|len| {
            sum += len;
            sum >= quantity
        })
        .map(|at| at + 1)
}

/// The anchor and the nearest others with which `count` parts are enough, after the sum of their distances.
fn parts_around(parts: &[Part], anchor: usize, count: usize, quantity: usize) -> Option<(f32, Vec<Part>)> {
    let from = parts[anchor];
    let distance = |part: &Part| (part.position.0 - from.position.0).hypot(part.position.1 - from.position.1);
    let mut others: Vec<(f32, Part)> = parts
        .iter()
        .enumerate()
        .filter(|(i, _)| *i != anchor)
        .map(|(_, part)| (distance(part), *part))
        .collect();
    others.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut longest: Vec<usize> = others.iter().map(|(_, part)| part.len).collect();
    longest.sort_unstable_by(|a, b| b.cmp(a));
    let mut chosen = vec![from];
    let mut seats = from.len;
    let mut total_distance = 0.0;
    for (distance, part) in others {
        if chosen.len() == count {
            break;
        }
        // Only a part that leaves enough for the ones still to come.
        let to_come = count - chosen.len() - 1;
        if seats + part.len + longest.iter().take(to_come).sum::<usize>() >= quantity {
            seats += part.len;
            total_distance += distance;
            chosen.push(part);
        }
    }
    (seats >= quantity).then_some((total_distance, chosen))
}

/// How many seats to take of each part, as evenly as possible: five in two parts are three and two, not four
/// and one.
fn share_evenly(parts: Vec<Part>, quantity: usize) -> Vec<(Part, usize)> {
    let mut sizes: Vec<(Part, usize)> = parts.into_iter().map(|part| (part, part.len)).collect();
    let mut excess = sizes
        .iter()
        .map(|(_, size)| *size)
        .sum::<usize>()
        .saturating_sub(quantity);
    while excess > 0 {
        if let Some(largest) = sizes.iter_mut().max_by_key(|(_, size)| *size) {
            largest.1 -= 1;
        }
        excess -= 1;
    }
    // Largest first: a smaller part fits more places, and must not take a larger one's only place.
    sizes.retain(|(_, size)| *size > 0);
    sizes.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    sizes
}

/// The wheelchair spaces nearest to the best one, and for the others of the group the seats nearest to it.
fn near_wheelchair_spaces(
    plan: &Plan,
    states: &SeatStates,
    query: &BestAvailableQuery,
) -> Option<Vec<SeatIx>> {
    let in_section = |seat: &SeatIx| {
        query
            .section
            .is_none_or(|section| plan.section_index_of(*seat) == section)
    };
    let in_zone = |seat: &SeatIx| query.zone.is_none_or(|zone| plan.zone_index_of(*seat) == zone);
    let open = || {
        plan.seats()
            .filter(|seat| states.is_free(*seat))
            .filter(in_zone)
            .filter(in_section)
    };
    let is_accessible = |seat: &SeatIx| plan.has_attribute(*seat, Attribute::Accessible);
    let anchor = open()
        .filter(is_accessible)
        .min_by(|a, b| plan.score(*a).total_cmp(&plan.score(*b)))?;
    let (x, y) = plan.position_of(anchor);
    let nearest = |mut seats: Vec<SeatIx>, count: usize| {
        let distance = |seat: &SeatIx| (plan.position_of(*seat).0 - x).hypot(plan.position_of(*seat).1 - y);
        seats.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
        seats.truncate(count);
        (seats.len() == count).then_some(seats)
    };
    let mut seats = nearest(open().filter(is_accessible).collect(), query.accessible)?;
    seats.extend(nearest(
        open().filter(|seat| !is_accessible(seat)).collect(),
        query.quantity - query.accessible,
    )?);
    Some(seats)
}

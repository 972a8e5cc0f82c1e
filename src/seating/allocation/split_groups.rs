//! Seats for a group that finds no place together: in as few parts as can be, near each other.

use crate::seating::{
    allocation::best_available::{Ask, Window, may_have, seats_in, windows},
    plan::{Attribute, Plan},
    seat::{SeatIx, SeatStates},
};

/// Parts that the others are looked for around; the best of these is taken.
const ANCHORS: usize = 16;

/// Free neighbours of one zone that may be had, as many as there are side by side (but no more than are asked for).
#[derive(Clone, Copy, Debug)]
struct Part {
    run: u32,
    place: (f32, f32),
    len: usize,
    score: f32,
}

/// `None` when no zone asked for has so many free seats.
pub(crate) fn in_groups(plan: &Plan, states: &SeatStates, ask: &Ask) -> Option<Vec<SeatIx>> {
    let mut zones: Vec<u32> = match ask.zone {
        Some(zone) => vec![zone],
        None => (0..).take(plan.zones().len()).collect(),
    };
    let best = |zone: &u32| {
        plan.runs_of(Some(*zone))
            .first()
            .map_or(f32::INFINITY, |run| plan.run(*run).score_min)
    };
    zones.sort_by(|a, b| best(a).total_cmp(&best(b)));
    zones.into_iter().find_map(|zone| {
        let ask = Ask {
            zone: Some(zone),
            ..*ask
        };
        if ask.accessible > 0 {
            beside_wheelchairs(plan, states, &ask)
        } else {
            in_parts(plan, states, &ask)
        }
    })
}

fn in_parts(plan: &Plan, states: &SeatStates, ask: &Ask) -> Option<Vec<SeatIx>> {
    let parts = parts(plan, states, ask);
    let mut lengths: Vec<usize> = parts.iter().map(|it| it.len).collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    let count = fewest(&lengths, ask.quantity)?;
    let chosen = parts
        .iter()
        .enumerate()
        .filter(|(_, anchor)| anchor.len + lengths.iter().take(count - 1).sum::<usize>() >= ask.quantity)
        .take(ANCHORS)
        .filter_map(|(a, anchor)| {
            around(&parts, a, count, ask.quantity).map(|(way, chosen)| (anchor.score + way, chosen))
        })
        .min_by(|a, b| a.0.total_cmp(&b.0))?
        .1;
    let mut seats = Vec::with_capacity(ask.quantity);
    for (part, size) in shared_out(chosen, ask.quantity) {
        let mut best: Option<Window> = None;
        windows(
            plan,
            states,
            part.run,
            ask,
            size,
            |seat| plan.score(seat),
            |window| {
                if best.is_none_or(|it| (window.faults, window.score) < (it.faults, it.score))
                    && !overlaps(plan, window, size, &seats)
                {
                    best = Some(window);
                }
            },
        );
        seats.extend(seats_in(plan, best?, size));
    }
    Some(seats)
}

/// Best first.
fn parts(plan: &Plan, states: &SeatStates, ask: &Ask) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for run in plan.runs_of(ask.zone).iter().copied() {
        if ask
            .section
            .is_some_and(|section| plan.run(run).section != section)
        {
            continue;
        }
        let mut open: Option<Part> = None;
        let seats = plan.seats_of(run);
        for (here, seat) in seats.iter().copied().enumerate() {
            if !states.is_free(seat) || !may_have(plan, states, ask, seats, here) {
                parts.extend(open.take());
                continue;
            }
            let part = open.get_or_insert(Part {
                run,
                place: plan.position_of(seat),
                len: 0,
                score: f32::INFINITY,
            });
            part.len = (part.len + 1).min(ask.quantity);
            part.score = part.score.min(plan.score(seat));
        }
        parts.extend(open);
    }
    parts.sort_by(|a, b| a.score.total_cmp(&b.score));
    parts
}

/// How many of the longest parts it takes.
fn fewest(lengths: &[usize], quantity: usize) -> Option<usize> {
    let mut sum = 0;
    lengths
        .iter()
        .position(|len| {
            sum += len;
            sum >= quantity
        })
        .map(|at| at + 1)
}

/// The anchor and the nearest others with which `count` parts are enough, and how far they are.
fn around(parts: &[Part], anchor: usize, count: usize, quantity: usize) -> Option<(f32, Vec<Part>)> {
    let from = parts[anchor];
    let distance = |part: &Part| (part.place.0 - from.place.0).hypot(part.place.1 - from.place.1);
    let mut others: Vec<(f32, Part)> = parts
        .iter()
        .enumerate()
        .filter(|(i, _)| *i != anchor)
        .map(|(_, part)| (distance(part), *part))
        .collect();
    others.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut longest: Vec<usize> = others.iter().map(|it| it.1.len).collect();
    longest.sort_unstable_by(|a, b| b.cmp(a));
    let (mut chosen, mut has, mut way) = (vec![from], from.len, 0.0);
    for (distance, part) in others {
        if chosen.len() == count {
            break;
        }
        // Only what leaves enough for the parts still to come.
        let to_come = count - chosen.len() - 1;
        if has + part.len + longest.iter().take(to_come).sum::<usize>() >= quantity {
            has += part.len;
            way += distance;
            chosen.push(part);
        }
    }
    (has >= quantity).then_some((way, chosen))
}

/// Evenly: five in two parts are three and two rather than four and one.
fn shared_out(parts: Vec<Part>, quantity: usize) -> Vec<(Part, usize)> {
    let mut sizes: Vec<(Part, usize)> = parts.into_iter().map(|part| (part, part.len)).collect();
    let mut excess = sizes
        .iter()
        .map(|it| it.1)
        .sum::<usize>()
        .saturating_sub(quantity);
    while excess > 0 {
        if let Some(largest) = sizes.iter_mut().max_by_key(|it| it.1) {
            largest.1 -= 1;
        }
        excess -= 1;
    }
    // Largest first: a smaller one may then stand wherever it likes best without taking a larger one's only place.
    sizes.retain(|it| it.1 > 0);
    sizes.sort_by_key(|it| std::cmp::Reverse(it.1));
    sizes
}

fn overlaps(plan: &Plan, window: Window, size: usize, seats: &[SeatIx]) -> bool {
    plan.seats_of(window.run)[window.start..window.start + size]
        .iter()
        .any(|seat| seats.contains(seat))
}

/// The wheelchairs' places nearest to the best one, and for the others whatever is nearest to it.
fn beside_wheelchairs(plan: &Plan, states: &SeatStates, ask: &Ask) -> Option<Vec<SeatIx>> {
    let in_section = |seat: &SeatIx| {
        ask.section
            .is_none_or(|section| plan.section_index_of(*seat) == section)
    };
    let in_zone = |seat: &SeatIx| ask.zone.is_none_or(|zone| plan.zone_index_of(*seat) == zone);
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
    let mut seats = nearest(open().filter(is_accessible).collect(), ask.accessible)?;
    seats.extend(nearest(
        open().filter(|seat| !is_accessible(seat)).collect(),
        ask.quantity - ask.accessible,
    )?);
    Some(seats)
}

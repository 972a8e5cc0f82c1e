//! Which seats to offer. Pure: a plan, who has what, a wish; the same answer each time.
//!
//! Seats of one offer are of one price zone and together where that can be. Of all such offers those that leave no single
//! seat between two neighbours come first, then the nearest to the stage and the middle. Offers about equally good are
//! shared out by `spread`, so that a herd does not fight over one of them.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    plan::{Attribute, Plan},
    seat::{SeatIx, SeatStates},
    split,
};

/// Offers that are as good as the best are this many seats' breadth worse at most.
const AS_GOOD: f32 = 2.0;
const SHARED_OUT_MAX: usize = 16;
const WINDOWS_KEPT: usize = 256;
const ALTERNATIVES: usize = 3;
const ALTERNATIVES_CONSIDERED: usize = 12;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) quantity: usize,
    /// So many of them with room for a wheelchair; when none, such seats and their companions' are left alone.
    pub(super) accessible: usize,
    pub(super) zone: Option<u32>,
    pub(super) section: Option<u32>,
    /// A hash of who asks.
    pub(super) spread: u64,
    /// How often she has been beaten to it: each time the herd is spread wider.
    pub(super) beaten: u32,
}

/// Neighbouring free seats of one run, `size` of them from `start`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) run: u32,
    pub(super) start: usize,
    /// Less is better, before any score: a single seat left over, more accessible seats than asked for.
    pub(super) faults: usize,
    pub(super) score: f32,
}

/// The best seats there are, together or in as few groups as can be, or `None` when there are not so many.
pub(super) fn best_available(plan: &Plan, states: &SeatStates, ask: &Ask) -> Option<Vec<SeatIx>> {
    if ask.quantity == 0 {
        return None;
    }
    let tolerance = AS_GOOD * plan.spacing() * f32::from(1_u16 << (2 * ask.beaten).min(10));
    let mut found = Found::default();
    for run in plan.runs_of(ask.zone).iter().copied() {
        if found.faultless_best.is_some_and(|best| plan.run(run).score_min > best + tolerance) {
            break;
        }
        if ask.section.is_none_or(|section| plan.run(run).section == section) {
            windows(plan, states, run, ask, ask.quantity, |seat| plan.score(seat), |window| found.add(window, tolerance));
        }
    }
    let equal = found.disjoint(ask.quantity, tolerance, SHARED_OUT_MAX);
    match pick(ask.spread, equal.len()) {
        Some(picked) => Some(seats_in(plan, equal[picked], ask.quantity)),
        None => split::in_groups(plan, states, ask),
    }
}

/// Up to three offers as good as the wish was: the same zone, as many seats together, near. Nearest first.
pub(super) fn alternatives(plan: &Plan, states: &SeatStates, wish: &[SeatIx], spread: u64) -> Vec<Vec<SeatIx>> {
    let Some(first) = wish.first() else { return Vec::new() };
    let accessible = wish.iter().filter(|seat| plan.has_attribute(**seat, Attribute::Accessible)).count();
    let quantity = wish.len();
    let ask = Ask { quantity, accessible, zone: Some(plan.zone_index_of(*first)), section: None, spread, beaten: 0 };
    let near = middle(plan, wish);
    let distance = |seat: SeatIx| {
        let (x, y) = plan.position_of(seat);
        (x - near.0).hypot(y - near.1)
    };
    // Bits of a positive float sort as the float does.
    let runs = plan.runs_of(ask.zone).iter().map(|run| Reverse((plan.run(*run).distance_min(near).to_bits(), *run)));
    let mut by_distance: BinaryHeap<_> = runs.collect();
    let mut found = Found::default();
    while let Some(Reverse((at_least, run))) = by_distance.pop() {
        let enough = found.disjoint_count_reaches(quantity, ALTERNATIVES_CONSIDERED, f32::from_bits(at_least));
        if enough {
            break;
        }
        windows(plan, states, run, &ask, quantity, distance, |window| found.add(window, f32::INFINITY));
    }
    let offers = found.disjoint(quantity, f32::INFINITY, ALTERNATIVES_CONSIDERED);
    let Some(from) = pick(spread, offers.len()) else { return Vec::new() };
    let count = offers.len().min(ALTERNATIVES);
    let mut chosen: Vec<usize> = (0..count).map(|i| (from + i * offers.len() / count) % offers.len()).collect();
    chosen.sort_unstable();
    chosen.into_iter().map(|i| seats_in(plan, offers[i], quantity)).collect()
}

/// Tells of every window of `size` free seats in the run that `ask` may have.
pub(super) fn windows(
    plan: &Plan,
    states: &SeatStates,
    run: u32,
    ask: &Ask,
    size: usize,
    score: impl Fn(SeatIx) -> f32,
    mut tell: impl FnMut(Window),
) {
    let seats = plan.seats_of(run);
    let mut from = 0;
    while from < seats.len() {
        let free = seats[from..].iter().take_while(|seat| states.is_free(**seat)).count();
        let (start, end) = (from, from + free);
        from = end + 1;
        if free < size {
            continue;
        }
        // The first seat from which on all up to here may be had together, and what they score.
        let (mut since, mut sum) = (start, 0.0);
        for here in start..end {
            let seat = seats[here];
            if !may_have(plan, ask, seat) {
                (since, sum) = (here + 1, 0.0);
                continue;
            }
            if here > since && plan.zone_index_of(seat) != plan.zone_index_of(seats[here - 1]) {
                (since, sum) = (here, 0.0);
            }
            sum += score(seat);
            if here + 1 - since > size {
                sum -= score(seats[here - size]);
            }
            if here + 1 - since >= size {
                let first = here + 1 - size;
                let alone = usize::from(first - start == 1) + usize::from(end - here - 1 == 1);
                let Some(excess) = excess_accessible(plan, ask, &seats[first..=here]) else { continue };
                #[expect(clippy::cast_precision_loss, reason = "a group is small")]
                tell(Window { run, start: first, faults: alone + 2 * excess, score: sum / size as f32 });
            }
        }
    }
}

/// Whether the seat is in the zone asked for, and not kept for others.
pub(super) fn may_have(plan: &Plan, ask: &Ask, seat: SeatIx) -> bool {
    let kept = || plan.has_attribute(seat, Attribute::Accessible) || plan.has_attribute(seat, Attribute::Companion);
    ask.zone.is_none_or(|zone| plan.zone_index_of(seat) == zone) && (ask.accessible > 0 || !kept())
}

pub(super) fn seats_in(plan: &Plan, window: Window, size: usize) -> Vec<SeatIx> {
    plan.seats_of(window.run)[window.start..window.start + size].to_vec()
}

/// `None` when there are fewer accessible seats than asked for.
fn excess_accessible(plan: &Plan, ask: &Ask, seats: &[SeatIx]) -> Option<usize> {
    if ask.accessible == 0 {
        return Some(0);
    }
    seats.iter().filter(|seat| plan.has_attribute(**seat, Attribute::Accessible)).count().checked_sub(ask.accessible)
}

fn pick(spread: u64, of: usize) -> Option<usize> {
    let of = u64::try_from(of).ok().filter(|it| *it > 0)?;
    usize::try_from(spread % of).ok()
}

#[expect(clippy::cast_precision_loss, reason = "a wish is small")]
fn middle(plan: &Plan, seats: &[SeatIx]) -> (f32, f32) {
    let places = seats.iter().map(|seat| plan.position_of(*seat));
    let (x, y) = places.fold((0.0, 0.0), |(x, y), it| (x + it.0, y + it.1));
    (x / seats.len().max(1) as f32, y / seats.len().max(1) as f32)
}

/// The best windows so far.
#[derive(Default)]
struct Found {
    windows: Vec<Window>,
    faultless_best: Option<f32>,
}

impl Found {
    fn add(&mut self, window: Window, tolerance: f32) {
        if window.faults == 0 {
            if self.faultless_best.is_some_and(|best| window.score > best + tolerance) {
                return;
            }
            self.faultless_best = Some(self.faultless_best.map_or(window.score, |best| best.min(window.score)));
        } else if self.faultless_best.is_some() {
            return;
        }
        self.windows.push(window);
        if self.windows.len() >= 2 * WINDOWS_KEPT {
            self.sort();
            self.windows.truncate(WINDOWS_KEPT);
        }
    }

    fn sort(&mut self) {
        self.windows.sort_unstable_by(|a, b| a.faults.cmp(&b.faults).then(a.score.total_cmp(&b.score)));
    }

    /// Whether so many disjoint faultless windows are known that nothing farther than `at_least` can come before them.
    fn disjoint_count_reaches(&mut self, size: usize, count: usize, at_least: f32) -> bool {
        if self.windows.len() < count {
            return false;
        }
        let offers = self.disjoint(size, f32::INFINITY, count);
        offers.len() == count && offers.iter().all(|it| it.faults == 0 && it.score <= at_least)
    }

    /// The best window, and those as good that share no seat with a better one.
    fn disjoint(&mut self, size: usize, tolerance: f32, max: usize) -> Vec<Window> {
        self.sort();
        let Some(best) = self.windows.first().copied() else { return Vec::new() };
        let mut chosen: Vec<Window> = Vec::with_capacity(max);
        for window in self.windows.iter().filter(|it| it.faults == best.faults && it.score <= best.score + tolerance) {
            if chosen.len() == max {
                break;
            }
            if chosen.iter().all(|it| it.run != window.run || it.start.abs_diff(window.start) >= size) {
                chosen.push(*window);
            }
        }
        chosen
    }
}

//! Which seats to offer. Pure: a plan, who has what, a wish; the same answer each time.
//!
//! Seats of one offer are of one price zone and together where that can be. Of all such offers those that leave no single
//! seat between two neighbours come first, then the nearest to the stage and the middle. Offers about equally good are
//! shared out by `spread`, so that a herd does not fight over one of them.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::seating::{
    allocation::split_groups,
    plan::{Attribute, Plan},
    seat::{SeatIx, SeatState, SeatStates},
};

/// Offers that are as good as the best are this many seats' breadth worse at most.
const AS_GOOD: f32 = 2.0;
const SHARED_OUT_MAX: usize = 16;
const WINDOWS_KEPT: usize = 256;
const ALTERNATIVES: usize = 3;
const ALTERNATIVES_CONSIDERED: usize = 12;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) quantity: usize,
    /// So many of them with room for a wheelchair; when none, such seats and their companions' are left alone.
    pub(crate) accessible: usize,
    pub(crate) zone: Option<u32>,
    pub(crate) section: Option<u32>,
    /// A hash of who asks.
    pub(crate) spread: u64,
    /// How often she has been beaten to it: each time the herd is spread wider.
    pub(crate) beaten: u32,
}

/// Neighbouring free seats of one run, `size` of them from `start`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) run: u32,
    pub(crate) start: usize,
    /// Less is better, before any score: a single seat left over, more accessible seats than asked for.
    pub(crate) faults: usize,
    pub(crate) score: f32,
}

/// The best seats there are, together or in as few groups as can be, or `None` when there are not so many.
pub(crate) fn best_available(plan: &Plan, states: &SeatStates, ask: &Ask) -> Option<Vec<SeatIx>> {
    if ask.quantity == 0 {
        return None;
    }
    let tolerance = AS_GOOD * plan.spacing() * f32::from(1_u16 << (2 * ask.beaten).min(10));
    let mut found = Found::default();
    for run in plan.runs_of(ask.zone).iter().copied() {
        if found
            .faultless_best
            .is_some_and(|best| plan.run(run).score_min > best + tolerance)
        {
            break;
        }
        if ask.section.is_none_or(|section| plan.run(run).section == section) {
            windows(
                plan,
                states,
                run,
                ask,
                ask.quantity,
                |seat| plan.score(seat),
                |window| found.add(window, tolerance),
            );
        }
    }
    let equal = found.disjoint(ask.quantity, tolerance, SHARED_OUT_MAX);
    match pick(ask.spread, equal.len()) {
        Some(picked) => Some(seats_in(plan, equal[picked], ask.quantity)),
        None => split_groups::in_groups(plan, states, ask),
    }
}

/// Up to three offers as good as the wish was: the same zone, as many seats together, near. Nearest first.
pub(crate) fn alternatives(
    plan: &Plan,
    states: &SeatStates,
    wish: &[SeatIx],
    spread: u64,
) -> Vec<Vec<SeatIx>> {
    let Some(first) = wish.first() else {
        return Vec::new();
    };
    let accessible = wish
        .iter()
        .filter(|seat| plan.has_attribute(**seat, Attribute::Accessible))
        .count();
    let quantity = wish.len();
    let ask = Ask {
        quantity,
        accessible,
        zone: Some(plan.zone_index_of(*first)),
        section: None,
        spread,
        beaten: 0,
    };
    let near = middle(plan, wish);
    let distance = |seat: SeatIx| {
        let (x, y) = plan.position_of(seat);
        (x - near.0).hypot(y - near.1)
    };
    // Bits of a positive float sort as the float does.
    let runs = plan
        .runs_of(ask.zone)
        .iter()
        .map(|run| Reverse((plan.run(*run).distance_min(near).to_bits(), *run)));
    let mut by_distance: BinaryHeap<_> = runs.collect();
    let mut found = Found::default();
    while let Some(Reverse((at_least, run))) = by_distance.pop() {
        let enough =
            found.disjoint_count_reaches(quantity, ALTERNATIVES_CONSIDERED, f32::from_bits(at_least));
        if enough {
            break;
        }
        windows(plan, states, run, &ask, quantity, distance, |window| {
            found.add(window, f32::INFINITY)
        });
    }
    let offers = found.disjoint(quantity, f32::INFINITY, ALTERNATIVES_CONSIDERED);
    let Some(from) = pick(spread, offers.len()) else {
        return Vec::new();
    };
    let count = offers.len().min(ALTERNATIVES);
    let mut chosen: Vec<usize> = (0..count)
        .map(|i| (from + i * offers.len() / count) % offers.len())
        .collect();
    chosen.sort_unstable();
    chosen
        .into_iter()
        .map(|i| seats_in(plan, offers[i], quantity))
        .collect()
}

/// Tells of every window of `size` free seats in the run that `ask` may have.
pub(crate) fn windows(
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
        let free = seats[from..]
            .iter()
            .take_while(|seat| states.is_free(**seat))
            .count();
        let (start, end) = (from, from + free);
        from = end + 1;
        if free < size {
            continue;
        }
        // The first seat from which on all up to here may be had together, and what they score.
        let (mut since, mut sum) = (start, 0.0);
        for here in start..end {
            let seat = seats[here];
            if !may_have(plan, states, ask, seats, here) {
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
                let Some(excess) = excess_accessible(plan, ask, &seats[first..=here]) else {
                    continue;
                };
                #[expect(clippy::cast_precision_loss, reason = "a group is small")]
                tell(Window {
                    run,
                    start: first,
                    faults: alone + 2 * excess,
                    score: sum / size as f32,
                });
            }
        }
    }
}

/// Whether the seat at `here` of its run is in the zone asked for, and not kept for others.
pub(crate) fn may_have(plan: &Plan, states: &SeatStates, ask: &Ask, seats: &[SeatIx], here: usize) -> bool {
    let in_zone = ask
        .zone
        .is_none_or(|zone| plan.zone_index_of(seats[here]) == zone);
    in_zone && (ask.accessible > 0 || !is_kept(plan, states, seats, here))
}

/// Wheelchairs' places are kept for who asks for one, and a companion's seat as long as the place beside it may still be
/// sold: after that it is anybody's, or the house could never be full.
fn is_kept(plan: &Plan, states: &SeatStates, seats: &[SeatIx], here: usize) -> bool {
    let has = |seat: SeatIx, attribute| plan.has_attribute(seat, attribute);
    let may_be_sold = |seat: &SeatIx| {
        has(*seat, Attribute::Accessible) && matches!(states.get(*seat), SeatState::Free | SeatState::Held)
    };
    let not_companions = |seat: &&SeatIx| !has(**seat, Attribute::Companion);
    has(seats[here], Attribute::Accessible)
        || has(seats[here], Attribute::Companion)
            && (seats[..here]
                .iter()
                .rev()
                .find(not_companions)
                .is_some_and(may_be_sold)
                || seats[here..].iter().find(not_companions).is_some_and(may_be_sold))
}

pub(crate) fn seats_in(plan: &Plan, window: Window, size: usize) -> Vec<SeatIx> {
    plan.seats_of(window.run)[window.start..window.start + size].to_vec()
}

/// `None` when there are fewer accessible seats than asked for.
fn excess_accessible(plan: &Plan, ask: &Ask, seats: &[SeatIx]) -> Option<usize> {
    if ask.accessible == 0 {
        return Some(0);
    }
    seats
        .iter()
        .filter(|seat| plan.has_attribute(**seat, Attribute::Accessible))
        .count()
        .checked_sub(ask.accessible)
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
        if self.windows.len() >= 2 * WINDOWS_KEPT {
            self.sort();
            self.windows.truncate(WINDOWS_KEPT);
        }
    }

    fn sort(&mut self) {
        self.windows
            .sort_unstable_by(|a, b| a.faults.cmp(&b.faults).then(a.score.total_cmp(&b.score)));
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
        let Some(best) = self.windows.first().copied() else {
            return Vec::new();
        };
        let mut chosen: Vec<Window> = Vec::with_capacity(max);
        for window in self
            .windows
            .iter()
            .filter(|it| it.faults == best.faults && it.score <= best.score + tolerance)
        {
            if chosen.len() == max {
                break;
            }
            if chosen
                .iter()
                .all(|it| it.run != window.run || it.start.abs_diff(window.start) >= size)
            {
                chosen.push(*window);
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::seating::plan::generate::{VenueKind, generate};

    /// A small house in which some seats are gone.
    fn house() -> impl Strategy<Value = (Plan, SeatStates)> {
        let kind = prop_oneof![Just(VenueKind::Theatre), Just(VenueKind::Arena)];
        (kind, 30..160_u32, 0.0..1.0_f64).prop_flat_map(|(kind, seats, gone)| {
            prop::collection::vec(prop::bool::weighted(gone), seats as usize).prop_map(move |gone| {
                let plan = Plan::parse(&generate(kind, seats)).unwrap();
                let mut states = SeatStates::free(plan.seat_count());
                for seat in plan.seats().filter(|seat| gone[seat.index()]) {
                    states.set(seat, SeatState::Booked);
                }
                (plan, states)
            })
        })
    }

    fn ask(quantity: usize, zone: Option<u32>, accessible: usize, spread: u64) -> Ask {
        Ask {
            quantity,
            accessible,
            zone,
            section: None,
            spread,
            beaten: 0,
        }
    }

    /// By the numbers in the seats' labels, as the generator puts a companion next to the wheelchair's place.
    fn kept(plan: &Plan, states: &SeatStates, seat: SeatIx) -> bool {
        let number = |seat: SeatIx| plan.label(seat).number.parse::<u32>().unwrap();
        let is_beside = |other: &SeatIx| {
            let (a, b) = (plan.label(seat), plan.label(*other));
            plan.section_of(seat) == plan.section_of(*other)
                && a.row == b.row
                && number(seat).abs_diff(number(*other)) == 1
        };
        let may_be_sold = |other: SeatIx| {
            plan.has_attribute(other, Attribute::Accessible) && states.get(other) != SeatState::Booked
        };
        plan.has_attribute(seat, Attribute::Accessible)
            || plan.has_attribute(seat, Attribute::Companion)
                && plan.seats().filter(is_beside).any(may_be_sold)
    }

    /// All groups of neighbours that may be had, found the slow way, and whether each leaves nobody alone.
    fn groups(
        plan: &Plan,
        states: &SeatStates,
        quantity: usize,
        zone: Option<u32>,
    ) -> Vec<(Vec<SeatIx>, bool)> {
        let may = |seat: SeatIx| {
            states.is_free(seat)
                && !kept(plan, states, seat)
                && zone.is_none_or(|zone| plan.zone_index_of(seat) == zone)
        };
        let mut all = Vec::new();
        for run in plan.runs_of(None) {
            let seats = plan.seats_of(*run);
            let free = |at: Option<usize>| {
                at.and_then(|at| seats.get(at))
                    .is_some_and(|seat| states.is_free(*seat))
            };
            for start in 0..seats.len().saturating_sub(quantity - 1) {
                let end = start + quantity;
                let group = &seats[start..end];
                if group
                    .iter()
                    .all(|seat| may(*seat) && plan.zone_index_of(*seat) == plan.zone_index_of(group[0]))
                {
                    let left = free(start.checked_sub(1)) && !free(start.checked_sub(2));
                    let right = free(Some(end)) && !free(Some(end + 1));
                    all.push((group.to_vec(), !left && !right));
                }
            }
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_offer_is_free_of_one_zone_together_and_orphans_nobody_where_that_can_be(
            (plan, states) in house(), quantity in 1..6_usize, zone in prop::option::of(0..4_u32), spread in any::<u64>()
        ) {
            let zone = zone.filter(|zone| (*zone as usize) < plan.zones().len());
            let offer = best_available(&plan, &states, &ask(quantity, zone, 0, spread));
            let groups = groups(&plan, &states, quantity, zone);
            let Some(offer) = offer else {
                let zones = zone.map_or(0..plan.zones().len(), |zone| zone as usize..zone as usize + 1);
                for zone in zones {
                    let left = plan.seats().filter(|seat| states.is_free(*seat) && !kept(&plan, &states, *seat) && plan.zone_index_of(*seat) as usize == zone);
                    prop_assert!(left.count() < quantity, "there were enough in zone {zone}");
                }
                return Ok(());
            };
            let mut distinct = offer.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), quantity);
            prop_assert!(offer.iter().all(|seat| states.is_free(*seat) && !kept(&plan, &states, *seat)));
            let of_zone = zone.unwrap_or(plan.zone_index_of(offer[0]));
            prop_assert!(offer.iter().all(|seat| plan.zone_index_of(*seat) == of_zone));
            if !groups.is_empty() {
                let own = groups.iter().find(|it| it.0 == offer);
                prop_assert!(own.is_some(), "not together, though it could be");
                prop_assert!(own.is_some_and(|it| it.1) || groups.iter().all(|it| !it.1), "somebody is left alone needlessly");
            }
        }

        #[test]
        fn wheelchairs_places_go_to_who_asks(
            (plan, states) in house(), quantity in 1..4_usize, accessible in 1..3_usize, spread in any::<u64>()
        ) {
            prop_assume!(accessible <= quantity);
            let is_accessible = |seat: &SeatIx| plan.has_attribute(*seat, Attribute::Accessible);
            if let Some(offer) = best_available(&plan, &states, &ask(quantity, None, accessible, spread)) {
                prop_assert_eq!(offer.len(), quantity);
                prop_assert!(offer.iter().all(|seat| states.is_free(*seat)));
                prop_assert!(offer.iter().filter(|seat| is_accessible(seat)).count() >= accessible);
            }
        }

        #[test]
        fn alternatives_are_as_good_as_the_wish((plan, states) in house(), wished in any::<prop::sample::Index>(), quantity in 1..5_usize, spread in any::<u64>()) {
            let together = groups(&plan, &SeatStates::free(plan.seat_count()), quantity, None);
            prop_assume!(!together.is_empty());
            let wish = &together[wished.index(together.len())].0;
            let offers = alternatives(&plan, &states, wish, spread);
            let possible = groups(&plan, &states, quantity, Some(plan.zone_index_of(wish[0])));
            prop_assert_eq!(offers.is_empty(), possible.is_empty());
            prop_assert!(offers.len() <= 3);
            let mut all = offers.concat();
            for offer in &offers {
                prop_assert!(possible.iter().any(|it| it.0 == *offer));
            }
            all.sort_unstable();
            prop_assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "offers share no seat");
        }
    }

    fn fresh(kind: VenueKind, seats: u32) -> (Plan, SeatStates) {
        let plan = Plan::parse(&generate(kind, seats)).unwrap();
        let states = SeatStates::free(plan.seat_count());
        (plan, states)
    }

    #[test]
    fn the_first_gets_the_middle_of_the_front() {
        let (plan, states) = fresh(VenueKind::Theatre, 500);
        let offer = best_available(&plan, &states, &ask(2, None, 0, 0)).unwrap();
        assert!(
            offer
                .iter()
                .all(|seat| plan.label(*seat).row == "A" && plan.zone_of(*seat) == "VIP"),
            "{offer:?}"
        );
        let in_row_a = plan
            .seats()
            .filter(|seat| plan.label(*seat).row == "A" && plan.section_of(*seat) == "Stalls")
            .count();
        let number: usize = plan.label(offer[0]).number.parse().unwrap();
        assert!(number.abs_diff(in_row_a / 2) <= 2, "seat {number} of {in_row_a}");
    }

    #[test]
    fn a_herd_is_spread_and_the_beaten_wider() {
        let (plan, states) = fresh(VenueKind::Stadium, 15_000);
        let distinct = |beaten| {
            let mut offers: Vec<_> = (0..200)
                .map(|spread| {
                    best_available(
                        &plan,
                        &states,
                        &Ask {
                            beaten,
                            ..ask(2, None, 0, spread)
                        },
                    )
                })
                .collect();
            offers.sort();
            offers.dedup();
            offers.len()
        };
        assert!(distinct(0) >= 2, "{}", distinct(0));
        assert!(distinct(2) > distinct(0));
        let wish = best_available(&plan, &states, &ask(4, None, 0, 0)).unwrap();
        let mut first: Vec<_> = (0..50)
            .map(|spread| alternatives(&plan, &states, &wish, spread))
            .collect();
        assert!(first.iter().all(|it| it.len() == 3));
        first.sort();
        first.dedup();
        assert!(first.len() >= 4, "losers are shown different ways out");
    }

    #[test]
    fn a_group_that_finds_no_place_together_is_parted_as_little_as_can_be() {
        let (plan, mut states) = fresh(VenueKind::Theatre, 500);
        for seat in plan.seats() {
            states.set(seat, SeatState::Booked);
        }
        let parts = [
            &["S-A-1", "S-A-2"][..],
            &["S-F-3", "S-F-4", "S-F-5"],
            &["S-G-4", "S-G-5"],
            &["S-K-9"],
        ];
        for guid in parts.concat() {
            states.set(plan.index_of(guid).unwrap(), SeatState::Free);
        }
        let offer = |quantity| {
            let zone = plan.zone_index(plan.zone_of(plan.index_of("S-F-3").unwrap()));
            let mut guids: Vec<_> = best_available(&plan, &states, &ask(quantity, zone, 0, 0))?
                .into_iter()
                .map(|it| plan.guid(it))
                .collect();
            guids.sort_unstable();
            Some(guids)
        };
        assert_eq!(offer(3).unwrap(), ["S-F-3", "S-F-4", "S-F-5"]);
        assert_eq!(offer(5).unwrap(), ["S-F-3", "S-F-4", "S-F-5", "S-G-4", "S-G-5"]);
        assert_eq!(
            offer(4)
                .unwrap()
                .iter()
                .filter(|it| it.starts_with("S-G"))
                .count(),
            2,
            "two and two, nobody alone"
        );
        assert_eq!(offer(7), None);
    }
}

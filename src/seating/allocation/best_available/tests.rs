//! Properties of offers and alternatives on small random venues, and a few exact ones.

use proptest::prelude::*;

use crate::seating::{
    allocation::{
        best_available::{alternatives, best_available},
        query::BestAvailableQuery,
    },
    plan::{Attribute, Plan, VenueKind, generate},
    seat::{SeatIx, SeatState, SeatStates},
};

/// A small venue of which some seats are sold.
fn venue() -> impl Strategy<Value = (Plan, SeatStates)> {
    let kind = prop_oneof![Just(VenueKind::Theatre), Just(VenueKind::Arena)];
    (kind, 30..160_u32, 0.0..1.0_f64).prop_flat_map(|(kind, seats, sold)| {
        prop::collection::vec(prop::bool::weighted(sold), seats as usize).prop_map(move |sold| {
            let plan = Plan::parse(&generate(kind, seats)).unwrap();
            let mut states = SeatStates::free(plan.seat_count());
            for seat in plan.seats().filter(|seat| sold[seat.index()]) {
                states.set(seat, SeatState::Booked);
            }
            (plan, states)
        })
    })
}

fn query(quantity: usize, zone: Option<u32>, accessible: usize, spread_seed: u64) -> BestAvailableQuery {
    BestAvailableQuery {
        quantity,
        accessible,
        zone,
        section: None,
        spread_seed,
        lost_races: 0,
    }
}

/// Whether the seat is reserved, by the numbers on the labels: the generator puts companion seats next to
/// their space, in small rows also next to those of another space.
fn is_reserved(plan: &Plan, states: &SeatStates, seat: SeatIx) -> bool {
    let number = |seat: SeatIx| plan.label(seat).number.parse::<u32>().unwrap();
    let numbered = |wanted: u32| {
        plan.seats().find(|other| {
            let is_in_row = plan.section_of(seat) == plan.section_of(*other)
                && plan.label(seat).row == plan.label(*other).row;
            is_in_row && number(*other) == wanted
        })
    };
    let is_companion = |seat: SeatIx| plan.has_attribute(seat, Attribute::Companion);
    // Behind companion seats alone stands the space that they belong to.
    let belongs_to_sellable_space = |next: fn(u32) -> u32| {
        let mut at = number(seat);
        loop {
            at = next(at);
            let Some(other) = numbered(at) else { return false };
            if !is_companion(other) {
                return plan.has_attribute(other, Attribute::Accessible)
                    && states.get(other) != SeatState::Booked;
            }
        }
    };
    plan.has_attribute(seat, Attribute::Accessible)
        || is_companion(seat)
            && (belongs_to_sellable_space(|at| at + 1) || belongs_to_sellable_space(|at| at - 1))
}

/// All groups of neighbors that may be offered, found the slow way, and whether each leaves no single seat.
fn groups(plan: &Plan, states: &SeatStates, quantity: usize, zone: Option<u32>) -> Vec<(Vec<SeatIx>, bool)> {
    let may_offer = |seat: SeatIx| {
        states.is_free(seat)
            && !is_reserved(plan, states, seat)
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
                .all(|seat| may_offer(*seat) && plan.zone_index_of(*seat) == plan.zone_index_of(group[0]))
            {
                let orphans_left = free(start.checked_sub(1)) && !free(start.checked_sub(2));
                let orphans_right = free(Some(end)) && !free(Some(end + 1));
                all.push((group.to_vec(), !orphans_left && !orphans_right));
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn offers_are_free_in_one_zone_and_together_where_possible(
        (plan, states) in venue(),
        quantity in 1..6_usize,
        zone in prop::option::of(0..4_u32),
        seed in any::<u64>(),
    ) {
        let zone = zone.filter(|zone| (*zone as usize) < plan.zones().len());
        let offer = best_available(&plan, &states, &query(quantity, zone, 0, seed));
        let groups = groups(&plan, &states, quantity, zone);
        let Some(offer) = offer else {
            let zones = zone.map_or(0..plan.zones().len(), |zone| zone as usize..zone as usize + 1);
            for zone in zones {
                let left = plan.seats().filter(|seat| {
                    states.is_free(*seat)
                        && !is_reserved(&plan, &states, *seat)
                        && plan.zone_index_of(*seat) as usize == zone
                });
                prop_assert!(left.count() < quantity, "there were enough in zone {zone}");
            }
            return Ok(());
        };
        let mut distinct = offer.clone();
        distinct.sort_unstable();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), quantity);
        prop_assert!(offer.iter().all(|seat| states.is_free(*seat) && !is_reserved(&plan, &states, *seat)));
        let of_zone = zone.unwrap_or(plan.zone_index_of(offer[0]));
        prop_assert!(offer.iter().all(|seat| plan.zone_index_of(*seat) == of_zone));
        if !groups.is_empty() {
            let own = groups.iter().find(|group| group.0 == offer);
            prop_assert!(own.is_some(), "not together, though possible");
            let leaves_none = own.is_some_and(|group| group.1);
                prop_assert!(
                    leaves_none || groups.iter().all(|group| !group.1),
                    "needlessly leaves a single seat"
                );
        }
    }

    #[test]
    fn wheelchair_spaces_go_to_those_who_request_them(
        (plan, states) in venue(), quantity in 1..4_usize, accessible in 1..3_usize, seed in any::<u64>()
    ) {
        prop_assume!(accessible <= quantity);
        let is_accessible = |seat: &SeatIx| plan.has_attribute(*seat, Attribute::Accessible);
        if let Some(offer) = best_available(&plan, &states, &query(quantity, None, accessible, seed)) {
            prop_assert_eq!(offer.len(), quantity);
            prop_assert!(offer.iter().all(|seat| states.is_free(*seat)));
            prop_assert!(offer.iter().filter(|seat| is_accessible(seat)).count() >= accessible);
        }
    }

    #[test]
    fn alternatives_are_as_good_as_the_requested_seats(
        (plan, states) in venue(),
        which in any::<prop::sample::Index>(),
        quantity in 1..5_usize,
        seed in any::<u64>(),
    ) {
        let together = groups(&plan, &SeatStates::free(plan.seat_count()), quantity, None);
        prop_assume!(!together.is_empty());
        let requested = &together[which.index(together.len())].0;
        let offers = alternatives(&plan, &states, requested, seed);
        let possible = groups(&plan, &states, quantity, Some(plan.zone_index_of(requested[0])));
        prop_assert_eq!(offers.is_empty(), possible.is_empty());
        prop_assert!(offers.len() <= 3);
        let mut all = offers.concat();
        for offer in &offers {
            prop_assert!(possible.iter().any(|group| group.0 == *offer));
        }
        all.sort_unstable();
        prop_assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "offers share no seat");
    }
}

fn empty_venue(kind: VenueKind, seats: u32) -> (Plan, SeatStates) {
    let plan = Plan::parse(&generate(kind, seats)).unwrap();
    let states = SeatStates::free(plan.seat_count());
    (plan, states)
}

#[test]
fn first_offer_is_the_middle_of_the_front_row() {
    let (plan, states) = empty_venue(VenueKind::Theatre, 500);
    let offer = best_available(&plan, &states, &query(2, None, 0, 0)).unwrap();
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
fn customers_are_spread_and_wider_after_lost_races() {
    let (plan, states) = empty_venue(VenueKind::Stadium, 15_000);
    let distinct = |lost_races| {
        let mut offers: Vec<_> = (0..200)
            .map(|seed| {
                best_available(
                    &plan,
                    &states,
                    &BestAvailableQuery {
                        lost_races,
                        ..query(2, None, 0, seed)
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
    let requested = best_available(&plan, &states, &query(4, None, 0, 0)).unwrap();
    let mut first: Vec<_> = (0..50)
        .map(|seed| alternatives(&plan, &states, &requested, seed))
        .collect();
    assert!(first.iter().all(|offers| offers.len() == 3));
    first.sort();
    first.dedup();
    assert!(first.len() >= 4, "customers get different alternatives");
}

#[test]
fn group_is_split_as_little_as_possible() {
    let (plan, mut states) = empty_venue(VenueKind::Theatre, 500);
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
        let mut guids: Vec<_> = best_available(&plan, &states, &query(quantity, zone, 0, 0))?
            .into_iter()
            .map(|seat| plan.guid(seat))
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
            .filter(|guid| guid.starts_with("S-G"))
            .count(),
        2,
        "two and two, no single seat"
    );
    assert_eq!(offer(7), None);
}

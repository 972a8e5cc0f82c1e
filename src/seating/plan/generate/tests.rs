//! Generated venues: number of seats, sections, and no overlaps.

use crate::seating::plan::{Attribute, Plan, VenueKind, generate};

#[test]
fn venue_has_exactly_the_requested_seats() {
    for kind in [VenueKind::Theatre, VenueKind::Arena, VenueKind::Stadium] {
        for seats in [10, 11, 59, 60, 137, 500, 1_999, 15_000] {
            let plan = Plan::parse(&generate(kind, seats))
                .unwrap_or_else(|errors| panic!("{kind:?} {seats}: {errors}"));
            assert_eq!(plan.seat_count(), seats as usize, "{kind:?}");
        }
    }
    assert_eq!(
        Plan::parse(&generate(VenueKind::Stadium, 100_000))
            .unwrap()
            .seat_count(),
        100_000
    );
}

#[test]
fn large_stadium_has_a_hundred_sections_and_all_zones() {
    let plan = Plan::parse(&generate(VenueKind::Stadium, 66_000)).unwrap();
    assert!(
        (90..=110).contains(&plan.sections().len()),
        "{}",
        plan.sections().len()
    );
    assert_eq!(plan.zones(), ["VIP", "R", "S", "A"]);
    for attribute in [
        Attribute::Accessible,
        Attribute::Companion,
        Attribute::RestrictedView,
    ] {
        assert!(
            plan.seats().any(|seat| plan.has_attribute(seat, attribute)),
            "{attribute:?}"
        );
    }
    assert_eq!(plan.label(plan.index_of("101-A-12").unwrap()).row, "A");
    let theatre = Plan::parse(&generate(VenueKind::Theatre, 500)).unwrap();
    assert!(
        theatre
            .seats()
            .any(|seat| theatre.has_attribute(seat, Attribute::Accessible))
    );
}

#[test]
fn bundled_theatre_is_the_generated_one() {
    assert_eq!(
        include_str!("../../../../config/venues/theatre-500.json").trim_end(),
        generate(VenueKind::Theatre, 500)
    );
}

#[test]
fn no_two_seats_overlap() {
    for kind in [VenueKind::Theatre, VenueKind::Arena, VenueKind::Stadium] {
        let plan = Plan::parse(&generate(kind, 3_000)).unwrap();
        let mut positions: Vec<(f32, f32)> = plan.seats().map(|seat| plan.position_of(seat)).collect();
        positions.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (i, a) in positions.iter().enumerate() {
            for b in positions[i + 1..].iter().take_while(|b| b.0 - a.0 < 16.0) {
                assert!((a.0 - b.0).hypot(a.1 - b.1) > 15.0, "{kind:?}: {a:?} {b:?}");
            }
        }
    }
}

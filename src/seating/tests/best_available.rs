//! Best-available requests until nothing is left.

use std::sync::Arc;

use crate::seating::{
    Attribute, HoldOutcome, HoldSpec,
    tests::{best, box_office, customer, visit},
};

#[tokio::test(start_paused = true)]
async fn best_available_sells_out_to_the_last_seats() {
    let office = box_office(101).await;
    let mut sold = 0;
    for n in 0.. {
        match office
            .performance
            .hold(&customer(n), visit(), best(3), None)
            .await
            .unwrap()
        {
            HoldOutcome::Held(hold) => {
                assert_eq!(hold.seats.len(), 3);
                sold += 3;
            }
            HoldOutcome::NoMatchingSeats => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(office.free(), 101 - sold);
    let stock = office.performance.stock();
    // Two seats may be left over in each zone, and the wheelchair spaces with their companion seats.
    let plan = Arc::clone(office.performance.plan());
    let with = |attribute| {
        plan.seats()
            .filter(|seat| plan.has_attribute(*seat, attribute))
            .collect::<Vec<_>>()
    };
    let (spaces, companions) = (with(Attribute::Accessible), with(Attribute::Companion));
    assert!(
        office.free() as usize <= 2 * stock.len() + spaces.len() + companions.len(),
        "{stock:?}"
    );
    assert_eq!(
        office
            .performance
            .hold(&customer(9_999), visit(), best(5), None)
            .await
            .unwrap(),
        HoldOutcome::LimitReached { limit: 4 },
        "a quantity above the limit is refused at once"
    );
}

#[tokio::test(start_paused = true)]
async fn companion_seat_is_offered_once_its_space_is_sold() {
    let office = box_office(101).await;
    let plan = Arc::clone(office.performance.plan());
    let with = |attribute| {
        plan.seats()
            .filter(|seat| plan.has_attribute(*seat, attribute))
            .collect::<Vec<_>>()
    };
    let (spaces, companions) = (with(Attribute::Accessible), with(Attribute::Companion));
    assert!(!companions.is_empty());
    let mut customers = 0..;
    let mut singles = async || {
        let mut taken = Vec::new();
        for n in customers.by_ref() {
            match office
                .performance
                .hold(&customer(n), visit(), best(1), None)
                .await
                .unwrap()
            {
                HoldOutcome::Held(hold) => taken.extend(hold.seats),
                HoldOutcome::NoMatchingSeats => break,
                other => panic!("{other:?}"),
            }
        }
        taken
    };
    let first = singles().await;
    assert!(
        first
            .iter()
            .all(|seat| !spaces.contains(seat) && !companions.contains(seat))
    );
    let mut offered = Vec::new();
    for seat in spaces {
        let hold = office.held(20_000 + seat.0, HoldSpec::Seats(vec![seat])).await;
        assert!(singles().await.is_empty(), "its space may become free again");
        office
            .performance
            .begin_checkout(hold.id, &customer(20_000 + seat.0), hold.expires_at)
            .await
            .unwrap();
        office
            .performance
            .book(hold.id, &[seat], &customer(20_000 + seat.0))
            .await
            .unwrap();
        offered.extend(singles().await);
    }
    offered.sort_unstable();
    assert_eq!(offered, companions);
    assert_eq!(office.free(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_choice_by_hand_leaves_wheelchair_places_to_those_who_need_them() {
    let office = box_office(101).await;
    let (performance, plan) = (&office.performance, office.performance.plan());
    let with = |attribute| {
        plan.seats()
            .filter(move |seat| plan.has_attribute(*seat, attribute))
    };
    let spaces: Vec<_> = with(Attribute::Accessible).collect();
    let companions: Vec<_> = with(Attribute::Companion).collect();
    let ordinary: Vec<_> = plan
        .seats()
        .filter(|seat| !spaces.contains(seat) && !companions.contains(seat))
        .collect();
    assert_eq!(performance.kept_for_wheelchairs(&ordinary, 0), []);
    assert_eq!(performance.kept_for_wheelchairs(&spaces, 0), spaces);
    assert_eq!(performance.kept_for_wheelchairs(&companions, 0), companions);
    // One customer with a wheelchair: one space, and any company.
    let all = [&spaces[..], &companions].concat();
    assert_eq!(performance.kept_for_wheelchairs(&all, 1), spaces[1..]);
    for seat in spaces {
        let hold = office.held(20_000 + seat.0, HoldSpec::Seats(vec![seat])).await;
        performance
            .begin_checkout(hold.id, &hold.subject, hold.expires_at)
            .await
            .unwrap();
        performance.book(hold.id, &[seat], &hold.subject).await.unwrap();
    }
    assert_eq!(
        performance.kept_for_wheelchairs(&companions, 0),
        [],
        "once the spaces are sold, anyone may have the seats beside"
    );
}

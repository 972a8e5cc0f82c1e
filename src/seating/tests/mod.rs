//! Seating as its callers see it, on the memory store.

mod availability;
mod best_available;

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use crate::{
    kernel::{Clock, Currency, HoldId, ManualClock, Money, SeededEntropy, Subject, Timestamp, VisitId},
    platform::shutdown::Lifecycle,
    seating::{
        BeginOutcome, ChangeOutcome, Config, Deps, Hold, HoldOutcome, HoldSpec, HoldState, OpenError,
        Performance, Plan, ReleaseOutcome, RestoredClaim, SeatIx, Seating, SeatingError, StoreBackend,
        VenueKind, generate,
    },
};

/// One opened performance of a generated theatre, and its clock.
pub(super) struct BoxOffice {
    pub(super) seating: Arc<Seating>,
    pub(super) performance: Arc<Performance>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) lifecycle: Lifecycle,
}

fn config(seats_per_customer_max: u8) -> Config {
    let prices = [("VIP", 220_000), ("R", 176_000), ("S", 132_000), ("A", 99_000)];
    Config {
        sale: "spring-tour".parse().unwrap(),
        performance: "seoul-1".parse().unwrap(),
        prices: prices
            .into_iter()
            .map(|(zone, amount)| (zone.to_owned(), Money::new(amount, Currency::KRW)))
            .collect(),
        hold_ttl: Duration::from_mins(7),
        extensions_max: 1,
        seats_per_customer_max,
        seat_streams_max: 2,
        doors_open_at: Timestamp::from_millis(i64::MAX),
    }
}

pub(super) async fn box_office(seats: u32) -> BoxOffice {
    let (clock, lifecycle) = (
        Arc::new(ManualClock::at(Timestamp::from_millis(1_795_464_000_000))),
        Lifecycle::new(),
    );
    let plan = Arc::new(Plan::parse(&generate(VenueKind::Theatre, seats)).unwrap());
    let deps = Deps {
        store: StoreBackend::Memory,
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        entropy: Arc::new(SeededEntropy::new(1)),
        lifecycle: lifecycle.clone(),
    };
    let seating = Seating::open(vec![(config(4), plan)], deps).await.unwrap();
    let performance = seating
        .performance(&config(4).sale, &config(4).performance)
        .unwrap();
    BoxOffice {
        seating,
        performance,
        clock,
        lifecycle,
    }
}

pub(super) fn customer(n: u32) -> Subject {
    Subject::customer(&n.to_string()).unwrap()
}

pub(super) fn visit() -> VisitId {
    VisitId::from_uuid(Uuid::from_u128(7))
}

pub(super) fn best(quantity: u8) -> HoldSpec {
    HoldSpec::BestAvailable {
        quantity,
        zone: None,
        section: None,
        accessible: 0,
    }
}

impl BoxOffice {
    pub(super) fn seats(&self, guids: &[&str]) -> Vec<SeatIx> {
        guids
            .iter()
            .map(|guid| self.performance.plan().index_of(guid).unwrap())
            .collect()
    }

    /// Holds for customer number `n`.
    pub(super) async fn held(&self, n: u32, spec: HoldSpec) -> Hold {
        match self
            .performance
            .hold(&customer(n), visit(), spec, None)
            .await
            .unwrap()
        {
            HoldOutcome::Held(hold) => hold,
            other => panic!("{other:?}"),
        }
    }

    /// Number of free seats, also those that are reserved for wheelchair users.
    pub(super) fn free(&self) -> u32 {
        let stock = self.performance.stock();
        stock
            .iter()
            .map(|zone| zone.free + zone.free_for_wheelchairs)
            .sum()
    }
}

#[tokio::test(start_paused = true)]
async fn customer_holds_pays_and_owns_seats() {
    let office = box_office(200).await;
    let seats = office.seats(&["S-A-3", "S-A-4"]);
    let hold = office.held(1, HoldSpec::Seats(seats.clone())).await;
    assert_eq!(
        (hold.total, hold.state),
        (Money::new(440_000, Currency::KRW), HoldState::Held)
    );
    assert_eq!(hold.expires_at, office.clock.now().plus(Duration::from_mins(7)));
    let (performance, found) = office
        .seating
        .find_hold(hold.id, &customer(1))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (performance.config().performance.as_str(), &found),
        ("seoul-1", &hold)
    );
    assert!(
        office
            .seating
            .find_hold(hold.id, &customer(2))
            .await
            .unwrap()
            .is_none()
    );
    let until = office.clock.now().plus(Duration::from_mins(10));
    let begun = office
        .performance
        .begin_checkout(hold.id, &customer(1), until)
        .await
        .unwrap();
    assert!(matches!(begun, BeginOutcome::Begun(hold)
            if hold.state == HoldState::Paying && hold.expires_at == until));
    office
        .performance
        .book(hold.id, &seats, &customer(1))
        .await
        .unwrap();
    let vip = &office.performance.stock()[0];
    assert_eq!((vip.zone.as_str(), vip.held, vip.booked), ("VIP", 0, 2));
    let refused = office
        .performance
        .book(HoldId::from_uuid(Uuid::from_u128(1)), &seats, &customer(2))
        .await;
    assert_eq!(refused, Err(SeatingError::Conflict(seats.clone())));
    office.performance.free(hold.id, &seats).await.unwrap();
    assert_eq!(office.free(), 200);
}

#[tokio::test(start_paused = true)]
async fn taken_seats_come_with_equal_alternatives() {
    let office = box_office(500).await;
    let seats = office.seats(&["S-B-5", "S-B-6"]);
    office.held(1, HoldSpec::Seats(vec![seats[1]])).await;
    let outcome = office
        .performance
        .hold(&customer(2), visit(), HoldSpec::Seats(seats.clone()), None)
        .await
        .unwrap();
    let HoldOutcome::Taken { taken, alternatives } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((taken, alternatives.len()), (vec![seats[1]], 3));
    let hold = office.held(2, HoldSpec::Seats(alternatives[0].clone())).await;
    let swapped = office
        .performance
        .swap(hold.id, &customer(2), seats.clone())
        .await
        .unwrap();
    assert!(matches!(swapped, ChangeOutcome::Taken { .. }));
    assert_eq!(
        office
            .seating
            .find_hold(hold.id, &customer(2))
            .await
            .unwrap()
            .unwrap()
            .1
            .seats,
        alternatives[0]
    );
    let swapped = office
        .performance
        .swap(hold.id, &customer(2), alternatives[1].clone())
        .await
        .unwrap();
    assert!(matches!(swapped, ChangeOutcome::Changed(changed)
            if changed.seats == alternatives[1] && changed.id == hold.id));
    assert_eq!(
        office.performance.release(hold.id, &customer(2)).await.unwrap(),
        ReleaseOutcome::Released
    );
    assert_eq!(
        office.performance.release(hold.id, &customer(2)).await.unwrap(),
        ReleaseOutcome::Gone
    );
}

#[tokio::test(start_paused = true)]
async fn request_with_a_key_sent_twice_is_done_once() {
    let office = box_office(100).await;
    let holder = customer(1);
    let hold = |spec| office.performance.hold(&holder, visit(), spec, Some("key-1"));
    let (first, second) = (hold(best(2)).await.unwrap(), hold(best(2)).await.unwrap());
    assert_eq!(first, second);
    assert_eq!(office.free(), 98);
    assert_eq!(hold(best(1)).await, Err(SeatingError::IdempotencyKeyReused));
    assert_eq!(
        hold(HoldSpec::Seats(office.seats(&["S-A-1"]))).await,
        Err(SeatingError::IdempotencyKeyReused)
    );
    let other_customer = office
        .performance
        .hold(&customer(2), visit(), best(1), Some("key-1"))
        .await
        .unwrap();
    assert!(
        matches!(other_customer, HoldOutcome::Held(_)),
        "each customer has keys of its own"
    );
}

#[tokio::test(start_paused = true)]
async fn invalid_requests_are_errors() {
    let office = box_office(100).await;
    let seat = office.seats(&["S-A-1"])[0];
    let error_of = async |spec| {
        office
            .performance
            .hold(&customer(1), visit(), spec, None)
            .await
            .unwrap_err()
    };
    assert_eq!(error_of(HoldSpec::Seats(vec![])).await, SeatingError::NoSeats);
    assert_eq!(
        error_of(HoldSpec::Seats(vec![seat, seat])).await,
        SeatingError::DuplicateSeat(seat)
    );
    assert_eq!(
        error_of(HoldSpec::Seats(vec![SeatIx(100)])).await,
        SeatingError::UnknownSeat(SeatIx(100))
    );
    assert_eq!(error_of(best(0)).await, SeatingError::NoSeats);
    let best = |zone: Option<&str>, section: Option<&str>, accessible| HoldSpec::BestAvailable {
        quantity: 1,
        zone: zone.map(Into::into),
        section: section.map(Into::into),
        accessible,
    };
    assert_eq!(
        error_of(best(Some("Gold"), None, 0)).await,
        SeatingError::UnknownZone("Gold".into())
    );
    assert_eq!(
        error_of(best(None, Some("Roof"), 0)).await,
        SeatingError::UnknownSection("Roof".into())
    );
    assert_eq!(
        error_of(best(None, None, 2)).await,
        SeatingError::TooManyAccessible
    );
    assert_eq!(office.free(), 100);
}

#[tokio::test]
async fn invalid_prices_and_duplicates_are_refused_at_start() {
    let plan = Arc::new(Plan::parse(&generate(VenueKind::Theatre, 100)).unwrap());
    let deps = || Deps {
        store: StoreBackend::Memory,
        clock: Arc::new(ManualClock::at(Timestamp::default())),
        entropy: Arc::new(SeededEntropy::new(1)),
        lifecycle: Lifecycle::new(),
    };
    let open = async |configs: Vec<Config>| {
        Seating::open(
            configs
                .into_iter()
                .map(|config| (config, Arc::clone(&plan)))
                .collect(),
            deps(),
        )
        .await
        .err()
    };
    let mut incomplete = config(4);
    incomplete.prices.remove("S");
    assert!(
        matches!(open(vec![incomplete]).await, Some(OpenError::MissingPrice { zone, .. }) if zone == "S")
    );
    let mut mixed = config(4);
    mixed
        .prices
        .insert("S".into(), Money::new(1, "EUR".parse().unwrap()));
    assert!(matches!(
        open(vec![mixed]).await,
        Some(OpenError::MixedCurrencies { .. })
    ));
    assert!(matches!(
        open(vec![config(4), config(4)]).await,
        Some(OpenError::DuplicatePerformance { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn claims_of_the_ledger_are_restored() {
    let office = box_office(100).await;
    let claim = |n: u32, guid: &str, booked| RestoredClaim {
        hold: HoldId::from_uuid(Uuid::from_u128(u128::from(n))),
        subject: customer(n),
        visit: visit(),
        seats: office.seats(&[guid]),
        booked,
        until: office.clock.now(),
    };
    office
        .performance
        .restore(vec![claim(1, "S-A-1", true), claim(2, "S-A-2", false)])
        .await
        .unwrap();
    let (_, hold) = office
        .seating
        .find_hold(HoldId::from_uuid(Uuid::from_u128(2)), &customer(2))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(hold.state, HoldState::Paying);
    let refused = office.performance.restore(vec![claim(3, "S-A-1", true)]).await;
    assert_eq!(refused, Err(SeatingError::Conflict(office.seats(&["S-A-1"]))));
    office
        .performance
        .set_blocked(&office.seats(&["S-A-3"]), true)
        .await
        .unwrap();
    let stock: Vec<u32> = office.performance.stock().iter().fold(vec![0; 3], |sum, zone| {
        vec![sum[0] + zone.held, sum[1] + zone.booked, sum[2] + zone.blocked]
    });
    assert_eq!(stock, [1, 1, 1]);
}

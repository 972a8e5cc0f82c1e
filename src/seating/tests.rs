//! The box office as its callers see it.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::*;
use crate::kernel::{Currency, ManualClock, SeededEntropy, Timestamp, VisitId};

struct House {
    seating: Arc<Seating>,
    performance: Arc<Performance>,
    clock: Arc<ManualClock>,
    life: Lifecycle,
}

fn config(seats_per_fan: u8) -> Config {
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
        seats_per_customer_max: seats_per_fan,
        seat_streams_max: 2,
    }
}

async fn house(seats: u32) -> House {
    let (clock, life) = (
        Arc::new(ManualClock::at(Timestamp::from_millis(1_795_464_000_000))),
        Lifecycle::new(),
    );
    let plan = Arc::new(Plan::parse(&generate(VenueKind::Theatre, seats)).unwrap());
    let deps = Deps {
        engine: StoreBackend::Memory,
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        entropy: Arc::new(SeededEntropy::new(1)),
        life: life.clone(),
    };
    let seating = Seating::open(vec![(config(4), plan)], deps).await.unwrap();
    let performance = seating
        .performance(&config(4).sale, &config(4).performance)
        .unwrap();
    House {
        seating,
        performance,
        clock,
        life,
    }
}

fn fan(n: u32) -> Subject {
    Subject::customer(&n.to_string()).unwrap()
}

fn visit() -> VisitId {
    VisitId::from_uuid(Uuid::from_u128(7))
}

fn best(quantity: u8) -> HoldSpec {
    HoldSpec::BestAvailable {
        quantity,
        zone: None,
        section: None,
        accessible: 0,
    }
}

impl House {
    fn seats(&self, guids: &[&str]) -> Vec<SeatIx> {
        guids
            .iter()
            .map(|guid| self.performance.plan().index_of(guid).unwrap())
            .collect()
    }

    async fn held(&self, who: u32, wish: HoldSpec) -> Hold {
        match self
            .performance
            .hold(&fan(who), visit(), wish, None)
            .await
            .unwrap()
        {
            HoldOutcome::Held(hold) => hold,
            other => panic!("{other:?}"),
        }
    }

    fn free(&self) -> u32 {
        self.performance.stock().iter().map(|it| it.free).sum()
    }
}

#[tokio::test(start_paused = true)]
async fn a_fan_holds_pays_and_owns_her_seats() {
    let house = house(200).await;
    let seats = house.seats(&["S-A-3", "S-A-4"]);
    let hold = house.held(1, HoldSpec::Seats(seats.clone())).await;
    assert_eq!(
        (hold.total, hold.state),
        (Money::new(440_000, Currency::KRW), HoldState::Held)
    );
    assert_eq!(hold.expires_at, house.clock.now().plus(Duration::from_mins(7)));
    let (performance, found) = house.seating.find_hold(hold.id, &fan(1)).await.unwrap().unwrap();
    assert_eq!(
        (performance.config().performance.as_str(), &found),
        ("seoul-1", &hold)
    );
    assert!(house.seating.find_hold(hold.id, &fan(2)).await.unwrap().is_none());
    let until = house.clock.now().plus(Duration::from_mins(10));
    let begun = house
        .performance
        .begin_checkout(hold.id, &fan(1), until)
        .await
        .unwrap();
    assert!(
        matches!(begun, BeginOutcome::Begun(it) if it.state == HoldState::Paying && it.expires_at == until)
    );
    house.performance.book(hold.id, &seats, &fan(1)).await.unwrap();
    let vip = &house.performance.stock()[0];
    assert_eq!((vip.zone.as_str(), vip.held, vip.booked), ("VIP", 0, 2));
    let refused = house
        .performance
        .book(HoldId::from_uuid(Uuid::from_u128(1)), &seats, &fan(2))
        .await;
    assert_eq!(refused, Err(SeatingError::Conflict(seats.clone())));
    house.performance.free(hold.id, &seats).await.unwrap();
    assert_eq!(house.free(), 200);
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_second_is_shown_what_is_as_good() {
    let house = house(500).await;
    let seats = house.seats(&["S-B-5", "S-B-6"]);
    house.held(1, HoldSpec::Seats(vec![seats[1]])).await;
    let outcome = house
        .performance
        .hold(&fan(2), visit(), HoldSpec::Seats(seats.clone()), None)
        .await
        .unwrap();
    let HoldOutcome::Taken { taken, alternatives } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((taken, alternatives.len()), (vec![seats[1]], 3));
    let hold = house.held(2, HoldSpec::Seats(alternatives[0].clone())).await;
    let swapped = house
        .performance
        .swap(hold.id, &fan(2), seats.clone())
        .await
        .unwrap();
    assert!(matches!(swapped, ChangeOutcome::Taken { .. }));
    assert_eq!(
        house
            .seating
            .find_hold(hold.id, &fan(2))
            .await
            .unwrap()
            .unwrap()
            .1
            .seats,
        alternatives[0]
    );
    let swapped = house
        .performance
        .swap(hold.id, &fan(2), alternatives[1].clone())
        .await
        .unwrap();
    assert!(matches!(swapped, ChangeOutcome::Changed(it) if it.seats == alternatives[1] && it.id == hold.id));
    assert_eq!(
        house.performance.release(hold.id, &fan(2)).await.unwrap(),
        ReleaseOutcome::Released
    );
    assert_eq!(
        house.performance.release(hold.id, &fan(2)).await.unwrap(),
        ReleaseOutcome::Gone
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_sent_twice_is_done_once() {
    let house = house(100).await;
    let holder = fan(1);
    let ask = |wish| house.performance.hold(&holder, visit(), wish, Some("op-1"));
    let (first, second) = (ask(best(2)).await.unwrap(), ask(best(2)).await.unwrap());
    assert_eq!(first, second);
    assert_eq!(house.free(), 98);
    assert_eq!(ask(best(1)).await, Err(SeatingError::IdempotencyKeyReused));
    assert_eq!(
        ask(HoldSpec::Seats(house.seats(&["S-A-1"]))).await,
        Err(SeatingError::IdempotencyKeyReused)
    );
    let other_fan = house
        .performance
        .hold(&fan(2), visit(), best(1), Some("op-1"))
        .await
        .unwrap();
    assert!(
        matches!(other_fan, HoldOutcome::Held(_)),
        "an operation id is its fan's own"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wish_that_makes_no_sense_is_an_error() {
    let house = house(100).await;
    let seat = house.seats(&["S-A-1"])[0];
    let ask = async |wish| {
        house
            .performance
            .hold(&fan(1), visit(), wish, None)
            .await
            .unwrap_err()
    };
    assert_eq!(ask(HoldSpec::Seats(vec![])).await, SeatingError::NoSeats);
    assert_eq!(
        ask(HoldSpec::Seats(vec![seat, seat])).await,
        SeatingError::DuplicateSeat(seat)
    );
    assert_eq!(
        ask(HoldSpec::Seats(vec![SeatIx(100)])).await,
        SeatingError::UnknownSeat(SeatIx(100))
    );
    assert_eq!(ask(best(0)).await, SeatingError::NoSeats);
    let best = |zone: Option<&str>, section: Option<&str>, accessible| HoldSpec::BestAvailable {
        quantity: 1,
        zone: zone.map(Into::into),
        section: section.map(Into::into),
        accessible,
    };
    assert_eq!(
        ask(best(Some("Gold"), None, 0)).await,
        SeatingError::UnknownZone("Gold".into())
    );
    assert_eq!(
        ask(best(None, Some("Roof"), 0)).await,
        SeatingError::UnknownSection("Roof".into())
    );
    assert_eq!(ask(best(None, None, 2)).await, SeatingError::TooManyAccessible);
    assert_eq!(house.free(), 100);
}

#[tokio::test(start_paused = true)]
async fn best_available_sells_the_house_out_to_the_last_seat() {
    let house = house(101).await;
    let mut sold = 0;
    for who in 0.. {
        match house
            .performance
            .hold(&fan(who), visit(), best(3), None)
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
    assert_eq!(house.free(), 101 - sold);
    let stock = house.performance.stock();
    // Two may be left over in each zone, and the wheelchairs' places with their companions'.
    let plan = Arc::clone(house.performance.plan());
    let with = |attribute| {
        plan.seats()
            .filter(|seat| plan.has_attribute(*seat, attribute))
            .collect::<Vec<_>>()
    };
    let (wheelchairs, companions) = (with(Attribute::Accessible), with(Attribute::Companion));
    assert!(
        house.free() as usize <= 2 * stock.len() + wheelchairs.len() + companions.len(),
        "{stock:?}"
    );
    assert_eq!(
        house
            .performance
            .hold(&fan(9_999), visit(), best(5), None)
            .await
            .unwrap(),
        HoldOutcome::LimitReached { limit: 4 },
        "more than one may have is said at once"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_runs_out_is_swept_and_shown() {
    let house = house(100).await;
    let mut watch = house.performance.subscribe(None).unwrap();
    house.held(1, HoldSpec::Seats(house.seats(&["S-A-1"]))).await;
    let frame = watch.next().await.unwrap();
    let text = std::str::from_utf8(&frame).unwrap();
    assert!(
        text.ends_with("\"seats\":{\"S-A-1\":\"held\"}}\n\n")
            && text.contains("event: delta\ndata: {\"version\":"),
        "{text}"
    );
    house.clock.advance(Duration::from_mins(7));
    let frame = watch.next().await.unwrap();
    assert!(
        std::str::from_utf8(&frame)
            .unwrap()
            .contains("{\"S-A-1\":\"free\"}")
    );
    house.life.stop();
    assert_eq!(watch.next().await, None);
    assert!(house.life.wait_idle(Duration::from_secs(5)).await, "the loops end");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_and_the_frames_after_it_make_a_whole() {
    let house = house(300).await;
    house.held(1, HoldSpec::Seats(house.seats(&["S-A-1"]))).await;
    let snapshot = house.performance.snapshot_json(None).unwrap();
    let mut seats: serde_json::Value = serde_json::from_slice(&snapshot.json).unwrap();
    assert_eq!(
        (seats["version"].as_u64(), &seats["seats"]["S-A-1"]),
        (Some(snapshot.version), &"held".into())
    );
    assert_eq!(seats["seats"].as_object().unwrap().len(), 300);
    let unzipped =
        std::io::read_to_string(flate2::read::GzDecoder::new(&snapshot.gzip.unwrap()[..])).unwrap();
    assert_eq!(unzipped.as_bytes(), snapshot.json);
    house.held(2, HoldSpec::Seats(house.seats(&["S-B-1", "S-B-2"]))).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    house.held(3, best(2)).await;
    let mut watch = house.performance.subscribe(Some(snapshot.version)).unwrap();
    for _ in 0..2 {
        let frame = watch.next().await.unwrap();
        let text = std::str::from_utf8(&frame).unwrap();
        let data: serde_json::Value =
            serde_json::from_str(text.trim_end().split("data: ").nth(1).unwrap()).unwrap();
        for (guid, state) in data["seats"].as_object().unwrap() {
            seats["seats"][guid] = state.clone();
        }
    }
    let now = house.performance.snapshot_json(None).unwrap();
    assert_ne!(now.etag, snapshot.etag);
    let now: serde_json::Value = serde_json::from_slice(&now.json).unwrap();
    assert_eq!(now["seats"], seats["seats"]);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_every_change_and_is_made_once_for_each() {
    let house = house(100).await;
    let first = house.performance.snapshot_json(Some("Stalls")).unwrap();
    house.held(1, HoldSpec::Seats(house.seats(&["S-A-1"]))).await;
    let second = house.performance.snapshot_json(Some("Stalls")).unwrap();
    assert_eq!(
        house
            .performance
            .snapshot_json(Some("Stalls"))
            .unwrap()
            .json
            .as_ptr(),
        second.json.as_ptr(),
        "kept while nothing changes"
    );
    assert!(
        second.version > first.version
            && std::str::from_utf8(&second.json)
                .unwrap()
                .contains("\"S-A-1\":\"held\"")
    );
    assert!(
        !std::str::from_utf8(&second.json).unwrap().contains("\"B-"),
        "only the section"
    );
    assert!(house.performance.snapshot_json(Some("Roof")).is_none());
    let packed = house.performance.snapshot_packed();
    assert_eq!(&packed.json[..8], second.version.to_le_bytes());
    assert_eq!(
        (&packed.json[8..12], packed.json.len()),
        (&100_u32.to_le_bytes()[..], 12 + 25)
    );
    let seat = house.seats(&["S-A-1"])[0].index();
    assert_eq!(packed.json[12 + seat / 4] >> (2 * (seat % 4)) & 3, 1);
}

#[tokio::test(start_paused = true)]
async fn watchers_are_counted_and_the_late_are_told_to_start_anew() {
    let house = house(100).await;
    let version = house.performance.snapshot_packed().version;
    let mut old = house.performance.subscribe(Some(version - 1)).unwrap();
    let mut from_elsewhere = house.performance.subscribe(Some(version + 1_000_000)).unwrap();
    assert!(house.performance.subscribe(None).is_none(), "two at most");
    for watch in [&mut old, &mut from_elsewhere] {
        let frame = watch.next().await.unwrap();
        assert_eq!(
            std::str::from_utf8(&frame).unwrap(),
            format!("id: {version}\nevent: reset\ndata: {{\"version\":{version}}}\n\n")
        );
    }
    house.held(1, best(1)).await;
    assert!(old.next().await.unwrap().starts_with(b"id: "));
    drop(old);
    assert!(house.performance.subscribe(None).is_some());
}

#[tokio::test]
async fn a_house_without_prices_does_not_open() {
    let plan = Arc::new(Plan::parse(&generate(VenueKind::Theatre, 100)).unwrap());
    let deps = || Deps {
        engine: StoreBackend::Memory,
        clock: Arc::new(ManualClock::at(Timestamp::default())),
        entropy: Arc::new(SeededEntropy::new(1)),
        life: Lifecycle::new(),
    };
    let open = async |configs: Vec<Config>| {
        Seating::open(
            configs.into_iter().map(|it| (it, Arc::clone(&plan))).collect(),
            deps(),
        )
        .await
        .err()
    };
    let mut cheap = config(4);
    cheap.prices.remove("S");
    assert!(matches!(open(vec![cheap]).await, Some(OpenError::MissingPrice { zone, .. }) if zone == "S"));
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
async fn the_ledgers_claims_are_given_back_at_start() {
    let house = house(100).await;
    let claim = |n: u32, guid: &str, booked| RestoredClaim {
        hold: HoldId::from_uuid(Uuid::from_u128(u128::from(n))),
        subject: fan(n),
        visit: visit(),
        seats: house.seats(&[guid]),
        booked,
        until: house.clock.now(),
    };
    house
        .performance
        .restore(vec![claim(1, "S-A-1", true), claim(2, "S-A-2", false)])
        .await
        .unwrap();
    let (_, hold) = house
        .seating
        .find_hold(HoldId::from_uuid(Uuid::from_u128(2)), &fan(2))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(hold.state, HoldState::Paying);
    let refused = house.performance.restore(vec![claim(3, "S-A-1", true)]).await;
    assert_eq!(refused, Err(SeatingError::Conflict(house.seats(&["S-A-1"]))));
    house
        .performance
        .set_blocked(&house.seats(&["S-A-3"]), true)
        .await
        .unwrap();
    let stock: Vec<u32> = house.performance.stock().iter().fold(vec![0; 3], |sum, it| {
        vec![sum[0] + it.held, sum[1] + it.booked, sum[2] + it.blocked]
    });
    assert_eq!(stock, [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_companions_seat_is_anybodys_once_the_wheelchairs_place_is_gone() {
    let house = house(101).await;
    let plan = Arc::clone(house.performance.plan());
    let with = |attribute| {
        plan.seats()
            .filter(|seat| plan.has_attribute(*seat, attribute))
            .collect::<Vec<_>>()
    };
    let (wheelchairs, companions) = (with(Attribute::Accessible), with(Attribute::Companion));
    assert!(!companions.is_empty());
    let mut who = 0..;
    let mut singles = async || {
        let mut taken = Vec::new();
        for who in who.by_ref() {
            match house
                .performance
                .hold(&fan(who), visit(), best(1), None)
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
            .all(|seat| !wheelchairs.contains(seat) && !companions.contains(seat))
    );
    let mut then = Vec::new();
    for seat in wheelchairs {
        let hold = house.held(20_000 + seat.0, HoldSpec::Seats(vec![seat])).await;
        assert!(singles().await.is_empty(), "it may come back");
        house
            .performance
            .begin_checkout(hold.id, &fan(20_000 + seat.0), hold.expires_at)
            .await
            .unwrap();
        house
            .performance
            .book(hold.id, &[seat], &fan(20_000 + seat.0))
            .await
            .unwrap();
        then.extend(singles().await);
    }
    then.sort_unstable();
    assert_eq!(then, companions);
    assert_eq!(house.free(), 0);
}

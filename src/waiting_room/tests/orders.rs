//! Operators' orders: contradictions, what is no use, and who gave which.

use std::{sync::Arc, time::Duration};

use super::{
    TempDir,
    nodes::{self, Nodes},
    room::{config, new_house},
};
use crate::{
    kernel::{Clock, SystemClock},
    waiting_room::{
        CommandOutcome, Config, Durability, EnterOutcome, Inside, OperatorCommand, Phase, PlaceState, Reason,
        Refusal,
        phase::{phase_at, reason_of},
        journal::{Event, Journal, Record, SqliteJournal, Stored},
        state::Settings,
    },
};
use testkit::RedisServer;

fn board(room: &crate::waiting_room::WaitingRoom) -> (String, Option<String>) {
    let board: serde_json::Value = serde_json::from_slice(&room.board().json).unwrap();
    (
        board["phase"].as_str().unwrap().to_owned(),
        board["reason"].as_str().map(str::to_owned),
    )
}

fn said(phase: &str, reason: &str) -> (String, Option<String>) {
    (phase.to_owned(), Some(reason.to_owned()))
}

#[tokio::test]
async fn nothing_of_rate_or_capacity_is_a_pause_with_its_reason() {
    let dir = TempDir::new();
    let house = new_house(&dir, config()).await;
    house.passes(100);
    let (_, token) = house.joined(1).await;
    house.passes(100);
    house.tick().await;
    house.passes(5);
    assert_eq!(house.state(&token), PlaceState::Called);
    let nothing = [
        (
            OperatorCommand::Rate { per_minute: 0 },
            OperatorCommand::Rate { per_minute: 600 },
            "paused_by_rate",
        ),
        (
            OperatorCommand::Capacity { visitors: 0 },
            OperatorCommand::Capacity { visitors: 3 },
            "paused_by_capacity",
        ),
    ];
    for (stop, go, reason) in nothing {
        assert_eq!(house.room.order(stop, "kim").await.unwrap(), CommandOutcome::Done);
        house.tick().await;
        assert_eq!(
            (house.room.phase(), board(&house.room)),
            (Phase::Paused, said("paused", reason))
        );
        assert!(matches!(
            house.room.enter(&token, Inside::Served).await.unwrap(),
            EnterOutcome::FullForAMoment(_)
        ));
        house.passes(600);
        assert_eq!(
            house.state(&token),
            PlaceState::Called,
            "her time to come stands still"
        );
        // An order to go on lets nobody in by a rate of nothing.
        house.room.order(OperatorCommand::Resume, "kim").await.unwrap();
        assert_eq!(
            (house.room.phase(), house.room.door_state().paused),
            (Phase::Paused, false)
        );
        house.room.order(go, "kim").await.unwrap();
        house.tick().await;
        assert_eq!(house.room.phase(), Phase::OnSale);
    }
    assert_eq!(house.room.door_state().version, 6);
    house.passes(5);
    house.entered(&token).await;
    house.life.stop();
}

#[tokio::test]
async fn a_capacity_below_those_inside_lets_nobody_in_until_they_are_fewer() {
    let dir = TempDir::new();
    let house = new_house(&dir, config()).await;
    house.passes(100);
    let mut tokens = Vec::new();
    for n in 1..=5 {
        tokens.push(house.joined(n).await.1);
    }
    house.passes(100);
    house.tick().await;
    house.passes(5);
    let mut passes = Vec::new();
    for token in &tokens[..3] {
        passes.push(house.room.read_pass(&house.entered(token).await).unwrap());
    }
    house
        .room
        .order(OperatorCommand::Capacity { visitors: 2 }, "kim")
        .await
        .unwrap();
    for left in [2, 1] {
        house.tick().await;
        let board: serde_json::Value = serde_json::from_slice(&house.room.board().json).unwrap();
        assert_eq!(board["capacity"], 2, "the board does not wait for its second");
        assert_eq!(house.room.door_state().reason.is_some(), left == 2);
        assert_eq!(house.room.phase(), Phase::OnSale);
        assert!(!matches!(
            house.room.enter(&tokens[3], Inside::Served).await.unwrap(),
            EnterOutcome::Entered { .. }
        ));
        house.room.end_visit(&passes.pop().unwrap()).await.unwrap();
    }
    assert_eq!(house.room.figures().active, 1);
    house.tick().await;
    assert_eq!(house.room.door_state().reason, None);
    house.entered(&tokens[3]).await;
    house.tick().await;
    assert!(
        !matches!(
            house.room.enter(&tokens[4], Inside::Served).await.unwrap(),
            EnterOutcome::Entered { .. }
        ),
        "two fit"
    );
    house.life.stop();
}

#[tokio::test]
async fn a_closed_sale_stays_closed_and_every_order_has_its_giver() {
    let dir = TempDir::new();
    let house = new_house(&dir, config()).await;
    house.passes(250);
    let order = async |command: OperatorCommand, by: &str| house.room.order(command, by).await.unwrap();
    assert_eq!(order(OperatorCommand::Pause, "kim").await, CommandOutcome::Done);
    assert_eq!(order(OperatorCommand::Close, "lee").await, CommandOutcome::Done);
    assert_eq!(
        order(OperatorCommand::Close, "kim").await,
        CommandOutcome::Done,
        "closing twice is closing once"
    );
    for late in [
        OperatorCommand::Resume,
        OperatorCommand::Pause,
        OperatorCommand::Rate { per_minute: 1 },
        OperatorCommand::Capacity { visitors: 1 },
    ] {
        assert_eq!(order(late, "kim").await, CommandOutcome::Refused(Refusal::Closed));
    }
    let long = OperatorCommand::Notice {
        text: Some("x".repeat(161)),
    };
    assert_eq!(
        order(long, "kim").await,
        CommandOutcome::Refused(Refusal::NoticeTooLong)
    );
    let thanks = OperatorCommand::Notice {
        text: Some("감사합니다".into()),
    };
    assert_eq!(order(thanks, "lee").await, CommandOutcome::Done);
    house.tick().await;
    assert_eq!(house.room.phase(), Phase::Closed);
    assert!(
        std::str::from_utf8(&house.room.board().json)
            .unwrap()
            .contains("감사합니다")
    );
    let journal = SqliteJournal::open(&dir.path().join("queue.db"), config().sale)
        .await
        .unwrap();
    let given: Vec<(i64, String)> = journal
        .read(0, 100)
        .await
        .unwrap()
        .into_iter()
        .filter_map(by_whom)
        .collect();
    let at = house.clock.now().as_millis();
    let expected = ["kim", "lee", "kim", "lee"].map(|by| (at, by.to_owned()));
    assert_eq!(given, expected, "who and when; what was refused is not there");
    house.life.stop();
}

fn by_whom(stored: Stored) -> Option<(i64, String)> {
    match stored.record {
        Record::Event {
            at,
            event: Event::Operator { by, .. },
        } => Some((at.as_millis(), by?)),
        _ => None,
    }
}

/// A draw goes on under a pause; what was ordered meanwhile holds after it.
#[test]
fn a_pause_during_the_draw_holds_after_it() {
    let (drawing, paused) = (
        Config {
            draw: Some(super::draw::terms()),
            ..config()
        },
        OperatorCommand::Pause,
    );
    let now = drawing.opens_at;
    let mut settings = Settings::of(&drawing);
    assert_eq!(phase_at(&drawing, &settings, now), Phase::Drawing);
    settings.follow(
        &Event::Operator {
            command: paused,
            by: None,
        },
        now,
    );
    let phase = phase_at(&drawing, &settings, now);
    assert_eq!(
        (phase, reason_of(phase, &settings, 0)),
        (Phase::Drawing, Some(Reason::Paused))
    );
    settings.drawn = true;
    let phase = phase_at(&drawing, &settings, now);
    assert_eq!(
        (phase, reason_of(phase, &settings, 0)),
        (Phase::Paused, Some(Reason::Paused))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_at_one_node_is_obeyed_at_the_other_within_a_second_and_of_two_the_last_counts() {
    let server = RedisServer::start().await.unwrap();
    let config = nodes::config(Durability::Journaled);
    let nodes = Nodes::open(
        2,
        Config {
            capacity: 1_000,
            ..config
        },
        server.url(),
    )
    .await;
    let clock = SystemClock::new();
    let mut tokens = Vec::new();
    for n in 0..400 {
        tokens.push(nodes.join(n, n).await);
    }
    let (here, there) = (Arc::clone(&nodes.rooms[0]), Arc::clone(&nodes.rooms[1]));
    let mut outside = tokens.into_iter();
    let mut enters = async || {
        let token = outside.next().expect("there are enough");
        matches!(
            there.enter(&token, Inside::Served).await.unwrap(),
            EnterOutcome::Entered { .. }
        )
    };
    let all_called = async || {
        while there.figures().now_serving < 400 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all_called())
        .await
        .expect("they are called");
    assert!(enters().await);
    for (stop, go) in [
        (OperatorCommand::Pause, OperatorCommand::Resume),
        (
            OperatorCommand::Rate { per_minute: 0 },
            OperatorCommand::Rate { per_minute: 60_000 },
        ),
        (
            OperatorCommand::Capacity { visitors: 0 },
            OperatorCommand::Capacity { visitors: 1_000 },
        ),
    ] {
        here.order(stop.clone(), "kim").await.unwrap();
        let given = clock.monotonic();
        let mut last_in = None;
        while clock.monotonic().saturating_sub(given) < Duration::from_millis(1_300) {
            if enters().await {
                last_in = Some(clock.monotonic().saturating_sub(given));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(
            last_in.is_none_or(|after| after < Duration::from_secs(1)),
            "{stop:?}: somebody came in after {last_in:?}"
        );
        here.order(go, "kim").await.unwrap();
        let given = clock.monotonic();
        while !enters().await {
            assert!(
                clock.monotonic().saturating_sub(given) < Duration::from_secs(1),
                "nobody comes in again after {stop:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    here.order(
        OperatorCommand::Notice {
            text: Some("곧".into()),
        },
        "kim",
    )
    .await
    .unwrap();
    let given = clock.monotonic();
    while !std::str::from_utf8(&there.board().json).unwrap().contains("곧") {
        assert!(
            clock.monotonic().saturating_sub(given) < Duration::from_secs(1),
            "the notice does not appear"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // Two operators at once, at two nodes: both are heard, and all agree on who was last.
    let orders = |room: Arc<crate::waiting_room::WaitingRoom>, by: &'static str, first: u32| async move {
        for n in 0..10 {
            room.order(
                OperatorCommand::Rate {
                    per_minute: first + n,
                },
                by,
            )
            .await
            .unwrap();
        }
    };
    tokio::join!(
        orders(Arc::clone(&here), "kim", 1_000),
        orders(Arc::clone(&there), "lee", 2_000)
    );
    let given = clock.monotonic();
    while here.door_state() != there.door_state() {
        assert!(
            clock.monotonic().saturating_sub(given) < Duration::from_secs(1),
            "{:?} {:?}",
            here.door_state(),
            there.door_state()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let orders: Vec<(u32, String)> = nodes.records().await.into_iter().filter_map(rate_order).collect();
    let of = |who: &str| orders.iter().filter(|(_, by)| by == who).count();
    assert_eq!((of("lee"), of("kim")), (10, 12));
    assert_eq!(here.door_state().rate_per_minute, orders.last().unwrap().0);
    assert_eq!(here.door_state().version, 27);

    here.order(OperatorCommand::Close, "kim").await.unwrap();
    let given = clock.monotonic();
    while there.phase() != Phase::Closed {
        assert!(clock.monotonic().saturating_sub(given) < Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!enters().await);
    nodes.life.stop();
}

fn rate_order(record: Record) -> Option<(u32, String)> {
    match record {
        Record::Event {
            event:
                Event::Operator {
                    command: OperatorCommand::Rate { per_minute },
                    by,
                },
            ..
        } => Some((per_minute, by?)),
        _ => None,
    }
}

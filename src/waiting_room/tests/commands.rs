//! Operators' orders: contradictions, what is no use, and who gave which.

use std::{sync::Arc, time::Duration};

use super::{
    TempDir,
    closing::close,
    nodes::{self, Nodes},
    room::{config, new_test_room},
};
use crate::{
    kernel::{Clock, SystemClock},
    platform::shutdown::Lifecycle,
    waiting_room::{
        journal::{
            port::Journal,
            record::{Event, Record, StoredRecord},
            sqlite::SqliteJournal,
        },
        types::{
            BoxOfficeLoad, CLOSE_DELAY, CommandOutcome, CommandRefusal, Config, Durability, EnterOutcome,
            EntryState, OperatorCommand, Phase,
        },
    },
};
use testkit::RedisServer;

fn board(room: &crate::waiting_room::WaitingRoom) -> (String, Option<String>) {
    let board: serde_json::Value = serde_json::from_slice(&room.status().json).unwrap();
    (
        board["phase"].as_str().unwrap().to_owned(),
        board["reason"].as_str().map(str::to_owned),
    )
}

fn said(phase: &str, reason: &str) -> (String, Option<String>) {
    (phase.to_owned(), Some(reason.to_owned()))
}

#[tokio::test]
async fn a_rate_or_limit_of_zero_is_a_pause_with_its_reason() {
    let dir = TempDir::new();
    let test = new_test_room(&dir, config()).await;
    test.passes(100);
    let (_, token) = test.joined(1).await;
    test.passes(100);
    test.tick().await;
    test.passes(5);
    assert_eq!(test.state(&token), EntryState::Called);
    let nothing = [
        (
            OperatorCommand::SetAdmissionRate { per_minute: 0 },
            OperatorCommand::SetAdmissionRate { per_minute: 600 },
            "paused_by_rate",
        ),
        (
            OperatorCommand::SetActiveVisitsMax { visits: 0 },
            OperatorCommand::SetActiveVisitsMax { visits: 3 },
            "paused_by_visit_limit",
        ),
    ];
    for (stop, go, reason) in nothing {
        assert_eq!(
            test.room.command(stop, "kim").await.unwrap(),
            CommandOutcome::Done
        );
        test.tick().await;
        assert_eq!(
            (test.room.phase(), board(&test.room)),
            (Phase::Paused, said("paused", reason))
        );
        assert!(matches!(
            test.room.enter(&token, BoxOfficeLoad::Normal).await.unwrap(),
            EnterOutcome::AtCapacity(_)
        ));
        test.passes(600);
        assert_eq!(
            test.state(&token),
            EntryState::Called,
            "the call window stands still"
        );
        // Resuming admits no visitor while the rate is zero.
        test.room.command(OperatorCommand::Resume, "kim").await.unwrap();
        assert_eq!(
            (test.room.phase(), test.room.admission_settings().paused),
            (Phase::Paused, false)
        );
        test.room.command(go, "kim").await.unwrap();
        test.tick().await;
        assert_eq!(test.room.phase(), Phase::OnSale);
    }
    assert_eq!(test.room.admission_settings().version, 6);
    test.passes(5);
    test.entered(&token).await;
    test.life.stop();
}

#[tokio::test]
async fn a_limit_below_the_active_visits_admits_nobody() {
    let dir = TempDir::new();
    let test = new_test_room(&dir, config()).await;
    test.passes(100);
    let mut tokens = Vec::new();
    for n in 1..=5 {
        tokens.push(test.joined(n).await.1);
    }
    test.passes(100);
    test.tick().await;
    test.passes(5);
    let mut passes = Vec::new();
    for token in &tokens[..3] {
        passes.push(test.room.verify_pass(&test.entered(token).await).unwrap());
    }
    test.room
        .command(OperatorCommand::SetActiveVisitsMax { visits: 2 }, "kim")
        .await
        .unwrap();
    for left in [2, 1] {
        test.tick().await;
        let board: serde_json::Value = serde_json::from_slice(&test.room.status().json).unwrap();
        assert_eq!(board["active_visits_max"], 2, "the status is published at once");
        assert_eq!(test.room.admission_settings().reason.is_some(), left == 2);
        assert_eq!(test.room.phase(), Phase::OnSale);
        assert!(!matches!(
            test.room.enter(&tokens[3], BoxOfficeLoad::Normal).await.unwrap(),
            EnterOutcome::Admitted { .. }
        ));
        test.room.end_visit(&passes.pop().unwrap()).await.unwrap();
    }
    assert_eq!(test.room.metrics().active_visits, 1);
    test.tick().await;
    assert_eq!(test.room.admission_settings().reason, None);
    test.entered(&tokens[3]).await;
    test.tick().await;
    assert!(
        !matches!(
            test.room.enter(&tokens[4], BoxOfficeLoad::Normal).await.unwrap(),
            EnterOutcome::Admitted { .. }
        ),
        "two fit"
    );
    test.life.stop();
}

#[tokio::test]
async fn a_closed_sale_stays_closed_and_commands_name_operators() {
    let dir = TempDir::new();
    let test = new_test_room(&dir, config()).await;
    test.passes(250);
    let order = async |command: OperatorCommand, by: &str| test.room.command(command, by).await.unwrap();
    assert_eq!(order(OperatorCommand::Pause, "kim").await, CommandOutcome::Done);
    assert_eq!(order(close(), "lee").await, CommandOutcome::Done);
    test.passes(CLOSE_DELAY.as_secs() - 1);
    assert_eq!(
        order(close(), "kim").await,
        CommandOutcome::Done,
        "closing twice is closing once"
    );
    assert_ne!(test.room.phase(), Phase::Closed);
    test.passes(1);
    for late in [
        OperatorCommand::WithdrawClose,
        OperatorCommand::Resume,
        OperatorCommand::Pause,
        OperatorCommand::SetAdmissionRate { per_minute: 1 },
        OperatorCommand::SetActiveVisitsMax { visits: 1 },
    ] {
        assert_eq!(
            order(late, "kim").await,
            CommandOutcome::Refused(CommandRefusal::Closed)
        );
    }
    let long = OperatorCommand::Notice {
        text: Some("x".repeat(161)),
    };
    assert_eq!(
        order(long, "kim").await,
        CommandOutcome::Refused(CommandRefusal::NoticeTooLong)
    );
    let thanks = OperatorCommand::Notice {
        text: Some("감사합니다".into()),
    };
    assert_eq!(order(thanks, "lee").await, CommandOutcome::Done);
    test.tick().await;
    assert_eq!(test.room.phase(), Phase::Closed);
    assert!(
        std::str::from_utf8(&test.room.status().json)
            .unwrap()
            .contains("감사합니다")
    );
    let journal = SqliteJournal::open(&dir.path().join("queue.db"), config().sale, &Lifecycle::new())
        .await
        .unwrap();
    let given: Vec<(i64, String)> = journal
        .read(0, 100)
        .await
        .unwrap()
        .into_iter()
        .filter_map(by_whom)
        .collect();
    let at = test.clock.now().as_millis();
    let expected = [("kim", 600_000), ("lee", 600_000), ("kim", 1_000), ("lee", 0)]
        .map(|(by, before_ms)| (at - before_ms, by.to_owned()));
    assert_eq!(given, expected, "who and when; what was refused is not there");
    test.life.stop();
}

fn by_whom(stored: StoredRecord) -> Option<(i64, String)> {
    match stored.record {
        Record::Event {
            at,
            event: Event::Operator { operator, .. },
        } => Some((at.as_millis(), operator?)),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_reach_all_nodes_and_the_last_counts() {
    let server = RedisServer::start().await.unwrap();
    let config = nodes::config(Durability::Committed);
    let nodes = Nodes::open(
        2,
        Config {
            active_visits_max: 1_000,
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
            there.enter(&token, BoxOfficeLoad::Normal).await.unwrap(),
            EnterOutcome::Admitted { .. }
        )
    };
    let all_called = async || {
        while there.metrics().now_serving < 400 {
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
            OperatorCommand::SetAdmissionRate { per_minute: 0 },
            OperatorCommand::SetAdmissionRate { per_minute: 60_000 },
        ),
        (
            OperatorCommand::SetActiveVisitsMax { visits: 0 },
            OperatorCommand::SetActiveVisitsMax { visits: 1_000 },
        ),
    ] {
        here.command(stop.clone(), "kim").await.unwrap();
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
            "{stop:?}: a visitor was admitted after {last_in:?}"
        );
        here.command(go, "kim").await.unwrap();
        let given = clock.monotonic();
        while !enters().await {
            assert!(
                clock.monotonic().saturating_sub(given) < Duration::from_secs(1),
                "no visitor is admitted again after {stop:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    here.command(
        OperatorCommand::Notice {
            text: Some("곧".into()),
        },
        "kim",
    )
    .await
    .unwrap();
    let given = clock.monotonic();
    while !std::str::from_utf8(&there.status().json).unwrap().contains("곧") {
        assert!(
            clock.monotonic().saturating_sub(given) < Duration::from_secs(1),
            "the notice does not appear"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // Two operators at once, at two nodes: both are heard, and all agree on who was last.
    let orders = |room: Arc<crate::waiting_room::WaitingRoom>, by: &'static str, first: u32| async move {
        for n in 0..10 {
            room.command(
                OperatorCommand::SetAdmissionRate {
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
    while here.admission_settings() != there.admission_settings() {
        assert!(
            clock.monotonic().saturating_sub(given) < Duration::from_secs(1),
            "{:?} {:?}",
            here.admission_settings(),
            there.admission_settings()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let orders: Vec<(u32, String)> = nodes.records().await.into_iter().filter_map(rate_order).collect();
    let of = |who: &str| orders.iter().filter(|(_, by)| by == who).count();
    assert_eq!((of("lee"), of("kim")), (10, 12));
    assert_eq!(
        here.admission_settings().admission_rate_per_minute,
        orders.last().unwrap().0
    );
    assert_eq!(here.admission_settings().version, 27);

    for (command, phase) in [
        (close(), Phase::Paused),
        (OperatorCommand::WithdrawClose, Phase::OnSale),
        (close(), Phase::Paused),
    ] {
        here.command(command, "kim").await.unwrap();
        let given = clock.monotonic();
        while there.phase() != phase {
            assert!(clock.monotonic().saturating_sub(given) < Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert!(!enters().await);
    nodes.life.stop();
}

fn rate_order(record: Record) -> Option<(u32, String)> {
    match record {
        Record::Event {
            event:
                Event::Operator {
                    command: OperatorCommand::SetAdmissionRate { per_minute },
                    operator,
                },
            ..
        } => Some((per_minute, operator?)),
        _ => None,
    }
}

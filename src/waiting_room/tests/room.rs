//! One room over its journal file: the way of a customer, and what is left after a crash.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;

use super::{TempDir, closing::close};
use crate::{
    kernel::{Clock, ManualClock, SeededEntropy, Subject, Timestamp},
    platform::{keys::Keys, shutdown::Lifecycle, signing::TokenError},
    waiting_room::{
        open::Deps,
        room::WaitingRoom,
        store::conformance,
        tokens::queue_token::QueueToken,
        types::{
            BoxOfficeLoad, BoxOfficeReport, CLOSE_DELAY, CommandOutcome, CommandRefusal, Config, Durability,
            EnterOutcome, EntryState, JoinOutcome, Joined, JournalLocation, OperatorCommand, Phase,
            RenewOutcome, StoreBackend, ZoneStock,
        },
    },
};

/// The room without its own ticking, so that a test says when time passes.
pub(super) struct TestRoom {
    pub(super) room: Arc<WaitingRoom>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) keys: Keys,
    pub(super) life: Lifecycle,
}

const START: i64 = 1_795_464_000;

pub(super) fn config() -> Config {
    let at = |s: i64| Timestamp::from_secs(START + s);
    Config {
        prequeue_starts_at: at(100),
        on_sale_starts_at: at(200),
        closes_at: at(5_000),
        admission_burst: Some(50),
        admission_rate_per_minute: 600,
        ..conformance::config(3)
    }
}

pub(super) async fn open_test_room(config: Config, file: &Path, clock: Arc<ManualClock>) -> TestRoom {
    let life = Lifecycle::new();
    let entropy = Arc::new(SeededEntropy::new(1));
    let keys = Keys::ephemeral(&SeededEntropy::new(42));
    let deps = Deps {
        clock: clock.clone(),
        entropy,
        keys: keys.clone(),
        journal: JournalLocation::File(file.to_owned()),
        store: StoreBackend::Memory,
        node_name: String::new(),
        lifecycle: life.clone(),
    };
    TestRoom {
        room: Arc::new(crate::waiting_room::open::recover(config, deps).await.unwrap()),
        clock,
        life,
        keys,
    }
}

pub(super) async fn new_test_room(dir: &TempDir, config: Config) -> TestRoom {
    open_test_room(
        config,
        &dir.path().join("queue.db"),
        Arc::new(ManualClock::at(Timestamp::from_secs(START))),
    )
    .await
}

fn customer(n: u32) -> Subject {
    Subject::customer(&n.to_string()).unwrap()
}

impl TestRoom {
    pub(super) fn passes(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(super) async fn tick(&self) {
        self.room.tick().await.unwrap();
    }

    pub(super) async fn joined(&self, n: u32) -> (Joined, QueueToken) {
        let (JoinOutcome::Joined(joined) | JoinOutcome::Existing(joined)) =
            self.room.join(&customer(n)).await.unwrap()
        else {
            panic!("no place for {n}")
        };
        let token = self.room.verify_token(&joined.token).unwrap();
        (joined, token)
    }

    pub(super) async fn entered(&self, token: &QueueToken) -> String {
        match self.room.enter(token, BoxOfficeLoad::Normal).await.unwrap() {
            EnterOutcome::Admitted { pass, .. } => pass,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn state(&self, token: &QueueToken) -> EntryState {
        self.room.position(token).state
    }
}

#[tokio::test]
async fn a_visitor_joins_enters_renews_and_leaves() {
    let dir = TempDir::new();
    let test = new_test_room(&dir, config()).await;
    assert_eq!(
        test.room.join(&customer(1)).await.unwrap(),
        JoinOutcome::NotOpenYet {
            prequeue_starts_at: config().prequeue_starts_at
        }
    );
    test.passes(100);
    let (joined, token) = test.joined(1).await;
    assert_eq!((joined.state, joined.number), (EntryState::Prequeue, Some(1)));
    assert_eq!(
        test.room.join(&customer(1)).await.unwrap(),
        JoinOutcome::Existing(joined),
        "a reload changes nothing"
    );
    assert!(
        test.room.token_belongs_to(&token, &customer(1)) && !test.room.token_belongs_to(&token, &customer(2))
    );
    for n in 2..=5 {
        test.joined(n).await;
    }
    let (_, fifth) = test.joined(5).await;
    let place = test.room.position(&fifth);
    assert_eq!((place.position, place.ahead), (Some(5), Some(4)));
    let wait = place.wait.unwrap();
    assert!(
        wait.p10_s >= 100 && wait.p10_s <= wait.p50_s && wait.p50_s <= wait.p90_s,
        "{wait:?}"
    );
    test.tick().await;
    assert!(matches!(
        test.room.enter(&token, BoxOfficeLoad::Normal).await.unwrap(),
        EnterOutcome::NotCalledYet(_)
    ));

    test.passes(100);
    test.tick().await;
    assert_eq!(
        (test.room.phase(), test.state(&token), test.state(&fifth)),
        (Phase::OnSale, EntryState::Called, EntryState::Waiting)
    );
    test.passes(5);
    let pass = test.room.verify_pass(&test.entered(&token).await).unwrap();
    assert!(
        test.room.pass_belongs_to(&pass, &customer(1)) && !test.room.pass_belongs_to(&pass, &customer(2))
    );
    assert_eq!(
        test.room.verify_pass(&test.entered(&token).await).unwrap().visit,
        pass.visit,
        "entering again is the same visit"
    );
    test.passes(60);
    let RenewOutcome::Renewed {
        pass: renewed,
        expires_at,
    } = test.room.renew(&pass).await.unwrap()
    else {
        panic!("the visit goes on")
    };
    assert_eq!(expires_at, test.clock.now().plus(Duration::from_mins(2)));
    test.room.end_visit(&pass).await.unwrap();
    test.room.end_visit(&pass).await.unwrap();
    assert_eq!(
        test.room.verify_pass(&renewed),
        Err(TokenError::Expired),
        "the visit is over, whatever the pass says"
    );
    assert_eq!(test.room.renew(&pass).await.unwrap(), RenewOutcome::Ended);
    assert!(matches!(
        test.room.enter(&token, BoxOfficeLoad::Normal).await.unwrap(),
        EnterOutcome::Ended(_)
    ));
    assert_eq!(
        test.joined(1).await.0.number,
        Some(6),
        "joining again gives the last number"
    );
    assert_eq!(test.room.metrics().active_visits, 0);
    test.life.stop();
}

#[tokio::test]
async fn concurrent_joins_get_unique_gapless_numbers() {
    for durability in [Durability::Committed, Durability::Async] {
        a_crowd_joins_at_once(durability).await;
    }
}

async fn a_crowd_joins_at_once(durability: Durability) {
    let dir = TempDir::new();
    let test = new_test_room(
        &dir,
        Config {
            queue_entries_max: 300,
            durability,
            ..config()
        },
    )
    .await;
    test.passes(100);
    // Everyone joins twice.
    let asks = join_all((0..640_u32).map(|n| {
        let room = Arc::clone(&test.room);
        async move { room.join(&customer(n / 2)).await.unwrap() }
    }))
    .await;
    let mut numbers = Vec::new();
    for pair in asks.chunks(2) {
        match (&pair[0], &pair[1]) {
            (JoinOutcome::Joined(a), JoinOutcome::Existing(b)) => {
                assert_eq!(a, b);
                numbers.extend(a.number);
            }
            (JoinOutcome::Full, JoinOutcome::Full) => {}
            other => panic!("{other:?}"),
        }
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=300).collect::<Vec<u64>>());
    test.life.stop();
}

#[tokio::test]
async fn after_a_crash_all_answers_still_hold() {
    let dir = TempDir::new();
    let test = new_test_room(&dir, config()).await;
    test.passes(100);
    let mut tokens = Vec::new();
    for n in 1..=9 {
        tokens.push(test.joined(n).await.1);
    }
    test.room.leave(&tokens[1]).await.unwrap();
    test.passes(100);
    test.tick().await;
    test.passes(10);
    let ended = test.room.verify_pass(&test.entered(&tokens[0]).await).unwrap();
    test.room.end_visit(&ended).await.unwrap();
    let pass = test.entered(&tokens[2]).await;
    test.tick().await;
    test.passes(70);
    let order = OperatorCommand::Notice {
        text: Some("곧".into()),
    };
    assert_eq!(
        test.room.command_by_service(order).await.unwrap(),
        CommandOutcome::Done
    );
    assert_eq!(
        test.room
            .command_by_service(OperatorCommand::SetAdmissionRate { per_minute: 60 })
            .await
            .unwrap(),
        CommandOutcome::Done
    );
    test.room.receive_report(BoxOfficeReport {
        sequence: 1,
        zones: vec![sold_out_zone()],
        ..BoxOfficeReport::default()
    });
    test.tick().await;
    let places = |test: &TestRoom| {
        tokens
            .iter()
            .map(|t| (test.state(t), test.room.position(t).position))
            .collect::<Vec<_>>()
    };
    let before = (
        places(&test),
        test.room.metrics(),
        test.room.phase(),
        test.room.status().version,
    );
    let states: Vec<EntryState> = before.0.iter().map(|(state, _)| *state).collect();
    assert!(
        states.contains(&EntryState::Missed)
            && states.contains(&EntryState::Admitted)
            && states.contains(&EntryState::Left)
    );

    let crashed = crash(&dir);
    let again = self::open_test_room(config(), &crashed, Arc::clone(&test.clock)).await;
    assert_eq!(
        (places(&again), again.room.metrics(), again.room.phase()),
        (before.0, before.1, before.2)
    );
    assert!(
        again.room.status().version > 0
            && std::str::from_utf8(&again.room.status().json)
                .unwrap()
                .contains("곧")
    );
    assert_eq!(
        again.room.verify_pass(&pass).unwrap().number,
        3,
        "the visit goes on"
    );
    assert_eq!(again.joined(4).await.1, tokens[3], "the entry is kept");
    assert_eq!(
        again.joined(2).await.0.number,
        Some(10),
        "who had left joins at the end"
    );
    again.passes(200);
    again.tick().await;
    assert_eq!(
        again.state(&tokens[2]),
        EntryState::Left,
        "a visit that is not renewed ends"
    );
    test.life.stop();
    again.life.stop();
}

#[tokio::test]
async fn an_unwritten_join_keeps_its_entry_by_its_token() {
    for after in [Durability::Committed, Durability::Async] {
        let dir = TempDir::new();
        let test = new_test_room(
            &dir,
            Config {
                durability: Durability::Async,
                ..config()
            },
        )
        .await;
        test.passes(100);
        let mut tokens = vec![test.joined(1).await.1];
        assert_eq!(
            test.joined(1).await.1,
            tokens[0],
            "joining again waits until the entry is durable"
        );
        for n in 2..=5 {
            tokens.push(test.joined(n).await.1);
        }
        let again = self::open_test_room(
            Config {
                durability: after,
                ..config()
            },
            &crash(&dir),
            Arc::clone(&test.clock),
        )
        .await;
        let in_journal: Vec<bool> = (1..=5)
            .map(|number| again.room.context().store.subject_of(number).is_some())
            .collect();
        assert_eq!(
            in_journal,
            [true, false, false, false, false],
            "the crash came before they were written down"
        );
        assert!(
            tokens
                .iter()
                .all(|token| again.state(token) == EntryState::Prequeue),
            "{after:?}"
        );
        let (next, _) = again.joined(6).await;
        assert!(
            next.number > Some(5),
            "their numbers are not assigned again: {next:?}"
        );
        assert!(
            again.joined(2).await.0.number > next.number,
            "the subject is not known any more"
        );
        again.passes(100);
        again.tick().await;
        let pass = again.room.verify_pass(&again.entered(&tokens[4]).await).unwrap();
        assert_eq!(
            (pass.number, again.room.context().store.subject_of(5).is_some()),
            (5, true),
            "now the entry is in the journal"
        );
        test.life.stop();
        again.life.stop();
    }
}

/// A copy of the files as a kill would leave them now: the room is still running, nothing has been shut down.
fn crash(dir: &TempDir) -> PathBuf {
    let crashed = dir.path().join("crashed.db");
    for suffix in ["", "-wal"] {
        std::fs::copy(
            dir.path().join(format!("queue.db{suffix}")),
            format!("{}{suffix}", crashed.display()),
        )
        .unwrap();
    }
    crashed
}

#[tokio::test]
async fn calls_are_not_missed_during_an_outage() {
    let dir = TempDir::new();
    let test = new_test_room(&dir, config()).await;
    test.passes(100);
    let (_, token) = test.joined(1).await;
    test.passes(100);
    test.tick().await;
    assert_eq!(test.state(&token), EntryState::Called);
    test.life.stop();
    let clock = Arc::clone(&test.clock);
    clock.advance(Duration::from_mins(20));
    let again = self::open_test_room(config(), &crash(&dir), Arc::clone(&clock)).await;
    again.passes(59);
    assert_eq!(again.state(&token), EntryState::Called);
    again.passes(2);
    assert_eq!(again.state(&token), EntryState::Missed);
    again.life.stop();
}

fn sold_out_zone() -> ZoneStock {
    ZoneStock {
        zone: "R".into(),
        free: 0,
        free_for_wheelchairs: 0,
        held: 0,
        booked: 90,
        blocked: 10,
    }
}

#[tokio::test]
async fn no_calls_while_sold_out_or_paused() {
    let dir = TempDir::new();
    let test = new_test_room(&dir, config()).await;
    test.passes(100);
    let (_, token) = test.joined(1).await;
    test.room.receive_report(BoxOfficeReport {
        sequence: 5,
        zones: vec![sold_out_zone()],
        ..BoxOfficeReport::default()
    });
    test.passes(100);
    test.tick().await;
    assert_eq!(
        (test.room.phase(), test.state(&token)),
        (Phase::SoldOut, EntryState::Waiting)
    );
    let back = ZoneStock {
        free: 1,
        free_for_wheelchairs: 0,
        booked: 89,
        ..sold_out_zone()
    };
    test.room.receive_report(BoxOfficeReport {
        sequence: 4,
        zones: vec![back.clone()],
        ..BoxOfficeReport::default()
    });
    test.tick().await;
    assert_eq!(
        test.room.phase(),
        Phase::SoldOut,
        "an older report changes nothing"
    );
    test.room
        .command_by_service(OperatorCommand::Pause)
        .await
        .unwrap();
    test.room.receive_report(BoxOfficeReport {
        sequence: 6,
        zones: vec![back],
        ..BoxOfficeReport::default()
    });
    test.tick().await;
    assert_eq!(
        (test.room.phase(), test.state(&token)),
        (Phase::Paused, EntryState::Waiting)
    );
    let status: serde_json::Value = serde_json::from_slice(&test.room.status().json).unwrap();
    assert_eq!(
        (status["reason"].as_str(), status["phase"].as_str()),
        (Some("paused"), Some("paused"))
    );
    test.room
        .command_by_service(OperatorCommand::Resume)
        .await
        .unwrap();
    test.tick().await;
    assert_eq!(test.state(&token), EntryState::Called);
    test.room.command_by_service(close()).await.unwrap();
    test.passes(CLOSE_DELAY.as_secs());
    assert_eq!(test.room.join(&customer(2)).await.unwrap(), JoinOutcome::Closed);
    assert_eq!(
        test.room.enter(&token, BoxOfficeLoad::Normal).await.unwrap(),
        EnterOutcome::Closed
    );
    let late = test
        .room
        .command_by_service(OperatorCommand::SetAdmissionRate { per_minute: 60 })
        .await
        .unwrap();
    assert_eq!(late, CommandOutcome::Refused(CommandRefusal::Closed));
    test.life.stop();
}

#[tokio::test]
async fn wheelchair_spaces_keep_a_sale_open_but_promise_nothing() {
    let dir = TempDir::new();
    let test = new_test_room(&dir, config()).await;
    test.passes(100);
    let (_, token) = test.joined(1).await;
    let report = |sequence, zone: ZoneStock| BoxOfficeReport {
        sequence,
        zones: vec![zone],
        ..BoxOfficeReport::default()
    };
    test.room.receive_report(report(5, sold_out_zone()));
    test.passes(100);
    test.tick().await;
    assert_eq!(test.room.phase(), Phase::SoldOut);
    let spaces = ZoneStock {
        free_for_wheelchairs: 6,
        booked: 84,
        ..sold_out_zone()
    };
    test.room.receive_report(report(6, spaces));
    for _ in 0..2 {
        test.tick().await;
        test.passes(1);
    }
    assert_eq!(
        (test.room.phase(), test.state(&token)),
        (Phase::OnSale, EntryState::Called),
        "the visitor may have a wheelchair"
    );
    let status: serde_json::Value = serde_json::from_slice(&test.room.status().json).unwrap();
    let zone = &status["zones"][0];
    assert_eq!(
        (&status["reason"], &zone["free"], &zone["free_for_wheelchairs"]),
        (&"only_wheelchair_spaces".into(), &0.into(), &6.into()),
        "{status}"
    );
    assert_eq!(
        status["available_to_distance"][2], 0,
        "no seat for others: {status}"
    );
    test.life.stop();
}

#[tokio::test]
async fn leaving_releases_the_slot_and_closing_lets_visits_finish() {
    let dir = TempDir::new();
    let test = new_test_room(&dir, config()).await;
    test.passes(100);
    let (_, first) = test.joined(1).await;
    let (_, second) = test.joined(2).await;
    test.passes(100);
    test.tick().await;
    test.passes(5);
    let gone = test.entered(&first).await;
    let inside = test.room.verify_pass(&test.entered(&second).await).unwrap();
    test.room.leave(&first).await.unwrap();
    test.room.leave(&first).await.unwrap();
    assert_eq!(
        (test.state(&first), test.room.metrics().active_visits),
        (EntryState::Left, 1)
    );
    assert_eq!(test.room.verify_pass(&gone), Err(TokenError::Expired));
    let unknown = QueueToken {
        arrival: 77,
        ..second
    };
    test.room.leave(&unknown).await.unwrap();
    let foreign = QueueToken { arrival: 1, ..second };
    for lost in [unknown, foreign] {
        assert_eq!(
            test.state(&lost),
            EntryState::Left,
            "a place that the journal does not know, or knows as another's, is gone"
        );
        assert!(matches!(
            test.room.enter(&lost, BoxOfficeLoad::Normal).await.unwrap(),
            EnterOutcome::Ended(_)
        ));
    }

    test.room.command_by_service(close()).await.unwrap();
    assert!(matches!(
        test.room.renew(&inside).await.unwrap(),
        RenewOutcome::Renewed { .. }
    ));
    for sequence in 1..=178 {
        test.room.receive_report(BoxOfficeReport {
            sequence,
            paying: vec![inside.visit],
            ..BoxOfficeReport::default()
        });
        test.passes(5);
        test.tick().await;
    }
    assert!(
        matches!(
            test.room.renew(&inside).await.unwrap(),
            RenewOutcome::Renewed { .. }
        ),
        "a payment is in progress"
    );
    test.passes(20);
    test.tick().await;
    assert_eq!(
        (
            test.room.renew(&inside).await.unwrap(),
            test.room.metrics().active_visits
        ),
        (RenewOutcome::Ended, 0)
    );
    test.life.stop();
}

#[tokio::test]
async fn two_sales_share_a_file_and_nothing_else() {
    let dir = TempDir::new();
    let test = new_test_room(&dir, config()).await;
    let other_sale = Config {
        sale: "other".parse().unwrap(),
        ..config()
    };
    let other = self::open_test_room(other_sale, &dir.path().join("queue.db"), Arc::clone(&test.clock)).await;
    test.passes(100);
    let (here, there) = (&test, &other);
    let joined = join_all((0..200).map(|n| async move {
        if n % 2 == 0 {
            here.joined(n).await
        } else {
            there.joined(n).await
        }
    }))
    .await;
    let mut numbers: Vec<u64> = joined.iter().map(|(_, token)| token.arrival).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=100).flat_map(|n| [n, n]).collect::<Vec<u64>>());
    assert_eq!(
        other.room.verify_token(&joined[0].0.token),
        Err(TokenError::Purpose)
    );
    assert!(other.room.verify_token(&joined[1].0.token).is_ok());
    test.life.stop();
    other.life.stop();
}

#[tokio::test]
async fn a_visit_ended_by_the_box_office_frees_its_slot() {
    let dir = TempDir::new();
    let test = new_test_room(
        &dir,
        Config {
            active_visits_max: 1,
            ..config()
        },
    )
    .await;
    test.passes(100);
    let (_, first) = test.joined(1).await;
    let (_, second) = test.joined(2).await;
    test.passes(100);
    test.tick().await;
    test.passes(5);
    let pass = test.room.verify_pass(&test.entered(&first).await).unwrap();
    test.tick().await;
    assert!(
        !matches!(
            test.room.enter(&second, BoxOfficeLoad::Normal).await.unwrap(),
            EnterOutcome::Admitted { .. }
        ),
        "one at a time"
    );
    let report = BoxOfficeReport {
        sequence: 1,
        ended: vec![pass.visit],
        ..BoxOfficeReport::default()
    };
    test.room.receive_report(report.clone());
    test.room.receive_report(report);
    test.tick().await;
    test.tick().await;
    test.entered(&second).await;
    assert_eq!(
        (
            test.room.metrics().active_visits,
            test.room.metrics().admissions_total
        ),
        (1, 2)
    );
    test.life.stop();
}

#[tokio::test]
async fn the_room_ticks_and_publishes_by_itself() {
    let dir = TempDir::new();
    let clock = Arc::new(ManualClock::at(config().on_sale_starts_at));
    let life = Lifecycle::new();
    let deps = Deps {
        clock,
        entropy: Arc::new(SeededEntropy::new(1)),
        keys: Keys::ephemeral(&SeededEntropy::new(42)),
        journal: JournalLocation::File(dir.path().join("queue.db")),
        store: StoreBackend::Memory,
        node_name: String::new(),
        lifecycle: life.clone(),
    };
    let room = crate::waiting_room::open(config(), deps).await.unwrap();
    let JoinOutcome::Joined(joined) = room.join(&customer(1)).await.unwrap() else {
        panic!("a new customer")
    };
    let token = room.verify_token(&joined.token).unwrap();
    room.heartbeat(&token);
    let mut watch = room.subscribe_status().unwrap();
    let called = async {
        while room.position(&token).state != EntryState::Called {
            watch.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), called)
        .await
        .expect("the tick calls the visitor");
    life.stop();
    assert!(life.wait_idle(Duration::from_secs(5)).await);
}

fn status_of(test: &TestRoom) -> serde_json::Value {
    serde_json::from_slice(&test.room.status().json).unwrap()
}

/// A line of so many behind an open door at one a second, and the tokens of those in it.
async fn line_of(dir: &TempDir, customers: u32) -> (TestRoom, Vec<QueueToken>) {
    let test = new_test_room(
        dir,
        Config {
            admission_rate_per_minute: 60,
            admission_burst: Some(1),
            active_visits_max: 10,
            ..config()
        },
    )
    .await;
    test.passes(100);
    let mut tokens = Vec::new();
    for n in 1..=customers {
        tokens.push(test.joined(n).await.1);
    }
    test.passes(100);
    test.tick().await;
    test.room.publish_status();
    (test, tokens)
}

#[tokio::test]
async fn a_position_shrinks_when_others_leave() {
    let dir = TempDir::new();
    let (test, tokens) = line_of(&dir, 400).await;
    let serving = status_of(&test)["now_serving"].as_u64().unwrap();
    let ahead = |n: usize| test.room.position(&tokens[n - 1]).ahead.unwrap();
    assert_eq!(
        (status_of(&test)["people_ahead"].clone(), ahead(400)),
        (serde_json::json!([[400 - serving, 400 - serving]]), 399 - serving)
    );
    let place = test.room.position(&tokens[399]);
    assert_eq!((place.position, place.approximate), (Some(400 - serving), false));
    for n in 101..=160 {
        test.room.leave(&tokens[n - 1]).await.unwrap();
    }
    assert_eq!(ahead(400), 399 - serving, "positions follow the published status");
    test.room.publish_status();
    assert_eq!((ahead(400), ahead(90)), (339 - serving, 89 - serving));
    assert_eq!(
        test.room.position(&tokens[399]).number,
        Some(400),
        "the number is what it was"
    );
    let mut about = 0;
    for n in 161..=200_u64 {
        let place = test.room.position(&tokens[usize::try_from(n).unwrap() - 1]);
        let truth = n - 61 - serving;
        assert!(
            place.ahead.unwrap().abs_diff(truth) <= if place.approximate { truth / 4 } else { 0 },
            "{place:?}"
        );
        about += u32::from(place.approximate);
    }
    assert!(
        about > 0,
        "where the block begins in which some have left is not told"
    );
    test.life.stop();
}

#[tokio::test]
async fn only_sampled_visitors_send_heartbeats() {
    let dir = TempDir::new();
    let (test, tokens) = line_of(&dir, 1_000).await;
    let status = status_of(&test);
    let of = |name: &str| status["presence"][name].as_u64().unwrap();
    let (near, near_mask, mask, serving) = (
        of("near_distance"),
        of("near_mask"),
        of("far_mask"),
        status["now_serving"].as_u64().unwrap(),
    );
    assert_eq!((near, near_mask, mask), (120, 7, 127));
    assert!(status["presence"]["online"][0][1] == 0, "{status}");
    let mut asked = [0, 0];
    for token in &tokens {
        let place = test.room.position(token);
        // As a browser reckons it.
        let Some(distance) = place.number.unwrap().checked_sub(serving).filter(|d| *d > 0) else {
            assert_eq!(test.room.heartbeat(token), None, "who is called is not asked");
            continue;
        };
        let own_mask = if distance <= near { near_mask } else { mask };
        let is_asked = u64::from(place.heartbeat_sample) & own_mask == 0;
        assert_eq!(test.room.heartbeat(token).is_some(), is_asked, "{place:?}");
        asked[usize::from(distance > near)] += u32::from(is_asked);
    }
    assert!(
        (6..=30).contains(&asked[0]) && (1..=20).contains(&asked[1]),
        "{asked:?}"
    );
    test.room.publish_status();
    let there = |test: &TestRoom| status_of(test)["presence"]["online"][0].clone();
    assert_eq!(there(&test)[1], 100);
    assert_eq!(test.room.metrics().online_percent, Some(100));
    test.passes(151);
    test.room.publish_status();
    assert_eq!(
        there(&test)[1],
        0,
        "their pages have been silent for more than two minutes"
    );
    // A visitor who has left is not asked for heartbeats.
    for token in &tokens[200..] {
        test.room.leave(token).await.unwrap();
        assert_eq!(test.room.heartbeat(token), None);
    }
    test.life.stop();
}

#[tokio::test]
async fn the_status_shows_zone_forecast_accuracy_and_reason() {
    let dir = TempDir::new();
    let (test, _) = line_of(&dir, 400).await;
    let report = |sequence| {
        let zone = |zone: &str, free| ZoneStock {
            zone: zone.into(),
            free,
            free_for_wheelchairs: 0,
            held: 0,
            booked: 0,
            blocked: 0,
        };
        let zones = vec![zone("R", 60), zone("S", 9_000)];
        test.room.receive_report(BoxOfficeReport {
            sequence,
            zones,
            ..BoxOfficeReport::default()
        });
    };
    report(1);
    test.room.measure_second();
    test.room.publish_status();
    let status = status_of(&test);
    let of_first: Vec<u64> = status["zones"][0]["available_to_distance"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(serde_json::Value::as_u64)
        .collect();
    assert_eq!(
        (status["zones"][0]["free"].as_u64(), of_first.len()),
        (Some(60), 0),
        "sixty seats of nine thousand are few for the demand too: {status}"
    );
    assert_eq!(
        (
            &status["zones"][1]["available_to_distance"],
            &status["late_arrival_percent"]
        ),
        (&serde_json::json!([null, null, null]), &serde_json::json!(25))
    );
    assert!(
        status["forecast_accuracy"].is_null() && status["reason"].is_null(),
        "{status}"
    );

    test.passes(6);
    test.tick().await;
    test.room.publish_status();
    assert_eq!(
        status_of(&test)["reason"],
        "box_office_busy",
        "it has been silent for more than five seconds"
    );
    for sequence in 2..40 {
        report(sequence);
        test.passes(1);
        test.tick().await;
        test.room.measure_second();
        test.room.publish_status();
    }
    let status = status_of(&test);
    assert_ne!(status["reason"], "box_office_busy");
    let (kept, all) = (
        &status["forecast_accuracy"],
        test.room.metrics().forecast_outcomes,
    );
    assert_eq!(
        kept["total"].as_u64(),
        Some(all.within + all.sooner + all.later),
        "{status}"
    );
    assert!(
        all.within > 0 && kept["hits"].as_u64() == Some(all.within),
        "{all:?}"
    );
    let overtaken = |test: &TestRoom| test.room.metrics().forecast_outcomes.invalidated;
    assert_eq!(overtaken(&test), 0);
    test.room
        .command_by_service(OperatorCommand::SetAdmissionRate { per_minute: 30 })
        .await
        .unwrap();
    test.room.measure_second();
    assert!(
        overtaken(&test) > 0,
        "what was said before an order is not held against anybody"
    );
    test.life.stop();
}

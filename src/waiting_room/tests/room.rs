//! One room over its journal file: the way of a fan, and what is left after a crash.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;

use super::TempDir;
use crate::{
    kernel::{Clock, ManualClock, SeededEntropy, Subject, Timestamp},
    platform::{keys::Keys, shutdown::Lifecycle, signing::TokenError},
    waiting_room::{
        BoxOfficeReport, CommandOutcome, Config, Deps, Durability, Engine, EnterOutcome, Inside, JoinOutcome,
        Joined, JournalPlace, OperatorCommand, Phase, PlaceState, QueueToken, Refusal, RenewOutcome,
        WaitingRoom, ZoneStock, store::conformance,
    },
};

/// The room without its own ticking, so that a test says when time passes.
pub(super) struct House {
    pub(super) room: Arc<WaitingRoom>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) life: Lifecycle,
}

const START: i64 = 1_795_464_000;

pub(super) fn config() -> Config {
    let at = |s: i64| Timestamp::from_secs(START + s);
    Config {
        prequeue_at: at(100),
        opens_at: at(200),
        closes_at: at(5_000),
        burst: Some(50),
        rate_per_minute: 600,
        ..conformance::config(3)
    }
}

async fn house(config: Config, file: &Path, clock: Arc<ManualClock>) -> House {
    let life = Lifecycle::new();
    let entropy = Arc::new(SeededEntropy::new(1));
    let keys = Keys::ephemeral(&SeededEntropy::new(42));
    let deps = Deps {
        clock: clock.clone(),
        entropy,
        keys,
        journal: JournalPlace::File(file.to_owned()),
        engine: Engine::Memory,
        node: String::new(),
        life: life.clone(),
    };
    House {
        room: Arc::new(crate::waiting_room::open::recover(config, deps).await.unwrap()),
        clock,
        life,
    }
}

pub(super) async fn new_house(dir: &TempDir, config: Config) -> House {
    house(
        config,
        &dir.path().join("queue.db"),
        Arc::new(ManualClock::at(Timestamp::from_secs(START))),
    )
    .await
}

fn fan(n: u32) -> Subject {
    Subject::customer(&n.to_string()).unwrap()
}

impl House {
    pub(super) fn passes(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(super) async fn tick(&self) {
        self.room.tick().await.unwrap();
    }

    pub(super) async fn joined(&self, n: u32) -> (Joined, QueueToken) {
        let (JoinOutcome::Joined(joined) | JoinOutcome::Already(joined)) =
            self.room.join(&fan(n)).await.unwrap()
        else {
            panic!("no place for {n}")
        };
        let token = self.room.read_token(&joined.token).unwrap();
        (joined, token)
    }

    pub(super) async fn entered(&self, token: &QueueToken) -> String {
        match self.room.enter(token, Inside::Served).await.unwrap() {
            EnterOutcome::Entered { pass, .. } => pass,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn state(&self, token: &QueueToken) -> PlaceState {
        self.room.place(token).state
    }
}

#[tokio::test]
async fn the_way_of_a_fan() {
    let dir = TempDir::new();
    let house = new_house(&dir, config()).await;
    assert_eq!(
        house.room.join(&fan(1)).await.unwrap(),
        JoinOutcome::NotOpenYet {
            opens: config().prequeue_at
        }
    );
    house.passes(100);
    let (joined, token) = house.joined(1).await;
    assert_eq!((joined.state, joined.number), (PlaceState::Prequeue, Some(1)));
    assert_eq!(
        house.room.join(&fan(1)).await.unwrap(),
        JoinOutcome::Already(joined),
        "a reload changes nothing"
    );
    assert!(house.room.belongs_to(&token, &fan(1)) && !house.room.belongs_to(&token, &fan(2)));
    for n in 2..=5 {
        house.joined(n).await;
    }
    let (_, fifth) = house.joined(5).await;
    let place = house.room.place(&fifth);
    assert_eq!((place.position, place.ahead), (Some(5), Some(4)));
    let wait = place.wait.unwrap();
    assert!(
        wait.p10_s >= 100 && wait.p10_s <= wait.p50_s && wait.p50_s <= wait.p90_s,
        "{wait:?}"
    );
    house.tick().await;
    assert!(matches!(
        house.room.enter(&token, Inside::Served).await.unwrap(),
        EnterOutcome::NotCalledYet(_)
    ));

    house.passes(100);
    house.tick().await;
    assert_eq!(
        (house.room.phase(), house.state(&token), house.state(&fifth)),
        (Phase::OnSale, PlaceState::Called, PlaceState::Waiting)
    );
    house.passes(5);
    let pass = house.room.read_pass(&house.entered(&token).await).unwrap();
    assert!(house.room.pass_belongs_to(&pass, &fan(1)) && !house.room.pass_belongs_to(&pass, &fan(2)));
    assert_eq!(
        house.room.read_pass(&house.entered(&token).await).unwrap().visit,
        pass.visit,
        "entering again is the same visit"
    );
    house.passes(60);
    let RenewOutcome::Renewed {
        pass: renewed,
        expires_at,
    } = house.room.renew(&pass).await.unwrap()
    else {
        panic!("the visit goes on")
    };
    assert_eq!(expires_at, house.clock.now().plus(Duration::from_mins(2)));
    house.room.end_visit(&pass).await.unwrap();
    house.room.end_visit(&pass).await.unwrap();
    assert_eq!(
        house.room.read_pass(&renewed),
        Err(TokenError::Expired),
        "the visit is over, whatever the pass says"
    );
    assert_eq!(house.room.renew(&pass).await.unwrap(), RenewOutcome::Ended);
    assert!(matches!(
        house.room.enter(&token, Inside::Served).await.unwrap(),
        EnterOutcome::Ended(_)
    ));
    assert_eq!(
        house.joined(1).await.0.number,
        Some(6),
        "she joins again, at the end"
    );
    assert_eq!(house.room.figures().active, 0);
    house.life.stop();
}

#[tokio::test]
async fn a_crowd_that_joins_at_once_gets_numbers_without_gaps_or_doubles() {
    for durability in [Durability::Journaled, Durability::Acknowledged] {
        a_crowd_joins_at_once(durability).await;
    }
}

async fn a_crowd_joins_at_once(durability: Durability) {
    let dir = TempDir::new();
    let house = new_house(
        &dir,
        Config {
            max_fans: 300,
            durability,
            ..config()
        },
    )
    .await;
    house.passes(100);
    // Everybody knocks twice.
    let asks = join_all((0..640_u32).map(|n| {
        let room = Arc::clone(&house.room);
        async move { room.join(&fan(n / 2)).await.unwrap() }
    }))
    .await;
    let mut numbers = Vec::new();
    for pair in asks.chunks(2) {
        match (&pair[0], &pair[1]) {
            (JoinOutcome::Joined(a), JoinOutcome::Already(b)) => {
                assert_eq!(a, b);
                numbers.extend(a.number);
            }
            (JoinOutcome::Full, JoinOutcome::Full) => {}
            other => panic!("{other:?}"),
        }
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=300).collect::<Vec<u64>>());
    house.life.stop();
}

#[tokio::test]
async fn after_a_crash_everything_is_as_it_was_answered() {
    let dir = TempDir::new();
    let house = new_house(&dir, config()).await;
    house.passes(100);
    let mut tokens = Vec::new();
    for n in 1..=9 {
        tokens.push(house.joined(n).await.1);
    }
    house.room.leave(&tokens[1]).await.unwrap();
    house.passes(100);
    house.tick().await;
    house.passes(10);
    let ended = house.room.read_pass(&house.entered(&tokens[0]).await).unwrap();
    house.room.end_visit(&ended).await.unwrap();
    let pass = house.entered(&tokens[2]).await;
    house.tick().await;
    house.passes(70);
    let order = OperatorCommand::Notice {
        text: Some("곧".into()),
    };
    assert_eq!(house.room.command(order).await.unwrap(), CommandOutcome::Done);
    assert_eq!(
        house
            .room
            .command(OperatorCommand::Rate { per_minute: 60 })
            .await
            .unwrap(),
        CommandOutcome::Done
    );
    house.room.box_office_report(BoxOfficeReport {
        sequence: 1,
        zones: vec![sold_out_zone()],
        ..BoxOfficeReport::default()
    });
    house.tick().await;
    let places = |house: &House| {
        tokens
            .iter()
            .map(|t| (house.state(t), house.room.place(t).position))
            .collect::<Vec<_>>()
    };
    let before = (
        places(&house),
        house.room.figures(),
        house.room.phase(),
        house.room.board().version,
    );
    let states: Vec<PlaceState> = before.0.iter().map(|(state, _)| *state).collect();
    assert!(
        states.contains(&PlaceState::PassedOver)
            && states.contains(&PlaceState::Entered)
            && states.contains(&PlaceState::Left)
    );

    let crashed = crash(&dir);
    let again = self::house(config(), &crashed, Arc::clone(&house.clock)).await;
    assert_eq!(
        (places(&again), again.room.figures(), again.room.phase()),
        (before.0, before.1, before.2)
    );
    assert!(
        again.room.board().version > 0
            && std::str::from_utf8(&again.room.board().json)
                .unwrap()
                .contains("곧")
    );
    assert_eq!(
        again.room.read_pass(&pass).unwrap().number,
        3,
        "her visit goes on"
    );
    assert_eq!(again.joined(4).await.1, tokens[3], "she has her place");
    assert_eq!(
        again.joined(2).await.0.number,
        Some(10),
        "who had left joins at the end"
    );
    again.passes(200);
    again.tick().await;
    assert_eq!(
        again.state(&tokens[2]),
        PlaceState::Left,
        "a visit that nobody renews ends"
    );
    house.life.stop();
    again.life.stop();
}

#[tokio::test]
async fn whoever_was_answered_before_she_was_written_down_keeps_her_place_by_her_token() {
    for after in [Durability::Journaled, Durability::Acknowledged] {
        let dir = TempDir::new();
        let house = new_house(
            &dir,
            Config {
                durability: Durability::Acknowledged,
                ..config()
            },
        )
        .await;
        house.passes(100);
        let mut tokens = vec![house.joined(1).await.1];
        assert_eq!(
            house.joined(1).await.1,
            tokens[0],
            "asking again, she waits until she is written down"
        );
        for n in 2..=5 {
            tokens.push(house.joined(n).await.1);
        }
        let again = self::house(
            Config {
                durability: after,
                ..config()
            },
            &crash(&dir),
            Arc::clone(&house.clock),
        )
        .await;
        let in_journal: Vec<bool> = (1..=5)
            .map(|number| again.room.context().store.owner(number).is_some())
            .collect();
        assert_eq!(
            in_journal,
            [true, false, false, false, false],
            "the crash came before they were written down"
        );
        assert!(
            tokens
                .iter()
                .all(|token| again.state(token) == PlaceState::Prequeue),
            "{after:?}"
        );
        let (next, _) = again.joined(6).await;
        assert!(
            next.number > Some(5),
            "their numbers do not become somebody else's: {next:?}"
        );
        assert!(
            again.joined(2).await.0.number > next.number,
            "her name is not known any more"
        );
        again.passes(100);
        again.tick().await;
        let pass = again.room.read_pass(&again.entered(&tokens[4]).await).unwrap();
        assert_eq!(
            (pass.number, again.room.context().store.owner(5).is_some()),
            (5, true),
            "now she is in the journal"
        );
        house.life.stop();
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
async fn a_long_outage_makes_nobody_miss_her_call() {
    let dir = TempDir::new();
    let house = new_house(&dir, config()).await;
    house.passes(100);
    let (_, token) = house.joined(1).await;
    house.passes(100);
    house.tick().await;
    assert_eq!(house.state(&token), PlaceState::Called);
    house.life.stop();
    let clock = Arc::clone(&house.clock);
    clock.advance(Duration::from_mins(20));
    let again = self::house(config(), &crash(&dir), Arc::clone(&clock)).await;
    again.passes(59);
    assert_eq!(again.state(&token), PlaceState::Called);
    again.passes(2);
    assert_eq!(again.state(&token), PlaceState::PassedOver);
    again.life.stop();
}

fn sold_out_zone() -> ZoneStock {
    ZoneStock {
        zone: "R".into(),
        free: 0,
        held: 0,
        booked: 90,
        blocked: 10,
    }
}

#[tokio::test]
async fn nobody_is_called_while_it_is_sold_out_or_paused() {
    let dir = TempDir::new();
    let house = new_house(&dir, config()).await;
    house.passes(100);
    let (_, token) = house.joined(1).await;
    house.room.box_office_report(BoxOfficeReport {
        sequence: 5,
        zones: vec![sold_out_zone()],
        ..BoxOfficeReport::default()
    });
    house.passes(100);
    house.tick().await;
    assert_eq!(
        (house.room.phase(), house.state(&token)),
        (Phase::SoldOut, PlaceState::Waiting)
    );
    let back = ZoneStock {
        free: 1,
        booked: 89,
        ..sold_out_zone()
    };
    house.room.box_office_report(BoxOfficeReport {
        sequence: 4,
        zones: vec![back.clone()],
        ..BoxOfficeReport::default()
    });
    house.tick().await;
    assert_eq!(
        house.room.phase(),
        Phase::SoldOut,
        "an older report changes nothing"
    );
    house.room.command(OperatorCommand::Pause).await.unwrap();
    house.room.box_office_report(BoxOfficeReport {
        sequence: 6,
        zones: vec![back],
        ..BoxOfficeReport::default()
    });
    house.tick().await;
    assert_eq!(
        (house.room.phase(), house.state(&token)),
        (Phase::Paused, PlaceState::Waiting)
    );
    let board: serde_json::Value = serde_json::from_slice(&house.room.board().json).unwrap();
    assert_eq!(
        (board["reason"].as_str(), board["phase"].as_str()),
        (Some("paused"), Some("paused"))
    );
    house.room.command(OperatorCommand::Resume).await.unwrap();
    house.tick().await;
    assert_eq!(house.state(&token), PlaceState::Called);
    house.room.command(OperatorCommand::Close).await.unwrap();
    assert_eq!(house.room.join(&fan(2)).await.unwrap(), JoinOutcome::Closed);
    assert_eq!(
        house.room.enter(&token, Inside::Served).await.unwrap(),
        EnterOutcome::Closed
    );
    let late = house
        .room
        .command(OperatorCommand::Rate { per_minute: 60 })
        .await
        .unwrap();
    assert_eq!(late, CommandOutcome::Refused(Refusal::Closed));
    house.life.stop();
}

#[tokio::test]
async fn whoever_leaves_while_inside_gives_her_slot_back_and_who_is_inside_at_the_close_may_finish() {
    let dir = TempDir::new();
    let house = new_house(&dir, config()).await;
    house.passes(100);
    let (_, first) = house.joined(1).await;
    let (_, second) = house.joined(2).await;
    house.passes(100);
    house.tick().await;
    house.passes(5);
    let gone = house.entered(&first).await;
    let inside = house.room.read_pass(&house.entered(&second).await).unwrap();
    house.room.leave(&first).await.unwrap();
    house.room.leave(&first).await.unwrap();
    assert_eq!(
        (house.state(&first), house.room.figures().active),
        (PlaceState::Left, 1)
    );
    assert_eq!(house.room.read_pass(&gone), Err(TokenError::Expired));
    let unknown = QueueToken {
        arrival: 77,
        ..second
    };
    house.room.leave(&unknown).await.unwrap();
    let foreign = QueueToken { arrival: 1, ..second };
    for lost in [unknown, foreign] {
        assert_eq!(
            house.state(&lost),
            PlaceState::Left,
            "a place that the journal does not know, or knows as another's, is gone"
        );
        assert!(matches!(
            house.room.enter(&lost, Inside::Served).await.unwrap(),
            EnterOutcome::Ended(_)
        ));
    }

    house.room.command(OperatorCommand::Close).await.unwrap();
    assert!(matches!(
        house.room.renew(&inside).await.unwrap(),
        RenewOutcome::Renewed { .. }
    ));
    for sequence in 1..=178 {
        house.room.box_office_report(BoxOfficeReport {
            sequence,
            paying: vec![inside.visit],
            ..BoxOfficeReport::default()
        });
        house.passes(5);
        house.tick().await;
    }
    assert!(
        matches!(
            house.room.renew(&inside).await.unwrap(),
            RenewOutcome::Renewed { .. }
        ),
        "her payment is under way"
    );
    house.passes(20);
    house.tick().await;
    assert_eq!(
        (
            house.room.renew(&inside).await.unwrap(),
            house.room.figures().active
        ),
        (RenewOutcome::Ended, 0)
    );
    house.life.stop();
}

#[tokio::test]
async fn two_sales_share_a_file_and_nothing_else() {
    let dir = TempDir::new();
    let house = new_house(&dir, config()).await;
    let other_sale = Config {
        sale: "other".parse().unwrap(),
        ..config()
    };
    let other = self::house(other_sale, &dir.path().join("queue.db"), Arc::clone(&house.clock)).await;
    house.passes(100);
    let (here, there) = (&house, &other);
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
        other.room.read_token(&joined[0].0.token),
        Err(TokenError::Purpose)
    );
    assert!(other.room.read_token(&joined[1].0.token).is_ok());
    house.life.stop();
    other.life.stop();
}

#[tokio::test]
async fn the_box_office_ends_visits_and_the_slot_goes_to_the_next() {
    let dir = TempDir::new();
    let house = new_house(
        &dir,
        Config {
            capacity: 1,
            ..config()
        },
    )
    .await;
    house.passes(100);
    let (_, first) = house.joined(1).await;
    let (_, second) = house.joined(2).await;
    house.passes(100);
    house.tick().await;
    house.passes(5);
    let pass = house.room.read_pass(&house.entered(&first).await).unwrap();
    house.tick().await;
    assert!(
        !matches!(
            house.room.enter(&second, Inside::Served).await.unwrap(),
            EnterOutcome::Entered { .. }
        ),
        "one at a time"
    );
    let report = BoxOfficeReport {
        sequence: 1,
        ended: vec![pass.visit],
        ..BoxOfficeReport::default()
    };
    house.room.box_office_report(report.clone());
    house.room.box_office_report(report);
    house.tick().await;
    house.tick().await;
    house.entered(&second).await;
    assert_eq!(
        (house.room.figures().active, house.room.figures().entries_total),
        (1, 2)
    );
    house.life.stop();
}

#[tokio::test]
async fn the_room_ticks_by_itself_and_shows_it_to_those_who_watch() {
    let dir = TempDir::new();
    let clock = Arc::new(ManualClock::at(config().opens_at));
    let life = Lifecycle::new();
    let deps = Deps {
        clock,
        entropy: Arc::new(SeededEntropy::new(1)),
        keys: Keys::ephemeral(&SeededEntropy::new(42)),
        journal: JournalPlace::File(dir.path().join("queue.db")),
        engine: Engine::Memory,
        node: String::new(),
        life: life.clone(),
    };
    let room = crate::waiting_room::open(config(), deps).await.unwrap();
    let JoinOutcome::Joined(joined) = room.join(&fan(1)).await.unwrap() else {
        panic!("a new fan")
    };
    let token = room.read_token(&joined.token).unwrap();
    room.present(&token);
    let mut watch = room.watch_board().unwrap();
    let called = async {
        while room.place(&token).state != PlaceState::Called {
            watch.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), called)
        .await
        .expect("the tick calls her");
    life.stop();
    assert!(life.wait_idle(Duration::from_secs(5)).await);
}

fn board_of(house: &House) -> serde_json::Value {
    serde_json::from_slice(&house.room.board().json).unwrap()
}

/// A line of so many behind an open door at one a second, and the tokens of those in it.
async fn line_of(dir: &TempDir, fans: u32) -> (House, Vec<QueueToken>) {
    let house = new_house(
        dir,
        Config {
            rate_per_minute: 60,
            burst: Some(1),
            capacity: 10,
            ..config()
        },
    )
    .await;
    house.passes(100);
    let mut tokens = Vec::new();
    for n in 1..=fans {
        tokens.push(house.joined(n).await.1);
    }
    house.passes(100);
    house.tick().await;
    house.room.publish_status();
    (house, tokens)
}

#[tokio::test]
async fn a_position_shrinks_when_others_leave_and_whoever_looks_asks_the_board_alone() {
    let dir = TempDir::new();
    let (house, tokens) = line_of(&dir, 400).await;
    let serving = board_of(&house)["now_serving"].as_u64().unwrap();
    let ahead = |n: usize| house.room.place(&tokens[n - 1]).ahead.unwrap();
    assert_eq!(
        (board_of(&house)["survivors"].clone(), ahead(400)),
        (serde_json::json!([[400 - serving, 400 - serving]]), 399 - serving)
    );
    let place = house.room.place(&tokens[399]);
    assert_eq!((place.position, place.about), (Some(400 - serving), false));
    for n in 101..=160 {
        house.room.leave(&tokens[n - 1]).await.unwrap();
    }
    assert_eq!(
        ahead(400),
        399 - serving,
        "the board is what counts, the same for all"
    );
    house.room.publish_status();
    assert_eq!((ahead(400), ahead(90)), (339 - serving, 89 - serving));
    assert_eq!(
        house.room.place(&tokens[399]).number,
        Some(400),
        "her number is what it was"
    );
    let mut about = 0;
    for n in 161..=200_u64 {
        let place = house.room.place(&tokens[usize::try_from(n).unwrap() - 1]);
        let truth = n - 61 - serving;
        assert!(
            place.ahead.unwrap().abs_diff(truth) <= if place.about { truth / 4 } else { 0 },
            "{place:?}"
        );
        about += u32::from(place.about);
    }
    assert!(
        about > 0,
        "where the block begins in which some have left is not told"
    );
    house.life.stop();
}

#[tokio::test]
async fn only_those_of_the_sample_are_asked_if_they_are_there_and_the_board_says_how_many_are() {
    let dir = TempDir::new();
    let (house, tokens) = line_of(&dir, 1_000).await;
    let board = board_of(&house);
    let of = |name: &str| board["presence"][name].as_u64().unwrap();
    let (near, near_mask, mask, serving) = (
        of("near"),
        of("near_mask"),
        of("mask"),
        board["now_serving"].as_u64().unwrap(),
    );
    assert_eq!((near, near_mask, mask), (120, 7, 127));
    assert!(board["presence"]["there"][0][1] == 0, "{board}");
    let mut asked = [0, 0];
    for token in &tokens {
        let place = house.room.place(token);
        // As a browser reckons it.
        let Some(distance) = place.number.unwrap().checked_sub(serving).filter(|d| *d > 0) else {
            assert_eq!(house.room.present(token), None, "who is called is not asked");
            continue;
        };
        let own_mask = if distance <= near { near_mask } else { mask };
        let is_asked = u64::from(place.sample) & own_mask == 0;
        assert_eq!(house.room.present(token).is_some(), is_asked, "{place:?}");
        asked[usize::from(distance > near)] += u32::from(is_asked);
    }
    assert!(
        (6..=30).contains(&asked[0]) && (1..=20).contains(&asked[1]),
        "{asked:?}"
    );
    house.room.publish_status();
    let there = |house: &House| board_of(house)["presence"]["there"][0].clone();
    assert_eq!(there(&house)[1], 100);
    assert_eq!(house.room.figures().present_percent, Some(100));
    house.passes(151);
    house.room.publish_status();
    assert_eq!(
        there(&house)[1],
        0,
        "their pages have been silent for more than two minutes"
    );
    // Whoever has left is neither asked nor missed.
    for token in &tokens[200..] {
        house.room.leave(token).await.unwrap();
        assert_eq!(house.room.present(token), None);
    }
    house.life.stop();
}

#[tokio::test]
async fn the_board_says_how_far_zones_last_how_well_waits_were_foretold_and_why_they_grow() {
    let dir = TempDir::new();
    let (house, _) = line_of(&dir, 400).await;
    let report = |sequence| {
        let zone = |zone: &str, free| ZoneStock {
            zone: zone.into(),
            free,
            held: 0,
            booked: 0,
            blocked: 0,
        };
        let zones = vec![zone("R", 60), zone("S", 9_000)];
        house.room.box_office_report(BoxOfficeReport {
            sequence,
            zones,
            ..BoxOfficeReport::default()
        });
    };
    report(1);
    house.room.measure_second();
    house.room.publish_status();
    let board = board_of(&house);
    let of_first: Vec<u64> = board["zones"][0]["left_for"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(serde_json::Value::as_u64)
        .collect();
    assert_eq!(
        (board["zones"][0]["free"].as_u64(), of_first.len()),
        (Some(60), 0),
        "sixty seats of nine thousand are few wishes too: {board}"
    );
    assert_eq!(
        (&board["zones"][1]["left_for"], &board["returner_percent"]),
        (&serde_json::json!([null, null, null]), &serde_json::json!(25))
    );
    assert!(
        board["kept_word"].is_null() && board["reason"].is_null(),
        "{board}"
    );

    house.passes(6);
    house.tick().await;
    house.room.publish_status();
    assert_eq!(
        board_of(&house)["reason"],
        "box_office_busy",
        "it has been silent for more than five seconds"
    );
    for sequence in 2..300 {
        report(sequence);
        house.passes(1);
        house.tick().await;
        house.room.measure_second();
        house.room.publish_status();
    }
    let board = board_of(&house);
    assert_ne!(board["reason"], "box_office_busy");
    let (kept, all) = (&board["kept_word"], house.room.figures().statements);
    assert_eq!(
        kept["of"].as_u64(),
        Some(all.within + all.sooner + all.later),
        "{board}"
    );
    assert!(
        all.within > 0 && kept["within"].as_u64() == Some(all.within),
        "{all:?}"
    );
    let overtaken = |house: &House| house.room.figures().statements.overtaken;
    assert_eq!(overtaken(&house), 0);
    house
        .room
        .command(OperatorCommand::Rate { per_minute: 30 })
        .await
        .unwrap();
    house.room.measure_second();
    assert!(
        overtaken(&house) > 0,
        "what was said before an order is not held against anybody"
    );
    house.life.stop();
}

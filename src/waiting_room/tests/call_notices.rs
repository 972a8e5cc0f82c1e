//! Visitors who asked to be told when they are called.

use super::{
    TempDir,
    room::{TestRoom, config, new_test_room, open_test_room},
};
use crate::{
    kernel::Clock,
    waiting_room::{
        tokens::queue_token::QueueToken,
        types::{BoxOfficeReport, CallNoticeOutcome, CalledVisitor, Config, EntryState, ZoneStock},
    },
};
use std::{path::Path, sync::Arc};

fn slow() -> Config {
    Config {
        admission_rate_per_minute: 6,
        admission_burst: Some(1),
        ..config()
    }
}

fn report(sequence: u64, told: Vec<u32>) -> BoxOfficeReport {
    BoxOfficeReport {
        source: "office".into(),
        sequence,
        zones: vec![ZoneStock {
            zone: "R".into(),
            free: 100,
            free_for_wheelchairs: 0,
            held: 0,
            booked: 0,
            blocked: 0,
        }],
        told,
        ..BoxOfficeReport::default()
    }
}

async fn ask(test: &TestRoom, token: &QueueToken, customer: &str) -> CallNoticeOutcome {
    test.room.ask_to_be_told(token, customer).await.unwrap()
}

/// Who is called and not told for certain.
async fn called(test: &TestRoom) -> Vec<String> {
    test.room.step_call_notices().await.unwrap();
    let visitors = test.room.called_visitors();
    visitors.iter().map(|visitor| customer(test, visitor)).collect()
}

fn customer(test: &TestRoom, visitor: &CalledVisitor) -> String {
    visitor
        .customer(&test.keys.call_notice, &test.room.config().sale)
        .expect("encrypted under these keys")
}

async fn until_called(test: &TestRoom, token: &QueueToken) {
    for _ in 0..100 {
        if test.state(token) == EntryState::Called {
            return;
        }
        test.passes(1);
        test.tick().await;
    }
    panic!("never called");
}

async fn restarted(test: TestRoom, file: &Path) -> TestRoom {
    test.life.stop();
    open_test_room(slow(), file, Arc::clone(&test.clock)).await
}

#[tokio::test]
async fn who_asked_is_told_once_called_until_the_box_office_has_recorded_it() {
    let dir = TempDir::new();
    let test = new_test_room(&dir, slow()).await;
    test.passes(150);
    let mut tokens = Vec::new();
    for n in 0..4 {
        tokens.push(test.joined(n).await.1);
    }
    for n in [1, 2, 3] {
        let token = &tokens[n];
        assert_eq!(ask(&test, token, &n.to_string()).await, CallNoticeOutcome::Kept);
    }
    assert_eq!(ask(&test, &tokens[1], "again").await, CallNoticeOutcome::Kept);
    test.room.withdraw_call_notice(&tokens[3]).await.unwrap();
    for (token, is_asked) in tokens.iter().zip([false, true, true, false]) {
        assert_eq!(test.room.is_to_be_told(token).await.unwrap(), is_asked);
    }
    assert_eq!(called(&test).await, [""; 0], "before the sale opens");
    test.passes(50);
    test.room.receive_report(report(1, Vec::new()));
    until_called(&test, &tokens[0]).await;
    assert_eq!(called(&test).await, [""; 0], "nothing was asked for them");
    until_called(&test, &tokens[1]).await;
    assert_eq!(called(&test).await, ["1"]);
    let file = dir.path().join("queue.db");
    let test = restarted(test, &file).await;
    assert_eq!(called(&test).await, ["1"], "after a restart");
    let [visitor] = &test.room.called_visitors()[..] else {
        panic!("one visitor");
    };
    assert!(visitor.enter_by > Some(test.clock.now()));
    test.room.receive_report(report(2, vec![visitor.arrival]));
    assert_eq!(called(&test).await, [""; 0]);
    assert!(!test.room.is_to_be_told(&tokens[1]).await.unwrap(), "carried out");
    assert_eq!(
        ask(&test, &tokens[1], "1").await,
        CallNoticeOutcome::NotWaiting,
        "called already"
    );
    let test = restarted(test, &file).await;
    assert_eq!(called(&test).await, [""; 0], "not told twice");
    until_called(&test, &tokens[2]).await;
    test.entered(&tokens[2]).await;
    for _ in 0..2 {
        assert_eq!(called(&test).await, [""; 0], "who is inside is not told");
    }
    assert!(!test.room.is_to_be_told(&tokens[2]).await.unwrap());
    test.life.stop();
}

#[tokio::test]
async fn nothing_is_kept_of_visitors_when_the_sale_has_closed() {
    let dir = TempDir::new();
    let test = new_test_room(&dir, slow()).await;
    test.passes(150);
    let (_, token) = test.joined(1).await;
    assert_eq!(ask(&test, &token, "1").await, CallNoticeOutcome::Kept);
    test.passes(5_000);
    assert_eq!(called(&test).await, [""; 0]);
    assert!(!test.room.is_to_be_told(&token).await.unwrap());
    test.life.stop();
}

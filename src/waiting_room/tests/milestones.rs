//! When a sale opened, was sold out and closed, by its journal.

use super::{
    TempDir,
    room::{config, new_test_room, open_test_room},
};
use crate::{
    kernel::Clock,
    waiting_room::types::{BoxOfficeReport, Milestones, ZoneStock},
};
use std::sync::Arc;

fn report(sequence: u64, free: u32) -> BoxOfficeReport {
    BoxOfficeReport {
        source: "office".into(),
        sequence,
        zones: vec![ZoneStock {
            zone: "R".into(),
            free,
            free_for_wheelchairs: 0,
            held: 0,
            booked: 100 - free,
            blocked: 0,
        }],
        ..BoxOfficeReport::default()
    }
}

/// A sale that is sold out for one tick was sold out, and a restart does not move what was reached.
#[tokio::test]
async fn milestones_are_reached_once_at_the_journals_time() {
    let dir = TempDir::new();
    let test = new_test_room(&dir, config()).await;
    test.tick().await;
    assert_eq!(test.room.milestones(), Milestones::default());
    test.passes(250);
    test.room.receive_report(report(1, 100));
    test.tick().await;
    let opened_at = Some(test.clock.now());
    test.passes(60);
    test.room.receive_report(report(2, 0));
    test.tick().await;
    let sold_out_at = Some(test.clock.now());
    test.room.receive_report(report(3, 1));
    test.tick().await;
    let reached = Milestones {
        opened_at,
        sold_out_at,
        closed_at: None,
    };
    assert_eq!(test.room.milestones(), reached);
    test.passes(60);
    test.room.receive_report(report(4, 0));
    test.tick().await;
    assert_eq!(test.room.milestones(), reached, "the first time counts");
    test.life.stop();

    let clock = Arc::clone(&test.clock);
    clock.advance(std::time::Duration::from_mins(1));
    let test = open_test_room(config(), &dir.path().join("queue.db"), clock).await;
    assert_eq!(test.room.milestones(), reached, "the journal keeps it");
    test.tick().await;
    assert_eq!(test.room.milestones(), reached);
    test.passes(5_000);
    let closed_at = Some(test.clock.now());
    test.tick().await;
    assert_eq!(test.room.milestones(), Milestones { closed_at, ..reached });
    test.life.stop();
}

//! The door while the box office suffers: on one node in virtual time, and on two that share what one has
//! heard.

use std::time::Duration;

use super::{
    TempDir,
    nodes::{self, Nodes},
    room::{TestRoom, config, new_test_room},
};
use crate::{
    kernel::{Clock, SystemClock},
    waiting_room::{
        tokens::queue_token::QueueToken,
        types::{
            BoxOfficeHealth, BoxOfficeLoad, BoxOfficeReport, Config, DelayReason, Durability, EnterOutcome,
            ZoneStock,
        },
    },
};
use testkit::RedisServer;

const WELL: BoxOfficeHealth = BoxOfficeHealth {
    latency_ms: Some(60),
    usual_latency_ms: 50,
    failures_per_mille: 0,
};
const SLOW: BoxOfficeHealth = BoxOfficeHealth {
    latency_ms: Some(900),
    usual_latency_ms: 50,
    failures_per_mille: 0,
};
const FAILING: BoxOfficeHealth = BoxOfficeHealth {
    latency_ms: None,
    usual_latency_ms: 50,
    failures_per_mille: 300,
};

fn report(sequence: u64, health: BoxOfficeHealth) -> BoxOfficeReport {
    let zones = vec![ZoneStock {
        zone: "R".into(),
        free: 9_000,
        free_for_wheelchairs: 0,
        held: 0,
        booked: 0,
        blocked: 0,
    }];
    BoxOfficeReport {
        source: "office".into(),
        sequence,
        zones,
        health: Some(health),
        ..BoxOfficeReport::default()
    }
}

struct Sale {
    test: TestRoom,
    outside: Vec<QueueToken>,
    sequence: u64,
}

impl Sale {
    /// Seconds pass, the box office reports its health each half second, and called visitors ask to enter;
    /// entries in that time.
    async fn seconds(&mut self, seconds: u32, health: Option<BoxOfficeHealth>) -> usize {
        let before = self.outside.len();
        for tenth in 0..seconds * 10 {
            if let Some(health) = health.filter(|_| tenth % 5 == 0) {
                self.sequence += 1;
                self.test.room.receive_report(report(self.sequence, health));
            }
            self.test.clock.advance(Duration::from_millis(100));
            self.test.tick().await;
            if tenth % 10 == 0 {
                self.test.room.publish_status();
            }
            while let Some(token) = self.outside.last() {
                let Ok(EnterOutcome::Admitted { .. }) =
                    self.test.room.enter(token, BoxOfficeLoad::Normal).await
                else {
                    break;
                };
                self.outside.pop();
            }
        }
        before - self.outside.len()
    }

    fn rate(&self) -> (u32, u32) {
        let state = self.test.room.admission_settings();
        (
            state.admission_rate_per_minute,
            state.admission_rate_effective_per_minute,
        )
    }

    fn reason(&self) -> Option<String> {
        let status: serde_json::Value = serde_json::from_slice(&self.test.room.status().json).unwrap();
        status["reason"].as_str().map(str::to_owned)
    }
}

#[tokio::test]
async fn suffering_slows_admission_until_it_recovers() {
    let dir = TempDir::new();
    let terms = Config {
        admission_rate_per_minute: 600,
        admission_burst: None,
        active_visits_max: 5_000,
        queue_entries_max: 5_000,
        ..config()
    };
    let test = new_test_room(&dir, terms).await;
    test.passes(100);
    let mut outside = Vec::new();
    for n in 1..=1_500 {
        outside.push(test.joined(n).await.1);
    }
    // The lowest number is the last of the list, which is asked first.
    outside.reverse();
    test.passes(100);
    let mut sale = Sale {
        test,
        outside,
        sequence: 0,
    };
    sale.seconds(5, Some(WELL)).await;
    let well = sale.seconds(10, Some(WELL)).await;
    assert!(
        (90..=110).contains(&well),
        "{well} came in within ten seconds at ten a second"
    );
    for suffering in [SLOW, FAILING] {
        sale.seconds(12, Some(suffering)).await;
        assert_eq!(
            (sale.rate(), sale.reason().as_deref()),
            ((600, 60), Some("box_office_busy")),
            "{suffering:?}"
        );
        let slow = sale.seconds(10, Some(suffering)).await;
        assert!(
            (8..=12).contains(&slow),
            "{slow} came in within ten seconds at one a second"
        );
        sale.seconds(20, Some(WELL)).await;
        let (_, back) = sale.rate();
        assert!((300..=400).contains(&back), "half of the way back: {back}");
        sale.seconds(18, Some(WELL)).await;
        assert_eq!((sale.rate(), sale.reason()), ((600, 600), None));
        let again = sale.seconds(10, Some(WELL)).await;
        assert!(again >= 90, "{again}");
    }
    // Silence is no news: what was decided holds, and admission is careful. For five seconds what was said
    // last counts.
    sale.seconds(1, Some(SLOW)).await;
    sale.seconds(6, None).await;
    let (_, before) = sale.rate();
    sale.seconds(20, None).await;
    assert_eq!(
        (sale.rate().1, sale.reason().as_deref()),
        (before, Some("box_office_busy"))
    );
    sale.test.life.stop();
}

#[tokio::test]
async fn little_is_left_of_an_excessive_rate() {
    let dir = TempDir::new();
    let test = new_test_room(
        &dir,
        Config {
            admission_rate_per_minute: 1_200_000,
            admission_burst: None,
            ..config()
        },
    )
    .await;
    test.passes(200);
    let mut sale = Sale {
        test,
        outside: Vec::new(),
        sequence: 0,
    };
    sale.seconds(20, Some(FAILING)).await;
    assert_eq!(sale.rate(), (1_200_000, 6_000));
    sale.seconds(60, Some(WELL)).await;
    assert_eq!((sale.rate(), sale.reason()), ((1_200_000, 1_200_000), None));
    sale.test.life.stop();
}

#[tokio::test]
async fn a_reduced_rate_survives_a_restart() {
    let dir = TempDir::new();
    let test = new_test_room(
        &dir,
        Config {
            admission_rate_per_minute: 600,
            admission_burst: None,
            ..config()
        },
    )
    .await;
    test.passes(200);
    let mut sale = Sale {
        test,
        outside: Vec::new(),
        sequence: 0,
    };
    sale.seconds(5, Some(SLOW)).await;
    let (_, slow) = sale.rate();
    assert!(slow < 300, "{slow}");
    sale.test.life.stop();
    let again = new_test_room(
        &dir,
        Config {
            admission_rate_per_minute: 600,
            admission_burst: None,
            ..config()
        },
    )
    .await;
    assert_eq!(
        again
            .room
            .admission_settings()
            .admission_rate_effective_per_minute,
        slow
    );
    again.life.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_to_one_node_slows_all() {
    let server = RedisServer::start().await.unwrap();
    let terms = Config {
        active_visits_max: 1_000,
        ..nodes::config(Durability::Committed)
    };
    let nodes = Nodes::open(2, terms.clone(), server.url()).await;
    let clock = SystemClock::new();
    let until = async |health: BoxOfficeHealth, says: &dyn Fn(u32) -> bool| {
        let began = clock.monotonic();
        loop {
            // By the clock, so that it grows.
            let sequence = u64::try_from(clock.now().as_millis()).unwrap();
            nodes.rooms[0].receive_report(report(sequence, health));
            tokio::time::sleep(Duration::from_millis(100)).await;
            let states = nodes
                .rooms
                .iter()
                .map(|room| room.admission_settings())
                .collect::<Vec<_>>();
            if states
                .iter()
                .all(|state| says(state.admission_rate_effective_per_minute))
            {
                return states;
            }
            assert!(
                clock.monotonic().saturating_sub(began) < Duration::from_secs(20),
                "{states:?}"
            );
        }
    };
    let slow = until(FAILING, &|rate| rate < terms.admission_rate_per_minute / 2).await;
    assert!(
        slow.iter()
            .all(|state| state.reason == Some(DelayReason::BoxOfficeBusy)),
        "{slow:?}"
    );
    let lowest = slow
        .iter()
        .map(|state| state.admission_rate_effective_per_minute)
        .min()
        .unwrap();
    until(WELL, &|rate| rate > lowest + terms.admission_rate_per_minute / 20).await;
    nodes.life.stop();
}

//! A box office that becomes slow makes the door slow; and when it is well again, the door is as it was.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use serde_json::Value;
use stagedoor::{kernel::Clock};
use testkit::RedisServer;

use crate::{
    fan::Fan,
    environment::Pair,
    world::{Scene, World},
};

const VISITORS: u32 = 6;
/// Some seconds' worth of calls: after them the house knows how fast it usually answers.
const USUAL_AFTER: u32 = 600;

/// Takes a seat and gives it back, until told to go; whatever is answered.
async fn looks_around(world: &World, fan: &Fan, looks: &AtomicU32, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        looks.fetch_add(1, Ordering::Relaxed);
        let held = fan.hold_best(world, 1).await;
        if let Some(hold) = held.json["id"].as_str() {
            fan.call(Method::DELETE, &format!("/v1/holds/{hold}"), None).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The seats' engine answers in fits and starts: each call waits for up to a fifth of a second.
async fn drags(office: &RedisServer, slow: &AtomicBool, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        if slow.load(Ordering::Relaxed) {
            office.pause().unwrap();
            tokio::time::sleep(Duration::from_millis(220)).await;
            office.resume().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

async fn board(world: &World, node: usize) -> Value {
    let there = Fan {
        base: format!("http://{}", world.nodes[node].public),
        ..Fan::anonymous(world, 1)
    };
    there
        .call(Method::GET, &world.sale_path("status"), None)
        .await
        .expect(200)
}

async fn rate_in_metrics(world: &World, node: usize) -> u64 {
    let uri = format!("http://{}/metrics", world.nodes[node].ops)
        .parse()
        .unwrap();
    let answer = world
        .client
        .send(Method::GET, uri, &[], Bytes::new())
        .await
        .unwrap();
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("stagedoor_waiting_room_admission_rate_effective_per_second{"))
        .expect("it is measured");
    let per_second: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    (per_second * 60.0).round() as u64
}

/// Waits until both nodes' boards say so.
async fn until(world: &World, within: Duration, says: impl Fn(&Value) -> bool) {
    let end = world.clock.monotonic() + within;
    loop {
        let boards = [board(world, 0).await, board(world, 1).await];
        if boards.iter().all(&says) {
            return;
        }
        assert!(world.clock.monotonic() < end, "{boards:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_box_office_slows_admission_and_recovers() {
    let office = RedisServer::start().await.unwrap();
    let mut world = World::prepared_on(
        Pair {
            nodes: 2,
            ..Pair::default()
        },
        Scene {
            rate_per_minute: 6_000,
            ..Scene::default()
        },
    )
    .await;
    for node in &mut world.nodes {
        node.set("STAGEDOOR__BOX_OFFICE__REDIS__URL", office.url());
    }
    world.start().await;
    // All choose seats at the first node: the second hears of it by what they share.
    let mut fans = Vec::new();
    for customer in 1..=VISITORS {
        let mut fan = Fan::admitted(&world, customer).await;
        fan.base = format!("http://{}", world.nodes[0].public);
        fans.push(fan);
    }
    let (slow, over, looks) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU32::new(0));
    let is_well = |board: &Value| board["admission_rate_per_minute"] == 6_000 && board["reason"].is_null();
    let watches = async {
        until(&world, Duration::from_secs(30), |board| {
            is_well(board) && looks.load(Ordering::Relaxed) >= USUAL_AFTER
        })
        .await;
        slow.store(true, Ordering::Relaxed);
        let slowed = |board: &Value| {
            board["admission_rate_per_minute"].as_u64().unwrap() < 5_000 && board["reason"] == "box_office_busy"
        };
        until(&world, Duration::from_secs(20), slowed).await;
        assert!(rate_in_metrics(&world, 1).await < 6_000);
        slow.store(false, Ordering::Relaxed);
        until(&world, Duration::from_mins(1), is_well).await;
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(
        watches,
        drags(&office, &slow, &over),
        join_all(fans.iter().map(|fan| looks_around(&world, fan, &looks, &over)))
    );
    world.assert_no_panic();
}

//! A slow box office slows admission down, and admission recovers with it.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use http::Method;
use serde_json::Value;
use stagedoor::kernel::Clock;
use testkit::RedisServer;

use crate::{
    environment::Deployment,
    fan::Fan,
    world::{SaleConfig, World},
};

const VISITORS: u32 = 6;
/// Some seconds' worth of calls, from which the service learns its usual latency.
const BASELINE_CALLS: u32 = 600;

/// Holds a seat and releases it until `stop` is set, whatever the responses are.
async fn hold_and_release_until(world: &World, fan: &Fan, calls: &AtomicU32, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        calls.fetch_add(1, Ordering::Relaxed);
        let held = fan.hold_best(world, 1).await;
        if let Some(hold) = held.json["id"].as_str() {
            fan.call(Method::DELETE, &format!("/v1/holds/{hold}"), None).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Pauses the seat store's Redis again and again while `slow` is set; each call waits up to 220 ms.
async fn stall_redis_until(seat_redis: &RedisServer, slow: &AtomicBool, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if slow.load(Ordering::Relaxed) {
            seat_redis.pause().unwrap();
            tokio::time::sleep(Duration::from_millis(220)).await;
            seat_redis.resume().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

async fn queue_status(world: &World, node: usize) -> Value {
    let there = Fan {
        base: format!("http://{}", world.nodes[node].public),
        ..Fan::anonymous(world, 1)
    };
    there
        .call(Method::GET, &world.sale_path("status"), None)
        .await
        .expect(200)
}

async fn rate_in_metrics(world: &World, node: usize) -> f64 {
    let text = world.metrics(node).await;
    let line = text
        .lines()
        .find(|line| line.starts_with("stagedoor_waiting_room_admission_rate_effective_per_second{"))
        .expect("the metric is exported");
    let per_second: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    per_second * 60.0
}

/// The metrics of a node are set once a second, so they may follow the status.
async fn wait_for_reduced_metric(world: &World, node: usize) {
    let end = world.clock.monotonic() + Duration::from_secs(5);
    while rate_in_metrics(world, node).await >= 6_000.0 {
        assert!(world.clock.monotonic() < end, "the metric tells the full rate");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until the queue status of both nodes fulfills `says`.
async fn wait_until(world: &World, within: Duration, says: impl Fn(&Value) -> bool) {
    let end = world.clock.monotonic() + within;
    loop {
        let statuses = [queue_status(world, 0).await, queue_status(world, 1).await];
        if statuses.iter().all(&says) {
            return;
        }
        assert!(world.clock.monotonic() < end, "{statuses:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_box_office_slows_admission_and_recovers() {
    let seat_redis = RedisServer::start().await.unwrap();
    let mut world = World::prepared_on(
        Deployment {
            nodes: 2,
            ..Deployment::default()
        },
        SaleConfig {
            admission_rate_per_minute: 6_000,
            ..SaleConfig::default()
        },
    )
    .await;
    for node in &mut world.nodes {
        node.set("STAGEDOOR__BOX_OFFICE__REDIS__URL", seat_redis.url());
    }
    world.start().await;
    // All visitors choose seats at the first node; the second learns of its health through shared state.
    let mut fans = Vec::new();
    for customer in 1..=VISITORS {
        let mut fan = Fan::admitted(&world, customer).await;
        fan.base = format!("http://{}", world.nodes[0].public);
        fans.push(fan);
    }
    let (slow, stop, calls) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU32::new(0));
    let is_normal =
        |status: &Value| status["admission_rate_per_minute"] == 6_000 && status["reason"].is_null();
    let observation = async {
        wait_until(&world, Duration::from_secs(30), |status| {
            is_normal(status) && calls.load(Ordering::Relaxed) >= BASELINE_CALLS
        })
        .await;
        slow.store(true, Ordering::Relaxed);
        let slowed = |status: &Value| {
            status["admission_rate_per_minute"].as_u64().unwrap() < 5_000
                && status["reason"] == "box_office_busy"
        };
        wait_until(&world, Duration::from_secs(20), slowed).await;
        wait_for_reduced_metric(&world, 1).await;
        slow.store(false, Ordering::Relaxed);
        wait_until(&world, Duration::from_mins(1), is_normal).await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(
        observation,
        stall_redis_until(&seat_redis, &slow, &stop),
        join_all(
            fans.iter()
                .map(|fan| hold_and_release_until(&world, fan, &calls, &stop))
        )
    );
    world.assert_no_panic();
}

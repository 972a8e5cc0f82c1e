//! One of three nodes dies in the middle of a sale; or each is restarted in its turn.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use http::Method;
use stagedoor::{kernel::Clock, platform::http_client::HttpClient};

use crate::{
    fan::Fan,
    environment::Pair,
    load_scenario::{LoadScenario, SOON, retry_until, scene},
    world::{Scene, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn other_nodes_finish_the_orders_of_a_killed_node() {
    // A lease of six seconds, so that it runs out before a payment must.
    let mut rush = LoadScenario::begin(
        Pair::default(),
        Scene {
            gateway_deadline_ms: 1_000,
            ..scene()
        },
        31,
    )
    .await;
    rush.wait_for_orders(12).await;
    let victim = 0;
    let visitor = rush.buyer();
    let at_the_victim = Fan {
        base: rush.base_of(victim),
        ..visitor.clone()
    };
    let held = rush.holds(&at_the_victim, 1).await;
    // The gateway has the money; what it answered, the victim will not live to read.
    let buyers: Vec<Fan> = (0..3)
        .map(|_| Fan {
            base: rush.base_of(victim),
            ..rush.buyer()
        })
        .collect();
    let paying = join_all(
        buyers
            .into_iter()
            .map(|fan| rush.pay(fan, "tok_timeout_after_success")),
    )
    .await;
    rush.wait_for_gateway(&paying).await;

    let down = rush.world.clock.now();
    let driven = "SELECT COUNT(*) FROM stagedoor_ledger.saga WHERE NOT ended AND lease_owner LIKE 'node-0%'";
    assert!(
        rush.world.environment().query_number(driven).await > 0,
        "it has nothing in hand"
    );
    rush.world.nodes[victim].kill();

    // Her pass and her hold are the house's, not the node's.
    let path = format!("/v1/holds/{}", held["id"].as_str().unwrap());
    let asked = retry_until(&rush.world, SOON, async || {
        visitor.call(Method::GET, &path, None).await
    })
    .await;
    assert_eq!(asked.expect(200)["seats"], held["seats"]);
    rush.assert_recovers().await;
    rush.record_outage(down, rush.world.clock.now());
    rush.assert_entries_kept().await;
    for payment in paying {
        rush.assert_paid(payment, SOON).await;
    }
    let until = rush.world.clock.monotonic() + SOON;
    while rush.world.environment().query_number(driven).await > 0 {
        assert!(
            rush.world.clock.monotonic() < until,
            "somebody waits still for what the dead node had in hand"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    rush.world.nodes[victim].start().await;
    rush.finish_and_audit().await;
}

/// Looks, takes a seat, looks at it, gives it back, and goes on being a visitor, until told to stop; what failed.
async fn goes_about(world: &World, fan: Fan, over: &AtomicBool, served: &AtomicUsize) -> Vec<String> {
    // Connections of her own, as browsers have.
    let mut fan = Fan {
        client: HttpClient::new(Duration::from_secs(10), 1 << 20),
        ..fan
    };
    let mut failed = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let mut told = vec![(fan.call(Method::GET, &world.performance_path("seats"), None).await, 200)];
        let hold = fan.hold_best(world, 1).await;
        if let Some(id) = hold.json["id"].as_str() {
            let path = format!("/v1/holds/{id}");
            told.push((fan.call(Method::GET, &path, None).await, 200));
            told.push((fan.call(Method::DELETE, &path, None).await, 204));
            told.push((hold, 201));
        } else {
            // Somebody else was faster.
            told.push((hold, 409));
        }
        let renewed = fan.call(Method::PUT, &world.sale_path("admission"), None).await;
        fan.pass = renewed.json["pass"].as_str().map(str::to_owned).or(fan.pass);
        told.push((renewed, 200));
        for (said, expected) in told {
            if said.status == expected {
                served.fetch_add(1, Ordering::Relaxed);
            } else {
                failed.push(format!("{} instead of {expected}: {}", said.status, said.json));
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    failed
}

#[tokio::test(flavor = "multi_thread")]
async fn restarting_three_nodes_in_turn_fails_no_visitor() {
    let mut rush = LoadScenario::begin(Pair::default(), scene(), 32).await;
    let visitors: Vec<Fan> = (0..6).map(|_| rush.buyer()).collect();
    let nodes = std::mem::take(&mut rush.world.nodes);
    let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let going = join_all(
        visitors
            .into_iter()
            .map(|fan| goes_about(&rush.world, fan, &over, &served)),
    );
    let restarting = async {
        let mut restarted = Vec::new();
        for mut node in nodes {
            let before = served.load(Ordering::Relaxed);
            let status = node.stop().await;
            assert!(status.success(), "{status}");
            node.start().await;
            let meanwhile = served.load(Ordering::Relaxed) - before;
            assert!(meanwhile > 100, "only {meanwhile} requests were made meanwhile");
            restarted.push(node);
        }
        over.store(true, Ordering::Relaxed);
        restarted
    };
    let (failed, nodes) = tokio::join!(going, restarting);
    let failed = failed.concat();
    let served = served.into_inner();
    assert!(
        failed.is_empty(),
        "{} of {} failed: {:#?}",
        failed.len(),
        failed.len() + served,
        &failed[..failed.len().min(5)]
    );
    rush.world.nodes = nodes;
    rush.assert_recovers().await;
    rush.assert_entries_kept().await;
    rush.finish_and_audit().await;
}

//! One of three nodes is killed in the middle of a sale, or each is restarted in turn.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use http::Method;
use stagedoor::{kernel::Clock, platform::http_client::HttpClient};

use crate::{
    environment::Deployment,
    fan::Fan,
    load_scenario::{LoadScenario, RECOVERY_LIMIT, retry_until, sale_config},
    world::{SaleConfig, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn other_nodes_finish_the_orders_of_a_killed_node() {
    // A lease of six seconds, so that it expires before the payment does.
    let mut scenario = LoadScenario::begin(
        Deployment::default(),
        SaleConfig {
            gateway_timeout_ms: 1_000,
            ..sale_config()
        },
        31,
    )
    .await;
    scenario.wait_for_orders(12).await;
    let victim = 0;
    let visitor = scenario.buyer();
    let at_the_victim = Fan {
        base: scenario.base_of(victim),
        ..visitor.clone()
    };
    let held = scenario.hold_seats(&at_the_victim, 1).await;
    // The gateway has authorized these payments; the node is killed before it reads the responses.
    let buyers: Vec<Fan> = (0..3)
        .map(|_| Fan {
            base: scenario.base_of(victim),
            ..scenario.buyer()
        })
        .collect();
    let paying = join_all(
        buyers
            .into_iter()
            .map(|fan| scenario.pay(fan, "tok_timeout_after_success")),
    )
    .await;
    scenario.wait_for_gateway(&paying).await;

    let down = scenario.world.clock.now();
    let driven = "SELECT COUNT(*) FROM stagedoor_ledger.saga WHERE NOT ended AND lease_owner LIKE 'node-0%'";
    assert!(
        scenario.world.environment().query_number(driven).await > 0,
        "the node drives no order"
    );
    scenario.world.nodes[victim].kill();

    // Passes and holds are valid on every node.
    let path = format!("/v1/holds/{}", held["id"].as_str().unwrap());
    let asked = retry_until(&scenario.world, RECOVERY_LIMIT, async || {
        visitor.call(Method::GET, &path, None).await
    })
    .await;
    assert_eq!(asked.expect(200)["seats"], held["seats"]);
    scenario.assert_recovers().await;
    scenario.record_outage(down, scenario.world.clock.now());
    scenario.assert_entries_kept().await;
    for payment in paying {
        scenario.assert_paid(payment, RECOVERY_LIMIT).await;
    }
    let until = scenario.world.clock.monotonic() + RECOVERY_LIMIT;
    while scenario.world.environment().query_number(driven).await > 0 {
        assert!(
            scenario.world.clock.monotonic() < until,
            "orders of the dead node are still unfinished"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    scenario.world.nodes[victim].start().await;
    scenario.finish_and_audit().await;
}

/// Reads the map, holds a seat, reads and releases the hold, and renews the pass, until `stop` is set.
/// Returns the failures.
async fn use_service_until(world: &World, fan: Fan, stop: &AtomicBool, served: &AtomicUsize) -> Vec<String> {
    // A connection pool of its own, as a browser has.
    let mut fan = Fan {
        client: HttpClient::new(Duration::from_secs(10), 1 << 20),
        ..fan
    };
    let mut failed = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut replies = vec![(
            fan.call(Method::GET, &world.performance_path("seats"), None)
                .await,
            200,
        )];
        let hold = fan.hold_best(world, 1).await;
        if let Some(id) = hold.json["id"].as_str() {
            let path = format!("/v1/holds/{id}");
            replies.push((fan.call(Method::GET, &path, None).await, 200));
            replies.push((fan.call(Method::DELETE, &path, None).await, 204));
            replies.push((hold, 201));
        } else {
            // Another visitor was faster.
            replies.push((hold, 409));
        }
        let renewed = fan.call(Method::PUT, &world.sale_path("admission"), None).await;
        fan.pass = renewed.json["pass"].as_str().map(str::to_owned).or(fan.pass);
        replies.push((renewed, 200));
        for (reply, expected) in replies {
            if reply.status == expected {
                served.fetch_add(1, Ordering::Relaxed);
            } else {
                failed.push(format!("{} instead of {expected}: {}", reply.status, reply.json));
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    failed
}

#[tokio::test(flavor = "multi_thread")]
async fn restarting_three_nodes_in_turn_fails_no_visitor() {
    let mut scenario = LoadScenario::begin(Deployment::default(), sale_config(), 32).await;
    let visitors: Vec<Fan> = (0..6).map(|_| scenario.buyer()).collect();
    let nodes = std::mem::take(&mut scenario.world.nodes);
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let going = join_all(
        visitors
            .into_iter()
            .map(|fan| use_service_until(&scenario.world, fan, &stop, &served)),
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
        stop.store(true, Ordering::Relaxed);
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
    scenario.world.nodes = nodes;
    scenario.assert_recovers().await;
    scenario.assert_entries_kept().await;
    scenario.finish_and_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_node_delays_few_requests() {
    let mut world = World::open_on(
        Deployment {
            nodes: 2,
            ..Deployment::default()
        },
        SaleConfig::default(),
    )
    .await;
    let visitor = Fan::anonymous(&world, 1);
    let path = world.sale_path("");
    let path = path.trim_end_matches('/');
    visitor.call(Method::GET, path, None).await.expect(200);
    world.nodes[0].freeze();
    let until = world.clock.monotonic() + Duration::from_secs(20);
    let (mut requests, mut slow) = (0, Vec::new());
    while world.clock.monotonic() < until {
        let asked = world.clock.monotonic();
        let reply = visitor.call(Method::GET, path, None).await;
        assert_eq!(reply.status, 200, "the other node answers: {}", reply.json);
        let took = world.clock.monotonic().saturating_sub(asked);
        requests += 1;
        if took > Duration::from_secs(1) {
            slow.push(took);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.nodes[0].wake();
    assert!(
        slow.len() <= 3 && slow.iter().all(|took| *took < Duration::from_secs(7)),
        "of {requests} requests these were slow: {slow:?}"
    );
    world.kill();
}

//! Redis loses data, fails over or is unavailable in the middle of a sale.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use serde_json::Value;
use stagedoor::kernel::Clock;

use crate::{
    environment::{Backend, Deployment, Topology},
    fan::{Fan, Reply},
    load_scenario::{LoadScenario, RECOVERY_LIMIT, assert_unavailable, retry_until, sale_config},
    world::{SALE, SaleConfig, World},
};

fn with_replica() -> Deployment {
    Deployment {
        redis: Topology::WithReplica,
        ..Deployment::default()
    }
}

fn hold_path(hold: &Value) -> String {
    format!("/v1/holds/{}", hold["id"].as_str().unwrap())
}

/// Waits until the stores of queue and seats are both in a later epoch.
async fn until_epochs_after(world: &World, before: (i64, i64)) {
    let until = world.clock.monotonic() + RECOVERY_LIMIT;
    loop {
        let now = world.environment().epochs().await;
        if now.0 > before.0 && now.1 > before.1 {
            return;
        }
        assert!(
            world.clock.monotonic() < until,
            "the loss was not noticed: epochs {before:?}, now {now:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn flushall_recovers(durability: &'static str, seed: u64) {
    let mut scenario = LoadScenario::begin(
        Deployment {
            durability,
            ..Deployment::default()
        },
        sale_config(),
        seed,
    )
    .await;
    scenario.wait_for_orders(12).await;
    let before = scenario.world.environment().epochs().await;
    let holder = scenario.buyer();
    let forgotten = scenario.hold_seats(&holder, 2).await;
    let paying = scenario.start_payments(3).await;

    let down = scenario.world.clock.now();
    scenario
        .world
        .environment_mut()
        .server()
        .flush_all()
        .await
        .unwrap();
    until_epochs_after(&scenario.world, before).await;
    scenario.assert_recovers().await;
    scenario.record_outage(down, scenario.world.clock.now());

    let reply = retry_until(&scenario.world, RECOVERY_LIMIT, async || {
        holder.call(Method::GET, &hold_path(&forgotten), None).await
    })
    .await;
    reply.problem(404, "not-found");
    scenario.assert_entries_kept().await;
    for payment in paying {
        scenario.assert_paid(payment, RECOVERY_LIMIT).await;
    }
    scenario.finish_and_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flushall_loses_only_unpaid_holds() {
    flushall_recovers("committed", 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flushall_keeps_joins_with_async_durability() {
    flushall_recovers("async", 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_redis_recovers_from_the_append_only_file() {
    let mut scenario = LoadScenario::begin(Deployment::default(), sale_config(), 13).await;
    scenario.wait_for_orders(12).await;
    let before = scenario.world.environment().epochs().await;
    let ran = scenario
        .world
        .environment_mut()
        .server()
        .info("run_id")
        .await
        .unwrap();
    let fan = scenario.buyer();
    let paying = scenario.start_payments(3).await;

    let down = scenario.world.clock.now();
    scenario.world.environment_mut().server().kill9().unwrap();
    assert_unavailable(fan.hold_best(&scenario.world, 1).await, "store-unavailable");
    scenario.world.environment_mut().server().restart().await.unwrap();
    assert_ne!(
        scenario
            .world
            .environment_mut()
            .server()
            .info("run_id")
            .await
            .unwrap(),
        ran
    );
    until_epochs_after(&scenario.world, before).await;
    scenario.assert_recovers().await;
    scenario.record_outage(down, scenario.world.clock.now());

    scenario.assert_entries_kept().await;
    for payment in paying {
        scenario.assert_paid(payment, RECOVERY_LIMIT).await;
    }
    scenario.finish_and_audit().await;
}

/// Buyers hold one seat each at `node`.
async fn hold_one_seat_each(
    scenario: &mut LoadScenario,
    count: usize,
    node: Option<usize>,
) -> Vec<(Fan, Value)> {
    let mut held = Vec::new();
    for _ in 0..count {
        let mut fan = scenario.buyer();
        if let Some(node) = node {
            fan.base = scenario.base_of(node);
        }
        let hold = scenario.hold_seats(&fan, 1).await;
        held.push((fan, hold));
    }
    held
}

/// Other buyers hold the same seats, which the store granted before it lost those writes.
async fn hold_same_seats(
    scenario: &mut LoadScenario,
    first: &[(Fan, Value)],
    node: Option<usize>,
) -> Vec<(Fan, Value)> {
    let mut held = Vec::new();
    for (_, hold) in first {
        let mut fan = scenario.buyer();
        if let Some(node) = node {
            fan.base = scenario.base_of(node);
        }
        let seat = hold["seats"][0].as_str().unwrap();
        let reply = retry_until(&scenario.world, RECOVERY_LIMIT, async || {
            fan.hold(&scenario.world, &[seat]).await
        })
        .await;
        // A visitor of the crowd may get the seat first; that double grant cannot be followed.
        if reply.status == 201 {
            held.push((fan, reply.json));
        }
    }
    held
}

/// Both holders of each seat pay at once, and exactly one succeeds. Returns the number of double grants.
async fn pay_for_both_holds(
    scenario: &LoadScenario,
    first: Vec<(Fan, Value)>,
    second: Vec<(Fan, Value)>,
) -> usize {
    let mut doubles = 0;
    for (later, grant) in second {
        let seat = &grant["seats"][0];
        let (earlier, before) = first
            .iter()
            .find(|(_, hold)| hold["seats"][0] == *seat)
            .unwrap()
            .clone();
        doubles += 1;
        // A store that has just recovered may be unavailable once more; then the buyer retries.
        let pays = async |fan: &Fan, hold: &Value| {
            let (hold, key) = (hold["id"].as_str().unwrap(), format!("double-{}", fan.customer));
            retry_until(&scenario.world, RECOVERY_LIMIT, async || {
                fan.pay_with_key(hold, "tok_ok", &key).await
            })
            .await
        };
        let (one, other) = tokio::join!(pays(&earlier, &before), pays(&later, &grant));
        let mut statuses = [one.status, other.status];
        statuses.sort_unstable();
        assert_eq!(
            statuses,
            [201, 409],
            "seat {seat}: {} and {}",
            one.json,
            other.json
        );
        scenario
            .observer
            .wait_for_seat_state(&scenario.world, seat.as_str().unwrap(), "booked")
            .await;
    }
    doubles
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_with_lost_writes_sells_each_seat_once() {
    let mut scenario = LoadScenario::begin(with_replica(), sale_config(), 14).await;
    scenario.wait_for_orders(12).await;
    let before = scenario.world.environment().epochs().await;
    let replica = scenario.world.environment_mut().promote_replica().await;
    let first = hold_one_seat_each(&mut scenario, 3, None).await;
    let paying = scenario.start_payments(2).await;

    let down = scenario.world.clock.now();
    scenario.world.environment_mut().fail_over_to(replica);
    until_epochs_after(&scenario.world, before).await;
    let second = hold_same_seats(&mut scenario, &first, None).await;
    let doubles = pay_for_both_holds(&scenario, first, second).await;
    assert!(
        doubles > 0,
        "nothing was granted twice: the failover lost nothing"
    );
    scenario.assert_recovers().await;
    scenario.record_outage(down, scenario.world.clock.now());

    scenario.assert_entries_kept().await;
    for payment in paying {
        scenario.assert_paid(payment, RECOVERY_LIMIT).await;
    }
    scenario.finish_and_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_promote_the_replica_of_a_killed_primary() {
    let mut scenario = LoadScenario::begin(
        Deployment {
            redis: Topology::Sentinels,
            ..Deployment::default()
        },
        sale_config(),
        18,
    )
    .await;
    scenario.wait_for_orders(12).await;
    let before = scenario.world.environment().epochs().await;
    let fan = scenario.buyer();
    let paying = scenario.start_payments(3).await;

    let down = scenario.world.clock.now();
    let Backend::Sentinels(sentinels) = &mut scenario.world.environment_mut().redis else {
        unreachable!("the topology has sentinels")
    };
    sentinels.primary_mut().kill9().unwrap();
    // 503 whether the old primary does not respond or the new one is being rebuilt.
    assert_eq!(fan.hold_best(&scenario.world, 1).await.status, 503);
    // The killed primary is not restarted.
    until_epochs_after(&scenario.world, before).await;
    scenario.assert_recovers().await;
    scenario.record_outage(down, scenario.world.clock.now());

    scenario.assert_entries_kept().await;
    for payment in paying {
        scenario.assert_paid(payment, RECOVERY_LIMIT).await;
    }
    scenario.finish_and_audit().await;
}

/// Holds a seat and releases it; returns whether the hold was granted.
async fn try_hold(world: &World, buyer: &Fan) -> bool {
    let held = buyer.hold_best(world, 1).await;
    if held.status == 201 {
        buyer.call(Method::DELETE, &hold_path(&held.json), None).await;
    }
    held.status == 201
}

/// Counts the joins and holds that one side of a split acknowledges.
async fn acknowledged_by_side(
    world: &World,
    base: String,
    buyer: Fan,
    customers: std::ops::Range<u32>,
) -> (usize, usize) {
    let (mut joins, mut holds) = (0, 0);
    let buyer = Fan {
        base: base.clone(),
        ..buyer
    };
    for customer in customers {
        // Signs in through the balancer, which belongs to no side.
        let mut fan = Fan::sign_in(world, customer).await;
        fan.base.clone_from(&base);
        joins += usize::from(fan.join(world).await.status == 201);
        holds += usize::from(try_hold(world, &buyer).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (joins, holds)
}

/// A node on the old side notices the failover within milliseconds. Whether one of its payments reaches the
/// claim before that is chance, so the split is repeated until one does. The rest must hold every time.
const SPLITS_MAX: u64 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_split_brain_sells_no_seat_and_no_number_twice() {
    for seed in 0..SPLITS_MAX {
        if split_brain(15 + 100 * seed).await {
            return;
        }
    }
    panic!("no hold of the old side reached the claim in {SPLITS_MAX} splits");
}

/// Whether a hold of the old side was refused at the claim.
async fn split_brain(seed: u64) -> bool {
    let mut scenario = LoadScenario::begin(with_replica(), sale_config(), seed).await;
    scenario.wait_for_orders(12).await;
    let before = scenario.world.environment().epochs().await;
    let replica = scenario.world.environment_mut().promote_replica().await;
    let first = hold_one_seat_each(&mut scenario, 4, Some(0)).await;

    // The first node is frozen during the failover. Payments wait at its socket, and it resumes with the old
    // primary as its server.
    let down = scenario.world.clock.now();
    scenario.world.nodes[0].freeze();
    let paying = first.iter().map(|(fan, hold)| {
        let (mut fan, hold) = (fan.clone(), hold["id"].as_str().unwrap().to_owned());
        tokio::spawn(async move { fan.pay(&hold, "tok_ok").await })
    });
    let paying: Vec<_> = paying.collect();
    for proxy in &scenario.world.environment().proxies()[1..] {
        proxy.switch_to(replica.port());
    }
    until_epochs_after(&scenario.world, before).await;
    let second = hold_same_seats(&mut scenario, &first, Some(1)).await;
    assert!(
        !second.is_empty(),
        "nothing was granted twice: the split lost nothing"
    );
    for (fan, hold) in &second {
        let reply = fan.clone().pay(hold["id"].as_str().unwrap(), "tok_ok").await;
        assert_eq!(reply.status, 201, "{}", reply.json);
    }
    scenario.world.nodes[0].wake();
    let replies: Vec<Reply> = join_all(paying).await.into_iter().map(Result::unwrap).collect();

    // Both sides run, each with its own server.
    let (one, two) = (scenario.buyer(), scenario.buyer());
    let (old_side, new_side) = (scenario.base_of(0), scenario.base_of(1));
    let (old, new) = tokio::join!(
        acknowledged_by_side(&scenario.world, old_side, one, 300..330),
        acknowledged_by_side(&scenario.world, new_side, two, 330..360)
    );
    assert!(
        new.0 + new.1 > 0,
        "the new side acknowledges nothing: {old:?} and {new:?}"
    );

    // The split ends when the old primary is killed.
    scenario.world.environment_mut().fail_over_to(replica);
    scenario.assert_recovers().await;
    scenario.record_outage(down, scenario.world.clock.now());
    for (reply, (fan, hold)) in replies.into_iter().zip(&first) {
        if second
            .iter()
            .any(|(_, other)| other["seats"][0] == hold["seats"][0])
        {
            assert_order_fails(&scenario, reply, fan, hold).await;
        }
    }
    let refused = scenario
        .world
        .environment()
        .query_number("SELECT COUNT(*) FROM stagedoor_ledger.orders WHERE reason = 'seats_taken'")
        .await;
    scenario.assert_entries_kept().await;
    scenario.finish_and_audit().await;
    refused > 0
}

/// The seat belongs to another order: this order is refused at once or on retry, or ends without tickets.
async fn assert_order_fails(scenario: &LoadScenario, reply: Reply, fan: &Fan, hold: &Value) {
    let fan = Fan {
        base: scenario.world.base.clone(),
        ..fan.clone()
    };
    match reply.status {
        409 => {}
        202 => {
            fan.wait_for_order_state(
                &scenario.world,
                reply.json["id"].as_str().unwrap(),
                &["expired"],
                RECOVERY_LIMIT,
            )
            .await;
        }
        503 => {
            let again = retry_until(&scenario.world, RECOVERY_LIMIT, async || {
                fan.clone().pay(hold["id"].as_str().unwrap(), "tok_ok").await
            })
            .await;
            assert_eq!(again.status, 409, "seat {}: {}", hold["seats"][0], again.json);
        }
        other => panic!("seat {}: {other} {}", hold["seats"][0], reply.json),
    }
}

/// The queue status at this node.
async fn queue_status(scenario: &LoadScenario, node: usize) -> Value {
    let anonymous = Fan {
        base: scenario.base_of(node),
        ..Fan::anonymous(&scenario.world, 1)
    };
    anonymous
        .call(Method::GET, &scenario.world.sale_path("status"), None)
        .await
        .expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_five_second_outage_serves_a_stale_status() {
    let mut scenario = LoadScenario::begin(
        Deployment::default(),
        SaleConfig {
            hold_ttl_s: 20,
            ..sale_config()
        },
        16,
    )
    .await;
    scenario.wait_for_orders(12).await;
    let before = scenario.world.environment().epochs().await;
    let holder = scenario.buyer();
    let kept = scenario.hold_seats(&holder, 1).await;
    let newcomer = Fan::sign_in(&scenario.world, 400).await;
    let paying = scenario.start_payments(2).await;

    let (down, since) = (scenario.world.clock.now(), scenario.world.clock.monotonic());
    for proxy in scenario.world.environment().proxies() {
        proxy.refuse_connections();
    }
    for node in 0..scenario.world.nodes.len() {
        let at_this_one = |fan: &Fan| Fan {
            base: scenario.base_of(node),
            ..fan.clone()
        };
        assert_unavailable(
            at_this_one(&newcomer).join(&scenario.world).await,
            "store-unavailable",
        );
        assert_unavailable(
            at_this_one(&holder).hold_best(&scenario.world, 1).await,
            "store-unavailable",
        );
    }
    for node in 0..scenario.world.nodes.len() {
        while queue_status(&scenario, node).await["stale"] != true {
            let waited = scenario.world.clock.monotonic().saturating_sub(since);
            assert!(
                waited < Duration::from_secs(4),
                "node {node} does not mark its status as stale"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    // During the outage the status is served, and its version never falls.
    let mut version = 0;
    while scenario.world.clock.monotonic().saturating_sub(since) < Duration::from_secs(5) {
        let now = queue_status(&scenario, 1).await;
        assert_eq!(now["stale"], true, "{now}");
        assert!(now["version"].as_u64().unwrap() >= version, "{now}");
        version = now["version"].as_u64().unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let port = scenario.world.environment_mut().server().port();
    for proxy in scenario.world.environment().proxies() {
        proxy.switch_to(port);
    }
    scenario.assert_recovers().await;
    scenario.record_outage(down, scenario.world.clock.now());
    for node in 0..scenario.world.nodes.len() {
        while queue_status(&scenario, node).await["stale"] == true {
            assert!(
                scenario.world.clock.monotonic().saturating_sub(since)
                    < Duration::from_secs(5) + RECOVERY_LIMIT,
                "the status of node {node} stays stale"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    // The same server with all its data: no hold is lost.
    assert_eq!(
        scenario.world.environment().epochs().await,
        before,
        "the store was rebuilt although no data was lost"
    );
    let reply = retry_until(&scenario.world, RECOVERY_LIMIT, async || {
        holder.call(Method::GET, &hold_path(&kept), None).await
    })
    .await;
    assert_eq!(reply.expect(200)["seats"], kept["seats"]);
    scenario.assert_entries_kept().await;
    for payment in paying {
        scenario.assert_paid(payment, RECOVERY_LIMIT).await;
    }
    scenario.finish_and_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_slots_move_during_the_sale() {
    let mut scenario = LoadScenario::begin(
        Deployment {
            redis: Topology::Cluster,
            ..Deployment::default()
        },
        sale_config(),
        17,
    )
    .await;
    scenario.wait_for_orders(10).await;
    let before = scenario.world.environment().epochs().await;
    let fan = scenario.buyer();
    let kept = scenario.hold_seats(&fan, 1).await;
    let paying = scenario.start_payments(2).await;
    let served_before = served(&scenario.world);
    for round in 0..3 {
        let Backend::Cluster(cluster) = &scenario.world.environment().redis else {
            unreachable!("the topology is a cluster")
        };
        for key in [
            format!("{{{SALE}}}"),
            format!("{{{SALE}:{}}}", crate::world::PERFORMANCE),
        ] {
            let from = cluster.owner_of_key(&key).await.unwrap();
            cluster.move_slot_of_key(&key, (from + 1) % 3).await.unwrap();
            assert_ne!(cluster.owner_of_key(&key).await.unwrap(), from);
        }
        // Some orders use the new slot layout.
        scenario.wait_for_orders(25 + 12 * round).await;
    }
    scenario.assert_recovers().await;
    let (all, failed) = served(&scenario.world);
    let (all, failed) = (all - served_before.0, failed - served_before.1);
    assert!(all > 200, "only {all} requests were made meanwhile");
    assert!(failed * 100 < all, "{failed} of {all} requests failed");
    assert_eq!(
        scenario.world.environment().epochs().await,
        before,
        "a slot move lost data"
    );
    let reply = fan.call(Method::GET, &hold_path(&kept), None).await;
    assert_eq!(reply.expect(200)["seats"], kept["seats"]);
    scenario.assert_entries_kept().await;
    for payment in paying {
        scenario.assert_paid(payment, RECOVERY_LIMIT).await;
    }
    scenario.finish_and_audit().await;
}

/// Requests that the balancer has answered so far, and how many of them with a 5xx status.
fn served(world: &World) -> (usize, usize) {
    let log = world.environment().balancer_log();
    // Combined format: the status follows the quoted request line.
    let statuses: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split("\" ").nth(1)?.split(' ').next())
        .collect();
    (
        statuses.len(),
        statuses.iter().filter(|status| status.starts_with('5')).count(),
    )
}

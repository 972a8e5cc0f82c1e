//! Redis loses what it knew, or is somebody else, or is away, in the middle of a sale.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use serde_json::Value;
use stagedoor::kernel::Clock;

use crate::{
    fan::{Fan, Reply},
    environment::{Backend, Pair, Topology},
    load_scenario::{LoadScenario, SOON, retry_until, assert_unavailable, scene},
    world::{SALE, Scene, World},
};

fn with_replica() -> Pair {
    Pair {
        redis: Topology::WithReplica,
        ..Pair::default()
    }
}

fn hold_path(hold: &Value) -> String {
    format!("/v1/holds/{}", hold["id"].as_str().unwrap())
}

/// Waits until queue and seats are both in a later memory than this.
async fn until_epochs_after(world: &World, before: (i64, i64)) {
    let until = world.clock.monotonic() + SOON;
    loop {
        let now = world.environment().epochs().await;
        if now.0 > before.0 && now.1 > before.1 {
            return;
        }
        assert!(
            world.clock.monotonic() < until,
            "nobody noticed: epochs {before:?}, now {now:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn everything_is_flushed(durability: &'static str, seed: u64) {
    let mut rush = LoadScenario::begin(
        Pair {
            durability,
            ..Pair::default()
        },
        scene(),
        seed,
    )
    .await;
    rush.wait_for_orders(12).await;
    let before = rush.world.environment().epochs().await;
    let holder = rush.buyer();
    let forgotten = rush.holds(&holder, 2).await;
    let paying = rush.start_payments(3).await;

    let down = rush.world.clock.now();
    rush.world.environment_mut().server().flush_all().await.unwrap();
    until_epochs_after(&rush.world, before).await;
    rush.assert_recovers().await;
    rush.record_outage(down, rush.world.clock.now());

    let asked = retry_until(&rush.world, SOON, async || {
        holder.call(Method::GET, &hold_path(&forgotten), None).await
    })
    .await;
    asked.problem(404, "not-found");
    rush.assert_entries_kept().await;
    for payment in paying {
        rush.assert_paid(payment, SOON).await;
    }
    rush.finish_and_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flushall_loses_only_unpaid_holds() {
    everything_is_flushed("committed", 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flushall_keeps_joins_with_async_durability() {
    everything_is_flushed("async", 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_redis_recovers_from_the_append_only_file() {
    let mut rush = LoadScenario::begin(Pair::default(), scene(), 13).await;
    rush.wait_for_orders(12).await;
    let before = rush.world.environment().epochs().await;
    let ran = rush.world.environment_mut().server().info("run_id").await.unwrap();
    let fan = rush.buyer();
    let paying = rush.start_payments(3).await;

    let down = rush.world.clock.now();
    rush.world.environment_mut().server().kill9().unwrap();
    assert_unavailable(fan.hold_best(&rush.world, 1).await, "store-unavailable");
    rush.world.environment_mut().server().restart().await.unwrap();
    assert_ne!(
        rush.world.environment_mut().server().info("run_id").await.unwrap(),
        ran
    );
    until_epochs_after(&rush.world, before).await;
    rush.assert_recovers().await;
    rush.record_outage(down, rush.world.clock.now());

    rush.assert_entries_kept().await;
    for payment in paying {
        rush.assert_paid(payment, SOON).await;
    }
    rush.finish_and_audit().await;
}

/// Buyers hold one seat each through this node.
async fn hold_apart(rush: &mut LoadScenario, count: usize, node: Option<usize>) -> Vec<(Fan, Value)> {
    let mut held = Vec::new();
    for _ in 0..count {
        let mut fan = rush.buyer();
        if let Some(node) = node {
            fan.base = rush.base_of(node);
        }
        let hold = rush.holds(&fan, 1).await;
        held.push((fan, hold));
    }
    held
}

/// Others ask for exactly those seats until the engine answers; all of them get what somebody else was given before.
async fn hold_the_same(rush: &mut LoadScenario, first: &[(Fan, Value)], node: Option<usize>) -> Vec<(Fan, Value)> {
    let mut held = Vec::new();
    for (_, hold) in first {
        let mut fan = rush.buyer();
        if let Some(node) = node {
            fan.base = rush.base_of(node);
        }
        let seat = hold["seats"][0].as_str().unwrap();
        let said = retry_until(&rush.world, SOON, async || fan.hold(&rush.world, &[seat]).await).await;
        // Somebody of the crowd may be faster than she; that is a double grant too, but not one that can be followed.
        if said.status == 201 {
            held.push((fan, said.json));
        }
    }
    held
}

/// For every seat that both hold, both pay at once; says how often both had been granted it.
async fn one_of_two_gets_it(rush: &LoadScenario, first: Vec<(Fan, Value)>, second: Vec<(Fan, Value)>) -> usize {
    let mut doubles = 0;
    for (later, grant) in second {
        let seat = &grant["seats"][0];
        let (earlier, before) = first
            .iter()
            .find(|(_, hold)| hold["seats"][0] == *seat)
            .unwrap()
            .clone();
        doubles += 1;
        // An engine that has just come back may be away once more: whoever is told so asks again.
        let pays = async |fan: &Fan, hold: &Value| {
            let (hold, key) = (hold["id"].as_str().unwrap(), format!("double-{}", fan.customer));
            retry_until(&rush.world, SOON, async || {
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
        rush.observer
            .wait_for_seat_state(&rush.world, seat.as_str().unwrap(), "booked")
            .await;
    }
    doubles
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_with_lost_writes_sells_each_seat_once() {
    let mut rush = LoadScenario::begin(with_replica(), scene(), 14).await;
    rush.wait_for_orders(12).await;
    let before = rush.world.environment().epochs().await;
    let replica = rush.world.environment_mut().replaced_server().await;
    let first = hold_apart(&mut rush, 3, None).await;
    let paying = rush.start_payments(2).await;

    let down = rush.world.clock.now();
    rush.world.environment_mut().fail_over_to(replica);
    until_epochs_after(&rush.world, before).await;
    let second = hold_the_same(&mut rush, &first, None).await;
    let doubles = one_of_two_gets_it(&rush, first, second).await;
    assert!(
        doubles > 0,
        "nothing was granted twice: the failover lost nothing"
    );
    rush.assert_recovers().await;
    rush.record_outage(down, rush.world.clock.now());

    rush.assert_entries_kept().await;
    for payment in paying {
        rush.assert_paid(payment, SOON).await;
    }
    rush.finish_and_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_promote_the_replica_of_a_killed_primary() {
    let mut rush = LoadScenario::begin(
        Pair {
            redis: Topology::Sentinels,
            ..Pair::default()
        },
        scene(),
        18,
    )
    .await;
    rush.wait_for_orders(12).await;
    let before = rush.world.environment().epochs().await;
    let fan = rush.buyer();
    let paying = rush.start_payments(3).await;

    let down = rush.world.clock.now();
    let Backend::Sentinels(watched) = &mut rush.world.environment_mut().redis else {
        unreachable!("they watch it")
    };
    watched.primary_mut().kill9().unwrap();
    // Whether she waits in vain for the old one or is told that the new one is being filled.
    assert_eq!(fan.hold_best(&rush.world, 1).await.status, 503);
    // Nobody starts it again.
    until_epochs_after(&rush.world, before).await;
    rush.assert_recovers().await;
    rush.record_outage(down, rush.world.clock.now());

    rush.assert_entries_kept().await;
    for payment in paying {
        rush.assert_paid(payment, SOON).await;
    }
    rush.finish_and_audit().await;
}

/// Holds a seat, if she can, and gives it back.
async fn holds_once(world: &World, buyer: &Fan) -> bool {
    let held = buyer.hold_best(world, 1).await;
    if held.status == 201 {
        buyer.call(Method::DELETE, &hold_path(&held.json), None).await;
    }
    held.status == 201
}

/// What one side of a split goes on promising: places and holds that it acknowledged.
async fn promises(
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
        // Signed in through the balancer, which is no side's.
        let mut fan = Fan::sign_in(world, customer).await;
        fan.base.clone_from(&base);
        joins += usize::from(fan.join(world).await.status == 201);
        holds += usize::from(holds_once(world, &buyer).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (joins, holds)
}

/// A node that wakes up on the wrong side finds that out within milliseconds. Whether what its fans want to pay is as far
/// as the claim by then is chance, so it is tried until it is; all the rest must hold every time.
const SPLITS_MAX: u64 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_split_brain_sells_no_seat_and_no_number_twice() {
    for seed in 0..SPLITS_MAX {
        if split_brain(15 + 100 * seed).await {
            return;
        }
    }
    panic!("in {SPLITS_MAX} splits no hold of the old side came as far as the claim");
}

/// Whether a hold of the old side was refused at the claim.
async fn split_brain(seed: u64) -> bool {
    let mut rush = LoadScenario::begin(with_replica(), scene(), seed).await;
    rush.wait_for_orders(12).await;
    let before = rush.world.environment().epochs().await;
    let replica = rush.world.environment_mut().replaced_server().await;
    let first = hold_apart(&mut rush, 4, Some(0)).await;

    // The first node sleeps over the failover. What its fans want to pay waits at its socket, and it wakes up in the
    // belief that the old primary is the one.
    let down = rush.world.clock.now();
    rush.world.nodes[0].freeze();
    let paying = first.iter().map(|(fan, hold)| {
        let (mut fan, hold) = (fan.clone(), hold["id"].as_str().unwrap().to_owned());
        tokio::spawn(async move { fan.pay(&hold, "tok_ok").await })
    });
    let paying: Vec<_> = paying.collect();
    for door in &rush.world.environment().proxies()[1..] {
        door.switch_to(replica.port());
    }
    until_epochs_after(&rush.world, before).await;
    let second = hold_the_same(&mut rush, &first, Some(1)).await;
    assert!(
        !second.is_empty(),
        "nothing was granted twice: the split lost nothing"
    );
    for (fan, hold) in &second {
        let said = fan.clone().pay(hold["id"].as_str().unwrap(), "tok_ok").await;
        assert_eq!(said.status, 201, "{}", said.json);
    }
    rush.world.nodes[0].wake();
    let told: Vec<Reply> = join_all(paying).await.into_iter().map(Result::unwrap).collect();

    // Both sides are awake and each believes in its own server.
    let (one, two) = (rush.buyer(), rush.buyer());
    let (old_side, new_side) = (rush.base_of(0), rush.base_of(1));
    let (old, new) = tokio::join!(
        promises(&rush.world, old_side, one, 300..330),
        promises(&rush.world, new_side, two, 330..360)
    );
    assert!(
        new.0 + new.1 > 0,
        "the new side is not awake: {old:?} and {new:?}"
    );

    // It ends when the old primary does.
    rush.world.environment_mut().fail_over_to(replica);
    rush.assert_recovers().await;
    rush.record_outage(down, rush.world.clock.now());
    for (told, (fan, hold)) in told.into_iter().zip(&first) {
        if second
            .iter()
            .any(|(_, other)| other["seats"][0] == hold["seats"][0])
        {
            comes_to_nothing(&rush, told, fan, hold).await;
        }
    }
    let refused = rush
        .world
        .environment()
        .query_number("SELECT COUNT(*) FROM stagedoor_ledger.orders WHERE reason = 'seats_taken'")
        .await;
    rush.assert_entries_kept().await;
    rush.finish_and_audit().await;
    refused > 0
}

/// The seat is somebody else's: the order was refused at once, or ends without tickets, or is refused when she asks again.
async fn comes_to_nothing(rush: &LoadScenario, told: Reply, fan: &Fan, hold: &Value) {
    let fan = Fan {
        base: rush.world.base.clone(),
        ..fan.clone()
    };
    match told.status {
        409 => {}
        202 => {
            fan.wait_for_order_state(&rush.world, told.json["id"].as_str().unwrap(), &["expired"], SOON)
                .await;
        }
        503 => {
            let again = retry_until(&rush.world, SOON, async || {
                fan.clone().pay(hold["id"].as_str().unwrap(), "tok_ok").await
            })
            .await;
            assert_eq!(again.status, 409, "seat {}: {}", hold["seats"][0], again.json);
        }
        other => panic!("seat {}: {other} {}", hold["seats"][0], told.json),
    }
}

/// The board as this node has it.
async fn board(rush: &LoadScenario, node: usize) -> Value {
    let stranger = Fan {
        base: rush.base_of(node),
        ..Fan::anonymous(&rush.world, 1)
    };
    stranger
        .call(Method::GET, &rush.world.sale_path("status"), None)
        .await
        .expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_five_second_outage_serves_a_stale_status() {
    let mut rush = LoadScenario::begin(
        Pair::default(),
        Scene {
            hold_s: 20,
            ..scene()
        },
        16,
    )
    .await;
    rush.wait_for_orders(12).await;
    let before = rush.world.environment().epochs().await;
    let holder = rush.buyer();
    let kept = rush.holds(&holder, 1).await;
    let newcomer = Fan::sign_in(&rush.world, 400).await;
    let paying = rush.start_payments(2).await;

    let (down, since) = (rush.world.clock.now(), rush.world.clock.monotonic());
    for door in rush.world.environment().proxies() {
        door.refuse_connections();
    }
    for node in 0..rush.world.nodes.len() {
        let at_this_one = |fan: &Fan| Fan {
            base: rush.base_of(node),
            ..fan.clone()
        };
        assert_unavailable(at_this_one(&newcomer).join(&rush.world).await, "store-unavailable");
        assert_unavailable(
            at_this_one(&holder).hold_best(&rush.world, 1).await,
            "store-unavailable",
        );
    }
    for node in 0..rush.world.nodes.len() {
        while board(&rush, node).await["stale"] != true {
            let waited = rush.world.clock.monotonic().saturating_sub(since);
            assert!(
                waited < Duration::from_secs(4),
                "node {node} does not say that its board is old"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    // It stays away for a while: all that time the board is there, and the version only grows.
    let mut version = 0;
    while rush.world.clock.monotonic().saturating_sub(since) < Duration::from_secs(5) {
        let now = board(&rush, 1).await;
        assert_eq!(now["stale"], true, "{now}");
        assert!(now["version"].as_u64().unwrap() >= version, "{now}");
        version = now["version"].as_u64().unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let port = rush.world.environment_mut().server().port();
    for door in rush.world.environment().proxies() {
        door.switch_to(port);
    }
    rush.assert_recovers().await;
    rush.record_outage(down, rush.world.clock.now());
    for node in 0..rush.world.nodes.len() {
        while board(&rush, node).await["stale"] == true {
            assert!(
                rush.world.clock.monotonic().saturating_sub(since) < Duration::from_secs(5) + SOON,
                "node {node} shows an old board for ever"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    // The same server with all that it had: nobody loses a hold.
    assert_eq!(
        rush.world.environment().epochs().await,
        before,
        "nothing was lost, and yet the memory was made anew"
    );
    let asked = retry_until(&rush.world, SOON, async || {
        holder.call(Method::GET, &hold_path(&kept), None).await
    })
    .await;
    assert_eq!(asked.expect(200)["seats"], kept["seats"]);
    rush.assert_entries_kept().await;
    for payment in paying {
        rush.assert_paid(payment, SOON).await;
    }
    rush.finish_and_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_slots_move_during_the_sale() {
    let mut rush = LoadScenario::begin(
        Pair {
            redis: Topology::Cluster,
            ..Pair::default()
        },
        scene(),
        17,
    )
    .await;
    rush.wait_for_orders(10).await;
    let before = rush.world.environment().epochs().await;
    let fan = rush.buyer();
    let kept = rush.holds(&fan, 1).await;
    let paying = rush.start_payments(2).await;
    let served_before = served(&rush.world);
    for round in 0..3 {
        let Backend::Cluster(cluster) = &rush.world.environment().redis else {
            unreachable!("on a cluster")
        };
        for key in [
            format!("{{{SALE}}}"),
            format!("{{{SALE}:{}}}", crate::world::PERFORMANCE),
        ] {
            let from = cluster.owner_of_key(&key).await.unwrap();
            cluster.move_slot_of_key(&key, (from + 1) % 3).await.unwrap();
            assert_ne!(cluster.owner_of_key(&key).await.unwrap(), from);
        }
        // Some of the sale goes over the cluster as it now is.
        rush.wait_for_orders(25 + 12 * round).await;
    }
    rush.assert_recovers().await;
    let (all, failed) = served(&rush.world);
    let (all, failed) = (all - served_before.0, failed - served_before.1);
    assert!(all > 200, "only {all} requests were made meanwhile");
    assert!(failed * 100 < all, "{failed} of {all} requests failed");
    assert_eq!(
        rush.world.environment().epochs().await,
        before,
        "what was moved was not lost"
    );
    let asked = fan.call(Method::GET, &hold_path(&kept), None).await;
    assert_eq!(asked.expect(200)["seats"], kept["seats"]);
    rush.assert_entries_kept().await;
    for payment in paying {
        rush.assert_paid(payment, SOON).await;
    }
    rush.finish_and_audit().await;
}

/// Requests that the balancer has answered so far, and how many of them as a failure.
fn served(world: &World) -> (usize, usize) {
    let log = world.environment().balancer_log();
    // Combined format: the status follows the quoted request line.
    let statuses: Vec<&str> = log
        .lines()
        .filter_map(|it| it.split("\" ").nth(1)?.split(' ').next())
        .collect();
    (
        statuses.len(),
        statuses.iter().filter(|it| it.starts_with('5')).count(),
    )
}

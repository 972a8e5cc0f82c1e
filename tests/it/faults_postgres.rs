//! PostgreSQL is killed or unavailable in the middle of a sale.

use std::time::Duration;

use http::Method;
use stagedoor::kernel::Clock;

use crate::{
    environment::Deployment,
    fan::Fan,
    load_scenario::{LoadScenario, RECOVERY_LIMIT, assert_unavailable, retry_until, sale_config},
    world::{SaleConfig, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_postgres_loses_no_order() {
    let mut scenario = LoadScenario::begin(Deployment::default(), sale_config(), 21).await;
    scenario.wait_for_orders(12).await;
    let before = scenario.world.environment().epochs().await;
    let mut holder = scenario.buyer();
    let kept = scenario.hold_seats(&holder, 1).await;
    let id = kept["id"].as_str().unwrap();
    let paying = scenario.start_payments(3).await;

    let (down, since) = (scenario.world.clock.now(), scenario.world.clock.monotonic());
    scenario.world.environment_mut().postgres.kill9().unwrap();
    assert_unavailable(
        holder.pay_with_key(id, "tok_ok", "during the outage").await,
        "ledger-unavailable",
    );
    let other = scenario.buyer();
    let held = other.hold_best(&scenario.world, 1).await;
    assert_eq!(held.status, 201, "seats can be chosen meanwhile: {}", held.json);
    while scenario.world.clock.monotonic().saturating_sub(since) < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    scenario.world.environment_mut().postgres.restart().await.unwrap();
    scenario.assert_recovers().await;
    scenario.record_outage(down, scenario.world.clock.now());

    let paid = retry_until(&scenario.world, RECOVERY_LIMIT, async || {
        holder.pay_with_key(id, "tok_ok", "during the outage").await
    })
    .await;
    assert!(matches!(paid.status, 201 | 202), "{} {}", paid.status, paid.json);
    holder.serial += 1;
    assert_eq!(
        scenario.world.environment().epochs().await,
        before,
        "a store lost data"
    );
    scenario.assert_entries_kept().await;
    for payment in paying {
        scenario.assert_paid(payment, RECOVERY_LIMIT).await;
    }
    scenario.finish_and_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_five_second_outage_keeps_holds_and_admits_none() {
    let mut scenario = LoadScenario::begin(
        Deployment::default(),
        SaleConfig {
            hold_ttl_s: 20,
            ..sale_config()
        },
        22,
    )
    .await;
    scenario.wait_for_orders(12).await;
    let holder = scenario.buyer();
    let kept = scenario.hold_seats(&holder, 1).await;
    let newcomer = Fan::sign_in(&scenario.world, 400).await;
    let paying = scenario.start_payments(2).await;

    let (down, since) = (scenario.world.clock.now(), scenario.world.clock.monotonic());
    scenario.world.environment().postgres.pause().unwrap();
    let (world, meanwhile) = (&scenario.world, scenario.buyers.last().unwrap());
    let (order, joined, held) = tokio::join!(
        holder.pay_with_key(kept["id"].as_str().unwrap(), "tok_ok", "during the outage"),
        async { newcomer.clone().join(world).await },
        meanwhile.hold_best(world, 1),
    );
    assert_eq!(
        (order.status, joined.status, held.status),
        (503, 503, 201),
        "{} {} {}",
        order.json,
        joined.json,
        held.json
    );
    for (reply, slug) in [(order, "ledger-unavailable"), (joined, "journal-unavailable")] {
        assert_unavailable(reply, slug);
    }
    let live = holder
        .call(
            Method::GET,
            &format!("/v1/holds/{}", kept["id"].as_str().unwrap()),
            None,
        )
        .await
        .expect(200);
    assert_eq!(live["seats"], kept["seats"]);
    while scenario.world.clock.monotonic().saturating_sub(since) < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    scenario.world.environment().postgres.resume().unwrap();
    let up = scenario.world.clock.now();
    scenario.assert_recovers().await;
    scenario.record_outage(down, scenario.world.clock.now());

    scenario.assert_none_admitted(down.plus(Duration::from_millis(500)), up);
    let id = kept["id"].as_str().unwrap();
    let paid = retry_until(&scenario.world, RECOVERY_LIMIT, async || {
        holder.pay_with_key(id, "tok_ok", "during the outage").await
    })
    .await;
    assert!(matches!(paid.status, 201 | 202), "{} {}", paid.status, paid.json);
    scenario.assert_entries_kept().await;
    for payment in paying {
        scenario.assert_paid(payment, RECOVERY_LIMIT).await;
    }
    scenario.finish_and_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_are_refused_soon_while_postgres_is_down() {
    let mut world = World::open_on(
        Deployment {
            nodes: 1,
            ..Deployment::default()
        },
        SaleConfig::default(),
    )
    .await;
    let mut fans = Vec::new();
    for customer in 1..=24 {
        fans.push(Fan::sign_in(&world, customer).await);
    }
    fans[0].join(&world).await.expect(201);
    world.environment_mut().postgres.kill9().unwrap();
    let mut waits = Vec::new();
    for fan in &mut fans[1..] {
        let asked = world.clock.monotonic();
        assert_unavailable(fan.join(&world).await, "journal-unavailable");
        waits.push(world.clock.monotonic().saturating_sub(asked));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(
        waits.iter().all(|wait| *wait < Duration::from_millis(2_600)),
        "{waits:?}"
    );
    let slow = waits
        .iter()
        .filter(|wait| **wait > Duration::from_millis(300))
        .count();
    assert!(slow <= 2, "only the first wait for the database: {waits:?}");
    world.environment_mut().postgres.restart().await.unwrap();
    let mut fan = fans.pop().unwrap();
    let until = world.clock.monotonic() + RECOVERY_LIMIT;
    while fan.join(&world).await.status != 201 {
        assert!(world.clock.monotonic() < until, "joins do not recover");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.assert_no_panic();
}

//! PostgreSQL dies, or is away, in the middle of a sale.

use std::time::Duration;

use http::Method;
use stagedoor::kernel::Clock;

use crate::{
    fan::Fan,
    environment::Pair,
    load_scenario::{LoadScenario, SOON, retry_until, assert_unavailable, scene},
    world::Scene,
};

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_postgres_loses_no_order() {
    let mut rush = LoadScenario::begin(Pair::default(), scene(), 21).await;
    rush.wait_for_orders(12).await;
    let before = rush.world.environment().epochs().await;
    let mut holder = rush.buyer();
    let kept = rush.holds(&holder, 1).await;
    let id = kept["id"].as_str().unwrap();
    let paying = rush.start_payments(3).await;

    let (down, since) = (rush.world.clock.now(), rush.world.clock.monotonic());
    rush.world.environment_mut().postgres.kill9().unwrap();
    assert_unavailable(
        holder.pay_with_key(id, "tok_ok", "in the dark").await,
        "ledger-unavailable",
    );
    let other = rush.buyer();
    let held = other.hold_best(&rush.world, 1).await;
    assert_eq!(held.status, 201, "seats can be chosen meanwhile: {}", held.json);
    while rush.world.clock.monotonic().saturating_sub(since) < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    rush.world.environment_mut().postgres.restart().await.unwrap();
    rush.assert_recovers().await;
    rush.record_outage(down, rush.world.clock.now());

    let paid = retry_until(&rush.world, SOON, async || {
        holder.pay_with_key(id, "tok_ok", "in the dark").await
    })
    .await;
    assert!(matches!(paid.status, 201 | 202), "{} {}", paid.status, paid.json);
    holder.serial += 1;
    assert_eq!(
        rush.world.environment().epochs().await,
        before,
        "no engine lost anything"
    );
    rush.assert_entries_kept().await;
    for payment in paying {
        rush.assert_paid(payment, SOON).await;
    }
    rush.finish_and_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_five_second_outage_keeps_holds_and_admits_none() {
    let mut rush = LoadScenario::begin(
        Pair::default(),
        Scene {
            hold_s: 20,
            ..scene()
        },
        22,
    )
    .await;
    rush.wait_for_orders(12).await;
    let holder = rush.buyer();
    let kept = rush.holds(&holder, 1).await;
    let newcomer = Fan::sign_in(&rush.world, 400).await;
    let paying = rush.start_payments(2).await;

    let (down, since) = (rush.world.clock.now(), rush.world.clock.monotonic());
    rush.world.environment().postgres.pause().unwrap();
    let (world, meanwhile) = (&rush.world, rush.buyers.last().unwrap());
    let (order, joined, held) = tokio::join!(
        holder.pay_with_key(kept["id"].as_str().unwrap(), "tok_ok", "in the dark"),
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
    for (said, slug) in [(order, "ledger-unavailable"), (joined, "journal-unavailable")] {
        assert_unavailable(said, slug);
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
    while rush.world.clock.monotonic().saturating_sub(since) < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    rush.world.environment().postgres.resume().unwrap();
    let up = rush.world.clock.now();
    rush.assert_recovers().await;
    rush.record_outage(down, rush.world.clock.now());

    rush.assert_none_admitted(down.plus(Duration::from_millis(500)), up);
    let id = kept["id"].as_str().unwrap();
    let paid = retry_until(&rush.world, SOON, async || {
        holder.pay_with_key(id, "tok_ok", "in the dark").await
    })
    .await;
    assert!(matches!(paid.status, 201 | 202), "{} {}", paid.status, paid.json);
    rush.assert_entries_kept().await;
    for payment in paying {
        rush.assert_paid(payment, SOON).await;
    }
    rush.finish_and_audit().await;
}

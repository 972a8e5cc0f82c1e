//! The process is killed or stopped in the middle of a sale.

use std::time::Duration;

use http::Method;
use stagedoor::{
    audit::{QueueProgress, audit, databases},
    kernel::Clock,
};

use crate::{
    evidence::{gather, record_holds_after},
    fan::Fan,
    sale::{OBSERVER, crowd_of, settle, summary},
    world::{SaleConfig, World},
};

/// A sale that is busy for about twenty seconds.
fn sale_config() -> SaleConfig {
    SaleConfig {
        on_sale_starts_in: Duration::from_secs(3),
        admission_rate_per_minute: 1_800,
        admission_burst: 30,
        active_visits_max: 60,
        call_window_s: 6,
        seats: 600,
        hold_ttl_s: 15,
        ..SaleConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_invariant_holds_after_kill_9_under_load() {
    let mut world = World::open(sale_config()).await;
    let mut observer = Fan::sign_in(&world, OBSERVER).await;
    observer.join(&world).await.expect(201);
    observer.enter_within(&world, Duration::from_secs(30)).await;
    let config = crowd_of(&world, 400, 99, Duration::from_secs(10));
    let clock = std::sync::Arc::clone(&world.clock) as std::sync::Arc<dyn Clock>;
    let crowd = tokio::spawn(stagedoor::demo::crowd::run(
        config,
        clock,
        stagedoor::platform::shutdown::Lifecycle::new(),
    ));

    let (mut orders_before, mut outages) = (Vec::new(), Vec::new());
    for kill in 1..=2 {
        // The fault must hit while visitors are admitted and payments are in progress.
        let until = world.clock.monotonic() + Duration::from_secs(40);
        let wanted = orders_before.len() + 20;
        loop {
            let orders = gather(&world, &observer).await.orders;
            if orders.len() >= wanted {
                orders_before = orders;
                break;
            }
            assert!(
                world.clock.monotonic() < until,
                "kill {kill}: only {} orders",
                orders.len()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let down = world.clock.now();
        world.kill();
        assert!(!crowd.is_finished(), "kill {kill} came too late to matter");
        tokio::time::sleep(Duration::from_millis(500)).await;
        world.start().await;
        outages.push((down, world.clock.now()));
        observer.renew(&world).await;
    }
    let restarted = world.clock.now();
    // Visitors who gave up during the outage leave visits that last as long as their passes.
    let until = world.clock.monotonic() + Duration::from_mins(4);
    while !crowd.is_finished() {
        assert!(world.clock.monotonic() < until, "the crowd does not finish");
        tokio::time::sleep(Duration::from_secs(2)).await;
        observer.renew(&world).await;
    }
    let report = crowd.await.unwrap();
    let (counts, crowd_gone) = (summary(&report), world.clock.now());
    settle(&world, &mut observer).await;

    let mut evidence = gather(&world, &observer).await;
    report.add_to(&mut evidence);
    databases::reclassify_late_arrivals(&mut evidence);
    (evidence.settled, evidence.outages) = (true, outages);
    evidence.progress = Some(QueueProgress {
        since: restarted,
        until: restarted.plus(Duration::from_secs(10)),
        waiting: 1,
    });
    record_holds_after(
        crowd_gone.plus(Duration::from_secs(u64::from(world.sale_config.hold_ttl_s))),
        &world,
        &observer,
        &mut evidence,
    )
    .await;
    let found = audit(&evidence);
    assert!(
        found.is_empty(),
        "{} violations, the first: {:#?}\n{counts}",
        found.len(),
        &found[..found.len().min(10)]
    );
    assert!(report.outages >= 2, "the crowd noticed: {counts}");
    assert!(
        report.tickets > 0 && evidence.orders.len() > orders_before.len(),
        "the sale continued: {counts}"
    );
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn entry_visit_payment_and_tickets_survive_kill_9() {
    let mut world = World::open(SaleConfig {
        active_visits_max: 3,
        ..SaleConfig::default()
    })
    .await;
    let mut owner = Fan::admitted(&world, 1).await;
    let hold = owner.hold_best(&world, 2).await.expect(201);
    let paid = owner
        .pay(hold["id"].as_str().unwrap(), "tok_ok")
        .await
        .expect(201);
    let mut payer = Fan::admitted(&world, 2).await;
    let in_payment = payer.hold_best(&world, 1).await.expect(201);
    let slow = payer
        .pay(in_payment["id"].as_str().unwrap(), "tok_timeout_after_success")
        .await
        .expect(202);
    let visitor = Fan::admitted(&world, 3).await;
    let mut waiting = Fan::sign_in(&world, 4).await;
    assert_eq!(waiting.join(&world).await.expect(201)["number"], 4);

    world.kill();
    world.start().await;

    assert_eq!(waiting.position(&world).await["number"], 4);
    assert_eq!(waiting.join(&world).await.expect(200)["number"], 4);
    assert_eq!(
        waiting.enter(&world).await.status,
        409,
        "the three visits are still active"
    );
    let order = format!("/v1/orders/{}", paid["id"].as_str().unwrap());
    assert_eq!(
        owner.call(Method::GET, &order, None).await.expect(200)["state"],
        "paid"
    );
    let tickets = owner
        .call(Method::GET, &format!("{order}/tickets"), None)
        .await
        .expect(200);
    assert_eq!(tickets["tickets"].as_array().unwrap().len(), 2);
    for seat in hold["seats"].as_array().unwrap() {
        visitor
            .wait_for_seat_state(&world, seat.as_str().unwrap(), "booked")
            .await;
    }
    let seat = in_payment["seats"][0].as_str().unwrap();
    assert_ne!(
        visitor.seat(&world, seat).await,
        "free",
        "its payment is in progress"
    );
    let states = ["paid", "declined", "expired", "refunded", "canceled"];
    let ended = payer
        .wait_for_order_state(
            &world,
            slow["id"].as_str().unwrap(),
            &states,
            Duration::from_secs(40),
        )
        .await;
    let expected = if ended["state"] == "paid" {
        "booked"
    } else {
        "free"
    };
    let until = world.clock.monotonic() + Duration::from_secs(20);
    while visitor.seat(&world, seat).await != expected {
        assert!(
            world.clock.monotonic() < until,
            "order {}, seat {}",
            ended["state"],
            visitor.seat(&world, seat).await
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_finishes_running_orders() {
    let mut world = World::open(SaleConfig::default()).await;
    let fan = Fan::admitted(&world, 1).await;
    let hold = fan.hold_best(&world, 1).await.expect(201);
    let id = hold["id"].as_str().unwrap().to_owned();
    let mut buyer = fan.clone();
    let payment = tokio::spawn(async move { buyer.pay(&id, "tok_slow").await });
    // The payment has begun once the hold is in the state `paying`.
    let until = world.clock.monotonic() + Duration::from_secs(5);
    loop {
        let hold = fan
            .call(
                Method::GET,
                &format!("/v1/holds/{}", hold["id"].as_str().unwrap()),
                None,
            )
            .await;
        if hold.json["state"] == "paying" || payment.is_finished() {
            break;
        }
        assert!(world.clock.monotonic() < until, "{}", hold.json);
    }
    let status = world.stop().await;
    assert!(status.success(), "{status}");
    let reply = payment.await.unwrap();
    assert!(
        matches!(reply.status, 201 | 202),
        "a request in flight is answered: {} {}",
        reply.status,
        reply.json
    );
    assert!(
        !world.log().contains("the writer stopped"),
        "orders are recorded until the end:\n{}",
        world.log()
    );
    world.start().await;
    let order = reply.json["id"].as_str().unwrap();
    fan.wait_for_order_state(&world, order, &["paid"], Duration::from_secs(40))
        .await;
    world.assert_no_panic();
}

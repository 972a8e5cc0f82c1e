//! A performance whose doors open: nothing of it is sold, held or canceled by its buyer any more, and a sale
//! without a performance to come does not begin.

use std::{fs, time::Duration};

use http::Method;
use serde_json::json;
use stagedoor::kernel::Clock;

use crate::{
    fan::Fan,
    world::{SaleConfig, World, command},
};

#[tokio::test(flavor = "multi_thread")]
async fn after_the_doors_nothing_is_sold_or_canceled() {
    let mut world = World::open(SaleConfig {
        doors_open_in: Duration::from_secs(12),
        ..SaleConfig::default()
    })
    .await;
    let opened = world.clock.now();
    let mut buyer = Fan::admitted(&world, 1).await;
    let hold = buyer.hold_best(&world, 1).await.expect(201);
    let paid = buyer
        .pay(hold["id"].as_str().unwrap(), "tok_ok")
        .await
        .expect(201);
    let order = paid["id"].as_str().unwrap().to_owned();
    let mut late = Fan::admitted(&world, 2).await;
    let held = late.hold_best(&world, 1).await.expect(201);
    let held = held["id"].as_str().unwrap().to_owned();

    let facts = late
        .call(Method::GET, &format!("/v1/sales/{}", world.sale), None)
        .await
        .expect(200);
    let performance = &facts["performances"][0];
    assert_eq!(performance["time_zone"], "Asia/Seoul");
    assert_eq!(performance["doors_open_at"], performance["starts_at"]);

    while world.clock.now().since(opened) < Duration::from_secs(12) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    late.pay(&held, "tok_ok").await.problem(409, "closed");
    late.hold_best(&world, 1).await.problem(409, "closed");
    late.call(Method::POST, &format!("/v1/holds/{held}/extend"), None)
        .await
        .problem(409, "closed");
    let cancel = format!("/v1/orders/{order}/cancel");
    buyer
        .call(Method::POST, &cancel, Some(json!({})))
        .await
        .problem(409, "closed");

    // The sale has begun, so it starts again, for its buyers' sake.
    world.stop().await;
    world.start().await;
    buyer
        .call(Method::POST, &cancel, Some(json!({})))
        .await
        .problem(409, "closed");
    let tickets = buyer
        .call(Method::GET, &format!("/v1/orders/{order}/tickets"), None)
        .await
        .expect(200);
    assert_eq!(tickets["tickets"].as_array().unwrap().len(), 1);
    Fan::sign_in(&world, 3)
        .await
        .join(&world)
        .await
        .problem(409, "closed");
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sale_that_outlives_its_performance_is_refused() {
    let world = World::prepared(SaleConfig::default()).await;
    let file = world.site().config_file();
    let text = fs::read_to_string(&file).unwrap();
    let at = text.rfind("\nstarts_at").unwrap();
    let doors = world.clock.now().plus(Duration::from_mins(90));
    let later = format!("{}\ndoors_open_at = \"{doors}\"{}", &text[..at], &text[at..]);
    for (doors, words) in [
        (later, "closes_at"),
        (
            text.replacen(
                "\nstarts_at",
                "\ndoors_open_at = \"2020-01-01T00:00:00Z\"\nstarts_at",
                1,
            ),
            "its doors opened at 2020-01-01",
        ),
    ] {
        fs::write(&file, doors).unwrap();
        let name = file.to_str().unwrap();
        for _ in 0..2 {
            let (status, output) = command(&["serve", "--config", name]);
            assert!(
                !status.success() && output.contains("cannot begin") && output.contains(words),
                "{output}"
            );
        }
        let (status, output) = command(&["config", "show", "--config", name]);
        assert!(status.success() && output.contains(words), "{output}");
    }
}

//! A customer whose account the shop closes while they are signed in.

use std::time::Duration;

use stagedoor::{demo::client::paths, kernel::Clock};

use crate::{
    environment::Deployment,
    fan::Fan,
    world::{SaleConfig, World},
};

/// What the guide states.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);

async fn closes_an_account(world: World) {
    let (mut one, mut other) = (Fan::admitted(&world, 1).await, Fan::admitted(&world, 2).await);
    let hold = async |fan: &Fan| {
        let hold = fan.hold_best(&world, 1).await.expect(201);
        hold["id"].as_str().unwrap().to_owned()
    };
    let first = hold(&one).await;
    let order = one.pay(&first, "tok_ok").await.expect(201)["id"].clone();
    let noticed_at = world.clock.monotonic() + NOTICED_WITHIN;

    world
        .change_shop("UPDATE auth_user SET is_active = 0 WHERE id = 1")
        .await;
    let second = hold(&one).await;
    while world.clock.monotonic() < noticed_at {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    one.pay(&second, "tok_ok").await.problem(403, "account-inactive");
    // What was bought is still shown, and the purchase can still be repeated.
    one.call(http::Method::GET, &paths::order(order.as_str().unwrap()), None)
        .await
        .expect(200);
    one.pay_with_key(&first, "tok_ok", "customer-1-payment-1")
        .await
        .expect(201);

    let seats = hold(&other).await;
    other.pay(&seats, "tok_ok").await.expect(201);
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_account_buys_nothing_more() {
    closes_an_account(World::open(SaleConfig::default()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_account_buys_nothing_more_on_redis_and_postgresql() {
    let one_node = Deployment {
        nodes: 1,
        ..Deployment::default()
    };
    closes_an_account(World::open_on(one_node, SaleConfig::default()).await).await;
}

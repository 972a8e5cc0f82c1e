//! A buyer at the bank's page: a way back at once, another card, and one limit for those who stay away.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::Value;
use stagedoor::kernel::{Clock, Timestamp};

use crate::{
    fan::Fan,
    world::{SaleConfig, World},
};

/// A hold, and the order that waits at the bank's page for it.
async fn at_the_bank(world: &World, fan: &mut Fan) -> (Value, Value) {
    let hold = fan.hold_best(world, 2).await.expect(201);
    let order = fan.pay(str_of(&hold["id"]), "tok_redirect").await.expect(201);
    assert_eq!(order["state"], "awaiting_payment");
    (hold, order)
}

/// The buyer approves the payment on the bank's page.
async fn approve(world: &World, order: &Value) {
    let page = format!("{}/approve", str_of(&order["action"]["url"]));
    let uri = page.parse().unwrap();
    let reply = world
        .client
        .send(Method::POST, uri, &[], "".into())
        .await
        .unwrap();
    assert_eq!(reply.status, StatusCode::SEE_OTHER);
}

async fn cancel(fan: &Fan, order: &Value) -> Value {
    let path = format!("/v1/orders/{}/cancel", str_of(&order["id"]));
    fan.call(Method::POST, &path, None).await.expect(200)
}

async fn order(fan: &Fan, order: &Value) -> Value {
    let path = format!("/v1/orders/{}", str_of(&order["id"]));
    fan.call(Method::GET, &path, None).await.expect(200)
}

fn str_of(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn canceling_at_the_bank_frees_the_seats_at_once() {
    let world = World::open(SaleConfig::default()).await;
    let (mut fan, mut next) = (Fan::admitted(&world, 1).await, Fan::admitted(&world, 2).await);
    let (hold, waiting) = at_the_bank(&world, &mut fan).await;
    let canceled = cancel(&fan, &waiting).await;
    assert_eq!(canceled["state"], "canceled");
    assert_eq!(canceled["reason"], "canceled_before_payment");
    assert!(canceled["payment_deadline"].is_null() && canceled["action"].is_null());

    let seats: Vec<&str> = hold["seats"].as_array().unwrap().iter().map(str_of).collect();
    let taken = next.hold(&world, &seats).await.expect(201);
    let paid = next.pay(str_of(&taken["id"]), "tok_ok").await.expect(201);
    assert_eq!(paid["state"], "paid");

    approve(&world, &waiting).await;
    let confirm = format!("/v1/orders/{}/confirm", str_of(&waiting["id"]));
    let declined = fan.call(Method::POST, &confirm, None).await;
    assert_eq!(
        declined.problem(402, "payment-declined")["reason"],
        "canceled_before_payment"
    );
    assert_eq!(order(&fan, &waiting).await["state"], "canceled");
    assert_eq!(next.seat(&world, seats[0]).await, "booked");
    // The fan may choose and pay again.
    let again = fan.hold_best(&world, 4).await.expect(201);
    assert_eq!(
        fan.pay(str_of(&again["id"]), "tok_ok").await.expect(201)["state"],
        "paid"
    );
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_left_at_the_bank_ends_when_it_says() {
    let limit = Duration::from_secs(12);
    let world = World::open(SaleConfig {
        hold_ttl_s: 10,
        payment_page_timeout_s: 12,
        ..SaleConfig::default()
    })
    .await;
    let (mut fan, other) = (Fan::admitted(&world, 1).await, Fan::admitted(&world, 2).await);
    let before = world.clock.now();
    let (hold, waiting) = at_the_bank(&world, &mut fan).await;
    let deadline: Timestamp = str_of(&waiting["payment_deadline"]).parse().unwrap();
    assert!(deadline >= before.plus(limit) && deadline <= world.clock.now().plus(limit));
    let path = format!("/v1/holds/{}", str_of(&hold["id"]));
    let shown = fan.call(Method::GET, &path, None).await.expect(200);
    assert_eq!(
        shown["expires_at"], waiting["payment_deadline"],
        "the hold says the same"
    );

    let seat = str_of(&hold["seats"][0]);
    tokio::time::sleep(
        deadline
            .minus(Duration::from_millis(700))
            .since(world.clock.now()),
    )
    .await;
    assert_eq!(order(&fan, &waiting).await["state"], "awaiting_payment");
    assert_eq!(other.seat(&world, seat).await, "held");
    tokio::time::sleep(deadline.since(world.clock.now())).await;
    other.wait_for_seat_state(&world, seat, "free").await;
    let ended = order(&fan, &waiting).await;
    assert_eq!(ended["state"], "canceled");
    assert_eq!(ended["reason"], "payment_page_timed_out");
    other.hold(&world, &[seat]).await.expect(201);
    approve(&world, &waiting).await;
    assert_eq!(order(&fan, &waiting).await["state"], "canceled");
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_card_pays_for_the_seats_that_are_at_the_bank() {
    let world = World::open(SaleConfig::default()).await;
    let mut fan = Fan::admitted(&world, 1).await;
    let (hold, waiting) = at_the_bank(&world, &mut fan).await;
    let paid = fan.pay(str_of(&hold["id"]), "tok_ok").await.expect(201);
    assert_eq!((&paid["state"], &paid["seats"]), (&"paid".into(), &hold["seats"]));
    assert_ne!(paid["id"], waiting["id"]);
    let former = order(&fan, &waiting).await;
    assert_eq!(former["reason"], "replaced");
    approve(&world, &waiting).await;
    assert_eq!(order(&fan, &waiting).await["state"], "canceled");
    world.assert_no_panic();
}

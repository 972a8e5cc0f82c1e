//! Seats that cost nothing are ordered without a card, and only those.

use std::fs;

use http::Method;
use serde_json::{Value, json};

use crate::{
    fan::{Fan, Reply},
    world::{SaleConfig, World},
};

const PRICES: &str = "prices = { VIP = 198000, R = 165000, S = 143000, A = 121000 }";

async fn order_without_card(fan: &Fan, hold: &Value) -> Reply {
    let key = [("idempotency-key", "free")];
    let body = json!({ "hold": hold["id"] });
    fan.call_with(Method::POST, "/v1/orders", Some(body), &key).await
}

#[tokio::test(flavor = "multi_thread")]
async fn free_seats_are_ordered_without_a_card() {
    let mut world = World::prepared(SaleConfig::default()).await;
    let file = world.site().config_file();
    let text = fs::read_to_string(&file).unwrap();
    let free = text.replace(PRICES, "prices = { VIP = 0, R = 0, S = 0, A = 0 }");
    assert_ne!(free, text);
    fs::write(&file, free).unwrap();
    world.start().await;
    let fan = Fan::admitted(&world, 1).await;
    let hold = fan.hold_best(&world, 2).await.expect(201);
    let order = order_without_card(&fan, &hold).await.expect(201);
    assert_eq!(
        (&order["state"], &order["total"]["amount"]),
        (&json!("paid"), &json!(0))
    );
    let path = format!("/v1/orders/{}/tickets", order["id"].as_str().unwrap());
    let tickets = fan.call(Method::GET, &path, None).await.expect(200);
    assert_eq!(tickets["tickets"].as_array().unwrap().len(), 2);
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_with_a_price_are_not_ordered_without_a_card() {
    let world = World::open(SaleConfig::default()).await;
    let mut fan = Fan::admitted(&world, 1).await;
    let hold = fan.hold_best(&world, 1).await.expect(201);
    let problem = order_without_card(&fan, &hold)
        .await
        .problem(422, "invalid-field");
    assert_eq!(problem["field"], "payment");
    let paid = fan.pay(hold["id"].as_str().unwrap(), "tok_ok").await.expect(201);
    assert_eq!(paid["state"], "paid");
    world.assert_no_panic();
}

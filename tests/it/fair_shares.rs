//! Fair shares: no client's address, no account and no visit may take from the others what it wants.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::{
    fan::{Fan, Reply},
    world::{PASSWORD, SaleConfig, World},
};

const OPEN: &str = "hero-open";
const FROM_HOME: [(&str, &str); 1] = [("x-forwarded-for", "192.0.2.7")];

/// A service with these limits, and with a sale without sign-in.
async fn world_with_limits(limits: &[(&'static str, &str)]) -> World {
    let mut world = World::prepared(SaleConfig::default()).await;
    world.add_to_config(&world.another_sale(OPEN, "sign_in = \"none\""));
    for (variable, value) in limits {
        world.nodes[0].set(variable, (*value).to_owned());
    }
    world.start().await;
    world
}

#[track_caller]
fn limited(reply: Reply, reason: &str) -> Value {
    let retry_after: u64 = reply.answer.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(retry_after >= 1);
    let problem = reply.problem(429, "too-many-requests");
    assert_eq!(problem["reason"], reason, "{problem}");
    problem
}

async fn sign_in(world: &World, login: &str, password: &str, address: &str) -> Reply {
    let credentials = json!({"login": login, "password": password});
    Fan::anonymous(world, 0)
        .call_with(
            Method::POST,
            "/v1/sign-in",
            Some(credentials),
            &[("x-forwarded-for", address)],
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_of_one_account_are_limited_whether_it_exists_or_not() {
    let world =
        world_with_limits(&[("STAGEDOOR__LIMITS__WRONG_PASSWORDS_PER_ACCOUNT_PER_MINUTE", "4")]).await;
    let answers = async |login: &'static str| {
        for _ in 0..2 {
            sign_in(&world, login, "a guess", "192.0.2.1")
                .await
                .problem(401, "wrong-credentials");
        }
        limited(
            sign_in(&world, login, PASSWORD, "192.0.2.1").await,
            "wrong_passwords",
        )
    };
    assert_eq!(
        answers("fan1@shop.example").await,
        answers("unknown@shop.example").await
    );
    for _ in 0..5 {
        sign_in(&world, " Fan1@Shop.example", PASSWORD, "192.0.2.2")
            .await
            .expect(200);
    }
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_behind_one_address_all_join() {
    let world = world_with_limits(&[("STAGEDOOR__LIMITS__JOINS_PER_IP_PER_MINUTE", "1")]).await;
    for customer in 1..=5 {
        Fan::sign_in(&world, customer)
            .await
            .call_with(Method::POST, &world.sale_path("queue"), None, &FROM_HOME)
            .await
            .expect(201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_of_a_join_are_refused() {
    let world = world_with_limits(&[]).await;
    let open = format!("/v1/sales/{OPEN}/queue");
    let customer = Fan::sign_in(&world, 1).await;
    for path in [&world.sale_path("queue"), &open] {
        let join = async |body| customer.call(Method::POST, path, body).await;
        let problem = join(Some(json!({"prof": {}})))
            .await
            .problem(422, "invalid-field");
        assert_eq!(problem["field"], "prof");
        join(Some(json!({"proof": null}))).await.expect(201);
        join(Some(json!({}))).await.expect(200);
        join(None).await.expect(200);
    }
    let text = [("content-type", "text/plain")];
    customer
        .call_with(Method::POST, &open, Some(json!({})), &text)
        .await
        .problem(415, "not-json");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_visit_cannot_hold_and_release_without_end() {
    let world = world_with_limits(&[("STAGEDOOR__LIMITS__HOLD_REQUESTS_PER_VISIT_PER_MINUTE", "6")]).await;
    let (fan, other) = (Fan::admitted(&world, 1).await, Fan::admitted(&world, 2).await);
    for _ in 0..3 {
        let hold = fan.hold_best(&world, 2).await.expect(201)["id"].clone();
        let path = format!("/v1/holds/{}", hold.as_str().unwrap());
        let seat = fan.free_seats(&world).await.remove(0);
        fan.call(Method::PATCH, &path, Some(json!({"seats": [seat]})))
            .await
            .expect(200);
        fan.call(Method::DELETE, &path, None).await.expect(204);
    }
    limited(fan.hold_best(&world, 2).await, "holds_of_this_visit");
    other.hold_best(&world, 2).await.expect(201);
    world.assert_no_panic();
}

/// A visitor of the sale without sign-in, who is admitted.
async fn admitted_to_open(world: &World, mut fan: Fan) -> Fan {
    fan.join(world).await.expect(201);
    fan.enter_within(world, Duration::from_secs(10)).await;
    fan
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_visitors_of_one_address_share_a_number_of_seats() {
    let mut world = world_with_limits(&[("STAGEDOOR__LIMITS__ANONYMOUS_SEATS_PER_IP_MAX", "6")]).await;
    world.sale = OPEN.parse().unwrap();
    let holds = world.performance_path("holds");
    let hold = async |fan: &Fan, quantity: u8, address: &str| {
        let body = json!({"best_available": {"quantity": quantity}});
        fan.call_with(Method::POST, &holds, Some(body), &[("x-forwarded-for", address)])
            .await
    };
    let mut fans = Vec::new();
    for _ in 0..3 {
        fans.push(admitted_to_open(&world, Fan::anonymous(&world, 0)).await);
    }
    let first = hold(&fans[0], 4, "192.0.2.7").await.expect(201);
    let problem = limited(hold(&fans[1], 4, "192.0.2.7").await, "seats_from_this_address");
    assert_eq!(problem["sign_in"], "/v1/sign-in");
    let second = hold(&fans[1], 2, "192.0.2.7").await.expect(201);
    limited(hold(&fans[2], 1, "192.0.2.7").await, "seats_from_this_address");
    hold(&fans[2], 4, "192.0.2.8").await.expect(201);
    // A hold cannot grow beyond the limit either, from whichever address.
    let path = |hold: &Value| format!("/v1/holds/{}", hold["id"].as_str().unwrap());
    let free = fans[1].free_seats(&world).await;
    let grow = async || {
        fans[1]
            .call(
                Method::PATCH,
                &path(&second),
                Some(json!({"seats": [&free[0], &free[1], &free[2]]})),
            )
            .await
    };
    limited(grow().await, "seats_from_this_address");
    fans[0]
        .call(Method::DELETE, &path(&first), None)
        .await
        .expect(204);
    grow().await.expect(200);
    // A customer who joined signed in is limited by the account.
    for number in 1..=2 {
        let customer = admitted_to_open(&world, Fan::sign_in(&world, number).await).await;
        hold(&customer, 4, "192.0.2.7").await.expect(201);
    }
    world.assert_no_panic();
}

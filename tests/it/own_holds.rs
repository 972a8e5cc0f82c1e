//! What the server remembers of a visitor's seats, whichever window or device they were chosen with, on both
//! backends.

use std::time::Duration;

use http::{Method, header};
use serde_json::{Value, json};

use crate::{
    environment::Deployment,
    fan::Fan,
    world::{SaleConfig, World},
};
use stagedoor::demo::client::paths;

async fn on_both_backends(test: impl AsyncFn(World)) {
    test(World::open(SaleConfig::default()).await).await;
    let shared = Deployment {
        nodes: 2,
        ..Deployment::default()
    };
    test(World::open_on(shared, SaleConfig::default()).await).await;
}

/// The ids of the fan's holds, as this node lists them.
async fn listed(fan: &Fan, world: &World, node: usize) -> Vec<String> {
    let at_node = Fan {
        base: format!("http://{}", world.nodes[node % world.nodes.len()].public),
        ..fan.clone()
    };
    let path = format!("{}?sale={}", paths::HOLDS, world.sale);
    let reply = at_node.call(Method::GET, &path, None).await.expect(200);
    let holds = reply["holds"].as_array().unwrap().iter();
    holds
        .map(|hold| hold["id"].as_str().unwrap().to_owned())
        .collect()
}

fn id(hold: &Value) -> String {
    hold["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_in_customer_finds_held_seats_at_every_device() {
    on_both_backends(async |world| {
        let mut fan = Fan::admitted(&world, 1).await;
        let other_device = Fan::sign_in(&world, 1).await;
        let stranger = Fan::sign_in(&world, 2).await;
        assert!(listed(&other_device, &world, 0).await.is_empty());
        let hold = id(&fan.hold_best(&world, 2).await.expect(201));
        for node in 0..2 {
            assert_eq!(
                listed(&other_device, &world, node).await,
                std::slice::from_ref(&hold)
            );
            assert!(listed(&stranger, &world, node).await.is_empty());
        }
        let other_sale = format!("{}?sale=another", paths::HOLDS);
        let none = fan.call(Method::GET, &other_sale, None).await.expect(200);
        assert_eq!(none["holds"].as_array().unwrap().len(), 0);

        fan.pay(&hold, "tok_ok").await.expect(201);
        assert!(
            listed(&other_device, &world, 1).await.is_empty(),
            "what was bought is an order"
        );
        let stranger = Fan::anonymous(&world, 1);
        let refused = stranger.call(Method::GET, paths::HOLDS, None).await;
        refused.problem(401, "sign-in-required");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_alone_finds_the_place_and_the_visit_again() {
    on_both_backends(async |world| {
        let mut fan = Fan::sign_in(&world, 1).await;
        let joined = fan.join(&world).await.expect(201);
        let mut other_device = Fan::sign_in(&world, 1).await;
        let position = other_device.position(&world).await;
        assert_eq!(position["number"], joined["number"]);
        fan.enter_within(&world, Duration::from_secs(20)).await;
        let hold = id(&fan.hold_best(&world, 1).await.expect(201));
        other_device.enter_within(&world, Duration::from_secs(5)).await;
        let swap = other_device.hold_best(&world, 1).await.expect(201);
        assert_eq!(listed(&fan, &world, 0).await.len(), 2);
        other_device.leave(&world).await;
        assert_ne!(id(&swap), hold);
        let left = Fan::sign_in(&world, 1).await;
        left.call(Method::GET, &world.sale_path("queue/position"), None)
            .await
            .problem(401, "queue-token-required");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wheelchair_place_is_held_for_a_visitor_who_needs_it() {
    on_both_backends(async |world| {
        let fan = Fan::admitted(&world, 1).await;
        let plan = fan.call(Method::GET, &world.performance_path("plan"), None).await;
        let plan = plan.expect(200);
        let place = accessible_seat(&plan).expect("the theatre has wheelchair spaces");
        let hold = async |body: Value| {
            fan.call(Method::POST, &world.performance_path("holds"), Some(body))
                .await
        };
        let problem = hold(json!({"seats": [place]}))
            .await
            .problem(409, "wheelchair-spaces");
        assert_eq!(problem["reserved"], json!([place]));
        hold(json!({"seats": [place], "accessible": 1})).await.expect(201);
    })
    .await;
}

/// The first seat of a plan that is a wheelchair space.
fn accessible_seat(plan: &Value) -> Option<&str> {
    let is_space = |seat: &&Value| seat["attributes"].to_string().contains("accessible");
    let zones = plan["zones"].as_array()?.iter();
    let rows = zones.flat_map(|zone| zone["rows"].as_array().into_iter().flatten());
    let mut seats = rows.flat_map(|row| row["seats"].as_array().into_iter().flatten());
    seats.find(is_space)?["seat_guid"].as_str()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_over_is_not_handed_out_again() {
    on_both_backends(async |world| {
        let fan = Fan::admitted(&world, 1).await;
        let ask = async || {
            let body = stagedoor::demo::client::messages::best_available_request(1, None, 0);
            let key = [(paths::IDEMPOTENCY_KEY, "the same key")];
            let path = world.performance_path("holds");
            fan.call_with(Method::POST, &path, Some(body), &key).await
        };
        let hold = id(&ask().await.expect(201));
        assert_eq!(id(&ask().await.expect(201)), hold);
        let path = format!("{}/{hold}", paths::HOLDS);
        let released = fan.call(Method::DELETE, &path, None).await;
        assert_eq!(released.status, 204, "{}", released.json);
        ask().await.problem(409, "hold-gone");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_seats_can_be_paid_for_at_a_device_without_a_pass() {
    on_both_backends(async |world| {
        let fan = Fan::admitted(&world, 1).await;
        let hold = id(&fan.hold_best(&world, 2).await.expect(201));
        let mut stranger = Fan::sign_in(&world, 2).await;
        stranger.pay(&hold, "tok_ok").await.problem(401, "pass-required");
        let mut other_device = Fan::sign_in(&world, 1).await;
        let order = other_device.pay(&hold, "tok_ok").await.expect(201);
        assert_eq!(order["state"], "paid");
        // Once the hold is an order, only the order tells of it.
        let again = other_device.pay(&hold, "tok_ok").await;
        assert!(matches!(again.status, 401 | 409), "{}", again.json);
        let reply = fan.call(Method::GET, paths::ORDERS, None).await.expect(200);
        assert_eq!(reply["orders"].as_array().unwrap().len(), 1, "{reply}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_leaves_no_place_in_the_browser() {
    let world = World::open(SaleConfig::default()).await;
    let mut fan = Fan::sign_in(&world, 1).await;
    let joined = fan.join(&world).await.expect(201);
    let cookies = format!("sd_queue_{}={}", world.sale, joined["token"].as_str().unwrap());
    let fan = Fan {
        queue: None,
        ..fan.clone()
    };
    let removed = async |fan: &Fan, method: Method, path: &str, body: Option<Value>| {
        let from_this_site = [("cookie", cookies.as_str()), ("sec-fetch-site", "same-origin")];
        let reply = fan.call_with(method, path, body, &from_this_site).await;
        assert!(matches!(reply.status, 200 | 204), "{}", reply.json);
        let lines = reply.answer.headers.get_all(header::SET_COOKIE);
        let name = format!("sd_queue_{}=;", world.sale);
        lines.iter().any(|line| line.to_str().unwrap().starts_with(&name))
    };
    let handoff = |customer| {
        let token = world.handoff()(customer);
        Some(stagedoor::demo::client::messages::handoff_request(&token))
    };
    let browser = Fan::anonymous(&world, 1);
    let sign_in = |customer| (Method::POST, paths::SIGN_IN_HANDOFF, handoff(customer));
    let (method, path, body) = sign_in(1);
    assert!(
        !removed(&browser, method, path, body).await,
        "the same customer finds the place again"
    );
    let (method, path, body) = sign_in(2);
    assert!(
        removed(&browser, method, path, body).await,
        "another customer does not stand there"
    );
    assert!(removed(&fan, Method::DELETE, "/v1/session", None).await);
}

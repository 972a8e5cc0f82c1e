//! An operator cancels orders at the admin listener, also after the doors opened. On both backends.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use stagedoor::{audit::audit, kernel::Clock};

use crate::{
    environment::Deployment,
    evidence,
    fan::{Fan, Reply},
    operators::{KIM, at_node, with_operators},
    world::{PERFORMANCE, SaleConfig, World},
};

const REASON: &str = "the artist is ill";

/// Cancels an order at the first node; returns status and body.
async fn cancel(world: &World, order: &Value) -> (u16, Value) {
    cancel_with(world, order, Some(KIM), &json!({"reason": REASON}).to_string()).await
}

async fn cancel_with(world: &World, order: &Value, token: Option<&str>, body: &str) -> (u16, Value) {
    let path = path_of(world.sale.as_str(), str_of(&order["id"]));
    at_node(world, 0, Method::POST, &path, token, body.to_owned()).await
}

fn path_of(sale: &str, order: &str) -> String {
    format!("/v1/admin/sales/{sale}/orders/{order}/cancel")
}

fn str_of(value: &Value) -> &str {
    value.as_str().unwrap()
}

async fn cancel_as_buyer(fan: &Fan, order: &Value) -> Reply {
    let path = format!("/v1/orders/{}/cancel", str_of(&order["id"]));
    fan.call(Method::POST, &path, Some(json!({}))).await
}

async fn bought(world: &World, fan: &mut Fan) -> Value {
    let hold = fan.hold_best(world, 2).await.expect(201);
    let order = fan.pay(str_of(&hold["id"]), "tok_ok").await.expect(201);
    assert_eq!(order["state"], "paid");
    order
}

/// Texts of the order's history, oldest first.
async fn history(fan: &Fan, order: &Value) -> Vec<String> {
    let path = format!("/v1/orders/{}/history", str_of(&order["id"]));
    let reply = fan.call(Method::GET, &path, None).await.expect(200);
    let entries = reply["history"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| str_of(&entry["text_key"]).to_owned())
        .collect()
}

/// What both backends promise for a paid order, for one that waits at the bank, and for one that is neither.
async fn orders_are_canceled_once(world: &World) {
    let (mut buyer, mut observer) = (Fan::admitted(world, 1).await, Fan::admitted(world, 2).await);
    let order = bought(world, &mut buyer).await;
    let (status, canceled) = cancel(world, &order).await;
    assert_eq!(status, 200, "{canceled}");
    let told = (str_of(&canceled["state"]), str_of(&canceled["reason"]));
    assert_eq!(told, ("canceled", "canceled_by_operator"));
    assert_eq!(
        cancel(world, &order).await,
        (200, canceled.clone()),
        "the same answer"
    );
    assert_eq!(cancel_as_buyer(&buyer, &order).await.expect(200), canceled);
    let told = history(&buyer, &order).await;
    let end = ["canceled_by_operator", "tickets_voided", "refunded", "released"];
    assert_eq!(told[told.len() - 4..], end.map(|key| format!("history.{key}")));
    for seat in order["seats"].as_array().unwrap() {
        observer.wait_for_seat_state(world, str_of(seat), "free").await;
    }

    let hold = buyer.hold_best(world, 1).await.expect(201);
    let waiting = buyer.pay(str_of(&hold["id"]), "tok_redirect").await.expect(201);
    let (status, voided) = cancel(world, &waiting).await;
    assert_eq!(status, 200, "{voided}");
    assert_eq!(voided["reason"], "canceled_by_operator_before_payment");
    assert!(voided["action"].is_null(), "{voided}");
    observer
        .wait_for_seat_state(world, str_of(&waiting["seats"][0]), "free")
        .await;

    let hold = buyer.hold_best(world, 1).await.expect(201);
    let declined = buyer
        .pay(str_of(&hold["id"]), "tok_declined")
        .await
        .problem(402, "payment-declined");
    let (status, refused) = cancel(world, &declined["order"]).await;
    let told = (status, str_of(&refused["type"]));
    assert_eq!(told, (409, "/problems/not-cancelable"));
    cancel_as_buyer(&buyer, &declined["order"])
        .await
        .problem(409, "not-cancelable");

    bought(world, &mut observer).await;
    let mut evidence = evidence::gather(world, &observer).await;
    assert!(evidence.payments.as_ref().is_some_and(|all| !all.is_empty()));
    // Maps of other nodes follow within a moment.
    evidence.store_booked = None;
    assert_eq!(audit(&evidence), []);
    let log = world.log();
    let logged = log.lines().any(|line| {
        line.contains("operator's cancellation")
            && line.contains("kim")
            && line.contains(str_of(&order["id"]))
    });
    assert!(logged && !log.contains(REASON), "{log}");
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_cancels_orders_on_one_node() {
    let world = with_operators(World::prepared(SaleConfig::default()).await).await;
    orders_are_canceled_once(&world).await;
    // Operators read by whom and why in the ledger.
    let file = format!("sqlite:{}/ledger.db", world.data().display());
    let mut ledger = SqliteConnection::connect(&file).await.unwrap();
    let query = "SELECT count(*) FROM order_journal WHERE change = 'canceled by operator kim: ' || ?";
    let counting = sqlx::query_scalar(query).bind(REASON);
    let kept: i64 = counting.fetch_one(&mut ledger).await.unwrap();
    assert_eq!(kept, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_cancels_orders_on_shared_backends() {
    let world = World::prepared_on(Deployment::default(), SaleConfig::default()).await;
    let world = with_operators(world).await;
    orders_are_canceled_once(&world).await;
    // Operators read by whom and why in the ledger.
    let kept = "SELECT count(*) FROM stagedoor_ledger.order_journal
                WHERE change = 'canceled by operator kim: the artist is ill'";
    assert_eq!(world.environment().query_number(kept).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_operator_refunds_after_the_doors_opened() {
    let doors_open_in = Duration::from_secs(12);
    let mut world = World::prepared(SaleConfig {
        doors_open_in,
        ..SaleConfig::default()
    })
    .await;
    let opened = world.clock.now();
    world = with_operators(world).await;
    let mut buyer = Fan::admitted(&world, 1).await;
    let (first, second) = (bought(&world, &mut buyer).await, bought(&world, &mut buyer).await);
    while world.clock.now().since(opened) < doors_open_in {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cancel_as_buyer(&buyer, &first).await.problem(409, "closed");
    let (status, canceled) = cancel(&world, &first).await;
    assert_eq!((status, str_of(&canceled["state"])), (200, "canceled"));

    // The performance is past, and the service has started again.
    world.stop().await;
    world.start().await;
    let (status, canceled) = cancel(&world, &second).await;
    assert_eq!((status, str_of(&canceled["state"])), (200, "canceled"));
    for order in [&first, &second] {
        let tickets = format!("/v1/orders/{}/tickets", str_of(&order["id"]));
        let reply = buyer.call(Method::GET, &tickets, None).await.expect(200);
        assert_eq!(reply["tickets"], json!([]));
    }
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_cancellation_leaves_the_order_paid() {
    let world = World::prepared(SaleConfig::default()).await;
    world.add_to_config(&world.another_sale("another", ""));
    let world = with_operators(world).await;
    let mut buyer = Fan::admitted(&world, 1).await;
    let order = bought(&world, &mut buyer).await;
    let body = json!({"reason": REASON}).to_string();
    for (token, problem) in [
        (None, "/problems/sign-in-required"),
        (Some("not a token"), "/problems/wrong-credentials"),
    ] {
        let (status, reply) = cancel_with(&world, &order, token, &body).await;
        assert_eq!((status, str_of(&reply["type"])), (401, problem));
    }
    let id = str_of(&order["id"]);
    for (sale, order) in [
        (world.sale.as_str(), "01890a5d-ac96-774b-bcce-b302099a8057"),
        (world.sale.as_str(), "not-an-id"),
        ("another", id),
        ("no-such-sale", id),
    ] {
        let path = path_of(sale, order);
        let (status, reply) = at_node(&world, 0, Method::POST, &path, Some(KIM), body.clone()).await;
        assert_eq!(
            (status, str_of(&reply["type"])),
            (404, "/problems/not-found"),
            "{path}"
        );
    }
    for (body, status, field) in [
        ("", 400, Value::Null),
        ("{}", 422, json!("reason")),
        (r#"{"reason": " "}"#, 422, json!("reason")),
        (
            &json!({"reason": "x".repeat(201)}).to_string(),
            422,
            json!("reason"),
        ),
        (r#"{"reason": "x", "refund": false}"#, 422, json!("refund")),
        (
            &json!({"reason": "x".repeat(100_000)}).to_string(),
            413,
            Value::Null,
        ),
    ] {
        let (answered, reply) = cancel_with(&world, &order, Some(KIM), body).await;
        assert_eq!((answered, &reply["field"]), (status, &field), "{reply}");
    }
    // Never on the public listener.
    let path = path_of(world.sale.as_str(), id);
    let public = buyer
        .call(Method::POST, &path, Some(json!({"reason": REASON})))
        .await;
    public.problem(404, "not-found");
    let unchanged = buyer
        .call(Method::GET, &format!("/v1/orders/{id}"), None)
        .await
        .expect(200);
    let told = (str_of(&unchanged["state"]), str_of(&unchanged["performance"]));
    assert_eq!(told, ("paid", PERFORMANCE));
    world.assert_no_panic();
}

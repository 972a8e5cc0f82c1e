//! Calls that move money or seats do what they are asked, or refuse: a field that they do not know, and the
//! proof of another sale.

use std::{fmt::Write, time::Duration};

use http::Method;
use serde_json::{Value, json};

use crate::{
    bad_input::settled_fingerprint,
    fan::{Fan, Reply},
    world::{PERFORMANCE, SaleConfig, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_a_call_does_not_know_is_refused_by_name() {
    let world = World::open(SaleConfig::default()).await;
    let mut fan = Fan::admitted(&world, 1).await;
    let bought = fan.hold_best(&world, 2).await.expect(201);
    let paid = fan
        .pay(bought["id"].as_str().unwrap(), "tok_ok")
        .await
        .expect(201);
    let order = format!("/v1/orders/{}", paid["id"].as_str().unwrap());
    let held = fan.hold_best(&world, 1).await.expect(201);
    let hold = format!("/v1/holds/{}", held["id"].as_str().unwrap());
    let holds = world.performance_path("holds");
    let seat = fan.free_seats(&world).await[0].clone();
    let before = settled_fingerprint(&world, &fan).await;
    let card = json!({"method": "card", "token": "tok_ok"});
    let priced = json!({"method": "card", "token": "tok_ok", "amount": 1});
    for (method, path, body, field) in [
        (
            Method::POST,
            format!("{order}/cancel"),
            json!({"seats": [paid["seats"][0]]}),
            "seats",
        ),
        (
            Method::POST,
            format!("{order}/confirm"),
            json!({"payment": card}),
            "payment",
        ),
        (
            Method::POST,
            "/v1/orders".into(),
            json!({"hold": held["id"], "payment": card, "seats": [seat]}),
            "seats",
        ),
        (
            Method::POST,
            "/v1/orders".into(),
            json!({"hold": held["id"], "payment": priced}),
            "payment.amount",
        ),
        (
            Method::POST,
            holds.clone(),
            json!({"seats": [seat], "expires_at": "2030-01-01T00:00:00Z"}),
            "expires_at",
        ),
        (
            Method::POST,
            "/v1/sign-in".into(),
            json!({"login": "fan00001@example.com", "password": "hero-lim", "remember": true}),
            "remember",
        ),
        (
            Method::POST,
            "/v1/sign-in/handoff".into(),
            json!({"token": "x", "sale": "a"}),
            "sale",
        ),
        (
            Method::POST,
            holds.clone(),
            json!({"best_available": {"quantity": 1, "row": "A"}}),
            "best_available.row",
        ),
        (
            Method::PATCH,
            hold.clone(),
            json!({"seats": [seat], "keep": []}),
            "keep",
        ),
        (
            Method::POST,
            format!("{hold}/extend"),
            json!({"seconds": 900}),
            "seconds",
        ),
        (
            Method::DELETE,
            hold.clone(),
            json!({"seats": [held["seats"][0]]}),
            "seats",
        ),
    ] {
        let key = [("idempotency-key", "unknown-fields")];
        let reply = fan
            .call_with(method.clone(), &path, Some(body.clone()), &key)
            .await;
        let problem = reply.problem(422, "invalid-field");
        assert_eq!(problem["field"], field, "{method} {path} {body}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            !detail.contains("struct") && !detail.contains("Request"),
            "{detail}"
        );
    }
    assert_eq!(
        settled_fingerprint(&world, &fan).await,
        before,
        "a refused call changed something"
    );
    // Without a field, or with an empty object, the call is the whole order's.
    fan.call(Method::POST, &format!("{hold}/extend"), Some(json!({})))
        .await
        .expect(200);
    let canceled = fan.call(Method::POST, &format!("{order}/cancel"), None).await;
    assert!([200, 202].contains(&canceled.status), "{}", canceled.json);
    world.assert_no_panic();
}

/// A second sale of the same service and the same customers, named before the first.
const OTHER: &str = "an-earlier-sale";
const OPEN: &str = "an-open-sale";

/// A browser with the cookies of several sales.
struct Browser {
    world: World,
    cookies: String,
}

impl Browser {
    async fn call(&self, method: Method, path: &str, body: Option<Value>, key: &str) -> Reply {
        let mut more = vec![
            ("cookie", self.cookies.as_str()),
            ("origin", self.world.base.as_str()),
        ];
        more.extend((!key.is_empty()).then_some(("idempotency-key", key)));
        Fan::anonymous(&self.world, 1)
            .call_with(method, path, body, &more)
            .await
    }

    /// Joins and enters a sale, and keeps its cookies.
    async fn enter(&mut self, sale: &str) {
        let joined = self
            .call(Method::POST, &format!("/v1/sales/{sale}/queue"), None, "")
            .await;
        let token = joined.json["token"].as_str().unwrap().to_owned();
        let _ = write!(self.cookies, "; sd_queue_{sale}={token}");
        for _ in 0..200 {
            let path = format!("/v1/sales/{sale}/admission");
            let entered = self.call(Method::POST, &path, None, "").await;
            if let Some(pass) = entered.json["pass"].as_str() {
                let _ = write!(self.cookies, "; sd_pass_{sale}={pass}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not admitted to {sale}");
    }

    async fn hold(&self, sale: &str) -> String {
        let path = format!("/v1/sales/{sale}/performances/{PERFORMANCE}/holds");
        let body = json!({"best_available": {"quantity": 1}});
        let hold = self.call(Method::POST, &path, Some(body), "").await;
        hold.expect(201)["id"].as_str().unwrap().to_owned()
    }

    async fn pay(&self, hold: &str, key: &str) -> Reply {
        let body = json!({"hold": hold, "payment": {"method": "card", "token": "tok_ok"}});
        self.call(Method::POST, "/v1/orders", Some(body), key).await
    }
}

async fn browser_of_three_sales(other_pass_ttl_s: u32) -> Browser {
    let mut world = World::prepared(SaleConfig::default()).await;
    let other = world.another_sale(OTHER, &format!("pass_ttl_s = {other_pass_ttl_s}"));
    let open = world.another_sale(OPEN, "sign_in = \"none\"");
    world.add_to_config(&(other + &open));
    world.start().await;
    let cookies = format!("sd_session={}", Fan::sign_in(&world, 1).await.session);
    Browser { world, cookies }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_paid_with_the_pass_of_its_own_sale() {
    let mut browser = browser_of_three_sales(120).await;
    let sale = browser.world.sale.to_string();
    for sale in [OTHER, OPEN, &sale] {
        browser.enter(sale).await;
    }
    for sale in [&sale, OTHER, OPEN] {
        let hold = browser.hold(sale).await;
        let paid = browser.pay(&hold, &format!("first-{sale}")).await.expect(201);
        assert_eq!(
            (paid["state"].as_str(), paid["sale"].as_str()),
            (Some("paid"), Some(sale))
        );
        // The hold is gone by then; the key still tells which sale the repeated request is about.
        let again = browser.pay(&hold, &format!("first-{sale}")).await.expect(201);
        assert_eq!(again["id"], paid["id"]);
        browser
            .pay(&hold, &format!("second-{sale}"))
            .await
            .problem(409, "hold-gone");
    }
    browser.world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_pass_of_another_sale_does_not_stop_a_payment() {
    let mut browser = browser_of_three_sales(2).await;
    let sale = browser.world.sale.to_string();
    browser.enter(OTHER).await;
    browser.enter(&sale).await;
    // The other sale's pass lives for two seconds, plus five seconds of leeway.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let hold = browser.hold(&sale).await;
    assert_eq!(browser.pay(&hold, "k").await.expect(201)["state"], "paid");
    // Nor does one that is no pass at all.
    let next = browser.hold(&sale).await;
    let pass = format!("sd_pass_{OTHER}=");
    let (before, after) = browser.cookies.split_once(&pass).unwrap();
    let rest = after.split_once(';').map_or("", |(_, rest)| rest);
    browser.cookies = format!("{before}{pass}damaged;{rest}");
    assert_eq!(browser.pay(&next, "l").await.expect(201)["state"], "paid");
    browser.world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_of_another_sale_alone_is_not_the_proof() {
    let mut browser = browser_of_three_sales(120).await;
    let sale = browser.world.sale.to_string();
    browser.enter(OTHER).await;
    let cookies_of_other = browser.cookies.clone();
    browser.enter(&sale).await;
    let hold = browser.hold(&sale).await;
    let with_both = std::mem::replace(&mut browser.cookies, cookies_of_other);
    let problem = browser.pay(&hold, "k").await.problem(401, "pass-required");
    assert!(problem["detail"].as_str().unwrap().contains(&sale), "{problem}");
    browser.cookies = with_both;
    browser.pay(&hold, "k").await.expect(201);
    browser.world.assert_no_panic();
}

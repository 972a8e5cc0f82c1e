//! Whole journeys of visitors, as a browser or an app makes them.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use stagedoor::kernel::{Clock, Timestamp};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    fan::Fan,
    world::{PASSWORD, SALE, SaleConfig, World},
};

fn str_of(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is not a string"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_goes_from_the_sale_page_to_tickets() {
    let sale_config = SaleConfig {
        on_sale_starts_in: Duration::from_secs(2),
        ..SaleConfig::default()
    };
    let world = World::open(sale_config).await;
    let mut fan = Fan::anonymous(&world, 1);

    let sales = fan.call(Method::GET, "/v1/sales", None).await.expect(200);
    assert_eq!(sales["sales"][0]["id"], SALE);
    let facts = fan
        .call(Method::GET, &format!("/v1/sales/{SALE}"), None)
        .await
        .expect(200);
    assert_eq!(
        (&facts["phase"], &facts["sign_in"]),
        (&json!("prequeue"), &json!("customer"))
    );
    fan.join(&world).await.problem(401, "sign-in-required");

    let credentials = |password: &str| Some(json!({"login": " Fan1@shop.example", "password": password}));
    fan.call(Method::POST, "/v1/sign-in", credentials("wrong"))
        .await
        .problem(401, "wrong-credentials");
    let session = fan
        .call(Method::POST, "/v1/sign-in", credentials(PASSWORD))
        .await
        .expect(200);
    fan.session = str_of(&session["token"]).to_owned();
    assert_eq!(session["customer"]["name"], "Fan 1");

    let joined = fan.join(&world).await.expect(201);
    assert_eq!(joined["number"], 1);
    let again = fan.join(&world).await.expect(200);
    assert_eq!(again["number"], 1, "joining twice gives one entry");
    let waiting = fan.enter(&world).await.problem(409, "not-called-yet");
    assert_eq!(waiting["position"]["number"], 1);

    fan.enter_within(&world, Duration::from_secs(20)).await;
    assert!(
        world.clock.now() >= world.on_sale_starts_at,
        "no visitor is admitted before the on-sale start"
    );
    let plan = fan
        .call(Method::GET, &world.performance_path("plan"), None)
        .await
        .expect(200);
    assert_eq!(
        plan["zones"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|z| z["rows"].as_array().unwrap())
            .map(|r| r["seats"].as_array().unwrap().len())
            .sum::<usize>(),
        300
    );

    let hold = fan.hold_best(&world, 2).await.expect(201);
    let (id, seats) = (
        str_of(&hold["id"]).to_owned(),
        hold["seats"].as_array().unwrap().clone(),
    );
    assert_eq!(seats.len(), 2);
    fan.wait_for_seat_state(&world, str_of(&seats[0]), "held").await;
    let paid = fan.pay(&id, "tok_ok").await.expect(201);
    assert_eq!((&paid["state"], &paid["total"]), (&json!("paid"), &hold["total"]));
    fan.wait_for_seat_state(&world, str_of(&seats[0]), "booked").await;

    let order = str_of(&paid["id"]);
    let tickets = fan
        .call(Method::GET, &format!("/v1/orders/{order}/tickets"), None)
        .await
        .expect(200);
    let tickets = tickets["tickets"].as_array().unwrap();
    assert_eq!(tickets.len(), 2);
    assert!(
        tickets.iter().all(|t| str_of(&t["code"]).split('.').count() == 3),
        "each ticket carries a signed code"
    );
    let picture = fan
        .call(Method::GET, str_of(&tickets[0]["qr_svg_url"]), None)
        .await;
    assert_eq!(picture.status, 200);
    assert!(picture.answer.body.starts_with(b"<"), "the QR code is an SVG");
    let history = fan
        .call(Method::GET, &format!("/v1/orders/{order}/history"), None)
        .await
        .expect(200);
    assert!(
        history["history"].as_array().unwrap().len() >= 3,
        "the buyer sees every step: {history}"
    );

    fan.end_visit(&world).await;
    let own = fan.call(Method::GET, "/v1/orders", None).await.expect(200);
    assert_eq!(
        own["orders"].as_array().unwrap().len(),
        1,
        "orders are listed after the visit"
    );
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clicks_on_a_seat_give_one_hold_and_one_alternative() {
    let world = World::open(SaleConfig::default()).await;
    let (one, other) = (Fan::admitted(&world, 1).await, Fan::admitted(&world, 2).await);
    let free = one.free_seats(&world).await;
    for seat in free.iter().step_by(40).take(6) {
        let seats = [seat.as_str()];
        let (a, b) = tokio::join!(one.hold(&world, &seats), other.hold(&world, &seats));
        let (winner, won, lost) = if a.status == 201 {
            (&one, a, b)
        } else {
            (&other, b, a)
        };
        let hold = won.expect(201);
        let taken = lost.problem(409, "seats-taken");
        assert_eq!(taken["taken"], json!([seat]));
        let offers = taken["alternatives"].as_array().unwrap();
        assert!(
            !offers.is_empty() && offers.iter().all(|o| o.as_array().unwrap().len() == 1),
            "{taken}"
        );
        assert!(offers.iter().all(|o| o[0] != json!(seat)));
        winner
            .call(
                Method::DELETE,
                &format!("/v1/holds/{}", str_of(&hold["id"])),
                None,
            )
            .await
            .expect(204);
    }
    let until = world.clock.monotonic() + Duration::from_secs(2);
    while one.free_seats(&world).await.len() < free.len() {
        assert!(
            world.clock.monotonic() < until,
            "released seats are not free again"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_seat_is_streamed_within_250_ms() {
    let world = World::open(SaleConfig::default()).await;
    let (watcher, buyer) = (Fan::admitted(&world, 1).await, Fan::admitted(&world, 2).await);
    let map = watcher.seats(&world).await;
    let path = format!(
        "{}?after={}",
        world.performance_path("seats/events"),
        map["version"]
    );
    let mut events = Events::open(&world, &watcher, &path).await;
    let mut delays = Vec::new();
    for seat in buyer.free_seats(&world).await.iter().step_by(70).take(4) {
        buyer.hold(&world, &[seat]).await.expect(201);
        let taken_at = world.clock.monotonic();
        events
            .until(&format!("\"{seat}\":\"held\""), Duration::from_secs(5))
            .await;
        delays.push(world.clock.monotonic().saturating_sub(taken_at));
    }
    delays.sort_unstable();
    // The median, as a busy machine may be late once.
    assert!(
        delays[delays.len() / 2] <= Duration::from_millis(250),
        "{delays:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn admission_respects_limit_rate_and_order() {
    let sale_config = SaleConfig {
        active_visits_max: 5,
        admission_rate_per_minute: 120,
        admission_burst: 2,
        ..SaleConfig::default()
    };
    let world = World::open(sale_config).await;
    let mut fans = Vec::new();
    for customer in 1..=8 {
        let mut fan = Fan::sign_in(&world, customer).await;
        assert_eq!(fan.join(&world).await.expect(201)["number"], customer);
        fans.push(fan);
    }
    let mut entered: Vec<Timestamp> = Vec::new();
    for fan in &mut fans[..5] {
        fan.enter_within(&world, Duration::from_secs(20)).await;
        entered.push(world.clock.now());
    }
    // Two at once, then one each half second.
    let third_to_fifth = entered[4].since(entered[1]);
    assert!(
        third_to_fifth >= Duration::from_millis(1_300),
        "three entries within {third_to_fifth:?} at two a second"
    );

    let refused_until = world.clock.monotonic() + Duration::from_secs(3);
    while world.clock.monotonic() < refused_until {
        for fan in &mut fans[5..] {
            assert_eq!(fan.enter(&world).await.status, 409, "all slots are taken");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    fans[2].end_visit(&world).await;
    // Number 6 is next; 7 and 8 ask as often and are not admitted.
    let until = world.clock.monotonic() + Duration::from_secs(10);
    loop {
        assert_eq!(fans[7].enter(&world).await.status, 409);
        assert_eq!(fans[6].enter(&world).await.status, 409);
        let reply = fans[5].enter(&world).await;
        if reply.status == 200 {
            break;
        }
        let queue_status = fans[0]
            .call(Method::GET, &world.sale_path("status"), None)
            .await
            .json;
        assert!(
            world.clock.monotonic() < until,
            "number 6 was not admitted: {}, status {queue_status}",
            reply.json
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let queue_status = fans[0]
        .call(Method::GET, &world.sale_path("status"), None)
        .await
        .expect(200);
    assert!(
        queue_status["active_visits"].as_u64().unwrap() <= 5,
        "{queue_status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_survives_other_devices_until_its_visitor_leaves() {
    let sale_config = SaleConfig {
        on_sale_starts_in: Duration::from_mins(10),
        ..SaleConfig::default()
    };
    let world = World::open(sale_config).await;
    let mut phone = Fan::sign_in(&world, 1).await;
    assert_eq!(phone.join(&world).await.expect(201)["number"], 1);
    Fan::sign_in(&world, 2).await.join(&world).await.expect(201);

    let mut tablet = Fan::sign_in(&world, 1).await;
    assert_eq!(
        tablet.join(&world).await.expect(200)["number"],
        1,
        "a customer has one entry on all devices"
    );
    assert_eq!(
        tablet.position(&world).await["number"],
        phone.position(&world).await["number"]
    );

    tablet.leave(&world).await;
    assert_eq!(phone.position(&world).await["state"], "left");
    assert_eq!(
        tablet.join(&world).await.expect(201)["number"],
        3,
        "joining after leaving gives a new number"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_arrival_is_admitted() {
    let sale_config = SaleConfig {
        call_window_s: 1,
        active_visits_max: 2,
        ..SaleConfig::default()
    };
    let world = World::open(sale_config).await;
    let mut late = Fan::sign_in(&world, 1).await;
    late.join(&world).await.expect(201);
    let mut next = Fan::sign_in(&world, 2).await;
    next.join(&world).await.expect(201);
    next.enter_within(&world, Duration::from_secs(20)).await;
    let until = world.clock.monotonic() + Duration::from_secs(20);
    while late.position(&world).await["state"] != "missed" {
        assert!(world.clock.monotonic() < until, "{}", late.position(&world).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    late.enter_within(&world, Duration::from_secs(20)).await;
    assert_eq!(
        late.position(&world).await["number"],
        1,
        "the number does not change"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpaid_hold_expires_and_a_declined_card_is_not_charged() {
    let sale_config = SaleConfig {
        hold_ttl_s: 10,
        ..SaleConfig::default()
    };
    let world = World::open(sale_config).await;
    let (mut one, other) = (Fan::admitted(&world, 1).await, Fan::admitted(&world, 2).await);
    let forgotten = other.hold_best(&world, 4).await.expect(201);
    let expires_at: Timestamp = str_of(&forgotten["expires_at"]).parse().unwrap();
    let seat = str_of(&forgotten["seats"][0]).to_owned();

    let hold = one.hold_best(&world, 2).await.expect(201);
    let id = str_of(&hold["id"]).to_owned();
    one.pay(&id, "tok_declined")
        .await
        .problem(402, "payment-declined");
    one.wait_for_seat_state(&world, str_of(&hold["seats"][0]), "held")
        .await;
    let paid = one.pay(&id, "tok_ok").await.expect(201);
    assert_eq!(paid["state"], "paid");

    while one.seat(&world, &seat).await == "held" {
        let over = world.clock.now().since(expires_at);
        assert!(
            over < Duration::from_secs(3),
            "still held {over:?} after its deadline"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(world.clock.now() >= expires_at, "not before its deadline");
    assert_eq!(one.seat(&world, &seat).await, "free");
    other
        .call(
            Method::GET,
            &format!("/v1/holds/{}", str_of(&forgotten["id"])),
            None,
        )
        .await
        .problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn canceling_releases_seats_and_a_key_never_pays_twice() {
    let world = World::open(SaleConfig::default()).await;
    let (fan, other) = (Fan::admitted(&world, 1).await, Fan::admitted(&world, 2).await);
    let hold = fan.hold_best(&world, 3).await.expect(201);
    let id = str_of(&hold["id"]);
    let (a, b) = tokio::join!(
        fan.pay_with_key(id, "tok_ok", "one purchase"),
        fan.pay_with_key(id, "tok_ok", "one purchase")
    );
    assert!(
        [a.status, b.status].iter().all(|s| matches!(s, 201 | 202)),
        "{a:?} {b:?}"
    );
    assert_eq!(a.json["id"], b.json["id"], "a double click is one order");
    let order = str_of(&a.json["id"]);
    fan.wait_for_order_state(&world, order, &["paid"], Duration::from_secs(10))
        .await;
    let hold_of_another = other.hold_best(&world, 1).await.expect(201);
    fan.pay_with_key(str_of(&hold_of_another["id"]), "tok_ok", "one purchase")
        .await
        .problem(422, "idempotency-key-reused");

    other
        .call(Method::GET, &format!("/v1/orders/{order}"), None)
        .await
        .problem(404, "not-found");
    other
        .call(Method::POST, &format!("/v1/orders/{order}/cancel"), None)
        .await
        .problem(404, "not-found");
    let cancelling = fan
        .call(Method::POST, &format!("/v1/orders/{order}/cancel"), None)
        .await;
    assert!(
        matches!(cancelling.status, 200 | 202),
        "{} {}",
        cancelling.status,
        cancelling.json
    );
    fan.wait_for_order_state(&world, order, &["canceled"], Duration::from_secs(10))
        .await;
    for seat in hold["seats"].as_array().unwrap() {
        fan.wait_for_seat_state(&world, str_of(seat), "free").await;
    }
    let tickets = fan
        .call(Method::GET, &format!("/v1/orders/{order}/tickets"), None)
        .await
        .expect(200);
    assert_eq!(
        tickets["tickets"],
        json!([]),
        "tickets of a canceled order are worth nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_with_a_lost_answer_ends_in_tickets_or_nothing() {
    let world = World::open(SaleConfig::default()).await;
    for (customer, card) in [
        (1, "tok_timeout_after_success"),
        (2, "tok_slow"),
        (3, "tok_error"),
    ] {
        let mut fan = Fan::admitted(&world, customer).await;
        let hold = fan.hold_best(&world, 1).await.expect(201);
        let reply = fan.pay(str_of(&hold["id"]), card).await;
        let order = match reply.status {
            201 | 202 => reply.json["id"].clone(),
            402 => reply.json["order"]["id"].clone(),
            other => panic!("{card}: {other} {}", reply.json),
        };
        let patience = Duration::from_secs(40);
        let ended = fan
            .wait_for_order_state(
                &world,
                str_of(&order),
                &["paid", "declined", "expired", "refunded", "canceled"],
                patience,
            )
            .await;
        let tickets = fan
            .call(
                Method::GET,
                &format!("/v1/orders/{}/tickets", str_of(&order)),
                None,
            )
            .await
            .expect(200);
        let count = tickets["tickets"].as_array().unwrap().len();
        assert_eq!(count, usize::from(ended["state"] == "paid"), "{card}: {ended}");
    }
}

/// A stream of server-sent events.
struct Events {
    socket: TcpStream,
    seen: String,
}

impl Events {
    async fn open(world: &World, fan: &Fan, path: &str) -> Self {
        let host = world.base.trim_start_matches("http://");
        let mut socket = TcpStream::connect(host).await.unwrap();
        let pass = fan.pass.as_deref().unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\nAdmission-Pass: {pass}\r\n\
             Accept: text/event-stream\r\n\r\n",
            fan.session
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut events = Self {
            socket,
            seen: String::new(),
        };
        events.until("\r\n\r\n", Duration::from_secs(5)).await;
        assert!(events.seen.starts_with("HTTP/1.1 200"), "{}", events.seen);
        events
    }

    /// Reads until `text` has arrived.
    async fn until(&mut self, text: &str, patience: Duration) {
        let read = async {
            let mut bytes = vec![0; 16_384];
            while !self.seen.contains(text) {
                let n = self.socket.read(&mut bytes).await.unwrap();
                assert!(n > 0, "the stream ended: {}", self.seen);
                self.seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
        };
        assert!(
            tokio::time::timeout(patience, read).await.is_ok(),
            "{text} did not come"
        );
    }
}

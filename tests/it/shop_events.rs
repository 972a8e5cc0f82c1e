//! What the shop hears: every event, signed, in order per order, whatever happens to its receiver or to the
//! nodes. On both backends.

use std::{process::Command, time::Duration};

use http::Method;
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use stagedoor::{
    audit::databases::DatabaseLocation,
    kernel::Clock,
    platform::signing::{hex, sha256},
};

use crate::{
    environment::Deployment,
    fan::Fan,
    operators::{KIM, at_node, with_operators},
    shop_receiver::{Receiver, ReceiverMode},
    wheelchair_seats::seats_of,
    world::{SaleConfig, World},
};

const FEED_TOKEN: &str = "the token with which the shop reads its feed";

const BOOKED: &str = "stagedoor.order.booked.v1";
const PAID: &str = "stagedoor.order.paid.v1";
const VOIDED: &str = "stagedoor.ticket.voided.v1";
const CANCELED: &str = "stagedoor.order.canceled.v1";

async fn with_receiver(mut world: World) -> (World, Receiver) {
    let receiver = Receiver::start(&world.site().dir).await;
    let feed = format!("feed_token = \"{}\"\n", hex(&sha256(FEED_TOKEN.as_bytes())));
    world.add_to_config(&(receiver.config() + &feed));
    world = with_operators(world).await;
    (world, receiver)
}

async fn bought(world: &World, fan: &mut Fan, seats: u8) -> String {
    let hold = fan.hold_best(world, seats).await.expect(201);
    let order = fan.pay(hold["id"].as_str().unwrap(), "tok_ok").await.expect(201);
    order["id"].as_str().unwrap().to_owned()
}

async fn cancel(fan: &Fan, order: &str) {
    let path = format!("/v1/orders/{order}/cancel");
    let reply = fan.call(Method::POST, &path, None).await;
    assert!([200, 202].contains(&reply.status), "{}", reply.json);
}

/// A gauge of a node.
async fn gauge(world: &World, node: usize, name: &str) -> f64 {
    let metrics = world.metrics(node).await;
    let line = metrics.lines().find(|line| line.starts_with(&format!("{name} ")));
    let line = line.unwrap_or_else(|| panic!("{name} is not recorded: {metrics}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

async fn wait_for_gauge(world: &World, node: usize, name: &str, is_right: impl Fn(f64) -> bool) {
    let mut seen = f64::NAN;
    for _ in 0..600 {
        seen = gauge(world, node, name).await;
        if is_right(seen) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{name} stays at {seen}: {:#?}", world.metrics(node).await);
}

async fn wait_until_told(world: &World, node: usize) {
    // The first count may be older than the last event.
    tokio::time::sleep(Duration::from_secs(5)).await;
    wait_for_gauge(world, node, "stagedoor_outbox_undelivered_events", |count| {
        count == 0.0
    })
    .await;
}

/// Runs the independent script; returns whether it found no difference, and what it printed.
fn compare(world: &World, received: &std::path::Path) -> (bool, String) {
    let location = |location: &DatabaseLocation| match location {
        DatabaseLocation::Postgres(url) => url.clone(),
        DatabaseLocation::File(file) => file.display().to_string(),
    };
    let databases = world.databases();
    let output = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shop/check_events.py"))
        .arg("--received")
        .arg(received)
        .args(["--ledger", &location(&databases.ledger)])
        .args(["--journal", &location(&databases.journal)])
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

/// The set received equals ledger and journal, and a dropped event is noticed.
fn assert_complete(world: &World, receiver: &Receiver) {
    let (is_same, said) = compare(world, receiver.file());
    assert!(is_same, "{said}");
    // An event that came only once, or dropping it would change nothing.
    let text = std::fs::read_to_string(receiver.file()).unwrap();
    let dropped = text
        .lines()
        .find(|line| line.contains(BOOKED) && text.matches(*line).count() == 1)
        .expect("an event that came once");
    let rest: Vec<&str> = text.lines().filter(|line| *line != dropped).collect();
    let file = world.site().dir.join("dropped");
    std::fs::write(&file, rest.join("\n")).unwrap();
    let (is_same, said) = compare(world, &file);
    assert!(!is_same, "a dropped event is not noticed: {said}");
}

/// Every page of the feed, as the shop reads it.
async fn feed(world: &World) -> Vec<Value> {
    let (mut after, mut events) = (0, Vec::new());
    loop {
        let path = format!("/v1/admin/events?limit=3&after={after}");
        let (status, page) = at_node(world, 0, Method::GET, &path, Some(FEED_TOKEN), String::new()).await;
        assert_eq!(status, 200, "{page}");
        let of_page = page["events"].as_array().unwrap();
        if of_page.is_empty() {
            return events;
        }
        assert!(of_page.len() <= 3);
        after = page["next"].as_u64().unwrap();
        events.extend(of_page.iter().cloned());
    }
}

/// What both backends promise.
async fn the_shop_hears_everything(world: &World, receiver: &Receiver) {
    receiver.answer(ReceiverMode::FailsEverySecondTime);
    let mut fan = Fan::admitted(world, 1).await;
    let (kept, canceled) = (bought(world, &mut fan, 1).await, bought(world, &mut fan, 2).await);
    cancel(&fan, &canceled).await;
    let hold = fan.hold_best(world, 1).await.expect(201);
    fan.pay(hold["id"].as_str().unwrap(), "tok_declined")
        .await
        .problem(402, "payment-declined");
    receiver.wait_for(PAID, &kept).await;
    receiver.wait_for(CANCELED, &canceled).await;
    receiver.wait_for_sale_event("stagedoor.sale.opened.v1").await;
    wait_until_told(world, 0).await;
    let kinds = |order: &str| -> Vec<String> {
        let of_order = receiver
            .accepted()
            .into_iter()
            .filter(|event| event["subject"] == order);
        of_order
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(kinds(&kept), [BOOKED, PAID]);
    assert_eq!(kinds(&canceled), [BOOKED, PAID, VOIDED, VOIDED, CANCELED]);
    assert_complete(world, receiver);
    // The history does not claim what only the receiver can know.
    let history = fan
        .call(Method::GET, &format!("/v1/orders/{kept}/history"), None)
        .await;
    assert!(!history.expect(200).to_string().contains("publish"));

    let by_id = |mut events: Vec<Value>| {
        events.sort_by_key(|event| event["id"].as_str().unwrap().to_owned());
        events
    };
    assert_eq!(
        by_id(feed(world).await),
        by_id(receiver.accepted()),
        "the feed has the same"
    );
}

/// Lets the failing events have failed for four days, and be due.
async fn age_failures(world: &World) {
    match world.databases().ledger {
        DatabaseLocation::Postgres(_) => {
            let aged = "UPDATE stagedoor_ledger.outbox_stream
                        SET failing_since = failing_since - 345600000, due_at = 0 WHERE attempts > 0";
            world.environment().execute(aged).await;
        }
        DatabaseLocation::File(file) => {
            let mut file = SqliteConnection::connect(&format!("sqlite:{}", file.display()))
                .await
                .unwrap();
            let aged = "UPDATE outbox_stream SET failing_since = failing_since - 345600000, due_at = 0
                        WHERE attempts > 0";
            sqlx::query(aged).execute(&mut file).await.unwrap();
        }
    }
}

/// An order whose first event is a dead letter, because the receiver answered 410 for four days.
async fn refused_for_long(world: &World, receiver: &Receiver, fan: &mut Fan) -> String {
    let dead_letters = "stagedoor_outbox_dead_letters";
    wait_for_gauge(world, 0, dead_letters, |count| count == 0.0).await;
    receiver.answer(ReceiverMode::Gone);
    let before = receiver.requests();
    let order = bought(world, fan, 1).await;
    while receiver.requests() == before {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The failure is recorded a moment after the answer.
    tokio::time::sleep(Duration::from_millis(500)).await;
    age_failures(world).await;
    wait_for_gauge(world, 0, dead_letters, |count| count > 0.0).await;
    receiver.answer(ReceiverMode::Accepts);
    order
}

async fn operators_decide(world: &World, receiver: &Receiver) {
    let mut fan = Fan::admitted(world, 2).await;
    let order = refused_for_long(world, receiver, &mut fan).await;
    let call = async |method: Method, path: &str, token: &str, body: String| {
        at_node(world, 0, method, path, Some(token), body).await
    };
    let list = "/v1/admin/dead-letters";
    let (status, letters) = call(Method::GET, list, KIM, String::new()).await;
    assert_eq!(status, 200, "{letters}");
    let letter = &letters["dead_letters"][0];
    let id = letter["id"].as_str().unwrap();
    assert_eq!(
        (letter["order"].as_str(), letter["type"].as_str()),
        (Some(order.as_str()), Some(BOOKED))
    );
    assert_eq!(
        (&letter["last_error"], &letter["waiting"]),
        (&json!("answered 410"), &json!(1))
    );
    let others = receiver.accepted().len();
    for (path, status) in [
        (format!("{list}/{order}:2/skip"), 404),
        (format!("{list}/nothing/skip"), 404),
        (format!("{list}/{id}/resend"), 204),
        (format!("{list}/{id}/resend"), 404),
    ] {
        let (answer, body) = call(Method::POST, &path, KIM, String::new()).await;
        assert_eq!(answer, status, "{path}: {body}");
    }
    receiver.wait_for(PAID, &order).await;
    assert_eq!(receiver.accepted().len(), others + 2);

    let order = refused_for_long(world, receiver, &mut fan).await;
    for (body, expected) in [
        (json!({"sale": "another-sale"}), json!({"events": 0})),
        (json!({}), json!({"events": 1})),
        (json!({}), json!({"events": 0})),
    ] {
        let path = format!("{list}/resend");
        let (status, answer) = call(Method::POST, &path, KIM, body.to_string()).await;
        assert_eq!((status, &answer), (200, &expected), "{body}");
    }
    receiver.wait_for(PAID, &order).await;

    // The shop may read its feed, and nothing else.
    for (token, path, status) in [
        ("wrong", "/v1/admin/events", 401),
        (KIM, "/v1/admin/events", 200),
        (FEED_TOKEN, list, 401),
        (FEED_TOKEN, "/v1/admin/sales/hero-test", 401),
        (FEED_TOKEN, "/v1/admin/events?after=x", 400),
    ] {
        assert_eq!(
            call(Method::GET, path, token, String::new()).await.0,
            status,
            "{token} {path}"
        );
    }

    let now = world.clock.now();
    let replay = async |from, until| {
        let body = json!({"sale": world.sale, "from": from, "until": until}).to_string();
        call(Method::POST, "/v1/admin/events/replay", KIM, body).await
    };
    assert_eq!(replay(now, now).await.0, 422);
    let told = receiver.accepted();
    let (status, replayed) = replay(world.on_sale_starts_at.minus(Duration::from_mins(1)), now).await;
    assert_eq!(
        (status, &replayed["events"]),
        (200, &json!(told.len())),
        "{replayed}"
    );
    for _ in 0..600 {
        if receiver.accepted().len() == 2 * told.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut again = receiver.accepted().split_off(told.len());
    assert_eq!(again.len(), told.len());
    again.retain(|event| !told.contains(event));
    assert_eq!(again, Vec::<Value>::new(), "the same events with the same ids");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shop_hears_everything_from_one_node() {
    let (world, receiver) = with_receiver(World::prepared(SaleConfig::default()).await).await;
    the_shop_hears_everything(&world, &receiver).await;
    operators_decide(&world, &receiver).await;
    world.assert_no_panic();
}

fn two_nodes() -> Deployment {
    Deployment {
        nodes: 2,
        ..Deployment::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shop_hears_everything_from_two_nodes() {
    let world = World::prepared_on(two_nodes(), SaleConfig::default()).await;
    let (world, receiver) = with_receiver(world).await;
    the_shop_hears_everything(&world, &receiver).await;
    operators_decide(&world, &receiver).await;
    world.assert_no_panic();
}

const CALLED: &str = "stagedoor.visitor.called.v1";

/// One visit at a time: the second customer waits, asks, and is called when the first one goes.
async fn the_shop_hears_of_a_call(mut world: World) {
    let receiver = Receiver::start(&world.site().dir).await;
    world.add_to_config(&(receiver.config() + "call_notices = true\n"));
    world.start().await;
    let notice = format!("/v1/sales/{}/queue/call-notice", world.sale);
    let mut inside = Fan::admitted(&world, 1).await;
    let (mut fan, mut other) = (Fan::sign_in(&world, 2).await, Fan::sign_in(&world, 3).await);
    fan.join(&world).await.expect(201);
    other.join(&world).await.expect(201);
    let ask = async |fan: &Fan| fan.call(Method::PUT, &notice, None).await;
    let is_asked =
        async |fan: &Fan| fan.call(Method::GET, &notice, None).await.expect(200)["is_asked"] == true;
    assert!(!is_asked(&fan).await);
    ask(&inside).await.problem(409, "not-waiting");
    assert_eq!(ask(&fan).await.status, 204);
    assert_eq!(ask(&fan).await.status, 204, "asking twice is asking once");
    assert!(is_asked(&fan).await);
    assert_eq!(ask(&other).await.status, 204);
    let withdrawn = other.call(Method::DELETE, &notice, None).await;
    assert_eq!(withdrawn.status, 204);
    let stranger = Fan {
        session: Fan::sign_in(&world, 4).await.session,
        ..fan.clone()
    };
    ask(&stranger).await.problem(403, "not-owner");

    inside.end_visit(&world).await;
    receiver.wait_for_sale_event(CALLED).await;
    while is_asked(&fan).await {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    fan.enter_within(&world, Duration::from_secs(10)).await;
    fan.end_visit(&world).await;
    other.enter_within(&world, Duration::from_secs(10)).await;
    // Time for what must not come.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let told: Vec<Value> = receiver
        .accepted()
        .into_iter()
        .filter(|event| event["type"] == CALLED)
        .collect();
    let [event] = &told[..] else {
        panic!("one customer asked: {told:#?}")
    };
    assert_eq!(event["data"]["customer"], "2");
    assert_eq!(event["data"]["sale"], world.sale.as_str());
    assert!(event["data"]["enter_by"].is_string(), "{event}");
    wait_until_told(&world, 0).await;
    let (is_same, said) = compare(&world, receiver.file());
    assert!(is_same, "{said}");
    world.assert_no_panic();
}

fn one_visit_at_a_time() -> SaleConfig {
    SaleConfig {
        active_visits_max: 1,
        ..SaleConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shop_hears_of_a_call_from_one_node() {
    the_shop_hears_of_a_call(World::prepared(one_visit_at_a_time()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shop_hears_of_a_call_from_two_nodes() {
    the_shop_hears_of_a_call(World::prepared_on(two_nodes(), one_visit_at_a_time()).await).await;
}

/// A receiver that is added later hears of orders that ended before.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_hears_what_happened_before_it_existed() {
    let mut world = World::open(SaleConfig::default()).await;
    let mut fan = Fan::admitted(&world, 1).await;
    let order = bought(&world, &mut fan, 1).await;
    cancel(&fan, &order).await;
    assert!(
        gauge(&world, 0, "stagedoor_outbox_undelivered_events").await == 0.0,
        "nothing is to be sent"
    );
    assert!(world.stop().await.success());
    let receiver = Receiver::start(&world.site().dir).await;
    world.add_to_config(&receiver.config());
    world.start().await;
    receiver.wait_for(CANCELED, &order).await;
    wait_until_told(&world, 0).await;
    assert_complete(&world, &receiver);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_misbehaves_costs_its_time_limit_only() {
    let (world, receiver) = with_receiver(World::prepared(SaleConfig::default()).await).await;
    let mut fan = Fan::admitted(&world, 1).await;
    for mode in [
        ReceiverMode::Down,
        ReceiverMode::Redirects,
        ReceiverMode::NeverAnswers,
    ] {
        receiver.answer(mode);
        let before = receiver.requests();
        let order = bought(&world, &mut fan, 1).await;
        while receiver.requests() < before + 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let told = receiver
            .accepted()
            .iter()
            .any(|event| event["subject"] == order.as_str());
        assert!(!told, "{mode:?}");
        wait_for_gauge(&world, 0, "stagedoor_outbox_oldest_event_age_seconds", |age| {
            age > 0.0
        })
        .await;
    }
    receiver.answer(ReceiverMode::TalksTooMuch);
    let order = bought(&world, &mut fan, 1).await;
    receiver.wait_for(PAID, &order).await;
    wait_until_told(&world, 0).await;
    assert_complete(&world, &receiver);
    let seen = receiver.accepted();
    assert!(
        seen.iter()
            .all(|event| seen.iter().filter(|other| other["id"] == event["id"]).count() == 1),
        "2xx is accepted, whatever follows: {seen:#?}"
    );
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_tells_when_it_opened_sold_out_and_closed() {
    let sale_config = SaleConfig {
        seats: 40,
        seats_per_customer_max: 8,
        // The sale closes with it.
        doors_open_in: Duration::from_secs(40),
        ..SaleConfig::default()
    };
    let (world, receiver) = with_receiver(World::prepared(sale_config).await).await;
    let reader = Fan::admitted(&world, 1).await;
    let plan = reader
        .call(Method::GET, &world.performance_path("plan"), None)
        .await;
    let plan = plan.expect(200);
    let (others, kept) = seats_of(&plan);
    for (seats, customer) in [others, kept].concat().chunks(8).zip(2..) {
        let mut buyer = Fan::admitted(&world, customer).await;
        let hold = buyer.hold(&world, seats).await.expect(201);
        let paid = buyer.pay(hold["id"].as_str().unwrap(), "tok_ok").await;
        paid.expect(201);
    }
    let kinds = ["opened", "sold_out", "closed"].map(|what| format!("stagedoor.sale.{what}.v1"));
    for kind in &kinds {
        receiver.wait_for_sale_event(kind).await;
    }
    wait_until_told(&world, 0).await;
    let told: Vec<_> = receiver
        .accepted()
        .into_iter()
        .filter(|event| event["data"]["order"].is_null())
        .map(|event| event["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told, kinds, "once, in order");
    assert_complete(&world, &receiver);
    world.assert_no_panic();
}

/// Either node is killed in turn while customers buy and cancel, and the receiver fails every second time.
#[tokio::test(flavor = "multi_thread")]
async fn kills_of_either_node_lose_no_event() {
    // `tests/long/events_killed` sets more.
    let rounds = std::env::var("STAGEDOOR_EVENT_ROUNDS").map_or(2, |rounds| rounds.parse().unwrap());
    let world = World::prepared_on(
        two_nodes(),
        SaleConfig {
            gateway_timeout_ms: 1_000,
            seats: 2_000,
            ..SaleConfig::default()
        },
    )
    .await;
    let (mut world, receiver) = with_receiver(world).await;
    receiver.answer(ReceiverMode::FailsEverySecondTime);
    for round in 0..rounds {
        let victim = round % 2;
        let mut buyers = Vec::new();
        for buyer in 0..8 {
            buyers.push(Fan::admitted(&world, 1 + 8 * u32::try_from(round).unwrap() + buyer).await);
        }
        let mut orders = Vec::new();
        for (n, fan) in buyers.iter_mut().enumerate() {
            fan.base = format!("http://{}", world.nodes[n % 2].public);
            let order = bought(&world, fan, 1).await;
            if n % 4 == 0 {
                cancel(fan, &order).await;
            }
            orders.push(order);
        }
        // While both nodes deliver what was just written.
        world.nodes[victim].kill();
        let heir = 1 - victim;
        for order in &orders {
            receiver.wait_for(PAID, order).await;
        }
        wait_until_told(&world, heir).await;
        world.nodes[victim].start().await;
    }
    assert_complete(&world, &receiver);
    world.assert_no_panic();
}

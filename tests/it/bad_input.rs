//! Malformed and unauthorized requests are refused with a reason and change nothing.

use std::{collections::BTreeMap, fs, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use stagedoor::{
    audit::{Evidence, Probe, audit},
    kernel::Clock,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    evidence::gather,
    fan::{Fan, Reply},
    world::{SaleConfig, World, command, fresh_dir, handoff_token},
};

/// A summary of the service's state, so that tests can assert that nothing changed.
async fn fingerprint(world: &World, observer: &Fan) -> BTreeMap<String, String> {
    let evidence = gather(world, observer).await;
    let seats = observer.seats(world).await["seats"].clone();
    BTreeMap::from([
        ("joins".into(), evidence.journal_joins.len().to_string()),
        (
            "entries".into(),
            evidence
                .admissions
                .iter()
                .map(|e| format!("{}:{:?}", e.number, e.ended_at))
                .collect::<Vec<_>>()
                .join(" "),
        ),
        (
            "orders".into(),
            evidence
                .orders
                .iter()
                .map(|o| format!("{}:{:?}", o.id, o.state))
                .collect::<Vec<_>>()
                .join(" "),
        ),
        (
            "payments".into(),
            evidence
                .payments
                .iter()
                .flatten()
                .map(|p| (p.captured, p.refunded).0.to_string())
                .collect::<Vec<_>>()
                .join(" "),
        ),
        ("seats".into(), seats.to_string()),
    ])
}

/// The fingerprint once earlier calls have taken effect: when two in a row are equal.
pub async fn settled_fingerprint(world: &World, observer: &Fan) -> BTreeMap<String, String> {
    let until = world.clock.monotonic() + Duration::from_secs(10);
    let mut last = fingerprint(world, observer).await;
    loop {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let now = fingerprint(world, observer).await;
        if now == last {
            return now;
        }
        assert!(world.clock.monotonic() < until, "the state does not settle");
        last = now;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_its_proof_changes_nothing() {
    let world = World::open(SaleConfig {
        pass_ttl_s: 120,
        ..SaleConfig::default()
    })
    .await;
    let mut owner = Fan::admitted(&world, 1).await;
    let hold = owner.hold_best(&world, 2).await.expect(201);
    let hold_id = hold["id"].as_str().unwrap().to_owned();
    let paid_hold = Fan::admitted(&world, 2).await;
    let mut paid_owner = paid_hold.clone();
    let paid = paid_hold.hold_best(&world, 1).await.expect(201);
    let paid = paid_owner
        .pay(paid["id"].as_str().unwrap(), "tok_ok")
        .await
        .expect(201);
    let order = paid["id"].as_str().unwrap().to_owned();
    let mut outsider = Fan::sign_in(&world, 3).await;
    outsider.join(&world).await.expect(201);
    let mut gone = Fan::admitted(&world, 4).await;
    let old_pass = gone.pass.clone().unwrap();
    gone.end_visit(&world).await;
    gone.pass = Some(old_pass);

    let anonymous = Fan::anonymous(&world, 99);
    let thief = Fan {
        pass: owner.pass.clone(),
        queue: owner.queue.clone(),
        ..Fan::sign_in(&world, 5).await
    };
    let forged = |token: &Option<String>| {
        let mut token = token.clone().unwrap().into_bytes();
        let middle = token.len() / 2;
        token[middle] = if token[middle] == b'A' { b'B' } else { b'A' };
        Some(String::from_utf8(token).unwrap())
    };
    let forger = Fan {
        pass: forged(&owner.pass),
        queue: forged(&owner.queue),
        ..owner.clone()
    };
    let confused = Fan {
        pass: owner.queue.clone(),
        queue: owner.pass.clone(),
        ..owner.clone()
    };
    let free = owner.free_seats(&world).await;
    let seats = json!({"seats": [free[0]]});
    let payment = json!({"hold": hold_id, "payment": {"method": "card", "token": "tok_ok"}});

    let mut cases: Vec<(String, &Fan, Method, String, Option<Value>)> = Vec::new();
    for (who, fan) in [
        ("an anonymous visitor", &anonymous),
        ("a waiting customer", &outsider),
        ("another customer with stolen tokens", &thief),
        ("the owner with forged tokens", &forger),
        ("the owner with swapped tokens", &confused),
        ("a customer after the visit", &gone),
    ] {
        cases.push((
            format!("a hold by {who}"),
            fan,
            Method::POST,
            world.performance_path("holds"),
            Some(seats.clone()),
        ));
        cases.push((
            format!("the seat map for {who}"),
            fan,
            Method::GET,
            world.performance_path("seats"),
            None,
        ));
        cases.push((
            format!("a renewal by {who}"),
            fan,
            Method::PUT,
            world.sale_path("admission"),
            None,
        ));
        if !["the owner with forged tokens", "the owner with swapped tokens"].contains(&who) {
            // These two carry the owner's session, which is enough for calls that need no pass.
            cases.push((
                format!("another's hold for {who}"),
                fan,
                Method::GET,
                format!("/v1/holds/{hold_id}"),
                None,
            ));
            cases.push((
                format!("a release by {who}"),
                fan,
                Method::DELETE,
                format!("/v1/holds/{hold_id}"),
                None,
            ));
            cases.push((
                format!("an extension by {who}"),
                fan,
                Method::POST,
                format!("/v1/holds/{hold_id}/extend"),
                None,
            ));
        }
        cases.push((
            format!("another's order for {who}"),
            fan,
            Method::GET,
            format!("/v1/orders/{order}"),
            None,
        ));
        cases.push((
            format!("a cancellation by {who}"),
            fan,
            Method::POST,
            format!("/v1/orders/{order}/cancel"),
            None,
        ));
    }
    for (who, fan) in [
        ("an anonymous visitor", &anonymous),
        ("a waiting customer", &outsider),
        ("another customer with stolen tokens", &thief),
    ] {
        cases.push((
            format!("a payment by {who}"),
            fan,
            Method::POST,
            "/v1/orders".into(),
            Some(payment.clone()),
        ));
    }
    for (who, fan) in [
        ("an anonymous visitor", &anonymous),
        ("another customer with stolen tokens", &thief),
        ("the owner with forged tokens", &forger),
        ("the owner with swapped tokens", &confused),
    ] {
        cases.push((
            format!("an admission by {who}"),
            fan,
            Method::POST,
            world.sale_path("admission"),
            None,
        ));
        cases.push((
            format!("leaving the queue by {who}"),
            fan,
            Method::DELETE,
            world.sale_path("queue"),
            None,
        ));
    }
    let before = settled_fingerprint(&world, &owner).await;
    let mut evidence = Evidence::default();
    for (what, fan, method, path, body) in cases {
        let reply = fan
            .call_with(method, &path, body, &[("idempotency-key", "a probe")])
            .await;
        assert!(
            reply.json["type"]
                .as_str()
                .is_some_and(|t| t.starts_with("/problems/")),
            "{what}: {} {}",
            reply.status,
            reply.json
        );
        evidence.probes.push(Probe {
            what,
            status: reply.status,
            before: BTreeMap::new(),
            after: BTreeMap::new(),
        });
    }
    let last = evidence.probes.last_mut().unwrap();
    (last.before, last.after) = (before, settled_fingerprint(&world, &owner).await);
    assert_eq!(audit(&evidence), Vec::new());
    // The owner's own proofs still work.
    owner.pay(&hold_id, "tok_ok").await.expect(201);
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_pass_still_pays_for_held_seats() {
    let world = World::open(SaleConfig {
        pass_ttl_s: 2,
        ..SaleConfig::default()
    })
    .await;
    let mut fan = Fan::admitted(&world, 1).await;
    fan.renew(&world).await;
    let hold = fan.hold_best(&world, 1).await.expect(201);
    // The pass lives for two seconds, plus five seconds of leeway.
    tokio::time::sleep(Duration::from_secs(8)).await;
    fan.call(Method::GET, &world.performance_path("seats"), None)
        .await
        .problem(401, "pass-required");
    let reply = fan.hold_best(&world, 1).await;
    assert_eq!(reply.status, 401, "{}", reply.json);
    assert_eq!(
        fan.pay(hold["id"].as_str().unwrap(), "tok_ok").await.expect(201)["state"],
        "paid"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_name_the_wrong_field() {
    let world = World::open(SaleConfig::default()).await;
    let fan = Fan::admitted(&world, 1).await;
    let before = settled_fingerprint(&world, &fan).await;
    let holds = world.performance_path("holds");
    let post = |path: &str, body: &str| {
        let (path, body) = (path.to_owned(), body.to_owned());
        let fan = &fan;
        async move { raw(fan, &path, body.into_bytes(), &[]).await }
    };
    post(&holds, "{\"seats\": [")
        .await
        .problem(400, "malformed-request");
    post(&holds, "{\"seats\": []} and more")
        .await
        .problem(400, "malformed-request");
    post(&holds, "\u{0}").await.problem(400, "malformed-request");
    assert_eq!(
        post(&holds, "{\"seats\": 7}").await.problem(422, "invalid-field")["field"],
        "seats"
    );
    assert_eq!(
        post(&holds, "{\"seats\": [\"A\", 7]}")
            .await
            .problem(422, "invalid-field")["field"],
        "seats[1]"
    );
    post(&holds, "{}").await.problem(422, "invalid-field");
    post(&holds, "{\"best_available\": {\"quantity\": 0}}")
        .await
        .problem(422, "invalid-field");
    let quantity = post(&holds, "{\"best_available\": {\"quantity\": 300}}")
        .await
        .problem(422, "invalid-field");
    assert_eq!(quantity["field"], "best_available.quantity");
    let unknown = post(&holds, "{\"seats\": [\"no such seat\"]}")
        .await
        .problem(422, "unknown-seat");
    assert!(unknown.to_string().contains("no such seat"), "{unknown}");
    let free = fan.free_seats(&world).await;
    let twice = fan.hold(&world, &[&free[0], &free[0]]).await;
    assert!(
        twice.status == 422 || twice.status == 409,
        "{} {}",
        twice.status,
        twice.json
    );
    let many: Vec<&str> = free.iter().take(5).map(String::as_str).collect();
    let too_many = fan.hold(&world, &many).await;
    assert!(
        matches!(too_many.status, 409 | 422),
        "{} {}",
        too_many.status,
        too_many.json
    );
    let form = [(
        HeaderName::from_static("content-type"),
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    )];
    fan_send(&fan, &holds, "seats=A", &form)
        .await
        .problem(415, "not-json");

    let unknown_hold = "00000000-0000-4000-8000-000000000000";
    let order = json!({"hold": unknown_hold, "payment": {"method": "card", "token": "tok_ok"}});
    let keyless = fan
        .call(Method::POST, "/v1/orders", Some(order.clone()))
        .await
        .problem(422, "invalid-field");
    assert_eq!(keyless["field"], "Idempotency-Key");
    let unknown = fan
        .call_with(
            Method::POST,
            "/v1/orders",
            Some(order),
            &[("idempotency-key", "k")],
        )
        .await;
    assert_eq!(unknown.status, 409, "{}", unknown.json);
    let not_an_id = json!({"hold": "x", "payment": {"method": "card", "token": "tok_ok"}});
    let reply = fan
        .call_with(
            Method::POST,
            "/v1/orders",
            Some(not_an_id),
            &[("idempotency-key", "k")],
        )
        .await;
    assert_eq!(reply.problem(422, "invalid-field")["field"], "hold");

    fan.call(Method::GET, "/v1/holds/not-an-id", None)
        .await
        .problem(404, "not-found");
    fan.call(Method::GET, "/v1/nothing/here", None)
        .await
        .problem(404, "not-found");
    fan.call(Method::GET, "/v1/sales/another-sale", None)
        .await
        .problem(404, "not-found");
    fan.call(Method::GET, "/v1/sales/%2e%2e%2fqueue", None)
        .await
        .problem(404, "not-found");
    fan.call(Method::DELETE, "/v1/sales", None)
        .await
        .problem(405, "method-not-allowed");
    fan.call(Method::PATCH, &holds, Some(json!({})))
        .await
        .problem(405, "method-not-allowed");
    assert_eq!(
        settled_fingerprint(&world, &fan).await,
        before,
        "a refused request changed something"
    );
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_other_purposes_times_and_issuers_are_refused() {
    let world = World::open(SaleConfig::default()).await;
    let anonymous = Fan::anonymous(&world, 1);
    let hand_off =
        |token: String| anonymous.call(Method::POST, "/v1/sign-in/handoff", Some(json!({"token": token})));
    let (now, secret) = (world.clock.now(), "the shop and the service share this secret");
    let good = handoff_token(7, "once", now, secret);
    hand_off(good.clone()).await.expect(200);
    hand_off(good.clone()).await.problem(401, "wrong-credentials");
    hand_off(handoff_token(
        7,
        "forged",
        now,
        "another secret of thirty-two bytes!",
    ))
    .await
    .problem(401, "wrong-credentials");
    hand_off(handoff_token(
        7,
        "expired",
        now.minus(Duration::from_mins(10)),
        secret,
    ))
    .await
    .problem(401, "wrong-credentials");
    hand_off(handoff_token(
        7,
        "to come",
        now.plus(Duration::from_mins(10)),
        secret,
    ))
    .await
    .problem(401, "wrong-credentials");
    let (head, rest) = good.split_once('.').unwrap();
    assert!(!head.is_empty());
    // {"alg":"none","typ":"JWT"}
    hand_off(format!(
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.",
        rest.split('.').next().unwrap()
    ))
    .await
    .problem(401, "wrong-credentials");
    for odd in ["", ".", "..", "a.b.c", "\u{1f600}", &"x".repeat(9_000)] {
        hand_off(odd.to_owned()).await.problem(401, "wrong-credentials");
    }

    let mut fan = Fan::sign_in(&world, 8).await;
    fan.join(&world).await.expect(201);
    let queue = fan.queue.clone().unwrap();
    // A session in place of a queue token, the reverse, and truncated queue tokens.
    let swapped = Fan {
        queue: Some(fan.session.clone()),
        ..fan.clone()
    };
    swapped
        .call(Method::GET, &world.sale_path("queue/position"), None)
        .await
        .problem(401, "queue-token-required");
    let swapped = Fan {
        session: queue.clone(),
        ..Fan::anonymous(&world, 8)
    };
    swapped
        .call(Method::GET, "/v1/orders", None)
        .await
        .problem(401, "sign-in-required");
    for cut in [1, 5, queue.len() / 2, queue.len() - 1] {
        let short = Fan {
            queue: Some(queue[..cut].to_owned()),
            ..fan.clone()
        };
        short
            .call(Method::GET, &world.sale_path("queue/position"), None)
            .await
            .problem(401, "queue-token-required");
    }
    // Another service has other keys: its tokens are refused here.
    let other = World::open(SaleConfig::default()).await;
    let foreigner = Fan::admitted(&other, 8).await;
    let tourist = Fan {
        pass: foreigner.pass.clone(),
        queue: foreigner.queue.clone(),
        ..fan.clone()
    };
    tourist
        .call(Method::GET, &world.performance_path("seats"), None)
        .await
        .problem(401, "pass-required");
    tourist
        .call(Method::GET, &world.sale_path("queue/position"), None)
        .await
        .problem(401, "queue-token-required");
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_and_malformed_http_is_refused() {
    let world = World::open(SaleConfig::default()).await;
    let fan = Fan::admitted(&world, 1).await;
    let large = format!("{{\"seats\": [\"{}\"]}}", "x".repeat(100_000));
    let reply = raw(&fan, &world.performance_path("holds"), large.into_bytes(), &[]).await;
    reply.problem(413, "body-too-large");

    for head in [
        format!(
            "GET /v1/sales HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n",
            "x".repeat(40_000)
        ),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(40_000)),
        format!(
            "GET /v1/sales HTTP/1.1\r\nHost: x\r\n{}\r\n",
            "X-More: y\r\n".repeat(200)
        ),
        "POST /v1/sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}no hello".to_owned(),
    ] {
        let answer = answer_to(&world, head.as_bytes()).await;
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(
            refused,
            "{} -> {}",
            &head[..40.min(head.len())],
            answer.lines().next().unwrap_or_default()
        );
    }
    fan.call(Method::GET, "/v1/sales", None).await.expect(200);
    world.assert_no_panic();
}

#[test]
fn a_wrong_seating_plan_is_refused_with_every_fault() {
    let dir = fresh_dir();
    let (status, good) = command(&["plan", "generate", "theatre", "--seats", "60"]);
    assert!(status.success(), "{good}");
    let check = |name: &str, text: &str| {
        let file = dir.join(name);
        fs::write(&file, text).unwrap();
        command(&["plan", "check", file.to_str().unwrap()])
    };
    assert!(check("good.json", &good).0.success());

    let mut plan: Value = serde_json::from_str(&good).unwrap();
    let zones = plan["zones"].as_array_mut().unwrap();
    let row = &mut zones.iter_mut().find(|zone| zone["rows"][0].is_object()).unwrap()["rows"][0];
    let guid = row["seats"][0]["seat_guid"].clone();
    row["seats"][1]["seat_guid"] = guid.clone();
    row["seats"][2]["category"] = json!("no such zone");
    let (status, output) = check("twice.json", &plan.to_string());
    assert!(!status.success());
    assert!(
        output.contains(guid.as_str().unwrap()) && output.contains("no such zone"),
        "all mistakes are listed: {output}"
    );

    for (name, from, to) in [
        ("nan.json", "\"x\":", "\"x\":NaN,\"was\":"),
        ("infinite.json", "\"x\":", "\"x\":1e999,\"was\":"),
    ] {
        assert!(good.contains(from), "{good:.200}");
        let (status, output) = check(name, &good.replacen(from, to, 1));
        assert!(
            !status.success() && !output.contains("panicked"),
            "{name}: {output}"
        );
        assert!(
            output.contains("line") || output.contains("zones"),
            "{name} says where: {output}"
        );
    }
    for (name, text) in [
        ("empty.json", ""),
        ("list.json", "[]"),
        ("cut.json", &good[..good.len() / 2]),
        ("no seats.json", "{\"name\":\"x\",\"zones\":[]}"),
    ] {
        let (status, output) = check(name, text);
        assert!(
            !status.success() && !output.is_empty() && !output.contains("panicked"),
            "{name}: {output}"
        );
    }
    let (status, output) = command(&["plan", "check", dir.join("nowhere.json").to_str().unwrap()]);
    assert!(!status.success() && output.contains("nowhere.json"), "{output}");
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_wrong_configuration_is_refused_and_names_the_key() {
    let dir = fresh_dir();
    let file = dir.join("wrong.toml");
    let serve = |text: &str| {
        fs::write(&file, text).unwrap();
        command(&["serve", "--config", file.to_str().unwrap()])
    };
    for (text, expected) in [
        ("[server]\nlissten = \"127.0.0.1:0\"\n", "lissten"),
        ("[server]\nlisten = \"not an address\"\n", "listen"),
        (
            "[checkout]\norder_response_wait_ms = \"soon\"\n",
            "order_response_wait_ms",
        ),
        (
            "[checkout]\norder_response_wait_ms = 9000\n",
            "checkout.order_response_wait_ms",
        ),
        ("[server\n", "wrong.toml"),
        ("[[sales]]\nid = \"UPPER CASE\"\n", "lower-case"),
    ] {
        let (status, output) = serve(text);
        assert!(!status.success(), "{text} was accepted");
        assert!(
            output.contains(expected) && !output.contains("panicked"),
            "{text}: {output}"
        );
    }
    fs::remove_dir_all(&dir).unwrap();
}

async fn raw(fan: &Fan, path: &str, body: Vec<u8>, headers: &[(HeaderName, HeaderValue)]) -> Reply {
    let mut all = vec![(
        HeaderName::from_static("content-type"),
        HeaderValue::from_static("application/json"),
    )];
    all.extend_from_slice(headers);
    send(fan, path, body, all).await
}

async fn fan_send(fan: &Fan, path: &str, body: &str, headers: &[(HeaderName, HeaderValue)]) -> Reply {
    send(fan, path, body.as_bytes().to_vec(), headers.to_vec()).await
}

async fn send(fan: &Fan, path: &str, body: Vec<u8>, mut headers: Vec<(HeaderName, HeaderValue)>) -> Reply {
    headers.push((
        HeaderName::from_static("authorization"),
        HeaderValue::from_str(&format!("Bearer {}", fan.session)).unwrap(),
    ));
    headers.push((
        HeaderName::from_static("admission-pass"),
        HeaderValue::from_str(fan.pass.as_deref().unwrap()).unwrap(),
    ));
    fan.send(Method::POST, path, &headers, Bytes::from(body)).await
}

/// The response to these bytes; empty when the connection is closed without one.
async fn answer_to(world: &World, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(world.base.trim_start_matches("http://"))
        .await
        .unwrap();
    // The service may close the connection before it has read everything.
    let _ = socket.write_all(bytes).await;
    let mut answer = vec![0; 4_096];
    match tokio::time::timeout(Duration::from_secs(8), socket.read(&mut answer)).await {
        Ok(Ok(n)) => String::from_utf8_lossy(&answer[..n]).into_owned(),
        Ok(Err(_)) => String::new(),
        Err(_) => "no answer".into(),
    }
}

//! Attacks: each test tries to use the service without a required proof, and asserts that nothing changes.
//! Requests that are merely malformed are in `bad_input`.

use std::{fs, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    bad_input::settled_fingerprint,
    fan::{Fan, Reply},
    world::{PASSWORD, SaleConfig, World, command, fresh_dir},
};

/// Another sale of the same service, with the same keys and the same customers.
const OTHER: &str = "hero-other";

async fn world_with_two_sales() -> World {
    let mut world = World::prepared(SaleConfig::default()).await;
    world.add_to_config(&world.another_sale(OTHER, ""));
    world.start().await;
    world
}

/// Every call that requires a session, a queue token or a pass.
fn protected_calls(
    world: &World,
    hold: &str,
    order: &str,
    seat: &str,
) -> Vec<(Method, String, Option<Value>)> {
    let payment = json!({"hold": hold, "payment": {"method": "card", "token": "tok_ok"}});
    vec![
        (Method::GET, world.performance_path("seats"), None),
        (Method::GET, world.performance_path("seats/events?after=0"), None),
        (
            Method::POST,
            world.performance_path("holds"),
            Some(json!({"seats": [seat]})),
        ),
        (Method::GET, format!("/v1/holds/{hold}"), None),
        (
            Method::PATCH,
            format!("/v1/holds/{hold}"),
            Some(json!({"seats": [seat]})),
        ),
        (Method::POST, format!("/v1/holds/{hold}/extend"), None),
        (Method::DELETE, format!("/v1/holds/{hold}"), None),
        (Method::POST, "/v1/orders".into(), Some(payment)),
        (Method::GET, format!("/v1/orders/{order}"), None),
        (Method::GET, format!("/v1/orders/{order}/history"), None),
        (Method::GET, format!("/v1/orders/{order}/tickets"), None),
        (Method::POST, format!("/v1/orders/{order}/confirm"), None),
        (Method::POST, format!("/v1/orders/{order}/cancel"), None),
        (Method::PUT, world.sale_path("admission"), None),
        (Method::POST, world.sale_path("admission"), None),
        (Method::DELETE, world.sale_path("admission"), None),
        (Method::DELETE, world.sale_path("queue"), None),
        (Method::GET, format!("/v1/forward-auth/{}", world.sale), None),
    ]
}

/// An admitted customer with a hold and an order, and a free seat.
struct Victim {
    owner: Fan,
    hold: String,
    order: String,
    seat: String,
}

async fn victim(world: &World) -> Victim {
    let mut owner = Fan::admitted(world, 1).await;
    let bought = owner.hold_best(world, 1).await.expect(201);
    let order = owner
        .pay(bought["id"].as_str().unwrap(), "tok_ok")
        .await
        .expect(201)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let hold = owner.hold_best(world, 2).await.expect(201)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let seat = owner.free_seats(world).await.remove(0);
    Victim {
        owner,
        hold,
        order,
        seat,
    }
}

fn assert_refused(what: &str, reply: &Reply) {
    assert!(
        matches!(reply.status, 400 | 401 | 403 | 404 | 405 | 409 | 422),
        "{what}: {} {}",
        reply.status,
        reply.json
    );
    assert!(
        reply.json["type"]
            .as_str()
            .is_some_and(|kind| kind.starts_with("/problems/")),
        "{what}: {}",
        reply.json
    );
}

/// `token` with one character in the middle replaced.
fn forged(token: &str) -> String {
    let mut token = token.to_owned().into_bytes();
    let middle = token.len() / 2;
    token[middle] = if token[middle] == b'A' { b'B' } else { b'A' };
    String::from_utf8(token).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_link_without_a_pass_is_refused() {
    let world = World::open(SaleConfig::default()).await;
    let Victim {
        owner,
        hold,
        order,
        seat,
    } = victim(&world).await;
    let mut waiting = Fan::sign_in(&world, 2).await;
    waiting.join(&world).await.expect(201);
    let before = settled_fingerprint(&world, &owner).await;
    for (who, fan) in [
        ("an anonymous visitor", Fan::anonymous(&world, 0)),
        ("a customer", Fan::sign_in(&world, 3).await),
        ("a waiting visitor", waiting),
    ] {
        for (method, path, body) in protected_calls(&world, &hold, &order, &seat) {
            // A waiting visitor may enter when called, and may leave.
            let is_own = who == "a waiting visitor"
                && ((path.ends_with("/queue") && method == Method::DELETE)
                    || (path.ends_with("/admission") && method == Method::POST));
            if !is_own {
                let reply = fan
                    .call_with(method.clone(), &path, body, &[("idempotency-key", "a link")])
                    .await;
                assert_refused(&format!("{method} {path} by {who}"), &reply);
            }
        }
        // The seats page is static. Its data come from the API, which requires a pass.
        let page = fan
            .call(Method::GET, &format!("/sales/{}/seats", world.sale), None)
            .await;
        assert_eq!(page.status, 200);
        assert!(!String::from_utf8_lossy(&page.answer.body).contains(&seat));
    }
    assert_eq!(settled_fingerprint(&world, &owner).await, before);
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_admission_returns_the_same_visit_until_it_ends() {
    let world = World::open(SaleConfig::default()).await;
    let observer = Fan::admitted(&world, 9).await;
    let mut fan = Fan::admitted(&world, 1).await;
    let first_pass = fan.pass.clone();
    let entries = |print: &std::collections::BTreeMap<String, String>| print["entries"].clone();
    let before = settled_fingerprint(&world, &observer).await;
    for _ in 0..3 {
        fan.enter(&world).await.expect(200);
    }
    assert_eq!(
        entries(&settled_fingerprint(&world, &observer).await),
        entries(&before),
        "repeated requests keep one admission"
    );
    let second_pass = fan.pass.clone();
    fan.end_visit(&world).await;
    let ended = settled_fingerprint(&world, &observer).await;
    fan.enter(&world).await.problem(409, "visit-ended");
    for pass in [first_pass, second_pass] {
        let replay = Fan { pass, ..fan.clone() };
        replay
            .call(Method::GET, &world.performance_path("seats"), None)
            .await
            .problem(401, "pass-required");
        replay.hold_best(&world, 1).await.problem(401, "pass-required");
        replay
            .call(Method::PUT, &world.sale_path("admission"), None)
            .await
            .problem(401, "pass-required");
        replay
            .call(Method::GET, &format!("/v1/forward-auth/{}", world.sale), None)
            .await
            .problem(401, "pass-required");
    }
    assert_eq!(settled_fingerprint(&world, &observer).await, ended);
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_out_session_is_refused() {
    let world = World::open(SaleConfig::default()).await;
    let Victim {
        owner,
        hold,
        order,
        seat,
    } = victim(&world).await;
    let observer = Fan::admitted(&world, 9).await;
    owner.call(Method::DELETE, "/v1/session", None).await.expect(204);
    let before = settled_fingerprint(&world, &observer).await;
    for (method, path, body) in protected_calls(&world, &hold, &order, &seat) {
        let reply = owner
            .call_with(method.clone(), &path, body, &[("idempotency-key", "a replay")])
            .await;
        assert_refused(&format!("{method} {path}"), &reply);
        assert_eq!(reply.status, 401, "{method} {path}: {}", reply.json);
    }
    owner
        .call(Method::POST, &world.sale_path("queue"), None)
        .await
        .problem(401, "sign-in-required");
    owner
        .call(Method::DELETE, "/v1/session", None)
        .await
        .problem(401, "sign-in-required");
    assert_eq!(settled_fingerprint(&world, &observer).await, before);
    // After signing in again, the customer owns the same order and hold.
    let back = Fan {
        queue: owner.queue.clone(),
        pass: owner.pass.clone(),
        ..Fan::sign_in(&world, 1).await
    };
    back.call(Method::GET, &format!("/v1/orders/{order}"), None)
        .await
        .expect(200);
    back.call(Method::GET, &format!("/v1/holds/{hold}"), None)
        .await
        .expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_pass_or_queue_token_is_refused() {
    let world = World::open(SaleConfig::default()).await;
    let Victim {
        owner,
        hold,
        order,
        seat,
    } = victim(&world).await;
    let mut called = Fan::sign_in(&world, 2).await;
    called.join(&world).await.expect(201);
    let before = settled_fingerprint(&world, &owner).await;
    for (who, session) in [
        ("another customer", Fan::sign_in(&world, 3).await.session),
        ("an anonymous visitor", String::new()),
    ] {
        let thief = Fan {
            session: session.clone(),
            ..owner.clone()
        };
        for (method, path, body) in protected_calls(&world, &hold, &order, &seat) {
            let reply = thief
                .call_with(method.clone(), &path, body, &[("idempotency-key", "shared")])
                .await;
            assert_refused(&format!("{method} {path} by {who}"), &reply);
        }
        // A queue token works only together with the session of its owner.
        let buyer = Fan {
            session,
            ..called.clone()
        };
        let expected = if who == "an anonymous visitor" {
            (401, "sign-in-required")
        } else {
            (403, "not-owner")
        };
        buyer
            .call(Method::POST, &world.sale_path("admission"), None)
            .await
            .problem(expected.0, expected.1);
        buyer
            .call(Method::DELETE, &world.sale_path("queue"), None)
            .await
            .problem(expected.0, expected.1);
    }
    assert_eq!(settled_fingerprint(&world, &owner).await, before);
    called.enter_within(&world, Duration::from_secs(10)).await;
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_and_foreign_tokens_are_refused() {
    let world = world_with_two_sales().await;
    let Victim {
        owner,
        hold,
        order,
        seat,
    } = victim(&world).await;
    let own = |path: &str| format!("/v1/sales/{OTHER}/{path}");
    // The same customer in the other sale of the same service.
    let mut elsewhere = owner.clone();
    (elsewhere.queue, elsewhere.pass) = (None, None);
    let joined = elsewhere
        .call(Method::POST, &own("queue"), None)
        .await
        .expect(201);
    elsewhere.queue = joined["token"].as_str().map(str::to_owned);
    for _ in 0..100 {
        let reply = elsewhere.call(Method::POST, &own("admission"), None).await;
        elsewhere.pass = reply.json["pass"].as_str().map(str::to_owned);
        if elsewhere.pass.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(elsewhere.pass.is_some());
    let before = settled_fingerprint(&world, &owner).await;

    let (session, queue, pass) = (
        owner.session.clone(),
        owner.queue.clone().unwrap(),
        owner.pass.clone().unwrap(),
    );
    let with = |session: &str, queue: &str, pass: &str| Fan {
        session: session.to_owned(),
        queue: Some(queue.to_owned()),
        pass: Some(pass.to_owned()),
        ..owner.clone()
    };
    let (other_queue, other_pass) = (elsewhere.queue.clone().unwrap(), elsewhere.pass.clone().unwrap());
    for (what, fan) in [
        ("other sale's", with(&session, &other_queue, &other_pass)),
        ("forged", with(&session, &forged(&queue), &forged(&pass))),
        (
            "unsigned",
            with(
                &session,
                &queue[..queue.len() - 22],
                &format!("{}.", pass.rsplit_once('.').unwrap().0),
            ),
        ),
        ("each other's", with(&session, &pass, &queue)),
        ("sessions", with(&session, &session, &session)),
        ("empty", with(&session, "", "")),
    ] {
        fan.call(Method::GET, &world.sale_path("queue/position"), None)
            .await
            .problem(401, "queue-token-required");
        fan.call(Method::POST, &world.sale_path("admission"), None)
            .await
            .problem(401, "queue-token-required");
        fan.call(Method::DELETE, &world.sale_path("queue"), None)
            .await
            .problem(401, "queue-token-required");
        for (method, path, body) in [
            (Method::GET, world.performance_path("seats"), None),
            (
                Method::POST,
                world.performance_path("holds"),
                Some(json!({"seats": [seat]})),
            ),
            (Method::PUT, world.sale_path("admission"), None),
            (Method::GET, format!("/v1/forward-auth/{}", world.sale), None),
        ] {
            let reply = fan.call(method.clone(), &path, body).await;
            assert_eq!(reply.status, 401, "{what}: {method} {path}: {}", reply.json);
        }
    }
    for (what, fake) in [
        ("forged", forged(&session)),
        ("a queue token", queue.clone()),
        ("a pass", pass.clone()),
        ("nothing", String::new()),
    ] {
        let fan = with(&fake, &queue, &pass);
        for (method, path, body) in protected_calls(&world, &hold, &order, &seat) {
            let reply = fan
                .call_with(method.clone(), &path, body, &[("idempotency-key", "forged")])
                .await;
            assert_eq!(
                reply.status, 401,
                "a session that is {what}: {method} {path}: {}",
                reply.json
            );
        }
    }
    assert_eq!(settled_fingerprint(&world, &owner).await, before);

    // Only tickets verify as tickets, although passes are signed with keys of the same set.
    let dir = fresh_dir();
    let keys = owner.call(Method::GET, "/.well-known/jwks.json", None).await;
    fs::write(dir.join("jwks.json"), &keys.answer.body).unwrap();
    for code in [&pass, &session, &queue, &forged(&pass), "x.y.z", ""] {
        let (status, reply) = command(&[
            "ticket",
            "verify",
            "--jwks",
            dir.join("jwks.json").to_str().unwrap(),
            "--",
            code,
        ]);
        assert!(
            !status.success() && reply.contains("not a genuine ticket"),
            "{reply}"
        );
    }
    fs::remove_dir_all(&dir).unwrap();
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_client_clock_changes_nothing() {
    let world = World::open(SaleConfig {
        pass_ttl_s: 2,
        ..SaleConfig::default()
    })
    .await;
    let mut later = World::prepared(SaleConfig {
        prequeue_starts_in: Duration::from_mins(30),
        on_sale_starts_in: Duration::from_hours(1),
        ..SaleConfig::default()
    })
    .await;
    later.start().await;
    let fan = Fan::admitted(&world, 1).await;
    // The pass lives for two seconds, plus five seconds of leeway.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let early = Fan::sign_in(&later, 1).await;
    for date in [
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 01 Jan 2100 00:00:00 GMT",
        "yesterday",
    ] {
        let headers = [
            ("date", date),
            ("if-modified-since", date),
            ("if-unmodified-since", date),
            ("x-request-start", "0"),
            ("age", "0"),
        ];
        let reply = fan
            .call_with(Method::GET, &world.performance_path("seats"), None, &headers)
            .await;
        reply.problem(401, "pass-required");
        let reply = fan
            .call_with(Method::PUT, &world.sale_path("admission"), None, &headers)
            .await;
        reply.problem(401, "pass-required");
        early
            .call_with(Method::POST, &later.sale_path("queue"), None, &headers)
            .await
            .problem(409, "not-open-yet");
    }
    // Cookie attributes that a client sends are ignored; only the token's own expiry counts.
    let cookie = format!(
        "sd_session={}; sd_pass_{}={}; Max-Age=99999999; Expires=Fri, 01 Jan 2100",
        fan.session,
        world.sale,
        fan.pass.clone().unwrap()
    );
    let tab = Fan::anonymous(&world, 1);
    tab.call_with(
        Method::GET,
        &world.performance_path("seats"),
        None,
        &[("cookie", &cookie)],
    )
    .await
    .problem(401, "pass-required");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_tab_shares_number_and_visit() {
    let world = World::open(SaleConfig {
        active_visits_max: 2,
        ..SaleConfig::default()
    })
    .await;
    let observer = Fan::admitted(&world, 9).await;
    let mut tab = Fan::sign_in(&world, 1).await;
    let number = tab.join(&world).await.expect(201)["number"].clone();
    let mut other_tab = Fan {
        queue: None,
        ..tab.clone()
    };
    assert_eq!(other_tab.join(&world).await.expect(200)["number"], number);
    tab.enter_within(&world, Duration::from_secs(10)).await;
    let admitted = settled_fingerprint(&world, &observer).await;
    // Both slots are taken. The second tab shares the visit and takes no slot.
    for _ in 0..3 {
        other_tab.enter(&world).await.expect(200);
        assert_eq!(other_tab.join(&world).await.expect(200)["number"], number);
    }
    assert_eq!(settled_fingerprint(&world, &observer).await, admitted);
    let hold = tab.hold_best(&world, 2).await.expect(201);
    let hold = format!("/v1/holds/{}", hold["id"].as_str().unwrap());
    assert_eq!(
        other_tab.call(Method::GET, &hold, None).await.expect(200)["seats"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    other_tab.hold_best(&world, 3).await.problem(409, "limit-reached");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_device_finds_the_same_entry_and_visit() {
    let world = World::open(SaleConfig {
        on_sale_starts_in: Duration::from_secs(3),
        ..SaleConfig::default()
    })
    .await;
    let mut phone = Fan::sign_in(&world, 1).await;
    let joined = phone.join(&world).await.expect(201);
    // Password and hand-off identify the same customer.
    let mut laptop = Fan::anonymous(&world, 1);
    let credentials = json!({"login": "fan1@shop.example", "password": PASSWORD});
    let reply = laptop
        .call(Method::POST, "/v1/sign-in", Some(credentials))
        .await
        .expect(200);
    reply["token"].as_str().unwrap().clone_into(&mut laptop.session);
    assert_ne!(laptop.session, phone.session);
    let found = laptop.join(&world).await.expect(200);
    assert_eq!(
        (&found["number"], &found["joined_at"]),
        (&joined["number"], &joined["joined_at"])
    );
    laptop.enter_within(&world, Duration::from_secs(20)).await;
    phone.enter(&world).await.expect(200);
    let hold = laptop.hold_best(&world, 1).await.expect(201);
    phone
        .pay(hold["id"].as_str().unwrap(), "tok_ok")
        .await
        .expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_paths_and_headers_do_not_bypass_proofs() {
    let world = World::open(SaleConfig::default()).await;
    let Victim {
        owner,
        hold,
        order,
        seat,
    } = victim(&world).await;
    let customer = Fan::sign_in(&world, 2).await;
    let before = settled_fingerprint(&world, &owner).await;
    let sale = world.sale.to_string();
    let targets = [
        ("GET", world.performance_path("seats"), ""),
        (
            "POST",
            world.performance_path("holds"),
            r#"{"best_available":{"quantity":1}}"#,
        ),
        ("GET", format!("/v1/holds/{hold}"), ""),
        ("DELETE", format!("/v1/holds/{hold}"), ""),
        ("GET", format!("/v1/orders/{order}"), ""),
        ("POST", format!("/v1/orders/{order}/cancel"), ""),
        ("POST", world.sale_path("admission"), ""),
        ("GET", format!("/v1/forward-auth/{sale}"), ""),
    ];
    let open = [
        format!("/sales/{sale}"),
        "/v1/sales".to_owned(),
        "/assets/sale.js".to_owned(),
    ];
    let mut tries = 0;
    for (method, path, body) in &targets {
        let mut paths = vec![
            format!("/{path}"),
            path.replacen("/v1/", "/v1//", 1),
            path.replacen("/v1/", "/v1/./", 1),
            path.replacen("/v1/", "/%76%31/", 1),
            path.replacen("/v1/", "/v1%2f", 1),
            path.replacen("/v1/", "/v1\\", 1),
            path.to_uppercase(),
            format!("{path}/"),
            format!("{path}%00"),
            format!("{path}%20"),
            format!("{path};x=1"),
            format!("{path}/."),
            format!("{path}?pass=1&admission-pass=1&Authorization=Bearer"),
            format!("{path}%3f"),
            format!("{path}#x"),
            format!("{}{path}", world.base),
            path.replacen(&sale, "%2e%2e", 1),
            path.replacen(&sale, &format!("x/../{sale}"), 1),
            path.replacen(&sale, &format!("{sale}%00"), 1),
            path.replacen(&sale, &sale.to_uppercase(), 1),
            path.replacen(&sale, "*", 1),
        ];
        paths.extend(open.iter().flat_map(|open| {
            [
                format!("{open}/..{path}"),
                format!("{open}/%2e%2e{path}"),
                format!("{open}/../..{path}"),
                format!("{open}/..%2f..{path}"),
                format!("{open}/..;{path}"),
            ]
        }));
        for path in paths {
            // Raw bytes, because a client library would normalize the path.
            let session = format!("Authorization: Bearer {}\r\n", customer.session);
            for proof in ["", session.as_str()] {
                let status = raw(&world, method, path.as_bytes(), proof, body).await.0;
                assert!(
                    matches!(status, 400 | 401 | 403 | 404 | 405),
                    "{method} {path} was answered {status}"
                );
                tries += 1;
            }
        }
        let mut with_nul = path.clone().into_bytes();
        with_nul.insert(4, 0);
        assert!(matches!(
            raw(&world, method, &with_nul, "", body).await.0,
            0 | 400
        ));
        // Headers that some proxies and frameworks honor; this service ignores them.
        for header in [
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-Forwarded-Uri",
            "X-Forwarded-Prefix",
            "X-Original-URI",
        ] {
            for open in &open {
                let plain = raw(&world, "GET", open.as_bytes(), "", "").await;
                let answer = raw(
                    &world,
                    "GET",
                    open.as_bytes(),
                    &format!("{header}: {path}\r\n"),
                    "",
                )
                .await;
                assert_eq!((plain.0, answer.0), (200, 200));
                assert!(
                    !answer.1.contains(&seat) && !answer.1.contains(&hold),
                    "{header}: {path}"
                );
            }
        }
        for header in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
            let status = raw(
                &world,
                "GET",
                format!("/v1/orders?_method={method}").as_bytes(),
                &format!("{header}: {method}\r\n"),
                "",
            )
            .await
            .0;
            assert_eq!(status, 401, "{header}: {method}");
        }
    }
    assert!(tries > 300, "{tries}");
    // Method override headers are ignored: a GET with the owner's proofs stays a GET.
    for header in ["x-http-method-override", "x-http-method", "x-method-override"] {
        owner
            .call_with(
                Method::GET,
                &format!("/v1/holds/{hold}?_method=DELETE"),
                None,
                &[(header, "DELETE")],
            )
            .await
            .expect(200);
    }
    assert_eq!(settled_fingerprint(&world, &owner).await, before);
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn cross_site_planted_and_doubled_cookies_are_refused() {
    let world = World::open(SaleConfig::default()).await;
    let Victim {
        owner, hold, seat, ..
    } = victim(&world).await;
    let sale = world.sale.to_string();
    let (queue, pass) = (owner.queue.clone().unwrap(), owner.pass.clone().unwrap());
    let good = format!(
        "sd_session={}; sd_queue_{sale}={queue}; sd_pass_{sale}={pass}",
        owner.session
    );
    let seats = json!({"seats": [seat]});
    let tab = Fan::anonymous(&world, 1);
    let holds = world.performance_path("holds");
    let release = format!("/v1/holds/{hold}");
    let evil = "https://evil.example";
    let before = settled_fingerprint(&world, &owner).await;
    for more in [
        vec![],
        vec![("origin", evil)],
        vec![("origin", "null")],
        vec![("origin", evil), ("x-forwarded-host", "evil.example")],
        vec![
            ("origin", evil),
            ("forwarded", "host=evil.example;proto=https"),
            ("x-host", "evil.example"),
        ],
        vec![("origin", evil), ("referer", world.base.as_str())],
        vec![("origin", "http://127.0.0.1.evil.example")],
        // The client chooses the Host that it sends to this server's address.
        vec![("origin", "http://evil.example"), ("host", "evil.example")],
        vec![("origin", evil), ("host", "evil.example")],
    ] {
        let headers: Vec<_> = more
            .iter()
            .copied()
            .chain([("cookie", good.as_str()), ("idempotency-key", "k")])
            .collect();
        tab.call_with(Method::POST, &holds, Some(seats.clone()), &headers)
            .await
            .problem(403, "cross-origin");
        tab.call_with(Method::DELETE, &release, None, &headers)
            .await
            .problem(403, "cross-origin");
        tab.call_with(Method::DELETE, &world.sale_path("queue"), None, &headers)
            .await
            .problem(403, "cross-origin");
        tab.call_with(Method::POST, &world.sale_path("admission"), None, &headers)
            .await
            .problem(403, "cross-origin");
    }
    // A proof that is given twice is rejected, in any order and over any number of header lines.
    let name = |text: &'static str| HeaderName::from_static(text);
    let value = |text: String| HeaderValue::from_str(&text).unwrap();
    let session = || (name("authorization"), value(format!("Bearer {}", owner.session)));
    let twice = [
        vec![(name("cookie"), value(format!("{good}; sd_session=x")))],
        vec![(name("cookie"), value(format!("sd_session=x; {good}")))],
        vec![
            (name("cookie"), value(good.clone())),
            (name("cookie"), value("sd_session=x".into())),
        ],
        vec![(name("cookie"), value(format!("{good}; sd_pass_{sale}=x")))],
        vec![
            session(),
            (name("admission-pass"), value("x".into())),
            (name("admission-pass"), value(pass.clone())),
        ],
        vec![
            session(),
            (name("admission-pass"), value(pass.clone())),
            (name("admission-pass"), value("x".into())),
        ],
        vec![
            session(),
            (name("authorization"), value("Bearer x".into())),
            (name("admission-pass"), value(pass.clone())),
        ],
        vec![
            (name("authorization"), value("Bearer x".into())),
            session(),
            (name("admission-pass"), value(pass.clone())),
        ],
    ];
    for headers in twice {
        let reply = tab
            .send(
                Method::GET,
                &world.performance_path("seats"),
                &headers,
                Bytes::new(),
            )
            .await;
        assert_eq!(reply.status, 401, "{headers:?}: {}", reply.json);
    }
    assert_eq!(settled_fingerprint(&world, &owner).await, before);
    let own = [
        ("cookie", good.as_str()),
        ("origin", world.base.as_str()),
        ("host", "behind-a-proxy.internal"),
    ];
    tab.call_with(Method::DELETE, &release, None, &own)
        .await
        .expect(204);
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_scripts_the_page_shows_the_position() {
    let world = World::open(SaleConfig {
        on_sale_starts_in: Duration::from_secs(4),
        ..SaleConfig::default()
    })
    .await;
    let mut fan = Fan::sign_in(&world, 1).await;
    let number = fan.join(&world).await.expect(201)["number"].clone();
    let path = format!("/sales/{}", world.sale);
    let anonymous = Fan::anonymous(&world, 1);
    let read = async |fan: &Fan, path: &str, cookie: &str| {
        let reply = fan
            .call_with(
                Method::GET,
                path,
                None,
                &[
                    ("accept", "text/html"),
                    ("accept-language", "en"),
                    ("cookie", cookie),
                ],
            )
            .await;
        assert_eq!(reply.status, 200);
        (
            String::from_utf8_lossy(&reply.answer.body).into_owned(),
            reply.answer.headers,
        )
    };
    let (page, _) = read(&anonymous, &path, "").await;
    assert!(
        page.contains("<noscript><meta http-equiv=\"refresh\" content=\"0;url=?plain\"></noscript>")
            && page.contains("href=\"?plain\"")
    );
    let plain = format!("{path}?plain");
    let cookie = format!("sd_queue_{}={}", world.sale, fan.queue.clone().unwrap());
    let (page, headers) = read(&anonymous, &plain, &cookie).await;
    assert!(
        page.contains(&format!("Queue number {number}"))
            && page.contains("JavaScript is needed")
            && page.contains("sign in there"),
        "{page}"
    );
    assert!(
        page.contains("http-equiv=\"refresh\"") && !page.contains("<script"),
        "{page}"
    );
    assert_eq!(headers["cache-control"], "private, no-store");
    assert!(headers.contains_key("content-security-policy"));
    for (what, cookie) in [
        ("an anonymous visitor", String::new()),
        ("a forged token", forged(&cookie)),
        ("two cookies", format!("{cookie}; {cookie}")),
    ] {
        let (page, _) = read(&anonymous, &plain, &cookie).await;
        assert!(
            page.contains("This browser has no place") && !page.contains("Queue number"),
            "{what}: {page}"
        );
    }
    fan.enter_within(&world, Duration::from_secs(20)).await;
    let (page, _) = read(&anonymous, &plain, &cookie).await;
    assert!(page.contains("You are in"), "{page}");
    anonymous
        .call(Method::GET, "/sales/nothing-here?plain", None)
        .await
        .problem(404, "not-found");
}

/// Sends exactly these bytes; returns status and response. The status is 0 when there is no response.
async fn raw(world: &World, method: &str, path: &[u8], more: &str, body: &str) -> (u16, String) {
    let host = world.base.trim_start_matches("http://");
    let mut socket = TcpStream::connect(host).await.unwrap();
    let kind = if body.is_empty() {
        ""
    } else {
        "Content-Type: application/json\r\n"
    };
    let mut request = [method.as_bytes(), b" ", path].concat();
    let rest = format!(
        " HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nIdempotency-Key: odd\r\n{more}{kind}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    request.extend_from_slice(rest.as_bytes());
    let _ = socket.write_all(&request).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut answer)).await;
    assert!(
        read.is_ok(),
        "no answer to {method} {}",
        String::from_utf8_lossy(path)
    );
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    (status, answer)
}

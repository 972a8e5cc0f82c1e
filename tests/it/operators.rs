//! Operators' commands at the admin listener: authorization, validation, effect on all nodes, journal.

use std::{process::ExitStatus, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use stagedoor::{
    kernel::{Clock, Timestamp},
    platform::signing::{hex, sha256},
};

use crate::{
    environment::Deployment,
    fan::Fan,
    world::{SaleConfig, World, command},
};

pub const KIM: &str = "the token of Kim, an operator in tests";
const LEE: &str = "the token of Lee, another operator";

/// Starts the service with two operators.
pub async fn with_operators(mut world: World) -> World {
    let hash = |token: &str| hex(&sha256(token.as_bytes()));
    world.add_to_config(&format!(
        "[operators]\nkim = \"{}\"\nlee = \"{}\"\n",
        hash(KIM),
        hash(LEE)
    ));
    world.start().await;
    world
}

/// Calls a node's admin listener; returns status and body.
pub async fn at_node(
    world: &World,
    node: usize,
    method: Method,
    path: &str,
    proof: Option<&str>,
    body: String,
) -> (u16, Value) {
    let headers: Vec<(HeaderName, HeaderValue)> = proof
        .iter()
        .map(|token| (header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap()))
        .collect();
    let uri = format!("http://{}{path}", world.nodes[node].admin)
        .parse()
        .unwrap();
    let answer = world
        .client
        .send(method, uri, &headers, Bytes::from(body))
        .await
        .unwrap();
    (answer.status.as_u16(), answer.json().unwrap_or(Value::Null))
}

async fn send_command(world: &World, node: usize, token: &str, command: Value) -> (u16, Value) {
    let path = format!("/v1/admin/sales/{}/commands", world.sale);
    at_node(world, node, Method::POST, &path, Some(token), command.to_string()).await
}

/// The confirmed command to close the sale.
fn close(world: &World) -> Value {
    json!({"command": "close", "confirm": world.sale})
}

async fn execute(world: &World, node: usize, what: Value) -> Value {
    let (status, reply) = send_command(world, node, KIM, what.clone()).await;
    assert_eq!(status, 200, "{what}: {reply}");
    reply
}

async fn queue_status(world: &World, node: usize) -> Value {
    let there = Fan {
        base: format!("http://{}", world.nodes[node].public),
        ..Fan::anonymous(world, 1)
    };
    there
        .call(Method::GET, &world.sale_path("status"), None)
        .await
        .expect(200)
}

/// The chain head in a node's status, once it covers all records.
async fn linked_head(world: &World, node: usize, verify: impl Fn(&[&str]) -> (ExitStatus, String)) -> String {
    let until = world.clock.monotonic() + Duration::from_secs(20);
    loop {
        let (log, (status, reply)) = (queue_status(world, node).await["journal"].clone(), verify(&[]));
        assert!(status.success(), "{reply}");
        let head = format!("{}:{}", log["sequence"], log["hash"].as_str().unwrap_or_default());
        if reply.contains(&head) && !reply.contains("not linked yet") {
            return head;
        }
        assert!(
            world.clock.monotonic() < until,
            "the status shows {head}: {reply}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_reaches_the_other_node_within_a_second() {
    let world = World::prepared_on(
        Deployment {
            nodes: 2,
            ..Deployment::default()
        },
        SaleConfig::default(),
    )
    .await;
    let world = with_operators(world).await;
    let mut waiting = Vec::new();
    for customer in 1..=120 {
        let mut fan = Fan {
            base: format!("http://{}", world.nodes[1].public),
            ..Fan::sign_in(&world, customer).await
        };
        fan.join(&world).await.expect(201);
        waiting.push(fan);
    }
    let (clock, moment) = (&world.clock, Duration::from_secs(1));
    // The next waiting visitor tries to enter at the second node.
    let mut try_enter = async || {
        let reply = waiting
            .last_mut()
            .expect("there are enough visitors")
            .enter(&world)
            .await;
        if reply.status == 200 {
            waiting.pop();
        }
        reply
    };
    let until = clock.monotonic() + Duration::from_secs(20);
    while try_enter().await.status != 200 {
        assert!(clock.monotonic() < until, "no visitor is admitted");
    }
    for (stop, go, reason) in [
        (
            json!({"command": "pause"}),
            json!({"command": "resume"}),
            "paused",
        ),
        (
            json!({"command": "set_admission_rate", "per_minute": 0}),
            json!({"command": "set_admission_rate", "per_minute": 60_000}),
            "paused_by_rate",
        ),
        (
            json!({"command": "set_active_visits_max", "visits": 0}),
            json!({"command": "set_active_visits_max", "visits": 1_000}),
            "paused_by_visit_limit",
        ),
    ] {
        let state = execute(&world, 0, stop.clone()).await;
        assert_eq!(
            (state["phase"].as_str(), state["reason"].as_str()),
            (Some("paused"), Some(reason))
        );
        let given = clock.monotonic();
        let mut last_admission = Duration::ZERO;
        while clock.monotonic().saturating_sub(given) < moment + Duration::from_millis(300) {
            let reply = try_enter().await;
            if reply.status == 200 {
                last_admission = clock.monotonic().saturating_sub(given);
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        assert!(
            last_admission < moment,
            "a visitor was admitted {last_admission:?} after {stop}"
        );
        assert_eq!(queue_status(&world, 1).await["reason"], reason);
        execute(&world, 0, go).await;
        let given = clock.monotonic();
        while try_enter().await.status != 200 {
            assert!(
                clock.monotonic().saturating_sub(given) < moment,
                "no visitor is admitted again after {stop}"
            );
        }
    }
    execute(&world, 0, json!({"command": "notice", "text": "곧 시작합니다"})).await;
    let given = clock.monotonic();
    while queue_status(&world, 1).await["notice"] != "곧 시작합니다" {
        assert!(
            clock.monotonic().saturating_sub(given) < moment,
            "the notice is not there"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    execute(&world, 0, close(&world)).await;
    let given = clock.monotonic();
    while queue_status(&world, 1).await["phase"] != "paused" {
        assert!(
            clock.monotonic().saturating_sub(given) < moment,
            "the other node does not stop before the sale closes"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // The journal holds every command under the operator's name, in its hash chain.
    let by_kim = r#"SELECT count(*) FROM stagedoor_queue.journal
        WHERE kind = 'event' AND convert_from(body, 'UTF8') LIKE '%"operator":"kim"%'"#;
    assert_eq!(world.environment().query_number(by_kim).await, 8);
    let url = world.environment().database_url();
    let verify = |more: &[&str]| command(&[&["journal", "verify", "--journal", &url], more].concat());
    let head = linked_head(&world, 1, verify).await;
    let (status, reply) = verify(&["--head", &head]);
    assert!(status.success() && reply.contains("valid, "), "{reply}");
    let forged = r#"WITH changed AS (
         UPDATE stagedoor_queue.journal SET body = convert_to(
             replace(convert_from(body, 'UTF8'), '"operator":"kim"', '"operator":"lee"'), 'UTF8')
         WHERE kind = 'event' AND convert_from(body, 'UTF8') LIKE '%"command":"close"%'
         RETURNING 1) SELECT count(*) FROM changed"#;
    assert_eq!(world.environment().query_number(forged).await, 1);
    let (status, reply) = verify(&[]);
    assert!(!status.success() && reply.contains("WRONG at link"), "{reply}");
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_of_a_peer_are_limited_and_logged() {
    let mut world = World::prepared(SaleConfig::default()).await;
    world.nodes[0].set(
        "STAGEDOOR__LIMITS__WRONG_OPERATOR_TOKENS_PER_IP_PER_MINUTE",
        "3".into(),
    );
    let world = with_operators(world).await;
    let path = format!("/v1/admin/sales/{}", world.sale);
    let show = async |token| at_node(&world, 0, Method::GET, &path, Some(token), String::new()).await;
    let guess = "a guess that no log may show";
    for _ in 0..5 {
        assert_eq!(show(KIM).await.0, 200, "right tokens cost nothing");
    }
    for _ in 0..3 {
        assert_eq!(show(guess).await.0, 401);
    }
    let (status, reply) = show(guess).await;
    assert_eq!(
        (status, reply["type"].as_str()),
        (429, Some("/problems/too-many-requests"))
    );
    assert_eq!(show(KIM).await.0, 429, "no token is looked at");
    let refusals = metric(&world, "stagedoor_operator_refusals_total").await;
    assert_eq!(
        refusals,
        [r#"{reason="too_many"} 2"#, r#"{reason="wrong_token"} 3"#]
    );
    let log = world.log();
    assert!(log.contains("refused the token of an operator's call") && !log.contains(guess));
}

/// The values of one metric of the first node, with their labels.
async fn metric(world: &World, name: &str) -> Vec<String> {
    let text = world.metrics(0).await;
    let mut values: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix(name))
        .map(str::to_owned)
        .collect();
    values.sort_unstable();
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn only_operators_may_command_and_errors_are_explained() {
    let world = with_operators(World::prepared(SaleConfig::default()).await).await;
    let path = format!("/v1/admin/sales/{}/commands", world.sale);
    let pause = || json!({"command": "pause"}).to_string();
    for (proof, status, problem) in [
        (None, 401, "/problems/sign-in-required"),
        (Some("not a token"), 401, "/problems/wrong-credentials"),
        (Some(""), 401, "/problems/wrong-credentials"),
    ] {
        let (answered, reply) = at_node(&world, 0, Method::POST, &path, proof, pause()).await;
        assert_eq!(
            (answered, reply["type"].as_str()),
            (status, Some(problem)),
            "{proof:?}: {reply}"
        );
    }
    // The hash in the configuration is not the token.
    let hash = hex(&sha256(KIM.as_bytes()));
    assert_eq!(
        at_node(&world, 0, Method::POST, &path, Some(&hash), pause())
            .await
            .0,
        401
    );
    let (status, reply) = at_node(
        &world,
        0,
        Method::POST,
        "/v1/admin/sales/another/commands",
        Some(KIM),
        pause(),
    )
    .await;
    assert_eq!(
        (status, reply["type"].as_str()),
        (404, Some("/problems/not-found"))
    );
    for (body, status) in [
        ("", 400),
        ("{", 400),
        (r#"{"command": "open"}"#, 422),
        (r#"{"command": "set_admission_rate", "per_minute": -1}"#, 422),
        (
            r#"{"command": "set_admission_rate", "per_minute": 4294967296}"#,
            422,
        ),
        (r#"{"command": "set_active_visits_max"}"#, 422),
    ] {
        let (answered, reply) = at_node(&world, 0, Method::POST, &path, Some(KIM), body.to_owned()).await;
        assert_eq!(answered, status, "{body}: {reply}");
    }
    let long = json!({"command": "notice", "text": "x".repeat(161)});
    assert_eq!(send_command(&world, 0, KIM, long).await.0, 422);
    let huge = json!({"command": "notice", "text": "x".repeat(100_000)});
    assert_eq!(send_command(&world, 0, KIM, huge).await.0, 413);
    // Never on the public listener.
    Fan::anonymous(&world, 1)
        .call(Method::POST, &path, Some(json!({"command": "pause"})))
        .await
        .problem(404, "not-found");
    let before = at_node(
        &world,
        0,
        Method::GET,
        &format!("/v1/admin/sales/{}", world.sale),
        Some(LEE),
        String::new(),
    )
    .await;
    assert_eq!(
        (before.0, before.1["version"].as_u64(), before.1["phase"].as_str()),
        (200, Some(0), Some("on_sale")),
        "{}",
        before.1
    );

    // The last of contradictory commands counts, and closing is confirmed and can be withdrawn.
    for (token, rate) in [(KIM, 100), (LEE, 200)] {
        assert_eq!(
            send_command(
                &world,
                0,
                token,
                json!({"command": "set_admission_rate", "per_minute": rate})
            )
            .await
            .0,
            200
        );
    }
    for confirm in [json!({}), json!({"confirm": "another"})] {
        let mut command = json!({"command": "close"});
        command
            .as_object_mut()
            .unwrap()
            .extend(confirm.as_object().unwrap().clone());
        let (status, reply) = send_command(&world, 0, KIM, command).await;
        assert_eq!(
            (status, reply["type"].as_str()),
            (422, Some("/problems/invalid-field"))
        );
        assert!(reply["detail"].as_str().unwrap().contains("confirm"), "{reply}");
    }
    let closing = execute(&world, 0, close(&world)).await;
    assert_eq!(
        (
            closing["admission_rate_per_minute"].as_u64(),
            closing["version"].as_u64(),
            closing["phase"].as_str()
        ),
        (Some(200), Some(3), Some("paused"))
    );
    let closes_at: Timestamp = closing["closes_by_command_at"].as_str().unwrap().parse().unwrap();
    let left = closes_at.since(world.clock.now());
    assert!(
        left > Duration::from_mins(9) && left <= Duration::from_mins(10),
        "{closing}"
    );
    let open = execute(&world, 0, json!({"command": "withdraw_close"})).await;
    assert_eq!(
        (open["phase"].as_str(), &open["closes_by_command_at"]),
        (Some("on_sale"), &Value::Null)
    );

    // The journal shows who gave which command.
    let (status, shown) = command(&[
        "journal",
        "show",
        "--data",
        world.data().to_str().unwrap(),
        "--kind",
        "operator",
    ]);
    let shown: Vec<Value> = shown
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let given: Vec<_> = shown
        .iter()
        .map(|line| {
            (
                line["operator"].as_str().unwrap(),
                line["command"]["command"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        (status.success(), given),
        (
            true,
            vec![
                ("kim", "set_admission_rate"),
                ("lee", "set_admission_rate"),
                ("kim", "close"),
                ("kim", "withdraw_close")
            ]
        )
    );

    // Changes to the journal are detected, also when the service is stopped.
    let data = world.data();
    let data = data.to_str().unwrap();
    let verify = |more: &[&str]| command(&[&["journal", "verify", "--data", data], more].concat());
    let head = linked_head(&world, 0, verify).await;
    let (status, reply) = verify(&["--head", &head, "--sale", world.sale.as_str()]);
    assert!(status.success() && reply.contains("valid, "), "{reply}");
    let mut world = world;
    world.kill();
    let mut file = SqliteConnection::connect(&format!("sqlite:{data}/queue.db"))
        .await
        .unwrap();
    let gone = sqlx::query("DELETE FROM journal WHERE seq = (SELECT max(seq) FROM journal)")
        .execute(&mut file)
        .await
        .unwrap();
    assert_eq!(gone.rows_affected(), 1);
    let (status, reply) = verify(&[]);
    assert!(!status.success() && reply.contains("WRONG at link"), "{reply}");
    sqlx::query("DELETE FROM chain_link")
        .execute(&mut file)
        .await
        .unwrap();
    assert!(
        verify(&[]).0.success(),
        "without a known head a removed chain cannot be detected"
    );
    let (status, reply) = verify(&["--head", &head]);
    assert!(!status.success() && reply.contains("no link now"), "{reply}");
    file.close().await.unwrap();
    for (more, says) in [
        (vec!["--head", "7"], "--head"),
        (vec!["--sale", "another"], "no sale another"),
        (vec!["--journal", "x"], "cannot be used"),
    ] {
        let (status, reply) = verify(&more);
        assert!(!status.success() && reply.contains(says), "{more:?}: {reply}");
    }
    world.assert_no_panic();
}

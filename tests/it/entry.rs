//! Joining a sale without sign-in: the proof of work, the limits by IP address, and how signing in lifts
//! them.

use std::time::Duration;

use aws_lc_rs::digest;
use http::Method;
use serde_json::{Value, json};

use crate::{
    fan::{Fan, Reply},
    world::{SaleConfig, World},
};

/// A sale without sign-in, beside the default one.
const OPEN: &str = "hero-open";
const ALSO_OPEN: &str = "hero-also-open";

/// A service with a difficulty of 6 to 10 bits for joins without sign-in, and with more variables.
async fn world_with_limits(limits: &[(&'static str, &str)]) -> World {
    let mut world = World::prepared(SaleConfig::default()).await;
    let open = |id| world.another_sale(id, "sign_in = \"none\"");
    world.add_to_config(&(open(OPEN) + &open(ALSO_OPEN)));
    let defaults = [
        ("STAGEDOOR__LIMITS__PROOF_OF_WORK__DIFFICULTY_BITS_MIN", "6"),
        ("STAGEDOOR__LIMITS__PROOF_OF_WORK__DIFFICULTY_BITS_MAX", "10"),
    ];
    for (variable, value) in defaults.iter().chain(limits) {
        world.nodes[0].set(variable, (*value).to_owned());
    }
    world.start().await;
    world
}

fn queue(sale: &str) -> String {
    format!("/v1/sales/{sale}/queue")
}

async fn numbers_issued(world: &World, sale: &str) -> u64 {
    // The status is published once a second.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let queue_status = Fan::anonymous(world, 0)
        .call(Method::GET, &format!("/v1/sales/{sale}/status"), None)
        .await
        .expect(200);
    queue_status["numbers_issued"].as_u64().unwrap()
}

/// Solves a challenge as a browser does.
fn solved(challenge: &Value) -> Value {
    let text = |key: &str| challenge[key].as_str().unwrap();
    assert_eq!(text("algorithm"), "SHA-256");
    let hash = |number: u64| {
        let whole = digest::digest(&digest::SHA256, format!("{}{number}", text("salt")).as_bytes());
        whole
            .as_ref()
            .iter()
            .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    };
    let number = (0..=challenge["maxnumber"].as_u64().unwrap())
        .find(|number| hash(*number) == text("challenge"))
        .unwrap();
    json!({
        "algorithm": "SHA-256", "challenge": text("challenge"), "number": number,
        "salt": text("salt"), "signature": text("signature"),
    })
}

async fn join_from(world: &World, address: &str, body: Option<Value>) -> Reply {
    Fan::anonymous(world, 0)
        .call_with(Method::POST, &queue(OPEN), body, &[("x-forwarded-for", address)])
        .await
}

/// Joins from an address with a solved challenge; returns the response and the highest possible number.
async fn pay_and_join(world: &World, address: &str) -> (Reply, u64) {
    let refusal = join_from(world, address, None)
        .await
        .problem(403, "proof-required");
    let proof = solved(&refusal["challenge"]);
    (
        join_from(world, address, Some(json!({"proof": proof}))).await,
        refusal["challenge"]["maxnumber"].as_u64().unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anonymous_entry_costs_work_that_counts_once() {
    let world = world_with_limits(&[]).await;
    let fan = Fan::anonymous(&world, 0);
    let join = |sale: &str, proof: Value| {
        let (fan, path) = (&fan, queue(sale));
        async move { fan.call(Method::POST, &path, Some(json!({"proof": proof}))).await }
    };
    let refused = fan
        .call(Method::POST, &queue(OPEN), None)
        .await
        .problem(403, "proof-required");
    assert_eq!(
        (&refused["reason"], &refused["sign_in"]),
        (&json!("missing"), &json!("/v1/sign-in")),
        "{refused}"
    );
    assert_eq!(refused["challenge"]["maxnumber"], 64);
    let asked = fan
        .call(Method::GET, &format!("{}/challenge", queue(OPEN)), None)
        .await
        .expect(200);
    assert_ne!(asked["salt"], refused["challenge"]["salt"]);
    let proof = solved(&asked);
    assert_eq!(
        join(ALSO_OPEN, proof.clone())
            .await
            .problem(403, "proof-required")["reason"],
        "wrong",
        "the challenge belongs to another sale"
    );
    let mut guessed = proof.clone();
    guessed["number"] = json!(proof["number"].as_u64().unwrap() + 1);
    assert_eq!(
        join(OPEN, guessed).await.problem(403, "proof-required")["reason"],
        "wrong"
    );
    join(OPEN, json!(7)).await.problem(422, "invalid-field");
    assert_eq!(
        (
            numbers_issued(&world, OPEN).await,
            numbers_issued(&world, ALSO_OPEN).await
        ),
        (0, 0),
        "a refused join made an entry"
    );

    let given = join(OPEN, proof.clone()).await.expect(201);
    assert_eq!(given["number"], 1);
    let again = join(OPEN, proof).await.problem(403, "proof-required");
    assert_eq!(again["reason"], "already_used");
    let second = join(OPEN, solved(&again["challenge"])).await.expect(201);
    assert_eq!(
        second["number"], 2,
        "the challenge in the refusal is enough to join"
    );
    // Visitors in the queue and signed-in customers need no proof of work.
    let owner = Fan {
        queue: given["token"].as_str().map(str::to_owned),
        ..fan.clone()
    };
    assert_eq!(
        owner.call(Method::POST, &queue(OPEN), None).await.expect(200)["number"],
        1
    );
    let customer = Fan::sign_in(&world, 1).await;
    assert_eq!(
        customer.call(Method::POST, &queue(OPEN), None).await.expect(201)["number"],
        3
    );
    assert_eq!(
        customer.call(Method::POST, &queue(OPEN), None).await.expect(200)["number"],
        3,
        "a customer has one entry"
    );
    let free = format!("{}/challenge", world.sale_path("queue"));
    assert_eq!(
        fan.call(Method::GET, &free, None).await.status,
        204,
        "a sale with sign-in needs no proof of work"
    );
    assert_eq!(numbers_issued(&world, OPEN).await, 3);
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anonymous_entry_is_admitted() {
    let mut world = world_with_limits(&[]).await;
    world.sale = OPEN.parse().unwrap();
    let (given, _) = pay_and_join(&world, "192.0.2.1").await;
    let token = given.expect(201)["token"].as_str().map(str::to_owned);
    let mut fan = Fan {
        queue: token,
        ..Fan::anonymous(&world, 0)
    };
    fan.enter_within(&world, Duration::from_secs(10)).await;
    let hold = fan.hold_best(&world, 2).await.expect(201);
    fan.pay(hold["id"].as_str().unwrap(), "tok_ok").await.expect(201);
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_challenge_is_refused() {
    let world = world_with_limits(&[("STAGEDOOR__LIMITS__PROOF_OF_WORK__CHALLENGE_TTL_S", "1")]).await;
    let refused = join_from(&world, "192.0.2.1", None)
        .await
        .problem(403, "proof-required");
    let proof = solved(&refused["challenge"]);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let reply = join_from(&world, "192.0.2.1", Some(json!({"proof": proof})))
        .await
        .problem(403, "proof-required");
    assert_eq!(reply["reason"], "expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn difficulty_rises_only_for_the_address_that_joins_often() {
    let world = world_with_limits(&[
        (
            "STAGEDOOR__LIMITS__PROOF_OF_WORK__JOINS_PER_IP_PER_MINUTE_NORMAL",
            "2",
        ),
        (
            "STAGEDOOR__LIMITS__PROOF_OF_WORK__JOINS_PER_SECOND_NORMAL",
            "1000000",
        ),
    ])
    .await;
    let cheap = join_from(&world, "2001:db8::1", None)
        .await
        .problem(403, "proof-required");
    let cheap = solved(&cheap["challenge"]);
    let mut highest = Vec::new();
    for n in 0..9 {
        let (reply, highest_number) = pay_and_join(&world, &format!("2001:db8::{n}")).await;
        reply.expect(201);
        highest.push(highest_number);
    }
    assert_eq!(
        highest,
        [64, 64, 64, 64, 128, 128, 128, 128, 256],
        "the difficulty doubles with each doubling beyond two joins a minute"
    );
    let saved = join_from(&world, "2001:db8::9", Some(json!({"proof": cheap})))
        .await
        .problem(403, "proof-required");
    assert_eq!(
        saved["reason"], "too_easy",
        "an easier challenge from before is refused"
    );
    assert_eq!(
        pay_and_join(&world, "2001:db8:0:1::1").await.1,
        64,
        "another /64 has its own count"
    );
    assert_eq!(pay_and_join(&world, "192.0.2.1").await.1, 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_over_its_limit_joins_by_signing_in() {
    let limit = ("STAGEDOOR__LIMITS__JOINS_PER_IP_PER_MINUTE", "2");
    let world = world_with_limits(&[limit]).await;
    for _ in 0..2 {
        pay_and_join(&world, "192.0.2.7").await.0.expect(201);
    }
    let reply = join_from(&world, "192.0.2.7", None).await;
    assert!(reply.answer.headers.contains_key("retry-after"));
    let why = reply.problem(429, "too-many-requests");
    assert_eq!(
        (&why["reason"], &why["sign_in"]),
        (&json!("joins_from_this_address"), &json!("/v1/sign-in")),
        "{why}"
    );
    let customer = Fan::sign_in(&world, 1).await;
    let from_there = [("x-forwarded-for", "192.0.2.7")];
    assert_eq!(
        customer
            .call_with(Method::POST, &queue(OPEN), None, &from_there)
            .await
            .expect(201)["number"],
        3
    );
    pay_and_join(&world, "192.0.2.8").await.0.expect(201);
    assert_eq!(numbers_issued(&world, OPEN).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_over_its_limit_may_join_at_the_highest_difficulty() {
    let world = world_with_limits(&[
        ("STAGEDOOR__LIMITS__JOINS_PER_IP_PER_MINUTE", "2"),
        ("STAGEDOOR__LIMITS__PROOF_OF_WORK__ALLOW_OVER_JOIN_LIMIT", "true"),
    ])
    .await;
    let saved = join_from(&world, "192.0.2.7", None)
        .await
        .problem(403, "proof-required");
    let saved = solved(&saved["challenge"]);
    let mut highest = Vec::new();
    for _ in 0..4 {
        let (reply, highest_number) = pay_and_join(&world, "192.0.2.7").await;
        reply.expect(201);
        highest.push(highest_number);
    }
    assert_eq!(highest, [64, 64, 1_024, 1_024]);
    let reply = join_from(&world, "192.0.2.7", Some(json!({"proof": saved})))
        .await
        .problem(403, "proof-required");
    assert_eq!(reply["reason"], "too_easy");
    let (fan, path) = (Fan::anonymous(&world, 0), format!("{}/challenge", queue(OPEN)));
    let asked = fan
        .call_with(Method::GET, &path, None, &[("x-forwarded-for", "192.0.2.7")])
        .await
        .expect(200);
    assert_eq!(asked["maxnumber"], 1_024);
}

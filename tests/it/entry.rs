//! Who may join where nobody is asked who she is: what a place costs, what an address gets that wants too many, and how
//! signing in wins it back.

use std::time::Duration;

use aws_lc_rs::digest;
use http::Method;
use serde_json::{Value, json};

use crate::{
    fan::{Fan, Reply},
    world::{Scene, World},
};

/// A sale that takes any browser, beside the world's own.
const OPEN: &str = "hero-open";
const ALSO_OPEN: &str = "hero-also-open";

/// A house where a place without sign-in costs at least `2^6` hashes and at most `2^10`, with these limits besides.
async fn world_with_limits(limits: &[(&'static str, &str)]) -> World {
    let mut world = World::prepared(Scene::default()).await;
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
    // The board is made once a second.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let board = Fan::anonymous(world, 0)
        .call(Method::GET, &format!("/v1/sales/{sale}/status"), None)
        .await
        .expect(200);
    board["numbers_issued"].as_u64().unwrap()
}

/// What a browser does.
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
    json!({"algorithm": "SHA-256", "challenge": text("challenge"), "number": number, "salt": text("salt"), "signature": text("signature")})
}

async fn join_from(world: &World, address: &str, body: Option<Value>) -> Reply {
    Fan::anonymous(world, 0)
        .call_with(Method::POST, &queue(OPEN), body, &[("x-forwarded-for", address)])
        .await
}

/// Joins from an address and pays what is asked; the answer, and how high the number could be.
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
        "it is of another sale"
    );
    let mut guessed = proof.clone();
    guessed["number"] = json!(proof["number"].as_u64().unwrap() + 1);
    assert_eq!(
        join(OPEN, guessed).await.problem(403, "proof-required")["reason"],
        "wrong"
    );
    join(OPEN, json!(7)).await.problem(422, "invalid-field");
    assert_eq!(
        (numbers_issued(&world, OPEN).await, numbers_issued(&world, ALSO_OPEN).await),
        (0, 0),
        "nothing so far gave a place"
    );

    let given = join(OPEN, proof.clone()).await.expect(201);
    assert_eq!(given["number"], 1);
    let again = join(OPEN, proof).await.problem(403, "proof-required");
    assert_eq!(again["reason"], "already_used");
    let second = join(OPEN, solved(&again["challenge"])).await.expect(201);
    assert_eq!(
        second["number"], 2,
        "the refusal's own challenge is all that is needed"
    );
    // Who has a place needs no work, nor does a customer.
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
        "she has one place, whatever the device"
    );
    let free = format!("{}/challenge", world.sale_path("queue"));
    assert_eq!(
        fan.call(Method::GET, &free, None).await.status,
        204,
        "signing in is all that this sale asks for"
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
    let said = join_from(&world, "192.0.2.1", Some(json!({"proof": proof})))
        .await
        .problem(403, "proof-required");
    assert_eq!(said["reason"], "expired");
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
        let (said, highest_number) = pay_and_join(&world, &format!("2001:db8::{n}")).await;
        said.expect(201);
        highest.push(highest_number);
    }
    assert_eq!(
        highest,
        [64, 64, 64, 64, 128, 128, 128, 128, 256],
        "twice for each doubling beyond two a minute"
    );
    let saved = join_from(&world, "2001:db8::9", Some(json!({"proof": cheap})))
        .await
        .problem(403, "proof-required");
    assert_eq!(
        saved["reason"], "too_easy",
        "what was put by before is not enough any more"
    );
    assert_eq!(
        pay_and_join(&world, "2001:db8:0:1::1").await.1,
        64,
        "another household"
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
    let said = join_from(&world, "192.0.2.7", None).await;
    assert!(said.answer.headers.contains_key("retry-after"));
    let why = said.problem(429, "too-many-requests");
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
        let (said, highest_number) = pay_and_join(&world, "192.0.2.7").await;
        said.expect(201);
        highest.push(highest_number);
    }
    assert_eq!(highest, [64, 64, 1_024, 1_024]);
    let said = join_from(&world, "192.0.2.7", Some(json!({"proof": saved})))
        .await
        .problem(403, "proof-required");
    assert_eq!(said["reason"], "too_easy");
    let (fan, path) = (Fan::anonymous(&world, 0), format!("{}/challenge", queue(OPEN)));
    let asked = fan
        .call_with(Method::GET, &path, None, &[("x-forwarded-for", "192.0.2.7")])
        .await
        .expect(200);
    assert_eq!(asked["maxnumber"], 1_024);
}

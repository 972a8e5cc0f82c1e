//! A sale with a fair draw on nodes that share Redis and PostgreSQL. Whatever fails meanwhile, every visitor
//! gets the number that anyone can recompute.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use http::Method;
use serde_json::Value;
use stagedoor::{
    audit::{AcknowledgedAdmission, AcknowledgedJoin, Refusal, audit, databases::reclassify_late_arrivals},
    kernel::{Clock, Entropy, OsEntropy, Timestamp},
    platform::{
        drand::{DrandClient, DrandError, SCHEME},
        http_client::TrustStore,
        signing::sha256,
    },
    waiting_room::draw::DrawNumbering,
};

use crate::{
    beacon::{Beacon, BeaconMode, CHAIN, PERIOD_S},
    environment::Deployment,
    evidence::gather,
    fan::{Fan, Reply},
    load_scenario::{RECOVERY_LIMIT, retry_until},
    world::{SaleConfig, World, command},
};

const BEFORE_START: u32 = 40;
/// Visitors who join while the draw is being closed.
const AROUND_START: u32 = 60;

fn at_node(world: &World, fan: &Fan, node: usize) -> Fan {
    Fan {
        base: format!("http://{}", world.nodes[node % world.nodes.len()].public),
        ..fan.clone()
    }
}

/// `GET` of a path of the sale at one node, repeated while the response is 503.
async fn get_from_node(world: &World, fan: &Fan, node: usize, path: &str) -> Reply {
    let fan = at_node(world, fan, node);
    retry_until(world, RECOVERY_LIMIT, async || {
        fan.call(Method::GET, &world.sale_path(path), None).await
    })
    .await
}

fn timestamp(text: &Value) -> Timestamp {
    serde_json::from_value(text.clone()).unwrap()
}

/// A visitor in the queue, when the join was acknowledged, and when it took place by the server's clock.
struct JoinedVisitor {
    fan: Fan,
    acknowledged_at: Timestamp,
    joined_at: Timestamp,
}

async fn sign_in_and_join(world: &World, customer: u32) -> JoinedVisitor {
    let fan = Fan::sign_in(world, customer).await;
    let fan = at_node(world, &fan, customer as usize);
    join_with_retry(world, fan).await
}

async fn join_with_retry(world: &World, mut fan: Fan) -> JoinedVisitor {
    let reply = retry_until(world, RECOVERY_LIMIT, async || fan.clone().join(world).await).await;
    let acknowledged_at = world.clock.now();
    assert!(matches!(reply.status, 200 | 201), "{}", reply.json);
    fan.queue = Some(reply.json["token"].as_str().unwrap().to_owned());
    JoinedVisitor {
        fan,
        acknowledged_at,
        joined_at: timestamp(&reply.json["joined_at"]),
    }
}

/// Waits until every node publishes `field`; returns the draw, which must be the same on all nodes.
async fn until_published(world: &World, field: &str, patience: Duration) -> Value {
    let anonymous = Fan::anonymous(world, 1);
    let until = world.clock.monotonic() + patience;
    loop {
        let mut reply = Vec::new();
        for node in 0..world.nodes.len() {
            reply.push(get_from_node(world, &anonymous, node, "draw").await.expect(200));
        }
        if reply.iter().all(|draw| !draw[field].is_null()) {
            assert!(
                reply.iter().all(|draw| *draw == reply[0]),
                "the nodes publish different draws: {reply:#?}"
            );
            return reply.swap_remove(0);
        }
        assert!(
            world.clock.monotonic() < until,
            "no {field} after {patience:?}: {reply:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The visitor's number, which must be the same on every node.
async fn number_on_every_node(world: &World, fan: &Fan) -> u64 {
    let mut numbers = BTreeSet::new();
    for node in 0..world.nodes.len() {
        let position = get_from_node(world, fan, node, "queue/position")
            .await
            .expect(200);
        numbers.insert(
            position["number"]
                .as_u64()
                .unwrap_or_else(|| panic!("node {node} knows no number: {position}")),
        );
    }
    assert_eq!(
        numbers.len(),
        1,
        "customer {} has one number: {numbers:?}",
        fan.customer
    );
    numbers.pop_first().unwrap()
}

async fn numbers(world: &World, visitors: &[JoinedVisitor]) -> BTreeMap<u32, u64> {
    join_all(visitors.iter().map(async |visitor| {
        (
            visitor.fan.customer,
            number_on_every_node(world, &visitor.fan).await,
        )
    }))
    .await
    .into_iter()
    .collect()
}

/// Empties Redis and waits until the store has been rebuilt.
async fn flush_redis(world: &mut World) {
    let before = min_epoch(world).await;
    world.environment_mut().server().flush_all().await.unwrap();
    until_epoch_after(world, before).await;
}

/// Kills and restarts Redis and waits until the store has been rebuilt.
async fn kill_redis(world: &mut World) {
    let before = min_epoch(world).await;
    world.environment_mut().server().kill9().unwrap();
    world.environment_mut().server().restart().await.unwrap();
    until_epoch_after(world, before).await;
}

/// The lowest epoch of all sales.
async fn min_epoch(world: &World) -> i64 {
    world
        .environment()
        .query_number("SELECT min(epoch) FROM stagedoor_queue.journal_head")
        .await
}

async fn until_epoch_after(world: &World, before: i64) {
    let until = world.clock.monotonic() + RECOVERY_LIMIT;
    while min_epoch(world).await <= before {
        assert!(
            world.clock.monotonic() < until,
            "the loss of data in Redis was not noticed"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Runs `stagedoor draw verify` on a published draw; returns whether it is right, and the output.
fn verify(dir: &Path, draw: &Value, leaves: &[u8]) -> (bool, String) {
    let list = dir.join("leaves.bin");
    fs::write(&list, leaves).unwrap();
    verify_with(dir, draw, &["--leaves", list.to_str().unwrap()])
}

fn verify_with(dir: &Path, draw: &Value, more: &[&str]) -> (bool, String) {
    let file = dir.join("draw.json");
    fs::write(&file, draw.to_string()).unwrap();
    let (status, text) = command(&[&["draw", "verify", file.to_str().unwrap()], more].concat());
    (status.success(), text)
}

/// A receipt from before the close proves the join before the draw, and membership in the list after it.
async fn assert_receipt_verifies(world: &World, draw: &Value, receipt: &Value, list: Option<&[u8]>) {
    let dir = world.site().dir;
    let keys = Fan::anonymous(world, 1)
        .call(Method::GET, "/.well-known/jwks.json", None)
        .await
        .expect(200);
    let files = [
        ("receipt.json", receipt.to_string()),
        ("keys.json", keys.to_string()),
    ]
    .map(|(name, text)| {
        fs::write(dir.join(name), text).unwrap();
        dir.join(name).display().to_string()
    });
    let leaves = dir.join("leaves.bin").display().to_string();
    let mut args = vec!["--receipt", &files[0], "--keys", &files[1]];
    if let Some(list) = list {
        fs::write(&leaves, list).unwrap();
        args.extend(["--leaves", &leaves]);
    }
    let (is_right, text) = verify_with(&dir, draw, &args);
    assert!(is_right && text.contains("right: receipt.group"), "{text}");
    let Some(list) = list else { return };
    assert!(text.contains("right: receipt.entry"), "{text}");
    let at = 32 * (usize::try_from(receipt["arrival"].as_u64().unwrap()).unwrap() - 1);
    let mut tampered = list.to_vec();
    tampered[at] ^= 1;
    fs::write(&leaves, tampered).unwrap();
    let (is_right, text) = verify_with(&dir, draw, &args);
    assert!(!is_right && text.contains("WRONG: receipt.entry"), "{text}");
}

async fn leaves(world: &World, node: usize) -> Vec<u8> {
    let anonymous = at_node(world, &Fan::anonymous(world, 1), node);
    let packed = [("accept", "application/octet-stream")];
    let reply = anonymous
        .call_with(Method::GET, &world.sale_path("draw/entries"), None, &packed)
        .await;
    assert_eq!(reply.status, 200);
    reply.answer.body.to_vec()
}

/// Three nodes whose sale is drawn by this beacon, and another sale without a draw.
async fn world_with_fair_draw(beacon: &Beacon, sale_config: SaleConfig) -> World {
    let mut world = World::prepared_on(Deployment::default(), sale_config).await;
    world.add_to_config(&beacon.config());
    world.add_to_config(&world.another_sale("first-come", ""));
    let roots = beacon.certificate_file(&world.site().dir);
    for node in &mut world.nodes {
        node.set("STAGEDOOR__SALES__0__QUEUE_ORDER", "fair_draw".to_owned());
        node.set("SSL_CERT_FILE", roots.display().to_string());
    }
    world.start().await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_publish_one_order_despite_crashes() {
    let beacon = Beacon::over_tls().await;
    let sale_config = SaleConfig {
        on_sale_starts_in: Duration::from_secs(20),
        admission_rate_per_minute: 1_200,
        admission_burst: 4,
        active_visits_max: 30,
        call_window_s: 30,
        ..SaleConfig::default()
    };
    let mut world = world_with_fair_draw(&beacon, sale_config).await;
    let promised = until_published(&world, "commitment", RECOVERY_LIMIT).await;
    assert_eq!(promised["chain"]["public_key"], beacon.public_key().to_string());
    let (planned, on_sale_starts_at) = (
        promised["planned_round"].as_u64().unwrap(),
        world.on_sale_starts_at,
    );
    assert!(
        timestamp(&promised["planned_round_at"]).since(on_sale_starts_at) >= Duration::from_secs(30),
        "{promised}"
    );

    let mut visitors = join_all((1..=BEFORE_START).map(|customer| sign_in_and_join(&world, customer))).await;
    let early_receipt = check_before_close(&world, &visitors[0].fan).await;

    // Visitors join at every node just before and just after the on-sale start.
    let around_start: Vec<Fan> = join_all(
        (BEFORE_START + 1..=BEFORE_START + AROUND_START).map(|customer| Fan::sign_in(&world, customer)),
    )
    .await;
    assert!(
        world.clock.now() < on_sale_starts_at.minus(Duration::from_secs(2)),
        "this machine was too slow to be early"
    );
    visitors.extend(
        join_all((0..).zip(around_start).map(async |(n, fan)| {
            let at = on_sale_starts_at
                .minus(Duration::from_millis(1_500))
                .plus(Duration::from_millis(60 * n));
            tokio::time::sleep(at.since(world.clock.now())).await;
            join_with_retry(&world, at_node(&world, &fan, fan.customer as usize)).await
        }))
        .await,
    );
    let closed = until_published(&world, "root", RECOVERY_LIMIT).await;
    let (entries, closed_at, round_at) = (
        closed["entries"].as_u64().unwrap(),
        timestamp(&closed["closed_at"]),
        timestamp(&closed["round_at"]),
    );
    assert!(
        round_at.since(closed_at) >= Duration::from_secs(30) && closed["round"].as_u64().unwrap() >= planned,
        "{closed}"
    );
    let early = visitors
        .iter()
        .filter(|visitor| visitor.acknowledged_at < on_sale_starts_at)
        .count();
    assert!(
        early > BEFORE_START as usize && early < visitors.len(),
        "no visitor joined while the draw was closed: {early}"
    );
    check_after_close(&world, &visitors, &closed).await;

    // Between close and draw Redis is flushed, a node is killed and restarted, and Redis is killed.
    flush_redis(&mut world).await;
    world.nodes[2].kill();
    kill_redis(&mut world).await;
    world.nodes[2].start().await;
    assert_eq!(
        until_published(&world, "root", RECOVERY_LIMIT).await,
        closed,
        "the closed draw does not change"
    );

    assert_beacon_faults_delay_the_draw(&world, &beacon, &closed).await;
    beacon.set_mode(BeaconMode::Normal);
    let drawn = until_published(&world, "order", RECOVERY_LIMIT).await;
    for field in ["commitment", "root", "entries", "closed_at", "round"] {
        assert_eq!(drawn[field], closed[field], "{field}");
    }
    let list = leaves(&world, 0).await;
    let dir = world.site().dir;
    let (is_right, text) = verify(&dir, &drawn, &list);
    assert!(is_right, "{text}");
    assert!(
        [
            "right: signature",
            "right: root",
            "right: order",
            "right: closed_at"
        ]
        .iter()
        .all(|line| text.contains(line)),
        "{text}"
    );
    assert_changes_are_detected(&dir, &drawn, &list);
    assert_receipt_verifies(&world, &promised, &early_receipt, None).await;
    assert_receipt_verifies(&world, &drawn, &early_receipt, Some(&list)).await;
    let order = DrawNumbering::drawn(
        &drawn["draw_seed"].as_str().unwrap().parse().unwrap(),
        u32::try_from(entries).unwrap(),
    );
    let published = numbers(&world, &visitors).await;
    assert_eq!(
        published.values().collect::<BTreeSet<_>>().len(),
        visitors.len(),
        "each number once: {published:?}"
    );
    for visitor in &visitors {
        let (number, receipt) = (
            published[&visitor.fan.customer],
            get_from_node(&world, &visitor.fan, 1, "draw/receipt").await,
        );
        let receipt = receipt.expect(200);
        assert_eq!(receipt["number"].as_u64(), Some(number), "{receipt}");
        assert_eq!(receipt["path"].is_null(), number > entries, "{receipt}");
        if number > entries {
            assert!(
                visitor.acknowledged_at >= on_sale_starts_at,
                "a visitor who joined before the on-sale start is not in the draw"
            );
            continue;
        }
        let arrival = u32::try_from(receipt["arrival"].as_u64().unwrap()).unwrap();
        assert_eq!(
            u64::from(order.queue_number(arrival)),
            number,
            "arrival {arrival}"
        );
    }
    assert!(
        published.values().any(|number| *number > entries),
        "no visitor joined after the close"
    );

    // The same faults after the draw.
    flush_redis(&mut world).await;
    world.nodes[0].kill();
    kill_redis(&mut world).await;
    world.nodes[0].start().await;
    assert_eq!(until_published(&world, "order", RECOVERY_LIMIT).await, drawn);
    assert_eq!(
        numbers(&world, &visitors).await,
        published,
        "drawn numbers do not change"
    );
    for visitor in &visitors {
        let again = join_with_retry(&world, at_node(&world, &visitor.fan, 1)).await;
        assert_eq!(
            (&again.fan.queue, again.joined_at),
            (&visitor.fan.queue, visitor.joined_at),
            "joining again returns the same entry"
        );
    }
    admit_all_by_number(&world, visitors, &published).await;
    world.assert_no_panic();
}

/// What is published before the close; returns the receipt of a visitor who joined.
async fn check_before_close(world: &World, fan: &Fan) -> Value {
    let anonymous = Fan::anonymous(world, 9_999);
    get_from_node(world, &anonymous, 0, "draw/entries")
        .await
        .problem(404, "not-found");
    get_from_node(world, &anonymous, 0, "draw/receipt")
        .await
        .problem(401, "queue-token-required");
    let receipt = get_from_node(world, fan, 1, "draw/receipt").await.expect(200);
    assert!(
        ["entries", "root", "path", "number"]
            .iter()
            .all(|field| receipt[field].is_null()),
        "{receipt}"
    );
    for node in [0, 2] {
        assert_eq!(
            get_from_node(world, fan, node, "draw/receipt").await.expect(200),
            receipt,
            "every node signs the same"
        );
    }
    let position = get_from_node(world, fan, 1, "queue/position").await.expect(200);
    assert!(
        position["number"].is_null() && position["position"].is_null() && position["state"] == "prequeue",
        "{position}"
    );
    for path in ["draw", "draw/entries"] {
        anonymous
            .call(Method::GET, &format!("/v1/sales/first-come/{path}"), None)
            .await
            .problem(404, "not-found");
    }
    // An entry in one sale is none in another.
    let other = Fan {
        queue: None,
        ..fan.clone()
    };
    let reply = other
        .call(Method::POST, "/v1/sales/first-come/queue", None)
        .await
        .expect(201);
    assert_eq!(
        reply["number"], 1,
        "a sale without a draw assigns numbers at once"
    );
    let token = reply["token"].as_str().unwrap();
    let foreign = [("queue-token", token)];
    anonymous
        .call_with(Method::GET, &world.sale_path("draw/receipt"), None, &foreign)
        .await
        .problem(401, "queue-token-required");
    anonymous
        .call_with(Method::GET, "/v1/sales/first-come/draw/receipt", None, &foreign)
        .await
        .problem(404, "not-found");
    receipt
}

async fn check_after_close(world: &World, visitors: &[JoinedVisitor], closed: &Value) {
    let lists = join_all((0..world.nodes.len()).map(|node| leaves(world, node))).await;
    assert!(
        lists.iter().all(|list| *list == lists[0]),
        "one list on every node"
    );
    assert_eq!(lists[0].len() as u64, 32 * closed["entries"].as_u64().unwrap());
    let anonymous = Fan::anonymous(world, 1);
    let json = get_from_node(world, &anonymous, 1, "draw/entries")
        .await
        .expect(200);
    assert_eq!(
        (&json["entries"], &json["root"]),
        (&closed["entries"], &closed["root"])
    );
    for (leaf, bytes) in json["leaves"].as_array().unwrap().iter().zip(lists[0].chunks(32)) {
        assert_eq!(leaf.as_str().unwrap(), stagedoor::platform::signing::hex(bytes));
    }
    for visitor in visitors
        .iter()
        .filter(|visitor| visitor.acknowledged_at < world.on_sale_starts_at)
    {
        let receipt = get_from_node(world, &visitor.fan, 2, "draw/receipt")
            .await
            .expect(200);
        let at = usize::try_from(receipt["arrival"].as_u64().unwrap()).unwrap() - 1;
        assert_eq!(
            json["leaves"][at], receipt["leaf"],
            "acknowledged before the opening, so in the list"
        );
        assert!(receipt["number"].is_null(), "{receipt}");
    }
}

/// While the beacon does not publish the round, the status says so, no visitor is called, and no other round
/// is used.
async fn assert_beacon_faults_delay_the_draw(world: &World, beacon: &Beacon, closed: &Value) {
    beacon.set_mode(BeaconMode::ServerError);
    tokio::time::sleep(timestamp(&closed["round_at"]).since(world.clock.now())).await;
    for mode in BeaconMode::FAULTY {
        let asked = beacon.set_mode(mode);
        let until = world.clock.monotonic() + RECOVERY_LIMIT;
        while beacon.requests() <= asked {
            assert!(
                world.clock.monotonic() < until,
                "no node queries the beacon any more: {mode:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let anonymous = Fan::anonymous(world, 1);
    for node in 0..world.nodes.len() {
        let queue_status = get_from_node(world, &anonymous, node, "status").await.expect(200);
        assert_eq!(
            (
                &queue_status["phase"],
                &queue_status["draw"]["beacon_is_late"],
                &queue_status["now_serving"]
            ),
            (&"drawing".into(), &true.into(), &0.into())
        );
        assert_eq!(queue_status["draw"]["round"], closed["round"]);
        assert!(get_from_node(world, &anonymous, node, "draw").await.expect(200)["order"].is_null());
    }
    assert!(world.log().contains("the draw waits for its beacon"));
}

fn assert_changes_are_detected(dir: &Path, drawn: &Value, list: &[u8]) {
    for field in [
        "commitment",
        "root",
        "beacon",
        "signature",
        "seed",
        "draw_seed",
        "order",
        "entries",
        "round",
        "planned_round_at",
    ] {
        let mut changed = drawn.clone();
        changed[field] = match &drawn[field] {
            Value::Number(number) => Value::from(number.as_u64().unwrap() - 1),
            other => {
                let text = other.as_str().unwrap();
                let (first, rest) = text.split_at(if field == "planned_round_at" { 4 } else { 1 });
                Value::from(format!(
                    "{}{rest}",
                    if first.len() == 4 {
                        "2031"
                    } else if first == "0" {
                        "1"
                    } else {
                        "0"
                    }
                ))
            }
        };
        let (is_right, text) = verify(dir, &changed, list);
        assert!(!is_right && text.contains("WRONG"), "{field}: {text}");
    }
    let mut other = list.to_vec();
    other[7] ^= 1;
    let (is_right, text) = verify(dir, drawn, &other);
    assert!(!is_right && text.contains("WRONG: root"), "{text}");
}

/// All visitors ask for admission until they are admitted; the auditor checks the order.
async fn admit_all_by_number(world: &World, visitors: Vec<JoinedVisitor>, published: &BTreeMap<u32, u64>) {
    let joins: Vec<AcknowledgedJoin> = visitors
        .iter()
        .map(|visitor| AcknowledgedJoin {
            subject: visitor.fan.customer.to_string(),
            number: Some(published[&visitor.fan.customer]),
            acknowledged_at: visitor.acknowledged_at,
            left_at: None,
        })
        .collect();
    let visitors_count = visitors.len();
    let attempts = visitors.into_iter().map(|JoinedVisitor { mut fan, .. }| {
        let (subject, number) = (fan.customer.to_string(), published[&fan.customer]);
        async move {
            let mut refusals = Vec::new();
            let until = world.clock.monotonic() + Duration::from_mins(1);
            loop {
                let asked_at = world.clock.now();
                let reply = fan.enter(world).await;
                let at = world.clock.now();
                match reply.status {
                    200 => {
                        break (
                            fan,
                            AcknowledgedAdmission {
                                subject,
                                number,
                                asked_at,
                                at,
                            },
                            refusals,
                        );
                    }
                    409 if reply.json["type"] == "/problems/at-capacity" => {
                        refusals.push(Refusal {
                            number,
                            asked_at,
                            answered_at: at,
                            is_late_arrival: false,
                        });
                    }
                    409 | 503 => {}
                    other => panic!("{other}: {}", reply.json),
                }
                assert!(
                    world.clock.monotonic() < until,
                    "number {number} is not admitted: {}",
                    reply.json
                );
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    // All but the last end their visit; the last one reads the seat map.
    let (observer, entries, refusals) = {
        let mut admitted = Vec::new();
        let mut entries = Vec::new();
        let mut all_refusals = Vec::new();
        let leaving = attempts.map(async |attempt| {
            let (fan, entry, refusals) = attempt.await;
            if usize::try_from(entry.number).unwrap() < visitors_count {
                tokio::time::sleep(Duration::from_millis(300)).await;
                let path = world.sale_path("admission");
                let reply = retry_until(world, RECOVERY_LIMIT, async || {
                    fan.call(Method::DELETE, &path, None).await
                })
                .await;
                assert_eq!(reply.status, 204, "{}", reply.json);
            }
            (fan, entry, refusals)
        });
        for (fan, entry, refusals) in join_all(leaving).await {
            admitted.push((entry.number, fan));
            entries.push(entry);
            all_refusals.extend(refusals);
        }
        (
            admitted.into_iter().max_by_key(|(number, _)| *number).unwrap().1,
            entries,
            all_refusals,
        )
    };
    assert!(
        !refusals.is_empty(),
        "no visitor met a full capacity, so the order was not tested"
    );
    let mut evidence = gather(world, &observer).await;
    (
        evidence.acknowledged_joins,
        evidence.acknowledged_admissions,
        evidence.refusals,
    ) = (joins, entries, refusals);
    reclassify_late_arrivals(&mut evidence);
    assert_eq!(evidence.admissions.len(), visitors_count);
    let found = audit(&evidence);
    assert!(
        found.is_empty(),
        "{} violations, the first: {:#?}",
        found.len(),
        &found[..found.len().min(10)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beacon_is_believed_only_for_its_signature() {
    let (plain, tls) = (Beacon::plain().await, Beacon::over_tls().await);
    let entropy: Arc<dyn Entropy> = Arc::new(OsEntropy);
    let known = TrustStore::from_der(tls.certificate.clone()).unwrap();
    let drand = |beacon: &Beacon, roots: &TrustStore| {
        DrandClient::new(
            &beacon.url,
            CHAIN,
            beacon.public_key(),
            roots,
            Arc::clone(&entropy),
        )
    };
    let latest = plain.latest() - 1;
    let (one, other) = (
        drand(&plain, &TrustStore::empty())
            .fetch_round(latest)
            .await
            .unwrap(),
        drand(&tls, &known).fetch_round(latest).await.unwrap(),
    );
    assert_eq!(
        (&one, one.randomness),
        (&other, sha256(&one.signature)),
        "a round has the same value on every server: {SCHEME}"
    );

    // No request is sent to a server with an untrusted certificate.
    let asked = tls.requests();
    for roots in [TrustStore::empty(), TrustStore::system()] {
        let refused = drand(&tls, &roots).fetch_round(latest).await;
        assert!(matches!(refused, Err(DrandError::Call(_))), "{refused:?}");
    }
    assert_eq!(tls.requests(), asked);

    let drand = drand(&tls, &known);
    for mode in BeaconMode::FAULTY {
        tls.set_mode(mode);
        let error = drand.fetch_round(latest).await.unwrap_err();
        let is_expected = match mode {
            BeaconMode::ServerError => matches!(error, DrandError::Status(status) if status == 500),
            BeaconMode::Garbage => matches!(error, DrandError::Malformed),
            BeaconMode::OtherRound => matches!(error, DrandError::WrongRound),
            BeaconMode::Forged => matches!(error, DrandError::InvalidSignature),
            BeaconMode::Hangs => matches!(error, DrandError::Call(_)),
            BeaconMode::Normal => false,
        };
        assert!(is_expected, "{mode:?}: {error}");
    }
    tls.set_mode(BeaconMode::Normal);
    assert_eq!(
        drand.fetch_round(latest).await.unwrap(),
        one,
        "the client recovers with the server"
    );
    let to_come = drand.fetch_round(latest + u64::from(PERIOD_S) * 100).await;
    assert!(
        matches!(to_come, Err(DrandError::Status(status)) if status == 404),
        "{to_come:?}"
    );
}

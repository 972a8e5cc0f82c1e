//! A drawn sale from its first place to its last entry, on nodes that share Redis and PostgreSQL: whatever dies meanwhile,
//! everybody has the number that everybody can work out.

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
    beacon::{Beacon, CHAIN, Mood, PERIOD_S},
    evidence::gather,
    fan::{Fan, Reply},
    environment::Pair,
    load_scenario::{SOON, retry_until},
    world::{Scene, World, command},
};

const EARLY: u32 = 40;
/// Those who come while the entries are being closed.
const IN_THE_RUSH: u32 = 60;

fn at_node(world: &World, fan: &Fan, node: usize) -> Fan {
    Fan {
        base: format!("http://{}", world.nodes[node % world.nodes.len()].public),
        ..fan.clone()
    }
}

/// What this node says, asked again while it is not able to say anything.
async fn asks(world: &World, fan: &Fan, node: usize, path: &str) -> Reply {
    let fan = at_node(world, fan, node);
    retry_until(world, SOON, async || {
        fan.call(Method::GET, &world.sale_path(path), None).await
    })
    .await
}

fn moment(text: &Value) -> Timestamp {
    serde_json::from_value(text.clone()).unwrap()
}

/// A place, when it was acknowledged, and when it was taken as the house says.
struct Place {
    fan: Fan,
    acknowledged_at: Timestamp,
    joined_at: Timestamp,
}

async fn takes_a_place(world: &World, customer: u32) -> Place {
    let fan = Fan::sign_in(world, customer).await;
    let fan = at_node(world, &fan, customer as usize);
    place_of(world, fan).await
}

async fn place_of(world: &World, mut fan: Fan) -> Place {
    let said = retry_until(world, SOON, async || fan.clone().join(world).await).await;
    let acknowledged_at = world.clock.now();
    assert!(matches!(said.status, 200 | 201), "{}", said.json);
    fan.queue = Some(said.json["token"].as_str().unwrap().to_owned());
    Place {
        fan,
        acknowledged_at,
        joined_at: moment(&said.json["joined_at"]),
    }
}

/// Waits until every node publishes this, and gives what they publish: all the same.
async fn until_published(world: &World, field: &str, patience: Duration) -> Value {
    let anybody = Fan::anonymous(world, 1);
    let until = world.clock.monotonic() + patience;
    loop {
        let mut said = Vec::new();
        for node in 0..world.nodes.len() {
            said.push(asks(world, &anybody, node, "draw").await.expect(200));
        }
        if said.iter().all(|draw| !draw[field].is_null()) {
            assert!(
                said.iter().all(|draw| *draw == said[0]),
                "the nodes publish different draws: {said:#?}"
            );
            return said.swap_remove(0);
        }
        assert!(
            world.clock.monotonic() < until,
            "no {field} after {patience:?}: {said:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Her number as each node says it, which must be one.
async fn number_everywhere(world: &World, fan: &Fan) -> u64 {
    let mut numbers = BTreeSet::new();
    for node in 0..world.nodes.len() {
        let place = asks(world, fan, node, "queue/position").await.expect(200);
        numbers.insert(
            place["number"]
                .as_u64()
                .unwrap_or_else(|| panic!("node {node} knows no number: {place}")),
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

async fn numbers(world: &World, places: &[Place]) -> BTreeMap<u32, u64> {
    join_all(
        places
            .iter()
            .map(async |place| (place.fan.customer, number_everywhere(world, &place.fan).await)),
    )
    .await
    .into_iter()
    .collect()
}

/// Redis forgets everything, and is given it back.
async fn redis_forgets(world: &mut World) {
    let before = memories(world).await;
    world.environment_mut().server().flush_all().await.unwrap();
    until_epoch_after(world, before).await;
}

async fn redis_is_killed(world: &mut World) {
    let before = memories(world).await;
    world.environment_mut().server().kill9().unwrap();
    world.environment_mut().server().restart().await.unwrap();
    until_epoch_after(world, before).await;
}

/// Of the sale whose engine has had the fewest.
async fn memories(world: &World) -> i64 {
    world
        .environment()
        .query_number("SELECT min(epoch) FROM stagedoor_queue.journal_head")
        .await
}

async fn until_epoch_after(world: &World, before: i64) {
    let until = world.clock.monotonic() + SOON;
    while memories(world).await <= before {
        assert!(
            world.clock.monotonic() < until,
            "nobody noticed that Redis has forgotten"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The command's verdict on what was published.
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

/// A receipt from before the close proves before the draw that she was there, and after it that she is in the list.
async fn a_receipt_holds(world: &World, draw: &Value, receipt: &Value, list: Option<&[u8]>) {
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
    let mut without_her = list.to_vec();
    without_her[at] ^= 1;
    fs::write(&leaves, without_her).unwrap();
    let (is_right, text) = verify_with(&dir, draw, &args);
    assert!(!is_right && text.contains("WRONG: receipt.entry"), "{text}");
}

async fn leaves(world: &World, node: usize) -> Vec<u8> {
    let anybody = at_node(world, &Fan::anonymous(world, 1), node);
    let packed = [("accept", "application/octet-stream")];
    let said = anybody
        .call_with(Method::GET, &world.sale_path("draw/entries"), None, &packed)
        .await;
    assert_eq!(said.status, 200);
    said.answer.body.to_vec()
}

/// A house of three nodes whose sale is drawn by this beacon, and one sale more that is not.
async fn drawn_sale(beacon: &Beacon, scene: Scene) -> World {
    let mut world = World::prepared_on(Pair::default(), scene).await;
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
    let scene = Scene {
        opens_in: Duration::from_secs(20),
        rate_per_minute: 1_200,
        burst: 4,
        capacity: 30,
        call_window_s: 30,
        ..Scene::default()
    };
    let mut world = drawn_sale(&beacon, scene).await;
    let promised = until_published(&world, "commitment", SOON).await;
    assert_eq!(promised["chain"]["public_key"], beacon.public_key().to_string());
    let (planned, opens_at) = (promised["planned_round"].as_u64().unwrap(), world.opens_at);
    assert!(
        moment(&promised["planned_round_at"]).since(opens_at) >= Duration::from_secs(30),
        "{promised}"
    );

    let mut places = join_all((1..=EARLY).map(|customer| takes_a_place(&world, customer))).await;
    let kept = before_the_close(&world, &places[0].fan).await;

    // Some come just before the opening and some just after it, at every node.
    let rush: Vec<Fan> =
        join_all((EARLY + 1..=EARLY + IN_THE_RUSH).map(|customer| Fan::sign_in(&world, customer))).await;
    assert!(
        world.clock.now() < opens_at.minus(Duration::from_secs(2)),
        "this machine was too slow to be early"
    );
    places.extend(
        join_all((0..).zip(rush).map(async |(n, fan)| {
            let at = opens_at
                .minus(Duration::from_millis(1_500))
                .plus(Duration::from_millis(60 * n));
            tokio::time::sleep(at.since(world.clock.now())).await;
            place_of(&world, at_node(&world, &fan, fan.customer as usize)).await
        }))
        .await,
    );
    let closed = until_published(&world, "root", SOON).await;
    let (entries, closed_at, round_at) = (
        closed["entries"].as_u64().unwrap(),
        moment(&closed["closed_at"]),
        moment(&closed["round_at"]),
    );
    assert!(
        round_at.since(closed_at) >= Duration::from_secs(30) && closed["round"].as_u64().unwrap() >= planned,
        "{closed}"
    );
    let early = places.iter().filter(|it| it.acknowledged_at < opens_at).count();
    assert!(
        early > EARLY as usize && early < places.len(),
        "nobody came while it was closed: {early}"
    );
    after_the_close(&world, &places, &closed).await;

    // Between close and draw: Redis forgets, a node dies and comes back, Redis dies.
    redis_forgets(&mut world).await;
    world.nodes[2].kill();
    redis_is_killed(&mut world).await;
    world.nodes[2].start().await;
    assert_eq!(
        until_published(&world, "root", SOON).await,
        closed,
        "what was closed stays closed"
    );

    the_beacon_is_ill(&world, &beacon, &closed).await;
    beacon.is(Mood::Well);
    let drawn = until_published(&world, "order", SOON).await;
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
        .all(|it| text.contains(it)),
        "{text}"
    );
    changed_values_are_found(&dir, &drawn, &list);
    a_receipt_holds(&world, &promised, &kept, None).await;
    a_receipt_holds(&world, &drawn, &kept, Some(&list)).await;
    let order = DrawNumbering::drawn(
        &drawn["draw_seed"].as_str().unwrap().parse().unwrap(),
        u32::try_from(entries).unwrap(),
    );
    let told = numbers(&world, &places).await;
    assert_eq!(
        told.values().collect::<BTreeSet<_>>().len(),
        places.len(),
        "each number once: {told:?}"
    );
    for place in &places {
        let (number, receipt) = (
            told[&place.fan.customer],
            asks(&world, &place.fan, 1, "draw/receipt").await,
        );
        let receipt = receipt.expect(200);
        assert_eq!(receipt["number"].as_u64(), Some(number), "{receipt}");
        assert_eq!(receipt["path"].is_null(), number > entries, "{receipt}");
        if number > entries {
            assert!(
                place.acknowledged_at >= opens_at,
                "she was there before the opening, and stands behind the draw"
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
    assert!(told.values().any(|number| *number > entries), "nobody came late");

    // And after the draw: the same again.
    redis_forgets(&mut world).await;
    world.nodes[0].kill();
    redis_is_killed(&mut world).await;
    world.nodes[0].start().await;
    assert_eq!(until_published(&world, "order", SOON).await, drawn);
    assert_eq!(numbers(&world, &places).await, told, "a number once drawn holds");
    for place in &places {
        let again = place_of(&world, at_node(&world, &place.fan, 1)).await;
        assert_eq!(
            (&again.fan.queue, again.joined_at),
            (&place.fan.queue, place.joined_at),
            "her place is the one she had"
        );
    }
    they_come_in_by_their_numbers(&world, places, &told).await;
    world.assert_no_panic();
}

/// Gives what she can prove before the entries are closed.
async fn before_the_close(world: &World, fan: &Fan) -> Value {
    let stranger = Fan::anonymous(world, 9_999);
    asks(world, &stranger, 0, "draw/entries")
        .await
        .problem(404, "not-found");
    asks(world, &stranger, 0, "draw/receipt")
        .await
        .problem(401, "queue-token-required");
    let receipt = asks(world, fan, 1, "draw/receipt").await.expect(200);
    assert!(
        ["entries", "root", "path", "number"]
            .iter()
            .all(|field| receipt[field].is_null()),
        "{receipt}"
    );
    for node in [0, 2] {
        assert_eq!(
            asks(world, fan, node, "draw/receipt").await.expect(200),
            receipt,
            "every node signs the same"
        );
    }
    let place = asks(world, fan, 1, "queue/position").await.expect(200);
    assert!(
        place["number"].is_null() && place["position"].is_null() && place["state"] == "prequeue",
        "{place}"
    );
    for path in ["draw", "draw/entries"] {
        stranger
            .call(Method::GET, &format!("/v1/sales/first-come/{path}"), None)
            .await
            .problem(404, "not-found");
    }
    // A place in one sale is none in another.
    let other = Fan {
        queue: None,
        ..fan.clone()
    };
    let said = other
        .call(Method::POST, "/v1/sales/first-come/queue", None)
        .await
        .expect(201);
    assert_eq!(
        said["number"], 1,
        "a sale without a draw tells its numbers at once"
    );
    let token = said["token"].as_str().unwrap();
    let foreign = [("queue-token", token)];
    stranger
        .call_with(Method::GET, &world.sale_path("draw/receipt"), None, &foreign)
        .await
        .problem(401, "queue-token-required");
    stranger
        .call_with(Method::GET, "/v1/sales/first-come/draw/receipt", None, &foreign)
        .await
        .problem(404, "not-found");
    receipt
}

async fn after_the_close(world: &World, places: &[Place], closed: &Value) {
    let lists = join_all((0..world.nodes.len()).map(|node| leaves(world, node))).await;
    assert!(
        lists.iter().all(|list| *list == lists[0]),
        "one list on every node"
    );
    assert_eq!(lists[0].len() as u64, 32 * closed["entries"].as_u64().unwrap());
    let anybody = Fan::anonymous(world, 1);
    let json = asks(world, &anybody, 1, "draw/entries").await.expect(200);
    assert_eq!(
        (&json["entries"], &json["root"]),
        (&closed["entries"], &closed["root"])
    );
    for (leaf, bytes) in json["leaves"].as_array().unwrap().iter().zip(lists[0].chunks(32)) {
        assert_eq!(leaf.as_str().unwrap(), stagedoor::platform::signing::hex(bytes));
    }
    for place in places.iter().filter(|it| it.acknowledged_at < world.opens_at) {
        let receipt = asks(world, &place.fan, 2, "draw/receipt").await.expect(200);
        let at = usize::try_from(receipt["arrival"].as_u64().unwrap()).unwrap() - 1;
        assert_eq!(
            json["leaves"][at], receipt["leaf"],
            "acknowledged before the opening, so in the list"
        );
        assert!(receipt["number"].is_null(), "{receipt}");
    }
}

/// The round is over, and its server does not give it: everybody is told, nobody is called, and no other round is taken.
async fn the_beacon_is_ill(world: &World, beacon: &Beacon, closed: &Value) {
    beacon.is(Mood::Fails);
    tokio::time::sleep(moment(&closed["round_at"]).since(world.clock.now())).await;
    for mood in Mood::ILL {
        let asked = beacon.is(mood);
        let until = world.clock.monotonic() + SOON;
        while beacon.asked() <= asked {
            assert!(
                world.clock.monotonic() < until,
                "nobody asks the beacon any more: {mood:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let anybody = Fan::anonymous(world, 1);
    for node in 0..world.nodes.len() {
        let board = asks(world, &anybody, node, "status").await.expect(200);
        assert_eq!(
            (
                &board["phase"],
                &board["draw"]["beacon_away"],
                &board["now_serving"]
            ),
            (&"drawing".into(), &true.into(), &0.into())
        );
        assert_eq!(board["draw"]["round"], closed["round"]);
        assert!(asks(world, &anybody, node, "draw").await.expect(200)["order"].is_null());
    }
    assert!(world.log().contains("the draw waits for its beacon"));
}

fn changed_values_are_found(dir: &Path, drawn: &Value, list: &[u8]) {
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

/// Everybody knocks from the first moment on; the auditor has heard all of it.
async fn they_come_in_by_their_numbers(world: &World, places: Vec<Place>, told: &BTreeMap<u32, u64>) {
    let joins: Vec<AcknowledgedJoin> = places
        .iter()
        .map(|place| AcknowledgedJoin {
            subject: place.fan.customer.to_string(),
            number: Some(told[&place.fan.customer]),
            acknowledged_at: place.acknowledged_at,
            left_at: None,
        })
        .collect();
    let everybody = places.len();
    let knocks = places.into_iter().map(|Place { mut fan, .. }| {
        let (subject, number) = (fan.customer.to_string(), told[&fan.customer]);
        async move {
            let mut refusals = Vec::new();
            let until = world.clock.monotonic() + Duration::from_mins(1);
            loop {
                let asked_at = world.clock.now();
                let said = fan.enter(world).await;
                let at = world.clock.now();
                match said.status {
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
                    409 if said.json["type"] == "/problems/at-capacity" => {
                        refusals.push(Refusal {
                            number,
                            asked_at,
                            answered_at: at,
                            is_late_arrival: false,
                        });
                    }
                    409 | 503 => {}
                    other => panic!("{other}: {}", said.json),
                }
                assert!(
                    world.clock.monotonic() < until,
                    "number {number} is still outside: {}",
                    said.json
                );
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    // Those who are in leave again, all but the last, who looks at the seats.
    let (observer, entries, refusals) = {
        let mut inside = Vec::new();
        let mut entries = Vec::new();
        let mut all_refusals = Vec::new();
        let leaving = knocks.map(async |knock| {
            let (fan, entry, refusals) = knock.await;
            if usize::try_from(entry.number).unwrap() < everybody {
                tokio::time::sleep(Duration::from_millis(300)).await;
                let path = world.sale_path("admission");
                let said = retry_until(world, SOON, async || fan.call(Method::DELETE, &path, None).await).await;
                assert_eq!(said.status, 204, "{}", said.json);
            }
            (fan, entry, refusals)
        });
        for (fan, entry, refusals) in join_all(leaving).await {
            inside.push((entry.number, fan));
            entries.push(entry);
            all_refusals.extend(refusals);
        }
        (
            inside.into_iter().max_by_key(|(number, _)| *number).unwrap().1,
            entries,
            all_refusals,
        )
    };
    assert!(
        !refusals.is_empty(),
        "nobody met a full house: their order was not put to the proof"
    );
    let mut evidence = gather(world, &observer).await;
    (
        evidence.acknowledged_joins,
        evidence.acknowledged_admissions,
        evidence.refusals,
    ) = (joins, entries, refusals);
    reclassify_late_arrivals(&mut evidence);
    assert_eq!(evidence.admissions.len(), everybody);
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
        drand(&plain, &TrustStore::empty()).fetch_round(latest).await.unwrap(),
        drand(&tls, &known).fetch_round(latest).await.unwrap(),
    );
    assert_eq!(
        (&one, one.randomness),
        (&other, sha256(&one.signature)),
        "a round has one value, whoever is asked: {SCHEME}"
    );

    // Whose certificate nobody trusts is told nothing.
    let asked = tls.asked();
    for roots in [TrustStore::empty(), TrustStore::system()] {
        let refused = drand(&tls, &roots).fetch_round(latest).await;
        assert!(matches!(refused, Err(DrandError::Call(_))), "{refused:?}");
    }
    assert_eq!(tls.asked(), asked);

    let drand = drand(&tls, &known);
    for mood in Mood::ILL {
        tls.is(mood);
        let error = drand.fetch_round(latest).await.unwrap_err();
        let is_it = match mood {
            Mood::Fails => matches!(error, DrandError::Status(status) if status == 500),
            Mood::Garbage => matches!(error, DrandError::Malformed),
            Mood::OtherRound => matches!(error, DrandError::WrongRound),
            Mood::Forged => matches!(error, DrandError::InvalidSignature),
            Mood::Late => matches!(error, DrandError::Call(_)),
            Mood::Well => false,
        };
        assert!(is_it, "{mood:?}: {error}");
    }
    tls.is(Mood::Well);
    assert_eq!(
        drand.fetch_round(latest).await.unwrap(),
        one,
        "and it is asked again when it is well"
    );
    let to_come = drand.fetch_round(latest + u64::from(PERIOD_S) * 100).await;
    assert!(
        matches!(to_come, Err(DrandError::Status(status)) if status == 404),
        "{to_come:?}"
    );
}

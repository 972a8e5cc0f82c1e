//! A sale in its rush on several nodes, for a fault to strike: a crowd that queues and buys, fans who wait, fans who are
//! inside, money that is moving. And what must be true of all of them afterwards.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, header};
use serde_json::Value;
use stagedoor::{
    audit::{Evidence, audit, databases::reclassify_late_arrivals},
    demo::{client::Observations, crowd},
    kernel::{Clock, Timestamp},
    platform::{http_client::CallError, shutdown::Lifecycle},
};
use tokio::task::JoinHandle;

use crate::{
    evidence::{every_node_agrees, gather, record_holds_after},
    fan::{Fan, Reply},
    environment::Pair,
    sale::{OBSERVER, crowd_of, summary},
    world::{Scene, World},
};

/// Fans of the test's own who are inside before the crowd comes.
const BUYERS: u32 = 12;
/// Fans of the test's own who have taken their places and wait.
const WAITING: u32 = 8;
const FIRST_WAITING: u32 = 100;
const FIRST_NEWCOMER: u32 = 200;
const FIRST_OF_CROWD: u32 = 1_000;
const CROWD: u32 = 110;
/// After a fault everything that was possible before is possible again within this time.
pub const SOON: Duration = Duration::from_secs(30);

pub struct LoadScenario {
    pub world: World,
    /// Inside all the time; she buys nothing.
    pub observer: Fan,
    /// Inside, with all their seats still to buy.
    pub buyers: Vec<Fan>,
    waiting: Vec<(Fan, u64)>,
    newcomers: u32,
    crowd: JoinHandle<Observations>,
    outages: Vec<(Timestamp, Timestamp)>,
    /// When nobody of the crowd may have been told that she is inside.
    shut: Vec<(Timestamp, Timestamp)>,
}

/// An order whose money is moving.
pub struct Payment {
    fan: Fan,
    order: String,
    hold: String,
    card: &'static str,
    key: String,
    told: JoinHandle<Result<Reply, CallError>>,
}

/// A sale that is busy for about twenty seconds.
pub fn scene() -> Scene {
    Scene {
        rate_per_minute: 1_200,
        burst: 20,
        capacity: 60,
        call_window_s: 6,
        seats: 500,
        hold_s: 12,
        gateway_deadline_ms: 4_000,
        ..Scene::default()
    }
}

impl LoadScenario {
    /// Opens the house and sends the crowd in.
    pub async fn begin(pair: Pair, scene: Scene, seed: u64) -> Self {
        let world = World::open_on(pair, scene).await;
        let (observer, buyers, waiting) = tokio::join!(
            Fan::admitted(&world, OBSERVER),
            join_all((0..BUYERS).map(|n| Fan::admitted(&world, OBSERVER + 1 + n))),
            join_all((0..WAITING).map(|n| Fan::sign_in(&world, FIRST_WAITING + n))),
        );
        let mut places = Vec::new();
        for mut fan in waiting {
            let number = fan.join(&world).await.expect(201)["number"].as_u64().unwrap();
            places.push((fan, number));
        }
        let mut config = crowd_of(&world, CROWD, seed, Duration::from_secs(10));
        config.first_customer = FIRST_OF_CROWD;
        let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
        let crowd = tokio::spawn(crowd::run(config, clock, Lifecycle::new()));
        Self {
            world,
            observer,
            buyers,
            waiting: places,
            newcomers: 0,
            crowd,
            outages: Vec::new(),
            shut: Vec::new(),
        }
    }

    /// A fault bites only where something goes on: waits until so many orders are in the ledger, and makes sure that the
    /// crowd is still there.
    pub async fn wait_for_orders(&self, count: i64) {
        let until = self.world.clock.monotonic() + Duration::from_secs(30);
        loop {
            let orders = self
                .world
                .environment()
                .query_number("SELECT COUNT(*) FROM stagedoor_ledger.orders")
                .await;
            if orders >= count {
                break;
            }
            assert!(
                self.world.clock.monotonic() < until,
                "only {orders} orders\n{}",
                self.world.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(!self.crowd.is_finished(), "the fault comes too late to matter");
    }

    /// A buyer who has not been called upon yet.
    pub fn buyer(&mut self) -> Fan {
        self.buyers.pop().expect("there are enough buyers")
    }

    /// Holds the best seats for her. In a rush others may be faster every time that the house tries; then she asks again.
    pub async fn holds(&self, fan: &Fan, quantity: u8) -> Value {
        let until = self.world.clock.monotonic() + SOON;
        loop {
            let said = fan.hold_best(&self.world, quantity).await;
            if said.status != 409
                || said.json["type"] != "/problems/seats-taken"
                || self.world.clock.monotonic() > until
            {
                return said.expect(201);
            }
        }
    }

    /// So many buyers pay for a seat each, with a card that takes its time.
    pub async fn start_payments(&mut self, count: usize) -> Vec<Payment> {
        let buyers: Vec<Fan> = (0..count).map(|_| self.buyer()).collect();
        join_all(buyers.into_iter().map(|fan| self.pay(fan, "tok_slow"))).await
    }

    /// Pays for one seat; returns when the order is in the ledger. Where her base is a node's, that one drives it.
    pub async fn pay(&self, mut fan: Fan, card: &'static str) -> Payment {
        let hold = self.holds(&fan, 1).await["id"].as_str().unwrap().to_owned();
        let key = format!("rush-{}", fan.customer);
        let told = tokio::spawn({
            let (fan, hold, key) = (fan.clone(), hold.clone(), key.clone());
            async move { fan.try_pay(&hold, card, &key).await }
        });
        fan.base.clone_from(&self.world.base);
        let until = self.world.clock.monotonic() + Duration::from_secs(3);
        let order = loop {
            let orders = fan.call(Method::GET, "/v1/orders", None).await.expect(200);
            if orders["orders"][0]["state"] == "in_progress" {
                break orders["orders"][0]["id"].as_str().unwrap().to_owned();
            }
            assert!(
                self.world.clock.monotonic() < until && !told.is_finished(),
                "no money moves: {orders}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        Payment {
            fan,
            order,
            hold,
            card,
            key,
            told,
        }
    }

    /// The gateway has taken down all these payments, whether or not anybody has read its answers.
    pub async fn wait_for_gateway(&self, payments: &[Payment]) {
        let until = self.world.clock.monotonic() + Duration::from_secs(3);
        let uri: http::Uri = format!("{}/v1/statement", self.world.environment().gateway_url())
            .parse()
            .unwrap();
        loop {
            let book = self
                .world
                .client
                .send(Method::GET, uri.clone(), &[], Bytes::new())
                .await
                .unwrap();
            let book = String::from_utf8_lossy(&book.body).into_owned();
            if payments.iter().all(|it| book.contains(&it.order)) {
                return;
            }
            assert!(
                self.world.clock.monotonic() < until,
                "a payment did not come to the gateway: {book}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The order of this payment ended in tickets, whatever happened meanwhile.
    pub async fn assert_paid(&self, payment: Payment, patience: Duration) {
        let Payment {
            fan,
            order,
            hold,
            card,
            key,
            told,
        } = payment;
        // What the buyer was told may be that it is not known yet, or nothing at all; she asks again.
        let _ = told.await.unwrap();
        let world = &self.world;
        let said = retry_until(world, patience, async || {
            fan.pay_with_key(&hold, card, &key).await
        })
        .await;
        assert!(
            matches!(said.status, 201 | 202),
            "customer {}: {} {}",
            fan.customer,
            said.status,
            said.json
        );
        assert_eq!(said.json["id"], order, "the same key is the same order");
        let until = world.clock.monotonic() + patience;
        loop {
            let said = retry_until(world, patience, async || {
                fan.call(Method::GET, &format!("/v1/orders/{order}"), None).await
            })
            .await;
            if said.expect(200)["state"] == "paid" {
                break;
            }
            let history = async || {
                fan.call(Method::GET, &format!("/v1/orders/{order}/history"), None)
                    .await
                    .json
            };
            assert!(
                world.clock.monotonic() < until,
                "the money stopped: {}",
                history().await
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let tickets = retry_until(world, patience, async || {
            fan.call(Method::GET, &format!("/v1/orders/{order}/tickets"), None)
                .await
        })
        .await;
        assert_eq!(tickets.expect(200)["tickets"].as_array().unwrap().len(), 1);
    }

    /// Somebody new takes a place, comes in, holds seats and has her tickets; all that within [`SOON`].
    pub async fn assert_recovers(&mut self) {
        self.newcomers += 1;
        let customer = FIRST_NEWCOMER + self.newcomers;
        let world = &self.world;
        let began = world.clock.monotonic();
        let left = || (began + SOON).saturating_sub(world.clock.monotonic());
        let mut fan = Fan::anonymous(world, customer);
        let token = retry_until(world, left(), async || fan.hand_off(world).await)
            .await
            .expect(200)["token"]
            .as_str()
            .unwrap()
            .to_owned();
        fan.session = token;
        let joined = retry_until(world, left(), async || fan.clone().join(world).await).await;
        assert!(matches!(joined.status, 200 | 201), "{}", joined.json);
        fan.queue = joined.json["token"].as_str().map(str::to_owned);
        loop {
            let said = fan.enter(world).await;
            match said.status {
                200 => break,
                409 | 503 => assert!(
                    !left().is_zero(),
                    "not inside {SOON:?} after the fault: {}",
                    said.json
                ),
                _ => panic!("{} {}", said.status, said.json),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut tries = 0;
        let paid = loop {
            tries += 1;
            let hold = retry_until(world, left(), async || fan.hold_best(world, 2).await)
                .await
                .expect(201);
            let (id, key) = (
                hold["id"].as_str().unwrap(),
                format!("newcomer-{customer}-{tries}"),
            );
            let paid = retry_until(world, left(), async || fan.pay_with_key(id, "tok_ok", &key).await).await;
            // An engine that loses its memory once more forgets a hold that nobody pays yet.
            if paid.status != 409 || left().is_zero() {
                break paid;
            }
        };
        assert!(matches!(paid.status, 201 | 202), "{} {}", paid.status, paid.json);
        fan.wait_for_order_state(
            world,
            paid.json["id"].as_str().unwrap(),
            &["paid"],
            left().max(Duration::from_secs(1)),
        )
        .await;
        eprintln!(
            "the sale went on within {:?}",
            world.clock.monotonic().saturating_sub(began)
        );
    }

    /// Whoever waited has her place, and the number that she had.
    pub async fn assert_entries_kept(&self) {
        for (fan, number) in &self.waiting {
            let place = retry_until(&self.world, SOON, async || {
                fan.call(Method::GET, &self.world.sale_path("queue/position"), None)
                    .await
            })
            .await;
            assert_eq!(place.expect(200)["number"], *number, "customer {}", fan.customer);
            let again = retry_until(&self.world, SOON, async || fan.clone().join(&self.world).await).await;
            assert_eq!(again.expect(200)["number"], *number, "customer {}", fan.customer);
        }
    }

    /// Until `up` the house did not do all that it should.
    pub fn record_outage(&mut self, down: Timestamp, up: Timestamp) {
        self.outages.push((down, up));
    }

    /// Who cannot be written down is not let in: the crowd's own word is heard when it has gone home.
    pub fn assert_none_admitted(&mut self, from: Timestamp, until: Timestamp) {
        self.shut.push((from, until));
    }

    /// `http://...` of one node, past the balancer.
    pub fn base_of(&self, node: usize) -> String {
        format!("http://{}", self.world.nodes[node].public)
    }

    /// Waits until the crowd has gone home and everything has come to rest, and hears the auditor.
    pub async fn finish_and_audit(mut self) {
        let report = tokio::time::timeout(Duration::from_secs(100), &mut self.crowd)
            .await
            .expect("the crowd goes home")
            .unwrap();
        let Self {
            world,
            mut observer,
            outages,
            shut,
            ..
        } = self;
        let (said, crowd_gone) = (summary(&report), world.clock.now());
        let last_hold = crowd_gone.plus(Duration::from_secs(u64::from(world.scene.hold_s)));
        let until = world.clock.monotonic() + Duration::from_secs(u64::from(world.scene.hold_s) + 10);
        let (evidence, found) = loop {
            observer.renew(&world).await;
            let mut evidence = gather(&world, &observer).await;
            report.add_to(&mut evidence);
            reclassify_late_arrivals(&mut evidence);
            (evidence.settled, evidence.outages) = (true, outages.clone());
            record_holds_after(last_hold, &world, &observer, &mut evidence).await;
            let mut found = audit(&evidence);
            found.extend(every_node_agrees(&world, &observer, &evidence).await);
            let is_over = world.clock.monotonic() > until;
            if is_over || (found.is_empty() && evidence.holds.is_empty()) {
                break (evidence, found);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        assert!(
            found.is_empty(),
            "{} violations, the first: {:#?}\n{said}",
            found.len(),
            &found[..found.len().min(10)]
        );
        assert!(
            evidence.holds.is_empty(),
            "held for ever: {:?}\n{said}",
            evidence.holds
        );
        for (from, until) in shut {
            let inside = report
                .entries
                .iter()
                .filter(|it| from < it.at && it.at < until)
                .count();
            assert_eq!(
                inside, 0,
                "nobody could be written down, and yet they were let in"
            );
        }
        assert!(report.tickets > 0 && report.entered > 0, "{said}");
        assert!(
            !report
                .errors
                .keys()
                .any(|it| it.contains("unreadable") || it.contains("changed")),
            "{said}"
        );
        assert_eq!(
            entered_numbers(&evidence).len(),
            evidence.admissions.len(),
            "each number once: {said}"
        );
        eprintln!("{said}");
        world.assert_no_panic();
    }
}

fn entered_numbers(evidence: &Evidence) -> BTreeSet<u64> {
    evidence.admissions.iter().map(|it| it.number).collect()
}

/// Asks again as long as the answer is 503 and says when to come again.
pub async fn retry_until(world: &World, patience: Duration, ask: impl AsyncFn() -> Reply) -> Reply {
    let until = world.clock.monotonic() + patience;
    loop {
        let said = ask().await;
        if said.status != 503 {
            return said;
        }
        assert!(
            said.answer.headers.contains_key(header::RETRY_AFTER),
            "{}",
            said.json
        );
        assert!(
            world.clock.monotonic() < until,
            "still after {patience:?}: {}",
            said.json
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The answer of somebody who is away: 503, of this kind, and when to come again.
#[track_caller]
pub fn assert_unavailable(said: Reply, slug: &str) {
    let answer = said.answer.clone();
    said.problem(503, slug);
    let seconds: u64 = answer.headers[header::RETRY_AFTER]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=10).contains(&seconds), "{seconds}");
}

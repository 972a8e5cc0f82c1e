//! A busy sale on several nodes for fault tests: a crowd that queues and buys, waiting visitors, admitted
//! buyers and payments in progress, with the assertions that must hold after the fault.

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
    environment::Deployment,
    evidence::{every_node_agrees, gather, record_holds_after},
    fan::{Fan, Reply},
    sale::{OBSERVER, crowd_of, summary},
    world::{SaleConfig, World},
};

/// The test's own visitors who are admitted before the crowd arrives.
const BUYERS: u32 = 12;
/// The test's own visitors who have joined and wait.
const WAITING: u32 = 8;
const FIRST_WAITING: u32 = 100;
const FIRST_NEWCOMER: u32 = 200;
const FIRST_OF_CROWD: u32 = 1_000;
const CROWD: u32 = 110;
/// After a fault the service must work fully again within this time.
pub const RECOVERY_LIMIT: Duration = Duration::from_secs(30);

pub struct LoadScenario {
    pub world: World,
    /// Admitted all the time; buys nothing.
    pub observer: Fan,
    /// Admitted, without any purchase yet.
    pub buyers: Vec<Fan>,
    waiting: Vec<(Fan, u64)>,
    newcomers: u32,
    crowd: JoinHandle<Observations>,
    outages: Vec<(Timestamp, Timestamp)>,
    /// Periods in which no visitor of the crowd may have been admitted.
    no_admission_periods: Vec<(Timestamp, Timestamp)>,
}

/// An order whose payment is in progress.
pub struct Payment {
    fan: Fan,
    order: String,
    hold: String,
    card: &'static str,
    key: String,
    response: JoinHandle<Result<Reply, CallError>>,
}

/// A sale that is busy for about twenty seconds.
pub fn sale_config() -> SaleConfig {
    SaleConfig {
        admission_rate_per_minute: 1_200,
        admission_burst: 20,
        active_visits_max: 60,
        call_window_s: 6,
        seats: 500,
        hold_ttl_s: 12,
        gateway_timeout_ms: 4_000,
        ..SaleConfig::default()
    }
}

impl LoadScenario {
    /// Starts the service and the crowd.
    pub async fn begin(deployment: Deployment, sale_config: SaleConfig, seed: u64) -> Self {
        let world = World::open_on(deployment, sale_config).await;
        let (observer, buyers, waiting) = tokio::join!(
            Fan::admitted(&world, OBSERVER),
            join_all((0..BUYERS).map(|n| Fan::admitted(&world, OBSERVER + 1 + n))),
            join_all((0..WAITING).map(|n| Fan::sign_in(&world, FIRST_WAITING + n))),
        );
        let mut waiting_entries = Vec::new();
        for mut fan in waiting {
            let number = fan.join(&world).await.expect(201)["number"].as_u64().unwrap();
            waiting_entries.push((fan, number));
        }
        let mut config = crowd_of(&world, CROWD, seed, Duration::from_secs(10));
        config.first_customer = FIRST_OF_CROWD;
        let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
        let crowd = tokio::spawn(crowd::run(config, clock, Lifecycle::new()));
        Self {
            world,
            observer,
            buyers,
            waiting: waiting_entries,
            newcomers: 0,
            crowd,
            outages: Vec::new(),
            no_admission_periods: Vec::new(),
        }
    }

    /// Waits until `count` orders are in the ledger, so that a fault hits a busy sale, and asserts that the
    /// crowd is still active.
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

    /// A buyer whom the test has not used yet.
    pub fn buyer(&mut self) -> Fan {
        self.buyers.pop().expect("there are enough buyers")
    }

    /// Holds the best seats; retries when other visitors took them first.
    pub async fn hold_seats(&self, fan: &Fan, quantity: u8) -> Value {
        let until = self.world.clock.monotonic() + RECOVERY_LIMIT;
        loop {
            let reply = fan.hold_best(&self.world, quantity).await;
            if reply.status != 409
                || reply.json["type"] != "/problems/seats-taken"
                || self.world.clock.monotonic() > until
            {
                return reply.expect(201);
            }
        }
    }

    /// Starts `count` payments for one seat each with a slow card; returns when their seats are claimed.
    /// Before that an order ends like any unpaid hold when the store loses its data.
    pub async fn start_payments(&mut self, count: usize) -> Vec<Payment> {
        let buyers: Vec<Fan> = (0..count).map(|_| self.buyer()).collect();
        let payments = join_all(buyers.into_iter().map(|fan| self.pay(fan, "tok_slow"))).await;
        let until = self.world.clock.monotonic() + Duration::from_secs(3);
        for payment in &payments {
            while self.world.environment().claims_of(&payment.order).await == 0 {
                assert!(
                    self.world.clock.monotonic() < until,
                    "no claim of {}",
                    payment.order
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        payments
    }

    /// Pays for one seat; returns when the order is in the ledger. The node of `fan.base` drives the order.
    pub async fn pay(&self, mut fan: Fan, card: &'static str) -> Payment {
        let hold = self.hold_seats(&fan, 1).await["id"].as_str().unwrap().to_owned();
        let key = format!("scenario-{}", fan.customer);
        let response = tokio::spawn({
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
                self.world.clock.monotonic() < until && !response.is_finished(),
                "no payment is in progress: {orders}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        Payment {
            fan,
            order,
            hold,
            card,
            key,
            response,
        }
    }

    /// Waits until the gateway has recorded all these payments.
    pub async fn wait_for_gateway(&self, payments: &[Payment]) {
        let until = self.world.clock.monotonic() + Duration::from_secs(3);
        let uri: http::Uri = format!("{}/v1/statement", self.world.environment().gateway_url())
            .parse()
            .unwrap();
        loop {
            let statement = self
                .world
                .client
                .send(Method::GET, uri.clone(), &[], Bytes::new())
                .await
                .unwrap();
            let statement = String::from_utf8_lossy(&statement.body).into_owned();
            if payments.iter().all(|payment| statement.contains(&payment.order)) {
                return;
            }
            assert!(
                self.world.clock.monotonic() < until,
                "a payment did not reach the gateway: {statement}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asserts that the order of this payment ended in tickets.
    pub async fn assert_paid(&self, payment: Payment, patience: Duration) {
        let Payment {
            fan,
            order,
            hold,
            card,
            key,
            response,
        } = payment;
        // The first response may be pending or lost; the buyer retries with the same key.
        let _ = response.await.unwrap();
        let world = &self.world;
        let reply = retry_until(world, patience, async || {
            fan.pay_with_key(&hold, card, &key).await
        })
        .await;
        assert!(
            matches!(reply.status, 201 | 202),
            "customer {}: {} {}",
            fan.customer,
            reply.status,
            reply.json
        );
        assert_eq!(reply.json["id"], order, "the same key is the same order");
        let until = world.clock.monotonic() + patience;
        loop {
            let reply = retry_until(world, patience, async || {
                fan.call(Method::GET, &format!("/v1/orders/{order}"), None).await
            })
            .await;
            if reply.expect(200)["state"] == "paid" {
                break;
            }
            let history = async || {
                fan.call(Method::GET, &format!("/v1/orders/{order}/history"), None)
                    .await
                    .json
            };
            assert!(
                world.clock.monotonic() < until,
                "the order did not finish: {}",
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

    /// Asserts that a new visitor gets from joining to tickets within [`RECOVERY_LIMIT`].
    pub async fn assert_recovers(&mut self) {
        self.newcomers += 1;
        let customer = FIRST_NEWCOMER + self.newcomers;
        let world = &self.world;
        let began = world.clock.monotonic();
        let left = || (began + RECOVERY_LIMIT).saturating_sub(world.clock.monotonic());
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
            let reply = fan.enter(world).await;
            match reply.status {
                200 => break,
                409 | 503 => assert!(
                    !left().is_zero(),
                    "not admitted {RECOVERY_LIMIT:?} after the fault: {}",
                    reply.json
                ),
                _ => panic!("{} {}", reply.status, reply.json),
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
            // A store that loses its data once more loses unpaid holds.
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
            "the sale recovered within {:?}",
            world.clock.monotonic().saturating_sub(began)
        );
    }

    /// Asserts that all waiting visitors kept their entries and numbers.
    pub async fn assert_entries_kept(&self) {
        for (fan, number) in &self.waiting {
            let position = retry_until(&self.world, RECOVERY_LIMIT, async || {
                fan.call(Method::GET, &self.world.sale_path("queue/position"), None)
                    .await
            })
            .await;
            assert_eq!(
                position.expect(200)["number"],
                *number,
                "customer {}",
                fan.customer
            );
            let again = retry_until(&self.world, RECOVERY_LIMIT, async || {
                fan.clone().join(&self.world).await
            })
            .await;
            assert_eq!(again.expect(200)["number"], *number, "customer {}", fan.customer);
        }
    }

    /// Records for the auditor that the service was not fully available from `down` to `up`.
    pub fn record_outage(&mut self, down: Timestamp, up: Timestamp) {
        self.outages.push((down, up));
    }

    /// Records a period without a journal; at the end no visitor may have been admitted in it.
    pub fn assert_none_admitted(&mut self, from: Timestamp, until: Timestamp) {
        self.no_admission_periods.push((from, until));
    }

    /// `http://...` of one node, past the balancer.
    pub fn base_of(&self, node: usize) -> String {
        format!("http://{}", self.world.nodes[node].public)
    }

    /// Waits until the crowd has finished and all holds have ended, and runs the audit.
    pub async fn finish_and_audit(mut self) {
        let report = tokio::time::timeout(Duration::from_secs(100), &mut self.crowd)
            .await
            .expect("the crowd finishes")
            .unwrap();
        let Self {
            world,
            mut observer,
            outages,
            no_admission_periods,
            ..
        } = self;
        let (counts, crowd_gone) = (summary(&report), world.clock.now());
        let last_hold = crowd_gone.plus(Duration::from_secs(u64::from(world.sale_config.hold_ttl_s)));
        let until =
            world.clock.monotonic() + Duration::from_secs(u64::from(world.sale_config.hold_ttl_s) + 10);
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
            "{} violations, the first: {:#?}\n{counts}",
            found.len(),
            &found[..found.len().min(10)]
        );
        assert!(
            evidence.holds.is_empty(),
            "holds that never end: {:?}\n{counts}",
            evidence.holds
        );
        for (from, until) in no_admission_periods {
            let admitted = report
                .entries
                .iter()
                .filter(|entry| from < entry.at && entry.at < until)
                .count();
            assert_eq!(
                admitted, 0,
                "visitors were admitted while the journal was unavailable"
            );
        }
        assert!(report.tickets > 0 && report.entered > 0, "{counts}");
        assert!(
            !report
                .errors
                .keys()
                .any(|kind| kind.contains("unreadable") || kind.contains("changed")),
            "{counts}"
        );
        assert_eq!(
            entered_numbers(&evidence).len(),
            evidence.admissions.len(),
            "each number once: {counts}"
        );
        eprintln!("{counts}");
        world.assert_no_panic();
    }
}

fn entered_numbers(evidence: &Evidence) -> BTreeSet<u64> {
    evidence
        .admissions
        .iter()
        .map(|admission| admission.number)
        .collect()
}

/// Repeats a request while the response is 503 with `Retry-After`.
pub async fn retry_until(world: &World, patience: Duration, ask: impl AsyncFn() -> Reply) -> Reply {
    let until = world.clock.monotonic() + patience;
    loop {
        let reply = ask().await;
        if reply.status != 503 {
            return reply;
        }
        assert!(
            reply.answer.headers.contains_key(header::RETRY_AFTER),
            "{}",
            reply.json
        );
        assert!(
            world.clock.monotonic() < until,
            "still after {patience:?}: {}",
            reply.json
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Asserts a 503 problem with a `Retry-After` of 1 to 10 s.
#[track_caller]
pub fn assert_unavailable(reply: Reply, slug: &str) {
    let answer = reply.answer.clone();
    reply.problem(503, slug);
    let seconds: u64 = answer.headers[header::RETRY_AFTER]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=10).contains(&seconds), "{seconds}");
}

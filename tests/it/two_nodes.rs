//! One visitor's calls go to two nodes by turns, as a balancer sends them: what one node has answered, the
//! other one knows, however soon it is asked.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use serde_json::Value;
use stagedoor::{demo::client::paths, kernel::Clock};

use crate::{
    environment::Deployment,
    fan::{Fan, Reply},
    world::{SALE, SaleConfig, World},
};

/// Between the reply of one node and the request to the other.
const GAPS_MS: [u64; 4] = [0, 50, 200, 1_000];
/// The visitor whose calls are tried is told to enter within this time.
const CALLED_WITHIN: Duration = Duration::from_secs(20);

/// A visitor between two nodes.
struct Visitor<'a> {
    world: &'a World,
    fan: Fan,
    gap: Duration,
}

impl<'a> Visitor<'a> {
    async fn sign_in(world: &'a World, customer: u32, gap: Duration) -> Self {
        Self {
            world,
            fan: Fan::sign_in(world, customer).await,
            gap,
        }
    }

    async fn until_called(&self, node: usize) {
        while self.position(node).await["state"] != "called" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn at(&self, node: usize) -> Fan {
        Fan {
            base: format!("http://{}", self.world.nodes[node].public),
            ..self.fan.clone()
        }
    }

    async fn pause(&self) {
        tokio::time::sleep(self.gap).await;
    }

    async fn join(&mut self, node: usize) -> Reply {
        let mut fan = self.at(node);
        let reply = fan.join(self.world).await;
        self.fan.queue = fan.queue;
        reply
    }

    async fn enter(&mut self, node: usize) -> Reply {
        let mut fan = self.at(node);
        let reply = fan.enter(self.world).await;
        self.fan.pass = fan.pass;
        reply
    }

    async fn leave(&self, node: usize) {
        self.at(node).leave(self.world).await;
    }

    async fn position(&self, node: usize) -> Value {
        self.at(node).position(self.world).await
    }

    /// Joins and enters at the first node.
    async fn enter_at_first(&mut self) {
        self.join(0).await.expect(201);
        self.enter_when_called(0).await;
    }

    async fn enter_when_called(&mut self, node: usize) {
        let mut fan = self.at(node);
        fan.enter_within(self.world, CALLED_WITHIN).await;
        self.fan.pass = fan.pass;
    }

    async fn hold(&self, node: usize) -> Reply {
        let fan = self.at(node);
        loop {
            let reply = fan.hold_best(self.world, 1).await;
            // Other visitors of the test take seats as well.
            if reply.status != 409 {
                return reply;
            }
        }
    }

    async fn get(&self, node: usize, path: &str) -> Reply {
        self.at(node).call(Method::GET, path, None).await
    }
}

fn number(entry: &Value) -> u64 {
    entry["number"].as_u64().unwrap()
}

/// A case: its name, and what a visitor does.
type Case = (
    &'static str,
    fn(Visitor<'_>) -> futures_util::future::BoxFuture<'_, ()>,
);

const CASES: [Case; 14] = [
    ("join, position", |mut v| {
        Box::pin(async move {
            let joined = v.join(0).await.expect(201);
            v.pause().await;
            assert_eq!(number(&v.position(1).await), number(&joined));
        })
    }),
    ("join, join", |mut v| {
        Box::pin(async move {
            let joined = v.join(0).await.expect(201);
            v.pause().await;
            assert_eq!(number(&v.join(1).await.expect(200)), number(&joined));
        })
    }),
    ("join, leave, join", |mut v| {
        Box::pin(async move {
            let joined = v.join(0).await.expect(201);
            v.pause().await;
            v.leave(1).await;
            v.pause().await;
            assert_ne!(number(&v.join(0).await.expect(201)), number(&joined));
        })
    }),
    ("leave, join", |mut v| {
        Box::pin(async move {
            let joined = v.join(0).await.expect(201);
            v.leave(0).await;
            v.pause().await;
            assert_ne!(number(&v.join(1).await.expect(201)), number(&joined));
        })
    }),
    ("leave, position", |mut v| {
        Box::pin(async move {
            v.join(0).await.expect(201);
            v.leave(0).await;
            v.pause().await;
            assert_eq!(v.position(1).await["state"], "left");
        })
    }),
    ("leave, enter", |mut v| {
        Box::pin(async move {
            v.join(0).await.expect(201);
            v.leave(0).await;
            v.pause().await;
            v.enter(1).await.problem(409, "visit-ended");
        })
    }),
    ("enter, position", |mut v| {
        Box::pin(async move {
            v.enter_at_first().await;
            v.pause().await;
            assert_eq!(v.position(1).await["state"], "admitted");
        })
    }),
    ("enter, enter", |mut v| {
        Box::pin(async move {
            v.enter_at_first().await;
            v.pause().await;
            v.enter(1).await.expect(200);
        })
    }),
    ("enter, hold, release", |mut v| {
        Box::pin(async move {
            v.enter_at_first().await;
            v.pause().await;
            let hold = v.hold(1).await.expect(201);
            let path = paths::hold(hold["id"].as_str().unwrap());
            v.pause().await;
            v.get(0, &path).await.expect(200);
            let released = v.at(1).call(Method::DELETE, &path, None).await;
            assert_eq!(released.status, 204, "{}", released.json);
            v.pause().await;
            v.get(0, &path).await.problem(404, "not-found");
        })
    }),
    ("hold, pay, order", |mut v| {
        Box::pin(async move {
            v.enter_at_first().await;
            let hold = v.hold(0).await.expect(201);
            v.pause().await;
            let order = v
                .at(1)
                .pay(hold["id"].as_str().unwrap(), "tok_ok")
                .await
                .expect(201);
            v.pause().await;
            let path = paths::order(order["id"].as_str().unwrap());
            assert_eq!(v.get(0, &path).await.expect(200)["state"], "paid");
        })
    }),
    ("enter, leave, enter", |mut v| {
        Box::pin(async move {
            v.enter_at_first().await;
            v.pause().await;
            v.leave(1).await;
            v.pause().await;
            v.enter(0).await.problem(409, "visit-ended");
        })
    }),
    ("end of the visit, hold", |mut v| {
        Box::pin(async move {
            v.enter_at_first().await;
            let ended = v.at(0).call(Method::DELETE, &paths::admission(SALE), None).await;
            assert_eq!(ended.status, 204, "{}", ended.json);
            v.pause().await;
            let refused = v.hold(1).await;
            refused.problem(401, "pass-required");
        })
    }),
    ("end of the visit, join", |mut v| {
        Box::pin(async move {
            let joined = v.join(0).await.expect(201);
            v.enter_when_called(0).await;
            let ended = v.at(0).call(Method::DELETE, &paths::admission(SALE), None).await;
            assert_eq!(ended.status, 204, "{}", ended.json);
            v.pause().await;
            assert_ne!(number(&v.join(1).await.expect(201)), number(&joined));
        })
    }),
    ("sign-out, orders", |v| {
        Box::pin(async move {
            v.get(1, paths::ORDERS).await.expect(200);
            let signed_out = v.at(0).call(Method::DELETE, "/v1/session", None).await;
            assert_eq!(signed_out.status, 204, "{}", signed_out.json);
            v.pause().await;
            v.get(1, paths::ORDERS).await.problem(401, "sign-in-required");
        })
    }),
];

async fn open(sale_config: SaleConfig) -> World {
    let deployment = Deployment {
        nodes: 2,
        ..Deployment::default()
    };
    World::open_on(deployment, sale_config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pair_of_calls_agrees_across_nodes() {
    let world = open(SaleConfig::default()).await;
    let visits = GAPS_MS.iter().enumerate().flat_map(|(at, gap_ms)| {
        CASES
            .iter()
            .enumerate()
            .map(move |(case, _)| (at * CASES.len() + case, case, Duration::from_millis(*gap_ms)))
    });
    join_all(visits.map(async |(customer, case, gap)| {
        let customer = u32::try_from(customer).unwrap() + 1;
        let visitor = Visitor::sign_in(&world, customer, gap).await;
        eprintln!("customer {customer}: {}, {gap:?}", CASES[case].0);
        CASES[case].1(visitor).await;
    }))
    .await;
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_double_click_on_enter_at_two_nodes_is_one_visit() {
    let world = open(SaleConfig::default()).await;
    for customer in 1..=12 {
        let mut visitor = Visitor::sign_in(&world, customer, Duration::ZERO).await;
        visitor.join(0).await.expect(201);
        visitor.until_called(0).await;
        let (mut one, mut other) = (visitor.at(0), visitor.at(1));
        let (first, second) = tokio::join!(one.enter(&world), other.enter(&world));
        assert_eq!(
            (first.status, second.status),
            (200, 200),
            "{} {}",
            first.json,
            second.json
        );
    }
    world.assert_no_panic();
}

/// At a limit of three visits the entry of a visitor who left must not keep a slot from the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_who_left_at_another_node_takes_no_slot() {
    let world = open(SaleConfig {
        active_visits_max: 1,
        ..SaleConfig::default()
    })
    .await;
    for customer in (1..=12).step_by(2) {
        let mut leaver = Visitor::sign_in(&world, customer, Duration::ZERO).await;
        leaver.join(0).await.expect(201);
        leaver.until_called(0).await;
        // Both at once: either the visitor enters and the visit ends, or there was never one.
        let (mut leaving, mut entering) = (leaver.at(0), leaver.at(1));
        let (left, entered) = tokio::join!(
            async {
                let reply = leaving.call(Method::DELETE, &paths::queue(SALE), None).await;
                leaving.queue = None;
                reply
            },
            entering.enter(&world)
        );
        assert!(matches!(left.status, 204 | 503), "{}", left.json);
        assert!(
            matches!(entered.status, 200 | 409),
            "{} {}",
            entered.status,
            entered.json
        );
        if left.status == 503 || entered.status == 200 {
            // A visitor who is told to come back leaves again.
            leaver.leave(0).await;
        }
        let mut next = Visitor::sign_in(&world, customer + 1, Duration::ZERO).await;
        next.join(1).await.expect(201);
        let began = world.clock.monotonic();
        next.enter_when_called(1).await;
        let waited = world.clock.monotonic().saturating_sub(began);
        assert!(
            waited < Duration::from_secs(4),
            "the slot was kept for {waited:?}"
        );
        next.leave(1).await;
    }
    world.assert_no_panic();
}

//! A client that acts as one visitor and keeps session, queue token and pass. Each call returns the
//! whole response. Paths and bodies are those of [`stagedoor::demo::client`].

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use serde_json::Value;
use stagedoor::{
    demo::client::{messages, paths},
    kernel::Clock,
    platform::http_client::{CallError, HttpClient, Response},
};

use crate::world::World;

/// A visitor of the tests.
#[derive(Clone)]
pub struct Fan {
    pub base: String,
    pub client: HttpClient,
    pub customer: u32,
    pub session: String,
    pub queue: Option<String>,
    pub pass: Option<String>,
    /// How many payments were made; it makes idempotency keys unique.
    pub serial: u32,
}

/// Header fields as the client takes them.
pub fn header_fields<V: AsRef<str>>(headers: &[(&'static str, V)]) -> Vec<(HeaderName, HeaderValue)> {
    let field = |(name, value): &(&'static str, V)| {
        let value = HeaderValue::from_str(value.as_ref()).unwrap();
        (HeaderName::from_static(name), value)
    };
    headers.iter().map(field).collect()
}

/// A response with its body as JSON; `null` when it is not JSON.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub json: Value,
    pub answer: Response,
}

impl Reply {
    /// The body of a response that must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.json);
        self.json
    }

    /// The body of a response that must be this problem.
    #[track_caller]
    pub fn problem(self, status: u16, slug: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.json);
        assert_eq!(self.json["type"], format!("/problems/{slug}"), "{}", self.json);
        assert_eq!(self.answer.headers["content-type"], "application/problem+json");
        self.json
    }
}

impl Fan {
    /// Signs in with a hand-off from the shop.
    pub async fn sign_in(world: &World, customer: u32) -> Self {
        let mut fan = Self::anonymous(world, customer);
        let reply = fan.hand_off(world).await.expect(200);
        reply["token"].as_str().unwrap().clone_into(&mut fan.session);
        fan
    }

    /// Signs in by hand-off; the response has the session.
    pub async fn hand_off(&self, world: &World) -> Reply {
        let token = world.handoff()(self.customer);
        self.call(
            Method::POST,
            paths::SIGN_IN_HANDOFF,
            Some(messages::handoff_request(&token)),
        )
        .await
    }

    /// A visitor without any proof.
    pub fn anonymous(world: &World, customer: u32) -> Self {
        let (base, client) = (world.base.clone(), world.client.clone());
        Self {
            base,
            client,
            customer,
            session: String::new(),
            queue: None,
            pass: None,
            serial: 0,
        }
    }

    /// Signs in, joins and waits until admitted.
    pub async fn admitted(world: &World, customer: u32) -> Self {
        let mut fan = Self::sign_in(world, customer).await;
        fan.join(world).await.expect(201);
        fan.enter_within(world, Duration::from_secs(20)).await;
        fan
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.call_with(method, path, body, &[]).await
    }

    /// One call with all proofs; `more` adds headers or replaces proofs of the same name.
    pub async fn call_with(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        more: &[(&'static str, &str)],
    ) -> Reply {
        self.try_call_with(method, path, body, more).await.unwrap()
    }

    /// One call with all proofs; the connection may break.
    pub async fn try_call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Reply, String> {
        self.try_call_with(method, path, body, &[])
            .await
            .map_err(|error| error.to_string())
    }

    async fn try_call_with(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        more: &[(&'static str, &str)],
    ) -> Result<Reply, CallError> {
        let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
        let mut proofs = vec![];
        if !self.session.is_empty() {
            proofs.push((paths::AUTHORIZATION, format!("Bearer {}", self.session)));
        }
        proofs.extend(self.queue.iter().map(|token| (paths::QUEUE_TOKEN, token.clone())));
        proofs.extend(self.pass.iter().map(|pass| (paths::ADMISSION_PASS, pass.clone())));
        proofs.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
        proofs.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        if body.is_some() && more.iter().all(|(name, _)| *name != "content-type") {
            proofs.push(("content-type", "application/json".into()));
        }
        headers.extend(header_fields(&proofs));
        let body = body.map_or_else(Bytes::new, |b| b.to_string().into());
        self.try_send(method, path, &headers, body).await
    }

    /// One call with exactly these headers and bytes.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Reply {
        self.try_send(method, path, headers, body).await.unwrap()
    }

    async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Reply, CallError> {
        let uri = format!("{}{path}", self.base).parse().unwrap();
        let answer = self.client.send(method, uri, headers, body).await?;
        Ok(Reply {
            status: answer.status.as_u16(),
            json: answer.json().unwrap_or(Value::Null),
            answer,
        })
    }

    pub async fn join(&mut self, world: &World) -> Reply {
        let reply = self
            .call(Method::POST, &paths::queue(world.sale.as_str()), None)
            .await;
        if let Some(token) = reply.json["token"].as_str() {
            self.queue = Some(token.to_owned());
        }
        reply
    }

    pub async fn position(&self, world: &World) -> Value {
        self.call(Method::GET, &paths::position(world.sale.as_str()), None)
            .await
            .expect(200)
    }

    pub async fn leave(&mut self, world: &World) {
        self.call(Method::DELETE, &paths::queue(world.sale.as_str()), None)
            .await
            .expect(204);
        self.queue = None;
    }

    pub async fn enter(&mut self, world: &World) -> Reply {
        let reply = self
            .call(Method::POST, &paths::admission(world.sale.as_str()), None)
            .await;
        if let Some(pass) = reply.json["pass"].as_str() {
            self.pass = Some(pass.to_owned());
        }
        reply
    }

    /// Asks for admission until it is granted.
    pub async fn enter_within(&mut self, world: &World, patience: Duration) {
        let until = world.clock.monotonic() + patience;
        loop {
            let reply = self.enter(world).await;
            if reply.status == 200 {
                return;
            }
            assert_eq!(reply.status, 409, "{}", reply.json);
            assert!(
                world.clock.monotonic() < until,
                "customer {} is not admitted: {}",
                self.customer,
                reply.json
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn renew(&mut self, world: &World) {
        let reply = self
            .call(Method::PUT, &paths::admission(world.sale.as_str()), None)
            .await
            .expect(200);
        self.pass = reply["pass"].as_str().map(str::to_owned);
    }

    pub async fn end_visit(&mut self, world: &World) {
        self.call(Method::DELETE, &paths::admission(world.sale.as_str()), None)
            .await
            .expect(204);
        self.pass = None;
    }

    pub async fn hold(&self, world: &World, seats: &[&str]) -> Reply {
        self.call(
            Method::POST,
            &world.performance_path("holds"),
            Some(messages::hold_request(seats, seats.len())),
        )
        .await
    }

    pub async fn hold_best(&self, world: &World, quantity: u8) -> Reply {
        let request = messages::best_available_request(quantity, None, 0);
        self.call(Method::POST, &world.performance_path("holds"), Some(request))
            .await
    }

    /// Pays with a fresh key.
    pub async fn pay(&mut self, hold: &str, card: &str) -> Reply {
        self.serial += 1;
        let key = format!("customer-{}-payment-{}", self.customer, self.serial);
        self.pay_with_key(hold, card, &key).await
    }

    pub async fn pay_with_key(&self, hold: &str, card: &str, key: &str) -> Reply {
        self.try_pay(hold, card, key).await.unwrap()
    }

    /// Pays; the connection may break.
    pub async fn try_pay(&self, hold: &str, card: &str, key: &str) -> Result<Reply, CallError> {
        let order = messages::order_request(hold, card);
        self.try_call_with(
            Method::POST,
            paths::ORDERS,
            Some(order),
            &[(paths::IDEMPOTENCY_KEY, key)],
        )
        .await
    }

    /// Waits until the order is in one of these states.
    pub async fn wait_for_order_state(
        &self,
        world: &World,
        order: &str,
        states: &[&str],
        patience: Duration,
    ) -> Value {
        let until = world.clock.monotonic() + patience;
        loop {
            let reply = self
                .call(Method::GET, &paths::order(order), None)
                .await
                .expect(200);
            if states.contains(&reply["state"].as_str().unwrap()) {
                return reply;
            }
            if world.clock.monotonic() > until {
                let history = self
                    .call(Method::GET, &paths::order_history(order), None)
                    .await
                    .json;
                panic!("still {}: {history}", reply["state"]);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The whole seat map: `{version, seats}`.
    pub async fn seats(&self, world: &World) -> Value {
        self.call(Method::GET, &world.performance_path("seats"), None)
            .await
            .expect(200)
    }

    /// One seat's state.
    pub async fn seat(&self, world: &World, guid: &str) -> String {
        self.seats(world).await["seats"][guid]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Waits until the map shows the seat in this state; it follows within a moment.
    pub async fn wait_for_seat_state(&self, world: &World, guid: &str, state: &str) {
        let until = world.clock.monotonic() + Duration::from_secs(2);
        while self.seat(world, guid).await != state {
            assert!(
                world.clock.monotonic() < until,
                "{guid} is {}, not {state}",
                self.seat(world, guid).await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Seats that are free now, by their names.
    pub async fn free_seats(&self, world: &World) -> Vec<String> {
        let map = self.seats(world).await;
        map["seats"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, s)| *s == "free")
            .map(|(guid, _)| guid.clone())
            .collect()
    }
}

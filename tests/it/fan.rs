//! One fan with a browser's memory: session, queue token, pass. She says what she wants and gets the whole answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use stagedoor::{
    kernel::Clock,
    platform::http_client::{Response, CallError, HttpClient},
};

use crate::world::World;

#[derive(Clone)]
pub struct Fan {
    pub base: String,
    pub client: HttpClient,
    pub customer: u32,
    pub session: String,
    pub queue: Option<String>,
    pub pass: Option<String>,
    /// Payments made.
    pub serial: u32,
}

/// The status and what the body says.
#[derive(Debug)]
pub struct Said {
    pub status: u16,
    pub json: Value,
    pub answer: Response,
}

impl Said {
    /// The answer, which must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.json);
        self.json
    }

    /// The answer, which must be this problem.
    #[track_caller]
    pub fn problem(self, status: u16, slug: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.json);
        assert_eq!(self.json["type"], format!("/problems/{slug}"), "{}", self.json);
        assert_eq!(self.answer.headers["content-type"], "application/problem+json");
        self.json
    }
}

impl Fan {
    /// Signs in with a hand-off of the shop's.
    pub async fn sign_in(world: &World, customer: u32) -> Self {
        let mut fan = Self::stranger(world, customer);
        let said = fan.hand_over(world).await.expect(200);
        said["token"].as_str().unwrap().clone_into(&mut fan.session);
        fan
    }

    /// The shop sends her over; the answer has her session.
    pub async fn hand_over(&self, world: &World) -> Said {
        let token = world.handoff()(self.customer);
        self.call(Method::POST, "/v1/sign-in/handoff", Some(json!({"token": token})))
            .await
    }

    /// Somebody without any proof.
    pub fn stranger(world: &World, customer: u32) -> Self {
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

    /// Signs in, joins and waits until she is inside.
    pub async fn inside(world: &World, customer: u32) -> Self {
        let mut fan = Self::sign_in(world, customer).await;
        fan.join(world).await.expect(201);
        fan.enter_within(world, Duration::from_secs(20)).await;
        fan
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Said {
        self.call_with(method, path, body, &[]).await
    }

    /// One call with whatever proofs she has, and these headers beside or instead.
    pub async fn call_with(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        more: &[(&'static str, &str)],
    ) -> Said {
        self.try_call_with(method, path, body, more).await.unwrap()
    }

    async fn try_call_with(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        more: &[(&'static str, &str)],
    ) -> Result<Said, CallError> {
        let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
        let mut proofs = vec![];
        if !self.session.is_empty() {
            proofs.push(("authorization", format!("Bearer {}", self.session)));
        }
        proofs.extend(self.queue.iter().map(|t| ("queue-token", t.clone())));
        proofs.extend(self.pass.iter().map(|t| ("admission-pass", t.clone())));
        proofs.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
        proofs.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        if body.is_some() && more.iter().all(|(name, _)| *name != "content-type") {
            proofs.push(("content-type", "application/json".into()));
        }
        for (name, value) in proofs {
            headers.push((
                HeaderName::from_static(name),
                HeaderValue::from_str(&value).unwrap(),
            ));
        }
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
    ) -> Said {
        self.try_send(method, path, headers, body).await.unwrap()
    }

    async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Said, CallError> {
        let uri = format!("{}{path}", self.base).parse().unwrap();
        let answer = self.client.send(method, uri, headers, body).await?;
        Ok(Said {
            status: answer.status.as_u16(),
            json: answer.json().unwrap_or(Value::Null),
            answer,
        })
    }

    pub async fn join(&mut self, world: &World) -> Said {
        let said = self.call(Method::POST, &world.sale_path("queue"), None).await;
        if let Some(token) = said.json["token"].as_str() {
            self.queue = Some(token.to_owned());
        }
        said
    }

    pub async fn place(&self, world: &World) -> Value {
        self.call(Method::GET, &world.sale_path("queue/place"), None)
            .await
            .expect(200)
    }

    pub async fn leave(&mut self, world: &World) {
        self.call(Method::DELETE, &world.sale_path("queue/place"), None)
            .await
            .expect(204);
        self.queue = None;
    }

    pub async fn enter(&mut self, world: &World) -> Said {
        let said = self.call(Method::POST, &world.sale_path("admission"), None).await;
        if let Some(pass) = said.json["pass"].as_str() {
            self.pass = Some(pass.to_owned());
        }
        said
    }

    /// Knocks until she is let in.
    pub async fn enter_within(&mut self, world: &World, patience: Duration) {
        let until = world.clock.monotonic() + patience;
        loop {
            let said = self.enter(world).await;
            if said.status == 200 {
                return;
            }
            assert_eq!(said.status, 409, "{}", said.json);
            assert!(
                world.clock.monotonic() < until,
                "customer {} is still outside: {}",
                self.customer,
                said.json
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn renew(&mut self, world: &World) {
        let said = self
            .call(Method::PUT, &world.sale_path("admission"), None)
            .await
            .expect(200);
        self.pass = said["pass"].as_str().map(str::to_owned);
    }

    pub async fn end_visit(&mut self, world: &World) {
        self.call(Method::DELETE, &world.sale_path("admission"), None)
            .await
            .expect(204);
        self.pass = None;
    }

    pub async fn hold(&self, world: &World, seats: &[&str]) -> Said {
        self.call(
            Method::POST,
            &world.stage_path("holds"),
            Some(json!({"seats": seats})),
        )
        .await
    }

    pub async fn hold_best(&self, world: &World, quantity: u8) -> Said {
        let wish =
            json!({"best_available": {"quantity": quantity, "zone": null, "section": null, "accessible": 0}});
        self.call(Method::POST, &world.stage_path("holds"), Some(wish))
            .await
    }

    /// Pays with a fresh key.
    pub async fn pay(&mut self, hold: &str, card: &str) -> Said {
        self.serial += 1;
        let key = format!("customer-{}-payment-{}", self.customer, self.serial);
        self.pay_with_key(hold, card, &key).await
    }

    pub async fn pay_with_key(&self, hold: &str, card: &str, key: &str) -> Said {
        self.try_pay(hold, card, key).await.unwrap()
    }

    /// Pays while nobody knows whether there will be an answer.
    pub async fn try_pay(&self, hold: &str, card: &str, key: &str) -> Result<Said, CallError> {
        let order = json!({"hold": hold, "payment": {"method": "card", "token": card}});
        self.try_call_with(
            Method::POST,
            "/v1/orders",
            Some(order),
            &[("idempotency-key", key)],
        )
        .await
    }

    /// Waits until the order is in one of these states.
    pub async fn order_becomes(
        &self,
        world: &World,
        order: &str,
        states: &[&str],
        patience: Duration,
    ) -> Value {
        let until = world.clock.monotonic() + patience;
        loop {
            let said = self
                .call(Method::GET, &format!("/v1/orders/{order}"), None)
                .await
                .expect(200);
            if states.contains(&said["state"].as_str().unwrap()) {
                return said;
            }
            if world.clock.monotonic() > until {
                let history = self
                    .call(Method::GET, &format!("/v1/orders/{order}/history"), None)
                    .await
                    .json;
                panic!("still {}: {history}", said["state"]);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The whole seat map: `{version, seats}`.
    pub async fn seats(&self, world: &World) -> Value {
        self.call(Method::GET, &world.stage_path("seats"), None)
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
    pub async fn seat_becomes(&self, world: &World, guid: &str, state: &str) {
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

//! Seats held over HTTP, and given back.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde_json::{Value, json};
use stagedoor::{
    kernel::{Clock, SystemClock},
    platform::http_client::HttpClient,
};

use super::{
    house::{Server, join},
    rounds::{ROUND, ROUNDS, Round, report, round},
};

const HOLDERS: usize = 64;
/// Holds that each holder makes before they are taken back.
const HOLDS_EACH: usize = 20;

/// Four seats held, each holder her own ones, and given back: once with the giving back outside the time, once within.
pub(super) async fn hold(house: &Server, floor: &Server, client: &HttpClient) {
    let passes = visitors(house, client).await;
    let pass_header = HeaderName::from_static("admission-pass");
    let token_header = HeaderName::from_static("queue-token");
    let value = |text: &str| HeaderValue::from_str(text).expect("a header");
    let header = |(token, pass): &(String, String)| vec![(pass_header.clone(), value(pass)), (token_header.clone(), value(token))];
    let seats_url: Uri = format!("{}/v1/sales/open/performances/night/seats", house.base).parse().expect("a URL");
    let answer = client.call(Method::GET, seats_url, &header(&passes[0]), Bytes::new()).await.expect("an answer");
    let all: Value = answer.json().expect("seats are JSON");
    let seats: Vec<String> = all["seats"].as_object().expect("seats").keys().take(4 * HOLDERS * HOLDS_EACH).cloned().collect();
    let bodies: Vec<Bytes> = seats.chunks(4).map(|four| json!({ "seats": four }).to_string().into()).collect();
    let json = (http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let holders = |proofs: Vec<Vec<(HeaderName, HeaderValue)>>, base: &str, path: &str| -> Arc<Vec<Holder>> {
        let holds: Uri = format!("{base}{path}").parse().expect("a URL");
        let releases = format!("{base}{}/", if path == "/holds" { path } else { "/v1/holds" });
        let each = proofs.into_iter().zip(bodies.chunks(HOLDS_EACH)).map(|(mut headers, bodies)| {
            headers.push(json.clone());
            Holder { client: client.clone(), headers, bodies: bodies.to_vec(), holds: holds.clone(), releases: releases.clone() }
        });
        Arc::new(each.collect())
    };
    let ours = holders(passes.iter().map(header).collect(), &house.base, "/v1/sales/open/performances/night/holds");
    let theirs = holders(vec![Vec::new(); HOLDERS], &floor.base, "/holds");
    let (mut holds, mut cycles) = (Vec::new(), Vec::new());
    for _ in 0..=ROUNDS {
        holds.push((holds_only(house, &ours).await, holds_only(floor, &theirs).await));
        cycles.push((cycle(house, &ours).await, cycle(floor, &theirs).await));
    }
    report("hold of 4 seats over HTTP, over a minimal handler around a minimal script", holds);
    report("hold and release of 4 seats, over the same", cycles);
}

/// Somebody inside, with the seats that she goes for.
pub(super) struct Holder {
    client: HttpClient,
    headers: Vec<(HeaderName, HeaderValue)>,
    bodies: Vec<Bytes>,
    holds: Uri,
    releases: String,
}

impl Holder {
    async fn hold(&self, which: usize) -> String {
        let answer =
            self.client.call(Method::POST, self.holds.clone(), &self.headers, self.bodies[which].clone()).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&answer.body));
        let held: Value = answer.json().expect("a hold is JSON");
        held["id"].as_str().expect("an id").to_owned()
    }

    async fn release(&self, id: &str) {
        let uri = format!("{}{id}", self.releases).parse().expect("a URL");
        let answer = self.client.call(Method::DELETE, uri, &self.headers, Bytes::new()).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", String::from_utf8_lossy(&answer.body));
    }
}

pub(super) async fn cycle(server: &Server, holders: &Arc<Vec<Holder>>) -> Round {
    let holders = Arc::clone(holders);
    round(server, HOLDERS, move |holder| {
        let holders = Arc::clone(&holders);
        async move {
            let id = holders[holder].hold(0).await;
            holders[holder].release(&id).await;
        }
    })
    .await
}

/// All holders hold all that they go for, then the clock stops until all is free again; until a round's time is used.
pub(super) async fn holds_only(server: &Server, holders: &Arc<Vec<Holder>>) -> Round {
    let clock = SystemClock::new();
    let mut sum = Round { done: 0.0, seconds: 0.0, cpu_s: 0.0 };
    while sum.seconds < ROUND.as_secs_f64() {
        let (started, cpu_s) = (clock.monotonic(), server.cpu_s());
        let running: Vec<_> = (0..HOLDERS)
            .map(|holder| {
                let holders = Arc::clone(holders);
                tokio::spawn(async move {
                    let mut ids = Vec::new();
                    for which in 0..HOLDS_EACH {
                        ids.push(holders[holder].hold(which).await);
                    }
                    ids
                })
            })
            .collect();
        let ids = futures_util::future::join_all(running).await;
        sum.seconds += clock.monotonic().saturating_sub(started).as_secs_f64();
        sum.cpu_s += server.cpu_s() - cpu_s;
        for (holder, ids) in holders.iter().zip(ids) {
            for id in ids.expect("no call fails") {
                holder.release(&id).await;
                sum.done += 1.0;
            }
        }
    }
    sum
}

/// The queue token and the pass of each.
pub(super) async fn visitors(house: &Server, client: &HttpClient) -> Vec<(String, String)> {
    let token_header = HeaderName::from_static("queue-token");
    let door: Uri = format!("{}/v1/sales/open/admission", house.base).parse().expect("a URL");
    let mut passes = Vec::new();
    for _ in 0..HOLDERS {
        let joined: Value = serde_json::from_slice(&join(client, &house.base, "open").await).expect("a place is JSON");
        let shown = joined["token"].as_str().expect("a token").to_owned();
        let token = HeaderValue::from_str(&shown).expect("a header");
        let pass = loop {
            let answer = client.call(Method::POST, door.clone(), &[(token_header.clone(), token.clone())], Bytes::new()).await;
            let answer = answer.expect("an answer");
            if answer.status == StatusCode::OK {
                let entered: Value = answer.json().expect("a pass is JSON");
                break entered["pass"].as_str().expect("a pass").to_owned();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        passes.push((shown, pass));
    }
    passes
}

//! Holds of four seats over HTTP. In each step all visitors hold all their seats; then the clock stops until
//! everything is released.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use stagedoor::{
    demo::client::{
        messages::{Hold, PassGranted, SeatMap, hold_request},
        paths,
    },
    kernel::{Clock, SystemClock},
};
use tokio::task::JoinSet;

use super::{
    fixture::{Fixture, OPEN},
    paired::{PAIRS, Pairs, ROUND, Round, Server, WORKERS, alternate},
};
use crate::{
    environment::PERFORMANCE,
    http1::{Http1Client, HttpRequest},
    process::Usage,
};

/// Holds that each visitor makes before they are released.
const HOLDS_EACH: usize = 20;
/// Seats of each hold.
const GROUP: usize = 4;

/// The headers with a visitor's proofs.
pub(super) type Proofs = Vec<(&'static str, String)>;

pub(super) fn borrowed(headers: &Proofs) -> Vec<(&'static str, &str)> {
    headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect()
}

/// One visitor with their own seats.
pub(crate) struct Holder {
    holds: Vec<Vec<u8>>,
    headers: Proofs,
    /// The path of a hold without its id.
    hold_path: String,
}

/// Alternates holds at the service with holds at a baseline server, whose paths are given: one to make a
/// hold, and the prefix of one hold.
pub(crate) async fn compare(
    fixture: &Fixture,
    baseline: &Server,
    holds_path: &str,
    hold_path: &str,
) -> anyhow::Result<Pairs> {
    let visitors = admitted_visitors(fixture).await?;
    let seats = seats(fixture, &visitors[0]).await?;
    let ours = holders_at(&fixture.service, &visitors, &seats);
    let anonymous = vec![Proofs::new(); WORKERS];
    let theirs = holders(baseline, &anonymous, &seats, holds_path, hold_path);
    alternate(
        PAIRS,
        async || round(&fixture.service, &ours).await,
        async || round(baseline, &theirs).await,
    )
    .await
}

/// Alternates holds at two builds of the service.
pub(crate) async fn compare_builds(pairs: usize, ours: &Fixture, other: &Fixture) -> anyhow::Result<Pairs> {
    let mut sides = Vec::new();
    for fixture in [ours, other] {
        let visitors = admitted_visitors(fixture).await?;
        let seats = seats(fixture, &visitors[0]).await?;
        sides.push(holders_at(&fixture.service, &visitors, &seats));
    }
    alternate(
        pairs,
        async || round(&ours.service, &sides[0]).await,
        async || round(&other.service, &sides[1]).await,
    )
    .await
}

/// Holders at a build of the service.
fn holders_at(server: &Server, visitors: &[Proofs], seats: &[String]) -> Arc<Vec<Holder>> {
    holders(
        server,
        visitors,
        seats,
        &paths::holds(OPEN, PERFORMANCE),
        &paths::hold(""),
    )
}

fn holders(
    server: &Server,
    visitors: &[Proofs],
    seats: &[String],
    holds_path: &str,
    hold_path: &str,
) -> Arc<Vec<Holder>> {
    let holder = |(proofs, own): (&Proofs, &[String])| {
        let headers = borrowed(proofs);
        let encode = |group: &[String]| {
            let body = hold_request(group, group.len()).to_string();
            let request = HttpRequest::post(holds_path)
                .with_headers(&headers)
                .with_body(&body);
            server.client.encode(&request)
        };
        Holder {
            holds: own.chunks(GROUP).map(encode).collect(),
            headers: proofs.clone(),
            hold_path: hold_path.to_owned(),
        }
    };
    Arc::new(
        visitors
            .iter()
            .zip(seats.chunks(GROUP * HOLDS_EACH))
            .map(holder)
            .collect(),
    )
}

#[expect(clippy::cast_precision_loss, reason = "counts of a second")]
async fn round(server: &Server, holders: &Arc<Vec<Holder>>) -> anyhow::Result<Round> {
    let clock = SystemClock::new();
    let cpu = || Usage::of(server.pid).unwrap_or_default().cpu;
    let mut sum = Round::default();
    while sum.seconds < ROUND.as_secs_f64() {
        let (began, cpu_before) = (clock.monotonic(), cpu());
        let mut holding = JoinSet::new();
        for index in 0..holders.len() {
            let (holders, client) = (Arc::clone(holders), Arc::clone(&server.client));
            holding.spawn(async move {
                Ok::<_, anyhow::Error>((index, hold_all(&client, &holders[index]).await?))
            });
        }
        let mut held = Vec::new();
        while let Some(done) = holding.join_next().await {
            held.push(done??);
        }
        sum.seconds += clock.monotonic().saturating_sub(began).as_secs_f64();
        sum.cpu_s += cpu().saturating_sub(cpu_before).as_secs_f64();
        let mut releasing = JoinSet::new();
        for (index, ids) in held {
            sum.done += ids.len() as f64;
            let (holders, client) = (Arc::clone(holders), Arc::clone(&server.client));
            releasing.spawn(async move { release_all(&client, &holders[index], &ids).await });
        }
        while let Some(done) = releasing.join_next().await {
            done??;
        }
    }
    Ok(sum)
}

async fn hold_all(client: &Http1Client, holder: &Holder) -> anyhow::Result<Vec<String>> {
    let mut ids = Vec::new();
    for hold in &holder.holds {
        let reply = client.send_bytes(hold).await.context("holding")?;
        if reply.status != 201 {
            bail!(
                "holding was answered {}: {}",
                reply.status,
                String::from_utf8_lossy(&reply.body)
            );
        }
        ids.push(reply.json::<Hold>().context("a hold is JSON")?.id);
    }
    Ok(ids)
}

async fn release_all(client: &Http1Client, holder: &Holder, ids: &[String]) -> anyhow::Result<()> {
    let headers = borrowed(&holder.headers);
    for id in ids {
        let path = format!("{}{id}", holder.hold_path);
        let request = HttpRequest::new("DELETE", &path).with_headers(&headers);
        let reply = client.send(&request).await.context("releasing")?;
        if reply.status != 204 {
            bail!(
                "releasing was answered {}: {}",
                reply.status,
                String::from_utf8_lossy(&reply.body)
            );
        }
    }
    Ok(())
}

/// Queue token and admission pass of each visitor.
pub(super) async fn admitted_visitors(fixture: &Fixture) -> anyhow::Result<Vec<Proofs>> {
    let mut visitors = Vec::new();
    let path = paths::admission(OPEN);
    for token in fixture.tokens(OPEN).await? {
        let headers = [(paths::QUEUE_TOKEN, token.as_str())];
        let request = HttpRequest::post(&path).with_headers(&headers);
        let granted = loop {
            let reply = fixture.service.client.send(&request).await.context("entering")?;
            match reply.json::<PassGranted>() {
                Some(granted) if reply.is_ok() => break granted,
                _ if matches!(reply.status, 409 | 503) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                _ => bail!("entering was answered {}", reply.status),
            }
        };
        visitors.push(vec![
            (paths::QUEUE_TOKEN, token),
            (paths::ADMISSION_PASS, granted.pass),
        ]);
    }
    Ok(visitors)
}

/// As many seats as all visitors hold together.
async fn seats(fixture: &Fixture, proofs: &Proofs) -> anyhow::Result<Vec<String>> {
    let seats = all_seats(fixture, proofs).await?;
    Ok(seats.into_iter().take(GROUP * HOLDS_EACH * WORKERS).collect())
}

/// The names of all seats.
pub(super) async fn all_seats(fixture: &Fixture, proofs: &Proofs) -> anyhow::Result<Vec<String>> {
    let (path, headers) = (paths::seats(OPEN, PERFORMANCE), borrowed(proofs));
    let request = HttpRequest::get(&path).with_headers(&headers);
    let reply = fixture
        .service
        .client
        .send(&request)
        .await
        .context("the seat map")?;
    let map: SeatMap = reply
        .json()
        .with_context(|| format!("the seat map was answered {}", reply.status))?;
    Ok(map.seats.into_keys().collect())
}

//! Holds of four seats over HTTP. All visitors hold all that they go for, then the clock stops until all is free again.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::json;
use stagedoor::kernel::{Clock, SystemClock};
use tokio::task::JoinSet;

use super::{
    lab::Lab,
    sides::{PAIRS, Pairs, ROUND, Round, Server, WORKERS},
};
use crate::{
    ground::PERFORMANCE,
    process::Usage,
    wire::{Ask, Wire},
};

/// Holds that each visitor makes before they are given back.
const HOLDS_EACH: usize = 20;

/// Somebody inside, with the seats that she goes for.
struct Holder {
    holds: Vec<Vec<u8>>,
    headers: Vec<(&'static str, String)>,
    below: String,
}

#[derive(Deserialize)]
struct Held {
    id: String,
}

pub(super) async fn pairs(lab: &Lab) -> anyhow::Result<Pairs> {
    let visitors = visitors(lab).await?;
    let seats = seats(lab, &visitors[0]).await?;
    let path = format!("/v1/sales/open/performances/{PERFORMANCE}/holds");
    let ours = holders(&lab.house, &visitors, &seats, &path, "/v1/holds/");
    let nobody = vec![Vec::new(); WORKERS];
    let theirs = holders(&lab.floor, &nobody, &seats, "/holds", "/holds/");
    let mut pairs = Vec::new();
    for _ in 0..=PAIRS {
        pairs.push((round(&lab.house, &ours).await?, round(&lab.floor, &theirs).await?));
    }
    pairs.remove(0);
    Ok(Pairs(pairs))
}

type Proofs = Vec<(&'static str, String)>;

fn borrowed(headers: &Proofs) -> Vec<(&'static str, &str)> {
    headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect()
}

fn holders(
    server: &Server,
    visitors: &[Proofs],
    seats: &[String],
    path: &str,
    below: &str,
) -> Arc<Vec<Holder>> {
    let each = visitors
        .iter()
        .zip(seats.chunks(4 * HOLDS_EACH))
        .map(|(proofs, own)| {
            let headers = borrowed(proofs);
            let hold = |four: &[String]| {
                let body = json!({ "seats": four }).to_string();
                server.wire.bytes(&Ask {
                    method: "POST",
                    path,
                    headers: &headers,
                    body: Some(&body),
                })
            };
            Holder {
                holds: own.chunks(4).map(hold).collect(),
                headers: proofs.clone(),
                below: below.to_owned(),
            }
        });
    Arc::new(each.collect())
}

#[expect(clippy::cast_precision_loss, reason = "counts of a second")]
async fn round(server: &Server, holders: &Arc<Vec<Holder>>) -> anyhow::Result<Round> {
    let clock = SystemClock::new();
    let cpu = || Usage::of(server.pid).unwrap_or_default().cpu;
    let mut sum = Round {
        done: 0.0,
        seconds: 0.0,
        cpu_s: 0.0,
    };
    while sum.seconds < ROUND.as_secs_f64() {
        let (began, cpu_before) = (clock.monotonic(), cpu());
        let mut working = JoinSet::new();
        for holder in 0..holders.len() {
            let (holders, wire) = (Arc::clone(holders), Arc::clone(&server.wire));
            working.spawn(async move {
                Ok::<_, anyhow::Error>((holder, hold_all(&wire, &holders[holder]).await?))
            });
        }
        let mut held = Vec::new();
        while let Some(done) = working.join_next().await {
            held.push(done??);
        }
        sum.seconds += clock.monotonic().saturating_sub(began).as_secs_f64();
        sum.cpu_s += cpu().saturating_sub(cpu_before).as_secs_f64();
        let mut freeing = JoinSet::new();
        for (holder, ids) in held {
            sum.done += ids.len() as f64;
            let (holders, wire) = (Arc::clone(holders), Arc::clone(&server.wire));
            freeing.spawn(async move { release_all(&wire, &holders[holder], &ids).await });
        }
        while let Some(done) = freeing.join_next().await {
            done??;
        }
    }
    Ok(sum)
}

async fn hold_all(wire: &Wire, holder: &Holder) -> anyhow::Result<Vec<String>> {
    let mut ids = Vec::new();
    for hold in &holder.holds {
        let answer = wire
            .send(hold)
            .await
            .map_err(|lost| anyhow::anyhow!("holding: {}", lost.name()))?;
        if answer.status != 201 {
            bail!(
                "holding was answered {}: {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
        }
        ids.push(answer.json::<Held>().context("a hold is JSON")?.id);
    }
    Ok(ids)
}

async fn release_all(wire: &Wire, holder: &Holder, ids: &[String]) -> anyhow::Result<()> {
    for id in ids {
        let path = format!("{}{id}", holder.below);
        let ask = Ask {
            method: "DELETE",
            path: &path,
            headers: &borrowed(&holder.headers),
            body: None,
        };
        let answer = wire
            .ask(&ask)
            .await
            .map_err(|lost| anyhow::anyhow!("releasing: {}", lost.name()))?;
        if answer.status != 204 {
            bail!(
                "releasing was answered {}: {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
        }
    }
    Ok(())
}

/// Token and pass of each.
async fn visitors(lab: &Lab) -> anyhow::Result<Vec<Proofs>> {
    #[derive(Deserialize)]
    struct Given {
        pass: String,
    }
    let mut visitors = Vec::new();
    for token in lab.tokens("open").await? {
        let headers = [("queue-token", token.as_str())];
        let ask = Ask {
            method: "POST",
            path: "/v1/sales/open/admission",
            headers: &headers,
            body: None,
        };
        let given = loop {
            let answer = lab
                .house
                .wire
                .ask(&ask)
                .await
                .map_err(|lost| anyhow::anyhow!("entering: {}", lost.name()))?;
            match answer.json::<Given>() {
                Some(given) if answer.is_ok() => break given,
                _ if matches!(answer.status, 409 | 503) => {
                    tokio::time::sleep(Duration::from_millis(50)).await
                }
                _ => bail!("entering was answered {}", answer.status),
            }
        };
        visitors.push(vec![("queue-token", token), ("admission-pass", given.pass)]);
    }
    Ok(visitors)
}

/// As many seats as all go for.
async fn seats(lab: &Lab, proofs: &Proofs) -> anyhow::Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Map {
        seats: std::collections::BTreeMap<String, String>,
    }
    let path = format!("/v1/sales/open/performances/{PERFORMANCE}/seats");
    let ask = Ask {
        method: "GET",
        path: &path,
        headers: &borrowed(proofs),
        body: None,
    };
    let answer = lab
        .house
        .wire
        .ask(&ask)
        .await
        .map_err(|lost| anyhow::anyhow!("the seats: {}", lost.name()))?;
    let map: Map = answer
        .json()
        .with_context(|| format!("the seats were answered {}", answer.status))?;
    Ok(map.seats.into_keys().take(4 * HOLDS_EACH * WORKERS).collect())
}

//! Orders of one seat over HTTP, from the hold to the tickets, paid at the sandbox gateway.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context, bail};
use stagedoor::{
    demo::client::{
        messages::{Hold, hold_request, order_request},
        paths,
    },
    kernel::{Clock, SystemClock},
};
use tokio::task::JoinSet;

use super::{
    fixture::{Fixture, OPEN},
    hold_bench::{Proofs, admitted_visitors, all_seats, borrowed},
    paired::{Pairs, Round, Server, WORKERS, alternate},
};
use crate::{
    environment::PERFORMANCE,
    http1::{Http1Client, HttpRequest},
    process::Usage,
};

/// Orders that each visitor places in a turn. A sold seat stays sold, so the turns are short.
const ORDERS_EACH: usize = 2;
/// A visitor may own 80 seats.
pub(crate) const PAIRS_MAX: usize = 80 / ORDERS_EACH - 1;

/// One visitor with the seats that they buy, turn by turn.
struct Buyer {
    headers: Proofs,
    seats: Vec<String>,
}

/// Alternates orders at two builds of the service.
pub(crate) async fn compare_builds(pairs: usize, ours: &Fixture, other: &Fixture) -> anyhow::Result<Pairs> {
    let pairs = pairs.min(PAIRS_MAX);
    let (our_buyers, other_buyers) = (buyers(ours, pairs).await?, buyers(other, pairs).await?);
    let (our_turns, other_turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
    alternate(
        pairs,
        async || {
            round(
                &ours.service,
                &our_buyers,
                our_turns.fetch_add(1, Ordering::Relaxed),
            )
            .await
        },
        async || {
            round(
                &other.service,
                &other_buyers,
                other_turns.fetch_add(1, Ordering::Relaxed),
            )
            .await
        },
    )
    .await
}

async fn buyers(fixture: &Fixture, pairs: usize) -> anyhow::Result<Arc<Vec<Buyer>>> {
    let visitors = admitted_visitors(fixture).await?;
    let each = ORDERS_EACH * (pairs + 1);
    // The last seats, so that holds of the first ones do not meet them.
    let mut seats = all_seats(fixture, &visitors[0]).await?;
    let seats = seats.split_off(seats.len() - each * WORKERS);
    let buyer = |(headers, own): (Proofs, &[String])| Buyer {
        headers,
        seats: own.to_vec(),
    };
    Ok(Arc::new(
        visitors.into_iter().zip(seats.chunks(each)).map(buyer).collect(),
    ))
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred")]
async fn round(server: &Server, buyers: &Arc<Vec<Buyer>>, turn: usize) -> anyhow::Result<Round> {
    let clock = SystemClock::new();
    let cpu = || Usage::of(server.pid).unwrap_or_default().cpu;
    let (began, cpu_before) = (clock.monotonic(), cpu());
    let mut buying = JoinSet::new();
    for index in 0..buyers.len() {
        let (buyers, client) = (Arc::clone(buyers), Arc::clone(&server.client));
        buying.spawn(async move {
            let buyer = &buyers[index];
            for seat in &buyer.seats[turn * ORDERS_EACH..][..ORDERS_EACH] {
                buy(&client, buyer, seat).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(done) = buying.join_next().await {
        done??;
    }
    Ok(Round {
        done: (buyers.len() * ORDERS_EACH) as f64,
        seconds: clock.monotonic().saturating_sub(began).as_secs_f64(),
        cpu_s: cpu().saturating_sub(cpu_before).as_secs_f64(),
    })
}

async fn buy(client: &Http1Client, buyer: &Buyer, seat: &str) -> anyhow::Result<()> {
    let mut headers = borrowed(&buyer.headers);
    let (path, body) = (
        paths::holds(OPEN, PERFORMANCE),
        hold_request(&[seat], 1).to_string(),
    );
    let request = HttpRequest::post(&path).with_headers(&headers).with_body(&body);
    let reply = client.send(&request).await.context("holding")?;
    let hold = reply
        .json::<Hold>()
        .with_context(|| format!("holding was answered {}", reply.status))?;
    let body = order_request(&hold.id, "tok_ok").to_string();
    // A hold is paid once, so its id is the key as well.
    headers.push((paths::IDEMPOTENCY_KEY, &hold.id));
    let request = HttpRequest::post(paths::ORDERS)
        .with_headers(&headers)
        .with_body(&body);
    let reply = client.send(&request).await.context("ordering")?;
    if reply.status != 201 {
        bail!(
            "ordering was answered {}: {}",
            reply.status,
            String::from_utf8_lossy(&reply.body)
        );
    }
    Ok(())
}

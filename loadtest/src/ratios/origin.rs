//! What those who wait cost a node behind nginx: the page asks for the board alone, and the board comes from the cache.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use stagedoor::{
    kernel::{Entropy, OsEntropy},
};
use testkit::Nginx;
use tokio::task::JoinSet;

use super::lab::Lab;
use crate::wire::{Ask, Wire};

/// What the page does far from the front (`js/queue.js`), and the jitter of a tenth either way (`js/net.js`).
const LOOK_EVERY: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 256;

/// So many fans join and wait so long behind nginx; requests that came to the node meanwhile, for each fan.
pub(super) async fn asked_each(lab: &Lab, fans: u32, wait: Duration) -> anyhow::Result<f64> {
    let node = lab.house.wire.address();
    let nginx = Nginx::start(&[node], &[node]).await?;
    let balancer = ([127, 0, 0, 1], nginx.port()).into();
    let wire = Arc::new(Wire::new(
        balancer,
        format!("127.0.0.1:{}", nginx.port()),
        CONNECTIONS,
        Duration::from_secs(10),
    ));
    let join = Ask {
        method: "POST",
        path: "/v1/sales/empty/queue",
        headers: &[],
        body: None,
    };
    for _ in 0..100 {
        let answer = wire
            .ask(&join)
            .await
            .map_err(|lost| anyhow::anyhow!("joining through nginx: {}", lost.name()))?;
        if !answer.is_ok() {
            bail!("joining through nginx was answered {}", answer.status);
        }
    }
    let before = asked(lab).await?;
    let board: Arc<[u8]> = wire
        .bytes(&Ask {
            method: "GET",
            path: "/v1/sales/empty/board",
            headers: &[],
            body: None,
        })
        .into();
    let mut waiting = JoinSet::new();
    for _ in 0..fans {
        let (wire, board) = (Arc::clone(&wire), Arc::clone(&board));
        waiting.spawn(async move {
            // They came at different moments.
            let mut left = wait.saturating_sub(LOOK_EVERY.mul_f64(OsEntropy.unit()));
            while !left.is_zero() {
                let pause = left.min(LOOK_EVERY.mul_f64(0.9 + 0.2 * OsEntropy.unit()));
                tokio::time::sleep(pause).await;
                left -= pause;
                if !wire.send(&board).await.is_ok_and(|it| it.is_ok()) {
                    return false;
                }
            }
            true
        });
    }
    let all = waiting.join_all().await;
    if all.iter().any(|it| !it) {
        bail!("{} of {fans} saw no board", all.iter().filter(|it| !**it).count());
    }
    let count = asked(lab).await?.saturating_sub(before);
    Ok(f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / f64::from(fans))
}

/// Requests that have come to the node, as it says itself; it says so twice a second.
async fn asked(lab: &Lab) -> anyhow::Result<u64> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ops = Wire::new(lab.ops, "ops", 1, Duration::from_secs(5));
    let ask = Ask {
        method: "GET",
        path: "/metrics",
        headers: &[],
        body: None,
    };
    let answer = ops
        .ask(&ask)
        .await
        .map_err(|lost| anyhow::anyhow!("the node's metrics: {}", lost.name()))?;
    let said = String::from_utf8_lossy(&answer.body).into_owned();
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("edge_requests_total "));
    line.and_then(|count| count.trim().parse().ok())
        .context("the node counts its requests")
}

//! What a waiting visitor costs a node behind nginx: the page polls only the status, and the status comes
//! from the cache.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use stagedoor::{
    demo::client::paths,
    kernel::{Entropy, OsEntropy},
};
use testkit::Nginx;
use tokio::task::JoinSet;

use super::fixture::{EMPTY, Fixture};
use crate::http1::{Http1Client, HttpRequest};

/// The page's poll interval far from the front (`pages/js/queue_math.js`); the page adds a jitter of a tenth.
const POLL_INTERVAL: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 256;
/// Joins through nginx before the measurement, so that the queue is not empty.
const JOINS: usize = 100;
const TIMEOUT: Duration = Duration::from_secs(10);
const REQUESTS_METRIC: &str = "stagedoor_http_requests_received_total ";

/// Lets so many visitors wait this long behind nginx. The requests that reach the node, for each visitor.
pub(super) async fn requests_each(fixture: &Fixture, fans: u32, wait: Duration) -> anyhow::Result<f64> {
    let node = fixture.service.client.address();
    let nginx = Nginx::start(&[node], &[node]).await?;
    let authority = format!("127.0.0.1:{}", nginx.port());
    let address = ([127, 0, 0, 1], nginx.port()).into();
    let client = Arc::new(Http1Client::new(address, authority, CONNECTIONS, TIMEOUT));
    for _ in 0..JOINS {
        let path = paths::queue(EMPTY);
        let reply = client
            .send(&HttpRequest::post(&path))
            .await
            .context("joining through nginx")?;
        if !reply.is_ok() {
            bail!("joining through nginx was answered {}", reply.status);
        }
    }
    let before = requests_received(fixture).await?;
    let status: Arc<[u8]> = client.encode(&HttpRequest::get(&paths::status(EMPTY))).into();
    let mut waiting = JoinSet::new();
    for _ in 0..fans {
        let (client, status) = (Arc::clone(&client), Arc::clone(&status));
        waiting.spawn(async move { poll(&client, &status, wait).await });
    }
    let all = waiting.join_all().await;
    let failed = all.iter().filter(|succeeded| !**succeeded).count();
    if failed > 0 {
        bail!("{failed} of {fans} visitors got no status");
    }
    let count = requests_received(fixture).await?.saturating_sub(before);
    Ok(f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / f64::from(fans))
}

/// One visitor; `false` when a poll failed.
async fn poll(client: &Http1Client, status: &[u8], wait: Duration) -> bool {
    // Visitors started to wait at different moments.
    let mut left = wait.saturating_sub(POLL_INTERVAL.mul_f64(OsEntropy.unit()));
    while !left.is_zero() {
        let pause = left.min(POLL_INTERVAL.mul_f64(0.9 + 0.2 * OsEntropy.unit()));
        tokio::time::sleep(pause).await;
        left -= pause;
        if !client.send_bytes(status).await.is_ok_and(|reply| reply.is_ok()) {
            return false;
        }
    }
    true
}

/// The requests that the node has received, from its own metrics, which are updated twice a second.
async fn requests_received(fixture: &Fixture) -> anyhow::Result<u64> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let admin = Http1Client::new(fixture.admin, "admin", 1, TIMEOUT);
    let reply = admin
        .send(&HttpRequest::get("/metrics"))
        .await
        .context("the node's metrics")?;
    let text = String::from_utf8_lossy(&reply.body);
    let value = text.lines().find_map(|line| line.strip_prefix(REQUESTS_METRIC));
    value
        .and_then(|count| count.trim().parse().ok())
        .with_context(|| format!("the metric {}", REQUESTS_METRIC.trim()))
}

//! The rows at scale: memory, a million arrivals, overload. One side after the other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::bail;
use stagedoor::{
    demo::client::{Reply, paths},
    kernel::{Clock, Entropy, OsEntropy, SystemClock},
};
use tokio::task::JoinSet;

use super::{args::SideBySideArgs, usual::UsualWay};
use crate::{
    baseline_table::{
        fixture::{DECLARED, EMPTY, FOURFOLD, Fixture},
        memory::{bytes_each, join_many},
        paired::{Server, WORKERS},
        table::{Row, Table},
    },
    baselines::usual_queue,
    http1::{HttpRequest, SendError},
};

/// Joins in flight of the million arrivals.
const ARRIVAL_WORKERS: usize = 256;
/// A reply later than this is of no use to a visitor.
const USEFUL_WITHIN: Duration = Duration::from_secs(1);
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(10);

/// Adds the three rows. A row that cannot be measured is reported.
pub(super) async fn add(args: &SideBySideArgs, fixture: &Fixture, usual: &UsualWay, table: &mut Table) {
    let backend = fixture.backend.name();
    let rows = [
        ("memory", memory(args, fixture, usual).await),
        ("a million arrivals", arrivals(args, fixture, usual).await),
        ("overload", overload(args, fixture, usual).await),
    ];
    for (name, row) in rows {
        match row {
            Ok(row) => table.push(Row {
                backend: backend.to_owned(),
                ..row
            }),
            Err(why) => table.not_measured.push(format!("{name}: {why:#}")),
        }
    }
}

/// A row of two values, with their ratio.
fn row(figure: &str, ours: f64, usual: f64, compared_with: String) -> Row {
    Row {
        rates: Some((ours, usual)),
        baseline: compared_with,
        ..Row::higher_is_better(figure, "", ours / usual, "ratio", None)
    }
}

/// The store's memory for each waiting visitor.
async fn memory(args: &SideBySideArgs, fixture: &Fixture, usual: &UsualWay) -> anyhow::Result<Row> {
    let before = fixture.used_bytes().await?;
    let joined = join_many(&fixture.service, &paths::queue(DECLARED), args.fans).await;
    let ours = bytes_each(fixture.used_bytes().await?.saturating_sub(before), joined);

    let before: u64 = usual.redis.info("used_memory").await?.parse()?;
    let usual_joined = join_many(&usual.server, usual_queue::QUEUE, args.fans).await;
    let after: u64 = usual.redis.info("used_memory").await?.parse()?;
    let theirs = bytes_each(after.saturating_sub(before), usual_joined);
    if joined == 0 || usual_joined == 0 || theirs <= 0.0 {
        bail!(
            "{joined} and {usual_joined} of {} joins were acknowledged",
            args.fans
        );
    }
    let what = format!("members of a sorted set; {joined} and {usual_joined} waiting");
    Ok(Row {
        higher_is_better: false,
        ..row("memory of a waiting visitor", ours, theirs, what)
    })
}

/// Joins a second until all visitors have joined, retries included.
async fn arrivals(args: &SideBySideArgs, fixture: &Fixture, usual: &UsualWay) -> anyhow::Result<Row> {
    let ours = join_all(&fixture.service, &paths::queue(FOURFOLD), args.fans).await?;
    let theirs = join_all(&usual.server, usual_queue::QUEUE, args.fans).await?;
    let what = format!(
        "all joined after {:.1} s and {:.1} s; {ARRIVAL_WORKERS} in flight",
        f64::from(args.fans) / ours,
        f64::from(args.fans) / theirs
    );
    Ok(row(&format!("{} arrivals", args.fans), ours, theirs, what))
}

async fn join_all(server: &Server, path: &str, fans: u32) -> anyhow::Result<f64> {
    let clock = SystemClock::new();
    let left = Arc::new(AtomicU32::new(fans));
    let request: Arc<[u8]> = server.client.encode(&HttpRequest::post(path)).into();
    let mut workers = JoinSet::new();
    for _ in 0..ARRIVAL_WORKERS {
        let (client, request) = (Arc::clone(&server.client), Arc::clone(&request));
        let left = Arc::clone(&left);
        workers.spawn(async move {
            let take = |count: u32| count.checked_sub(1);
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .is_ok()
            {
                loop {
                    let result = client.send_bytes(&request).await;
                    match retry_after(&result) {
                        None => break,
                        Some(pause) => tokio::time::sleep(pause).await,
                    }
                }
            }
        });
    }
    workers.join_all().await;
    let seconds = clock.monotonic().as_secs_f64();
    if seconds <= 0.0 {
        bail!("no time passed");
    }
    Ok(f64::from(fans) / seconds)
}

/// When to try again, with jitter, as a well-behaved client does; `None` after success.
fn retry_after(result: &Result<Reply, SendError>) -> Option<Duration> {
    let advised = match result {
        Ok(reply) if reply.is_ok() => return None,
        Ok(reply) => reply.retry_after.unwrap_or(Duration::from_secs(1)),
        Err(_) => Duration::from_secs(1),
    };
    Some(advised.mul_f64(1.0 + OsEntropy.unit()))
}

/// Useful joins a second with far too many clients, as a share of the peak.
async fn overload(args: &SideBySideArgs, fixture: &Fixture, usual: &UsualWay) -> anyhow::Result<Row> {
    let clients = args.overload_clients;
    let path = paths::queue(EMPTY);
    let our_peak = peak(&fixture.service, &path).await?;
    let usual_peak = peak(&usual.server, usual_queue::QUEUE).await?;
    let ours = useful_joins(&fixture.service, &path, clients).await?;
    let theirs = useful_joins(&usual.server, usual_queue::QUEUE, clients).await?;
    let what = format!(
        "joins within {USEFUL_WITHIN:?} with {clients} clients: {ours:.0} of {our_peak:.0} and {theirs:.0} \
         of {usual_peak:.0} a second"
    );
    Ok(row("overload", ours / our_peak, theirs / usual_peak, what))
}

/// The most useful joins a second that the server makes at a sensible load.
async fn peak(server: &Server, path: &str) -> anyhow::Result<f64> {
    let few = useful_joins(server, path, WORKERS).await?;
    Ok(few.max(useful_joins(server, path, ARRIVAL_WORKERS).await?))
}

/// Joins a second that are answered within [`USEFUL_WITHIN`]. Refused clients come again when they are asked
/// to.
#[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
async fn useful_joins(server: &Server, path: &str, clients: usize) -> anyhow::Result<f64> {
    let (clock, useful) = (Arc::new(SystemClock::new()), Arc::new(AtomicU64::new(0)));
    let request: Arc<[u8]> = server.client.encode(&HttpRequest::post(path)).into();
    let mut running = JoinSet::new();
    for _ in 0..clients {
        let (client, request) = (Arc::clone(&server.client), Arc::clone(&request));
        let (clock, useful) = (Arc::clone(&clock), Arc::clone(&useful));
        running.spawn(async move {
            loop {
                let began = clock.monotonic();
                let result = client.send_bytes(&request).await;
                let now = clock.monotonic();
                if let Some(pause) = retry_after(&result) {
                    tokio::time::sleep(pause).await;
                } else if now.saturating_sub(began) <= USEFUL_WITHIN && now >= WARM_UP {
                    useful.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    tokio::time::sleep(WARM_UP + MEASURED).await;
    let seconds = clock.monotonic().saturating_sub(WARM_UP).as_secs_f64();
    let count = useful.load(Ordering::Relaxed) as f64;
    running.shutdown().await;
    if count <= 0.0 {
        bail!("no join was answered in time with {clients} clients");
    }
    Ok(count / seconds)
}

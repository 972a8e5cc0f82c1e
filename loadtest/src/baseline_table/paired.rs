//! Two sides in alternation, driven by the same client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{anyhow, bail};
use stagedoor::kernel::{Clock, SystemClock};
use tokio::task::JoinSet;

use crate::{
    http1::{Http1Client, HttpRequest},
    process::Usage,
};

/// Pairs of turns for each figure.
pub(crate) const PAIRS: usize = 9;
/// The length of a turn.
pub(crate) const ROUND: Duration = Duration::from_secs(1);
/// Requests in flight unless a figure says otherwise.
pub(crate) const WORKERS: usize = 64;
/// The most requests in flight.
pub(crate) const CONNECTIONS_MAX: usize = 4_096;

/// A server and its process.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) client: Arc<Http1Client>,
    /// 0 where its CPU time is not measured.
    pub(crate) pid: u32,
}

/// A request that is repeated; each worker may have one of its own.
pub(crate) struct Side {
    pub(crate) server: Server,
    pub(crate) requests: Vec<Arc<[u8]>>,
}

impl Side {
    /// One encoded request for all workers.
    pub(crate) fn new(server: &Server, request: &HttpRequest<'_>) -> Self {
        Self {
            server: server.clone(),
            requests: vec![server.client.encode(request).into()],
        }
    }

    /// A `POST` without a body.
    pub(crate) fn post(server: &Server, path: &str) -> Self {
        Self::new(server, &HttpRequest::post(path))
    }

    /// A `GET`.
    pub(crate) fn get(server: &Server, path: &str) -> Self {
        Self::new(server, &HttpRequest::get(path))
    }

    /// A `GET` for each value of a header.
    pub(crate) fn get_each(server: &Server, path: &str, header: &'static str, values: &[String]) -> Self {
        let encode = |value: &String| {
            let headers = [(header, value.as_str())];
            server
                .client
                .encode(&HttpRequest::get(path).with_headers(&headers))
                .into()
        };
        Self {
            server: server.clone(),
            requests: values.iter().map(encode).collect(),
        }
    }
}

/// What one side did in one turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    pub(crate) done: f64,
    pub(crate) seconds: f64,
    pub(crate) cpu_s: f64,
}

impl Round {
    /// Operations a second.
    pub(crate) fn rate(&self) -> f64 {
        self.done / self.seconds
    }
}

/// Turns of two sides in alternation: ours and the baseline's.
pub(crate) struct Pairs(pub(crate) Vec<(Round, Round)>);

impl Pairs {
    fn sorted(&self, of: impl Fn(&(Round, Round)) -> f64) -> Vec<f64> {
        let mut values: Vec<f64> = self.0.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    fn median(&self, of: impl Fn(&(Round, Round)) -> f64) -> f64 {
        let values = self.sorted(of);
        values[values.len() / 2]
    }

    /// The median of the pairs' ratios.
    pub(crate) fn ratio(&self) -> f64 {
        self.median(|(ours, baseline)| ours.rate() / baseline.rate())
    }

    /// The 95 % interval of the median ratio.
    pub(crate) fn interval(&self) -> (f64, f64) {
        interval_of(&self.sorted(|(ours, baseline)| ours.rate() / baseline.rate()))
    }

    /// The median ratio of CPU time for each operation, with its 95 % interval. It hardly depends on what
    /// else the machine does, unlike the rates.
    pub(crate) fn cpu_ratio(&self) -> Option<(f64, (f64, f64))> {
        let ratio =
            |(ours, baseline): &(Round, Round)| (ours.cpu_s / ours.done) / (baseline.cpu_s / baseline.done);
        self.cpu_us()?;
        Some((self.median(ratio), interval_of(&self.sorted(ratio))))
    }

    /// The median rate of each side.
    pub(crate) fn rates(&self) -> (f64, f64) {
        (
            self.median(|pair| pair.0.rate()),
            self.median(|pair| pair.1.rate()),
        )
    }

    /// The median CPU time of an operation on each side, where both are measured.
    pub(crate) fn cpu_us(&self) -> Option<(f64, f64)> {
        let ours = self.median(|pair| pair.0.cpu_s / pair.0.done);
        let baseline = self.median(|pair| pair.1.cpu_s / pair.1.done);
        (ours > 0.0 && baseline > 0.0).then_some((ours * 1e6, baseline * 1e6))
    }
}

/// The sorted values between which the median lies in 19 of 20 cases: a binomial interval, which assumes
/// nothing about their distribution. Of nine values from the second to the eighth.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a few"
)]
fn interval_of(sorted: &[f64]) -> (f64, f64) {
    let count = sorted.len() as f64;
    let edge = ((count - 1.96 * count.sqrt()) / 2.0).max(0.0) as usize;
    (sorted[edge], sorted[sorted.len() - 1 - edge])
}

/// Alternates the sides with the default number of requests in flight.
pub(crate) async fn compare(ours: &Side, baseline: &Side) -> anyhow::Result<Pairs> {
    compare_with_workers(WORKERS, ours, baseline).await
}

/// Alternates the sides so many times.
pub(crate) async fn compare_in_pairs(pairs: usize, ours: &Side, baseline: &Side) -> anyhow::Result<Pairs> {
    alternate(pairs, async || round(ours).await, async || round(baseline).await).await
}

/// Alternates two rounds. The first pair warms up and does not count.
pub(super) async fn alternate(
    pairs: usize,
    ours: impl AsyncFn() -> anyhow::Result<Round>,
    baseline: impl AsyncFn() -> anyhow::Result<Round>,
) -> anyhow::Result<Pairs> {
    let mut done = Vec::new();
    for _ in 0..=pairs {
        done.push((ours().await?, baseline().await?));
    }
    done.remove(0);
    Ok(Pairs(done))
}

/// Alternates the sides with so many requests in flight.
pub(crate) async fn compare_with_workers(
    workers: usize,
    ours: &Side,
    baseline: &Side,
) -> anyhow::Result<Pairs> {
    alternate(
        PAIRS,
        async || round_with_workers(workers, ours).await,
        async || round_with_workers(workers, baseline).await,
    )
    .await
}

/// One turn with the default number of requests in flight.
pub(crate) async fn round(side: &Side) -> anyhow::Result<Round> {
    round_with_workers(WORKERS, side).await
}

#[expect(clippy::cast_precision_loss, reason = "counts of a second")]
async fn round_with_workers(workers: usize, side: &Side) -> anyhow::Result<Round> {
    let (clock, done) = (Arc::new(SystemClock::new()), Arc::new(AtomicU64::new(0)));
    let cpu = || Usage::of(side.server.pid).unwrap_or_default().cpu;
    let (began, cpu_before) = (clock.monotonic(), cpu());
    let mut working = JoinSet::new();
    for worker in 0..workers {
        let (clock, done) = (Arc::clone(&clock), Arc::clone(&done));
        let client = Arc::clone(&side.server.client);
        let request = Arc::clone(&side.requests[worker % side.requests.len()]);
        working.spawn(async move {
            while clock.monotonic().saturating_sub(began) < ROUND {
                let reply = client
                    .send_bytes(&request)
                    .await
                    .map_err(|error| anyhow!(error))?;
                if !reply.is_ok() {
                    bail!(
                        "answered {}: {}",
                        reply.status,
                        String::from_utf8_lossy(&reply.body)
                    );
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    while let Some(worker) = working.join_next().await {
        worker??;
    }
    Ok(Round {
        done: done.load(Ordering::Relaxed) as f64,
        seconds: clock.monotonic().saturating_sub(began).as_secs_f64(),
        cpu_s: cpu().saturating_sub(cpu_before).as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_pairs() {
        let round = |rate: f64| Round {
            done: rate,
            seconds: 1.0,
            cpu_s: rate * 1e-5,
        };
        // The machine drifts; the ratio of each pair does not. One pair is an outlier.
        let pair = |n: u32| {
            let outlier = if n == 9 { 400.0 } else { 0.0 };
            (round(80.0 * f64::from(n) + outlier), round(100.0 * f64::from(n)))
        };
        let pairs = Pairs((1..=9).map(pair).collect());
        assert!((pairs.ratio() - 0.8).abs() < 1e-9);
        assert!((pairs.interval().1 - 0.8).abs() < 1e-9, "{:?}", pairs.interval());
        let (ours, baseline) = pairs.cpu_us().unwrap();
        assert!((ours - 10.0).abs() < 1e-6 && (baseline - 10.0).abs() < 1e-6);
    }
}

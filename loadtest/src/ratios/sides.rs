//! Two sides by turns, from the same client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::bail;
use stagedoor::kernel::{Clock, SystemClock};
use tokio::task::JoinSet;

use crate::{
    process::Usage,
    wire::{Ask, Wire},
};

pub(super) const PAIRS: usize = 9;
pub(super) const ROUND: Duration = Duration::from_secs(1);
/// As many ask at once, unless it is said otherwise.
pub(super) const WORKERS: usize = 64;
pub(super) const CONNECTIONS_MAX: usize = 4_096;

/// A server and its process.
pub(super) struct Server {
    pub wire: Arc<Wire>,
    pub pid: u32,
}

/// A request that is made again and again; each worker may have one of her own.
pub(super) struct Side {
    pub wire: Arc<Wire>,
    pub pid: u32,
    pub requests: Vec<Arc<[u8]>>,
}

impl Side {
    fn of(server: &Server, asks: Vec<Vec<u8>>) -> Self {
        Self {
            wire: Arc::clone(&server.wire),
            pid: server.pid,
            requests: asks.into_iter().map(Into::into).collect(),
        }
    }

    pub(super) fn post(server: &Server, path: &str) -> Self {
        Self::of(
            server,
            vec![server.wire.bytes(&Ask {
                method: "POST",
                path,
                headers: &[],
                body: None,
            })],
        )
    }

    pub(super) fn get(server: &Server, path: &str) -> Self {
        Self::of(
            server,
            vec![server.wire.bytes(&Ask {
                method: "GET",
                path,
                headers: &[],
                body: None,
            })],
        )
    }

    /// One request for each value of a header.
    pub(super) fn get_each(server: &Server, path: &str, header: &'static str, values: &[String]) -> Self {
        let ask = |value: &String| {
            server.wire.bytes(&Ask {
                method: "GET",
                path,
                headers: &[(header, value)],
                body: None,
            })
        };
        Self::of(server, values.iter().map(ask).collect())
    }
}

/// What one side did in one round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub done: f64,
    pub seconds: f64,
    pub cpu_s: f64,
}

impl Round {
    pub(super) fn rate(&self) -> f64 {
        self.done / self.seconds
    }
}

/// Rounds of two sides that took turns.
pub(super) struct Pairs(pub Vec<(Round, Round)>);

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

    pub(super) fn ratio(&self) -> f64 {
        self.median(|(ours, floor)| ours.rate() / floor.rate())
    }

    /// From the second least to the second most.
    pub(super) fn interval(&self) -> (f64, f64) {
        let ratios = self.sorted(|(ours, floor)| ours.rate() / floor.rate());
        let edge = usize::from(ratios.len() > 4);
        (ratios[edge], ratios[ratios.len() - 1 - edge])
    }

    pub(super) fn rates(&self) -> (f64, f64) {
        (self.median(|it| it.0.rate()), self.median(|it| it.1.rate()))
    }

    pub(super) fn cpu_us(&self) -> Option<(f64, f64)> {
        let (ours, floor) = (
            self.median(|it| it.0.cpu_s / it.0.done),
            self.median(|it| it.1.cpu_s / it.1.done),
        );
        (ours > 0.0 && floor > 0.0).then_some((ours * 1e6, floor * 1e6))
    }
}

/// Pairs of rounds; the first, which warms both sides up, is not counted.
pub(super) async fn compare(ours: &Side, floor: &Side) -> anyhow::Result<Pairs> {
    compare_by(WORKERS, ours, floor).await
}

/// As [`compare`], by so many who ask at once.
pub(super) async fn compare_by(workers: usize, ours: &Side, floor: &Side) -> anyhow::Result<Pairs> {
    let mut pairs = Vec::new();
    for _ in 0..=PAIRS {
        pairs.push((round_by(workers, ours).await?, round_by(workers, floor).await?));
    }
    pairs.remove(0);
    Ok(Pairs(pairs))
}

pub(super) async fn round(side: &Side) -> anyhow::Result<Round> {
    round_by(WORKERS, side).await
}

#[expect(clippy::cast_precision_loss, reason = "counts of a second")]
async fn round_by(asking: usize, side: &Side) -> anyhow::Result<Round> {
    let (clock, done) = (Arc::new(SystemClock::new()), Arc::new(AtomicU64::new(0)));
    let cpu = || Usage::of(side.pid).unwrap_or_default().cpu;
    let (began, cpu_before) = (clock.monotonic(), cpu());
    let mut workers = JoinSet::new();
    for worker in 0..asking {
        let (clock, done, wire) = (Arc::clone(&clock), Arc::clone(&done), Arc::clone(&side.wire));
        let request = Arc::clone(&side.requests[worker % side.requests.len()]);
        workers.spawn(async move {
            while clock.monotonic().saturating_sub(began) < ROUND {
                match wire.send(&request).await {
                    Ok(reply) if reply.is_ok() => done.fetch_add(1, Ordering::Relaxed),
                    Ok(reply) => bail!(
                        "answered {}: {}",
                        reply.status,
                        String::from_utf8_lossy(&reply.body)
                    ),
                    Err(lost) => bail!("{}", lost.name()),
                };
            }
            Ok(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    let seconds = clock.monotonic().saturating_sub(began).as_secs_f64();
    Ok(Round {
        done: done.load(Ordering::Relaxed) as f64,
        seconds,
        cpu_s: cpu().saturating_sub(cpu_before).as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_pairs_is_told_with_its_interval() {
        let round = |rate: f64| Round {
            done: rate,
            seconds: 1.0,
            cpu_s: rate * 1e-5,
        };
        // The second side drifts; the ratio of each pair does not.
        let pairs = Pairs(
            (1..=9)
                .map(|n| {
                    (
                        round(80.0 * f64::from(n) + if n == 9 { 400.0 } else { 0.0 }),
                        round(100.0 * f64::from(n)),
                    )
                })
                .collect(),
        );
        assert!((pairs.ratio() - 0.8).abs() < 1e-9);
        assert!(
            (pairs.interval().1 - 0.8).abs() < 1e-9,
            "one outlier does not move it: {:?}",
            pairs.interval()
        );
        let (ours, floor) = pairs.cpu_us().unwrap();
        assert!((ours - 10.0).abs() < 1e-6 && (floor - 10.0).abs() < 1e-6);
    }
}

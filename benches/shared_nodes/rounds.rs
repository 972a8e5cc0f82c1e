//! Rounds of the two sides by turns, and what comes of them.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use stagedoor::{
    kernel::{Clock, SystemClock},
    platform::http_client::HttpClient,
};

use super::{WORKERS, house::Server};

pub(super) const ROUNDS: usize = 9;
pub(super) const ROUND: Duration = Duration::from_millis(1_500);

/// What one side did in one round.
#[derive(Clone, Copy)]
pub(super) struct Round {
    pub(super) done: f64,
    pub(super) seconds: f64,
    pub(super) cpu_s: f64,
}

impl Round {
    fn rate(&self) -> f64 {
        self.done / self.seconds
    }
}

/// `work` by so many at once, again and again for one round.
pub(super) async fn round<F, W>(server: &Server, workers: usize, work: W) -> Round
where
    W: Fn(usize) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send,
{
    let (done, clock) = (Arc::new(AtomicU64::new(0)), Arc::new(SystemClock::new()));
    let (started, work, cpu_s) = (clock.monotonic(), Arc::new(work), server.cpu_s());
    let running: Vec<_> = (0..workers)
        .map(|worker| {
            let (done, clock, work) = (Arc::clone(&done), Arc::clone(&clock), Arc::clone(&work));
            tokio::spawn(async move {
                while clock.monotonic().saturating_sub(started) < ROUND {
                    work(worker).await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for worker in running {
        worker.await.expect("no call fails");
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of some thousands")]
    let done = done.load(Ordering::Relaxed) as f64;
    Round { done, seconds: clock.monotonic().saturating_sub(started).as_secs_f64(), cpu_s: server.cpu_s() - cpu_s }
}

pub(super) fn report(name: &str, mut pairs: Vec<(Round, Round)>) {
    // The first pair warms both sides up.
    pairs.remove(0);
    let median = |of: fn(&(Round, Round)) -> f64| {
        let mut values: Vec<f64> = pairs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (ours, floor) = (median(|it| it.0.rate()), median(|it| it.1.rate()));
    let cpu = (median(|it| it.0.cpu_s / it.0.done), median(|it| it.1.cpu_s / it.1.done));
    let ratios: Vec<f64> = pairs.iter().map(|(ours, floor)| ours.rate() / floor.rate()).collect();
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    println!(
        "{name}: {:.2} ({least:.2} to {most:.2}); {ours:.0} over {floor:.0} a second; {:.1} over {:.1} us of the server's own CPU each",
        ours / floor,
        cpu.0 * 1e6,
        cpu.1 * 1e6
    );
}

pub(super) async fn compare(name: &str, client: &HttpClient, ours: (&Server, &str), floor: (&Server, &str)) {
    let mut pairs = Vec::new();
    let side = async |(server, path): (&Server, &str)| {
        let uri: Uri = format!("{}{path}", server.base).parse().expect("a URL");
        let client = client.with_deadline(Duration::from_secs(10));
        round(server, WORKERS, move |_| {
            let (uri, client) = (uri.clone(), client.clone());
            async move {
                let answer = client.call(Method::POST, uri, &[], Bytes::new()).await.expect("an answer");
                assert_eq!(answer.status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&answer.body));
            }
        })
        .await
    };
    for _ in 0..=ROUNDS {
        pairs.push((side(ours).await, side(floor).await));
    }
    report(name, pairs);
}

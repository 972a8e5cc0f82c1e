//! Simulated fans who queue, choose and buy through the real HTTP contract, at a human pace.
//!
//! A crowd is one process's worth of fans. They share connections, one reader of the queue status and one
//! look a second at each seat map, so thousands of fans cost little beside the server they visit. A fan's
//! decisions follow from the seed and the customer number alone. The server's answers do not, so a replay
//! repeats what fans try, not what they get.

mod buyer;
mod config;
mod fan;
mod seat_choice;
mod shared;

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;

pub use self::config::{CrowdConfig, HandoffSigner, Pace};
use self::shared::Shared;
use crate::{
    demo::client::{ObservationLog, Observations, VisitorRng, retrying::RetryingClient},
    kernel::Clock,
    platform::shutdown::Lifecycle,
};

/// Sends the crowd in and waits until its last fan is done, or until the process is stopping. Returns what
/// the fans observed until then.
pub async fn run(config: CrowdConfig, clock: Arc<dyn Clock>, life: Lifecycle) -> Observations {
    let log = Arc::new(ObservationLog::new(config.fans));
    let client = RetryingClient::new(&config.base, Arc::clone(&clock), Arc::clone(&log));
    let shared = Arc::new(Shared::new(client, config.sale.to_string(), config.pace));
    let mut fans = JoinSet::new();
    let reader = tokio::spawn({
        let shared = Arc::clone(&shared);
        async move { shared.follow_status().await }
    });
    tokio::select! {
        () = send_in(&config, &clock, &shared, &mut fans) => {}
        () = life.stopping() => {}
    }
    reader.abort();
    fans.shutdown().await;
    log.snapshot()
}

/// Starts each fan when they arrive and waits for the last one to finish.
async fn send_in(config: &CrowdConfig, clock: &Arc<dyn Clock>, shared: &Arc<Shared>, fans: &mut JoinSet<()>) {
    let rng = VisitorRng::new(config.seed, 0);
    let mut arrivals: Vec<(Duration, u32)> = (0..config.fans)
        .map(|n| {
            (
                config.arrive_within.mul_f64(rng.unit()),
                config.first_customer + n,
            )
        })
        .collect();
    arrivals.sort_unstable();
    let began = clock.monotonic();
    for (after, customer) in arrivals {
        let elapsed = clock.monotonic().saturating_sub(began);
        tokio::time::sleep(after.saturating_sub(elapsed)).await;
        let (shared, handoff, seed) = (Arc::clone(shared), Arc::clone(&config.handoff), config.seed);
        fans.spawn(async move { fan::run(shared, handoff, seed, customer).await });
        // Finished tasks are collected on the way, so that the set holds only fans who are still here.
        while fans.try_join_next().is_some() {}
    }
    while fans.join_next().await.is_some() {}
}

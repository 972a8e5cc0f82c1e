//! Simulated fans who queue, choose and buy through the real HTTP contract, at a human pace.
//!
//! A crowd is one process's worth of fans: they share connections, one reader of the board and one look a second at
//! each seat map, so that thousands of them cost little beside the server they visit. What each of them does is drawn
//! from the seed and her customer number alone; what the server answers is not, so that a replay repeats the fans'
//! wishes, not their luck.

mod buy;
mod choose;
pub(crate) mod dice;
mod fan;
pub(crate) mod report;
mod shared;

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;

pub use self::{
    dice::Dice,
    report::{CrowdReport, Entered, Joined, Ordered, Refused},
};
use self::{report::Notebook, shared::Shared};
use crate::demo::client::api::Api;
use crate::{
    kernel::{Clock, SaleId},
    platform::shutdown::Lifecycle,
};

/// Gives a fresh hand-off token of the shop for a customer; customers are numbered from 1.
pub type HandoffSigner = Arc<dyn Fn(u32) -> String + Send + Sync>;

/// Who comes, where to, and how.
#[derive(Clone)]
pub struct CrowdConfig {
    /// The public listener, for instance `http://127.0.0.1:8080`.
    pub base: String,
    pub sale: SaleId,
    pub fans: u32,
    pub seed: u64,
    pub handoff: HandoffSigner,
    /// The fans arrive spread evenly at random over this long.
    pub arrive_within: Duration,
    /// The customer number of the first fan; the others follow.
    pub first_customer: u32,
    pub pace: Pace,
}

/// How long people take to react, to look, to choose and to type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Seconds to tens of seconds.
    Human,
    /// Tenths of seconds: for tests.
    Brisk,
}

/// Sends the crowd in and waits until its last fan has gone home, or until the process is stopping.
pub async fn run(config: CrowdConfig, clock: Arc<dyn Clock>, life: Lifecycle) -> CrowdReport {
    let notebook = Arc::new(Notebook::new(config.fans));
    let api = Api::new(&config, Arc::clone(&clock), Arc::clone(&notebook));
    let shared = Arc::new(Shared::new(api, config.pace, Arc::clone(&notebook)));
    let mut tasks = JoinSet::new();
    let board = Arc::clone(&shared);
    let reader = tokio::spawn(async move { board.read_board().await });
    tokio::select! {
        () = arrivals(&config, &clock, &shared, &mut tasks) => {}
        () = life.stopping() => {}
    }
    reader.abort();
    // Aborting the reader only now: fans who are still on their way listen to it.
    tasks.shutdown().await;
    notebook.report()
}

/// Lets the fans come one after the other and sees the last one off.
async fn arrivals(
    config: &CrowdConfig,
    clock: &Arc<dyn Clock>,
    shared: &Arc<Shared>,
    fans: &mut JoinSet<()>,
) {
    let dice = Dice::new(config.seed, 0);
    let mut coming: Vec<(Duration, u32)> = (0..config.fans)
        .map(|n| {
            (
                config.arrive_within.mul_f64(dice.unit()),
                config.first_customer + n,
            )
        })
        .collect();
    coming.sort_unstable();
    let began = clock.monotonic();
    for (after, customer) in coming {
        let elapsed = clock.monotonic().saturating_sub(began);
        tokio::time::sleep(after.saturating_sub(elapsed)).await;
        let (shared, handoff, seed) = (Arc::clone(shared), Arc::clone(&config.handoff), config.seed);
        fans.spawn(async move { fan::live(shared, handoff, seed, customer).await });
        while fans.try_join_next().is_some() {}
    }
    while fans.join_next().await.is_some() {}
}

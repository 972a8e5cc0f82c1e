//! Background tasks of all performances: ending expired holds (the rule is `expire_holds` in the store, in
//! Redis `expire.lua`), and publishing seat changes.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use crate::platform::shutdown::Lifecycle;

use crate::seating::{availability::FRAME_INTERVAL, performance::Performance, types::StoreError};

const EXPIRY_INTERVAL: Duration = Duration::from_millis(200);
const RESTART_DELAY: Duration = Duration::from_millis(100);

/// Starts both tasks. Each round is idempotent and needs nothing from the one before.
pub(crate) fn start(performances: &[Arc<Performance>], lifecycle: &Lifecycle) {
    let expiring: Vec<_> = performances.to_vec();
    let stop = lifecycle.clone();
    lifecycle.supervise("hold expiry", RESTART_DELAY, move || {
        let (performances, lifecycle) = (expiring.clone(), stop.clone());
        async move {
            repeat(EXPIRY_INTERVAL, &lifecycle, &performances, async |performance| {
                performance.expire_holds().await
            })
            .await;
        }
    });
    let publishing: Vec<_> = performances.to_vec();
    let stop = lifecycle.clone();
    lifecycle.supervise("seat publisher", RESTART_DELAY, move || {
        let (performances, lifecycle) = (publishing.clone(), stop.clone());
        async move {
            repeat(FRAME_INTERVAL, &lifecycle, &performances, async |performance| {
                performance.publish_changes().await
            })
            .await;
        }
    });
}

/// Runs `round` for each performance, once an `interval`, until the process stops.
async fn repeat<R>(period: Duration, lifecycle: &Lifecycle, performances: &[Arc<Performance>], round: R)
where
    R: AsyncFn(&Performance) -> Result<(), StoreError>,
{
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = lifecycle.stopping() => return,
            _ = ticks.tick() => {}
        }
        for performance in performances {
            match round(performance).await {
                // The connection and the dataset recovery log these outages once each.
                Ok(()) | Err(StoreError::Unavailable | StoreError::Recovering) => {}
                Err(error) => {
                    tracing::warn!(
                        %error,
                        performance = %performance.config().performance,
                        "seat store did not answer in time; the next round tries again"
                    );
                }
            }
        }
    }
}

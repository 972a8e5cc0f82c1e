//! What happens by itself: holds run out, and what has changed is shown.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use crate::platform::shutdown::Lifecycle;

use crate::seating::{availability::FRAME_EVERY, performance::Performance, store::StoreError};

const SWEEP_EVERY: Duration = Duration::from_millis(200);
const RESTART_AFTER: Duration = Duration::from_millis(100);

/// Starts both loops. Each turn does whatever there is to do and needs no memory of the one before.
pub(crate) fn start(performances: &[Arc<Performance>], life: &Lifecycle) {
    let of_sweeper: Vec<_> = performances.to_vec();
    let stop = life.clone();
    life.supervise("seat sweeper", RESTART_AFTER, move || {
        let (performances, life) = (of_sweeper.clone(), stop.clone());
        async move { every(SWEEP_EVERY, &life, &performances, async |it| it.expire_holds().await).await }
    });
    let of_publisher: Vec<_> = performances.to_vec();
    let stop = life.clone();
    life.supervise("seat publisher", RESTART_AFTER, move || {
        let (performances, life) = (of_publisher.clone(), stop.clone());
        async move { every(FRAME_EVERY, &life, &performances, async |it| it.publish_changes().await).await }
    });
}

async fn every<T>(period: Duration, life: &Lifecycle, performances: &[Arc<Performance>], turn: T)
where
    T: AsyncFn(&Performance) -> Result<(), StoreError>,
{
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = life.stopping() => return,
            _ = ticks.tick() => {}
        }
        for performance in performances {
            match turn(performance).await {
                // Whoever noticed an outage first has said so.
                Ok(()) | Err(StoreError::Unavailable | StoreError::Recovering) => {}
                Err(error) => {
                    tracing::warn!(%error, performance = %performance.config().performance, "the seat engine did not answer in time");
                }
            }
        }
    }
}

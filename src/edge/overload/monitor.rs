//! The loop that measures load and sets the shed level.

use std::{sync::Arc, time::Duration};

use crate::{
    edge::state::{AppState, BoxOfficeState},
    platform::shutdown::Lifecycle,
};

/// How often the probe asks to be woken.
const PROBE_PERIOD: Duration = Duration::from_millis(10);
/// The runtime's timers are a millisecond coarse; so much lateness is no delay.
const TIMER_SLACK: Duration = Duration::from_millis(1);
/// Probes in an interval, of which the least late one counts.
const PROBES_PER_INTERVAL: u32 = 10;

/// Measures the runtime's delay and, in a process with the box office, whether orders wait; feeds both to the
/// load shedder until the process stops.
pub async fn run(app: Arc<AppState>, box_office: Option<BoxOfficeState>, lifecycle: Lifecycle) {
    let mut received_before = app.in_flight.received();
    while !lifecycle.is_stopping() {
        let mut least_delay = Duration::MAX;
        for _ in 0..PROBES_PER_INTERVAL {
            let started = app.clock.monotonic();
            tokio::time::sleep(PROBE_PERIOD).await;
            let delay = app
                .clock
                .monotonic()
                .saturating_sub(started + PROBE_PERIOD + TIMER_SLACK);
            least_delay = least_delay.min(delay);
        }
        let received = app.in_flight.received();
        let are_orders_waiting = box_office.as_ref().is_some_and(|box_office| {
            let are_waiting = box_office.checkout.is_saturated();
            box_office.health.record_order_queue(are_waiting);
            are_waiting
        });
        app.load_shedder
            .end_interval(least_delay, received - received_before, are_orders_waiting);
        received_before = received;
    }
}

//! Background loops of the process: records gauges and counters, watches for overload, and frees idle
//! entries.

use std::{sync::Arc, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;

use crate::{
    app::build::Parts,
    edge::{
        AppState, BoxOfficeState, WaitingRoomState,
        overload::{monitor, shed::Priority},
    },
    ops::{admin::operators::OperatorApi, telemetry},
    platform::shutdown::Lifecycle,
    waiting_room::DrawProgress,
};

const RECORD_INTERVAL: Duration = Duration::from_millis(500);

/// Starts the loops; they end when `background` stops.
pub(crate) fn start(
    parts: &Parts,
    operators: &OperatorApi,
    metrics: Option<PrometheusHandle>,
    background: &Lifecycle,
) {
    let recorded = Recorded {
        state: Arc::clone(&parts.state),
        waiting_room: parts.waiting_room.clone(),
        box_office: parts.box_office.clone(),
    };
    // A process that is ready has all its series.
    recorded.record();
    let lifecycle = background.clone();
    background.supervise("metrics", RECORD_INTERVAL, move || {
        let (recorded, lifecycle) = (recorded.clone(), lifecycle.clone());
        async move {
            let mut interval = tokio::time::interval(RECORD_INTERVAL);
            while lifecycle.until_stopping(interval.tick()).await.is_some() {
                recorded.record();
            }
        }
    });
    let (state, box_office, lifecycle) = (
        Arc::clone(&parts.state),
        parts.box_office.clone(),
        background.clone(),
    );
    background.supervise("overload", RECORD_INTERVAL, move || {
        monitor::run(Arc::clone(&state), box_office.clone(), lifecycle.clone())
    });
    let (state, operators, lifecycle) = (Arc::clone(&parts.state), operators.clone(), background.clone());
    background.supervise("upkeep", telemetry::UPKEEP_INTERVAL, move || {
        upkeep(
            Arc::clone(&state),
            operators.clone(),
            metrics.clone(),
            lifecycle.clone(),
        )
    });
}

/// What the gauges and counters are read from.
#[derive(Clone)]
struct Recorded {
    state: Arc<AppState>,
    waiting_room: Option<WaitingRoomState>,
    box_office: Option<BoxOfficeState>,
}

impl Recorded {
    fn record(&self) {
        record_edge(&self.state);
        if let Some(waiting_room) = &self.waiting_room {
            record_waiting_rooms(waiting_room);
        }
        if let Some(box_office) = &self.box_office {
            record_seats(box_office);
            record_orders(box_office);
            record_outbox(box_office);
        }
    }
}

fn record_edge(state: &AppState) {
    metrics::counter!("stagedoor_http_requests_received_total").absolute(state.in_flight.received());
    for priority in Priority::ALL {
        metrics::counter!("stagedoor_requests_shed_total", "priority" => priority.name())
            .absolute(state.load_shedder.shed_total(priority));
    }
    let is_overloaded = state.load_shedder.is_box_office_overloaded();
    metrics::gauge!("stagedoor_runtime_queue_delay_seconds")
        .set(state.load_shedder.queue_delay().as_secs_f64());
    metrics::gauge!("stagedoor_box_office_overloaded").set(f64::from(u8::from(is_overloaded)));
    metrics::gauge!("stagedoor_load_shed_level").set(state.load_shedder.level());
}

/// Removes idle entries of the rate limits and expired challenges, and lets the metrics recorder do the same.
async fn upkeep(
    state: Arc<AppState>,
    operators: OperatorApi,
    metrics: Option<PrometheusHandle>,
    lifecycle: Lifecycle,
) {
    let mut interval = tokio::time::interval(telemetry::UPKEEP_INTERVAL);
    while lifecycle.until_stopping(interval.tick()).await.is_some() {
        state.limits.remove_idle(state.clock.now());
        operators.remove_idle();
        state.shop.upkeep();
        state.proof_of_work.remove_expired();
        metrics::gauge!("stagedoor_proof_of_work_difficulty_bits")
            .set(f64::from(state.proof_of_work.bits(None, state.headroom())));
        if let Some(metrics) = &metrics {
            metrics.run_upkeep();
        }
    }
}

fn record_orders(box_office: &BoxOfficeState) {
    for (sale, orders) in box_office.checkout.stats() {
        let sale = sale.to_string();
        for (outcome, count) in [
            ("opened", orders.opened),
            ("paid", orders.paid),
            ("unpaid", orders.unpaid),
            ("refunded", orders.refunded),
            ("late_money", orders.late_money),
        ] {
            metrics::counter!("stagedoor_orders_total", "sale" => sale.clone(), "outcome" => outcome)
                .absolute(count);
        }
        metrics::gauge!("stagedoor_orders_in_progress", "sale" => sale).set(as_f64(orders.in_progress));
    }
}

fn record_outbox(box_office: &BoxOfficeState) {
    let events = box_office.checkout.events();
    let counts = events.counts();
    metrics::gauge!("stagedoor_outbox_undelivered_events").set(as_f64(counts.undelivered));
    metrics::gauge!("stagedoor_outbox_dead_letters").set(as_f64(counts.dead));
    metrics::gauge!("stagedoor_outbox_oldest_event_age_seconds").set(events.oldest_age().as_secs_f64());
    for outcome in ["accepted", "failed", "dead", "expired"] {
        metrics::counter!("stagedoor_outbox_deliveries_total", "outcome" => outcome).increment(0);
    }
}

fn record_seats(box_office: &BoxOfficeState) {
    for sale in box_office.app.sales.keys() {
        for performance in box_office.seating.performances(sale) {
            let performance_name = performance.config().performance.to_string();
            for stock in performance.stock() {
                for (state, count) in [
                    ("free", stock.free),
                    ("free_for_wheelchairs", stock.free_for_wheelchairs),
                    ("held", stock.held),
                    ("booked", stock.booked),
                    ("blocked", stock.blocked),
                ] {
                    metrics::gauge!(
                        "stagedoor_seats",
                        "sale" => sale.to_string(),
                        "performance" => performance_name.clone(),
                        "zone" => stock.zone.clone(),
                        "state" => state
                    )
                    .set(f64::from(count));
                }
            }
        }
    }
}

fn record_waiting_rooms(waiting_room: &WaitingRoomState) {
    for (sale, room) in waiting_room.rooms.iter() {
        let figures = room.metrics();
        let sale = sale.to_string();
        for (metric, total) in [
            (
                "stagedoor_waiting_room_numbers_issued_total",
                figures.numbers_issued,
            ),
            (
                "stagedoor_waiting_room_admissions_total",
                figures.admissions_total,
            ),
        ] {
            metrics::counter!(metric, "sale" => sale.clone()).absolute(total);
        }
        for (metric, value) in [
            ("stagedoor_waiting_room_now_serving", as_f64(figures.now_serving)),
            (
                "stagedoor_waiting_room_active_visits",
                f64::from(figures.active_visits),
            ),
            (
                "stagedoor_waiting_room_active_visits_max",
                f64::from(figures.active_visits_max),
            ),
            ("stagedoor_waiting_room_claimants", f64::from(figures.claimants)),
            (
                "stagedoor_waiting_room_admission_rate_effective_per_second",
                f64::from(figures.admission_rate_effective_per_minute) / 60.0,
            ),
            (
                "stagedoor_waiting_room_admission_rate_configured_per_second",
                f64::from(figures.admission_rate_configured_per_minute) / 60.0,
            ),
        ] {
            metrics::gauge!(metric, "sale" => sale.clone()).set(value);
        }
        if let Some(percent) = figures.online_percent {
            metrics::gauge!("stagedoor_waiting_room_online_ratio", "sale" => sale.clone())
                .set(f64::from(percent) / 100.0);
        }
        let forecasts = figures.forecast_outcomes;
        for (outcome, count) in [
            ("within", forecasts.within),
            ("sooner", forecasts.sooner),
            ("later", forecasts.later),
            ("invalidated", forecasts.invalidated),
            ("unlikely_missed", forecasts.unlikely_missed),
            ("unlikely_served", forecasts.unlikely_served),
        ] {
            metrics::counter!(
                "stagedoor_waiting_room_forecasts_total",
                "sale" => sale.clone(),
                "outcome" => outcome
            )
            .absolute(count);
        }
        if let Some(draw) = room.draw_progress() {
            record_draw(&sale, &draw);
        }
    }
}

fn record_draw(sale: &str, draw: &DrawProgress) {
    for (metric, value) in [
        ("stagedoor_waiting_room_draw_step", f64::from(draw.step)),
        ("stagedoor_waiting_room_draw_entries", f64::from(draw.entries)),
        (
            "stagedoor_waiting_room_draw_round_timestamp_seconds",
            as_f64(u64::try_from(draw.round_at.as_secs()).unwrap_or(0)),
        ),
        (
            "stagedoor_waiting_room_draw_beacon_late",
            f64::from(u8::from(draw.beacon_is_late)),
        ),
    ] {
        metrics::gauge!(metric, "sale" => sale.to_owned()).set(value);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of visitors and orders, and seconds, are far below 2^53"
)]
fn as_f64(count: u64) -> f64 {
    count as f64
}

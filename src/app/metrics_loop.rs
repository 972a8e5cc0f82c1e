//! The small rounds of a house: gauges are set, idle addresses forgotten, metrics kept.

use std::{sync::Arc, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;

use crate::app::build::Parts;
use crate::{
    edge::{
        BoxOfficeState, WaitingRoomState, AppState,
        overload::shed::{self, Priority},
    },
    ops::telemetry,
    platform::shutdown::Lifecycle,
};

const RECORD_INTERVAL: Duration = Duration::from_millis(500);

/// Starts them.
pub(crate) fn start(parts: &Parts, metrics: Option<PrometheusHandle>, background: &Lifecycle) {
    let (house, door, office, gauged) = (
        Arc::clone(&parts.house),
        parts.waiting_room.clone(),
        parts.box_office.clone(),
        background.clone(),
    );
    background.supervise("gauges", RECORD_INTERVAL, move || {
        let (house, door, office, life) = (Arc::clone(&house), door.clone(), office.clone(), gauged.clone());
        async move {
            let mut every = tokio::time::interval(RECORD_INTERVAL);
            while life.until_stopping(every.tick()).await.is_some() {
                metrics::counter!("edge_requests_total").absolute(house.in_flight.asked());
                record_edge(&house);
                if let Some(door) = &door {
                    record_waiting_rooms(door);
                }
                if let Some(office) = &office {
                    record_box_office(office);
                }
            }
        }
    });
    let (house, life) = (Arc::clone(&parts.house), background.clone());
    let office = parts.box_office.clone();
    background.supervise("overload", RECORD_INTERVAL, move || {
        shed::run(Arc::clone(&house), office.clone(), life.clone())
    });
    let (house, life) = (Arc::clone(&parts.house), background.clone());
    background.supervise("housekeeping", telemetry::UPKEEP_INTERVAL, move || {
        upkeep(Arc::clone(&house), metrics.clone(), life.clone())
    });
}

fn record_edge(house: &AppState) {
    for class in Priority::ALL {
        metrics::counter!("edge_turned_away_total", "class" => class.name())
            .absolute(house.load_shedder.turned_away(class));
    }
    metrics::gauge!("edge_lag_seconds").set(house.load_shedder.lag().as_secs_f64());
    metrics::gauge!("edge_inside_late").set(f64::from(u8::from(house.load_shedder.is_box_office_overloaded())));
    metrics::gauge!("edge_valve_closed").set(house.load_shedder.level());
}

async fn upkeep(house: Arc<AppState>, metrics: Option<PrometheusHandle>, life: Lifecycle) {
    let mut every = tokio::time::interval(telemetry::UPKEEP_INTERVAL);
    while life.until_stopping(every.tick()).await.is_some() {
        for limit in [
            &house.limits.sign_ins,
            &house.limits.joins,
            &house.limits.requests,
        ] {
            limit.remove_idle();
        }
        house.proof_of_work.remove_expired();
        metrics::gauge!("edge_proof_of_work_bits")
            .set(f64::from(house.proof_of_work.bits(None, house.in_use())));
        if let Some(metrics) = &metrics {
            metrics.run_upkeep();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of orders are far below 2^53")]
fn record_box_office(office: &BoxOfficeState) {
    let orders = office.checkout.stats();
    for (state, count) in [
        ("running", orders.running),
        ("opened", orders.opened),
        ("paid", orders.paid),
        ("unpaid", orders.unpaid),
        ("returned", orders.returned),
        ("late_money", orders.late_money),
    ] {
        metrics::gauge!("checkout_orders", "state" => state).set(count as f64);
    }
    for performance in office
        .house
        .sales
        .keys()
        .flat_map(|sale| office.seating.performances(sale))
    {
        let name = performance.config().performance.to_string();
        for stock in performance.stock() {
            for (state, count) in [
                ("free", stock.free),
                ("held", stock.held),
                ("booked", stock.booked),
                ("blocked", stock.blocked),
            ] {
                metrics::gauge!("seating_seats", "performance" => name.clone(), "zone" => stock.zone.clone(), "state" => state)
                    .set(f64::from(count));
            }
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of fans, and of seconds, are far below 2^53"
)]
fn record_waiting_rooms(door: &WaitingRoomState) {
    for (sale, room) in door.rooms.iter() {
        let figures = room.figures();
        let name = sale.to_string();
        for (metric, value) in [
            ("waiting_room_issued", figures.issued),
            ("waiting_room_now_serving", figures.now_serving),
            ("waiting_room_active", u64::from(figures.active)),
            ("waiting_room_capacity", u64::from(figures.capacity)),
            ("waiting_room_claimants", u64::from(figures.claimants)),
            ("waiting_room_rate_per_minute", u64::from(figures.rate_per_minute)),
            (
                "waiting_room_rate_ordered_per_minute",
                u64::from(figures.rate_ordered_per_minute),
            ),
        ] {
            metrics::gauge!(metric, "sale" => name.clone()).set(value as f64);
        }
        if let Some(draw) = room.draw_progress() {
            metrics::gauge!("waiting_room_draw_step", "sale" => name.clone()).set(f64::from(draw.step));
            metrics::gauge!("waiting_room_draw_entries", "sale" => name.clone()).set(f64::from(draw.entries));
            metrics::gauge!("waiting_room_draw_round_at", "sale" => name.clone())
                .set(draw.round_at.as_secs() as f64);
            metrics::gauge!("waiting_room_draw_beacon_late", "sale" => name.clone())
                .set(f64::from(u8::from(draw.beacon_is_late)));
        }
        metrics::counter!("waiting_room_entries_total", "sale" => name.clone())
            .absolute(figures.entries_total);
        if let Some(percent) = figures.present_percent {
            metrics::gauge!("waiting_room_present_percent", "sale" => name.clone()).set(f64::from(percent));
        }
        let it = figures.statements;
        for (outcome, count) in [
            ("within", it.within),
            ("sooner", it.sooner),
            ("later", it.later),
            ("overtaken", it.overtaken),
        ] {
            metrics::counter!("waiting_room_forecasts_total", "sale" => name.clone(), "outcome" => outcome)
                .absolute(count);
        }
    }
}

//! The small rounds of a house: the door hears of the seats, metrics are kept, idle addresses forgotten.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics_exporter_prometheus::PrometheusHandle;

use crate::{
    edge::{House, SaleOnOffer},
    ops::telemetry,
    platform::lifecycle::Lifecycle,
    waiting_room::{BoxOfficeReport, ZoneStock},
};

/// The door hears of the seats so often.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// Starts them.
pub(super) fn keep_house(house: &Arc<House>, metrics: Option<PrometheusHandle>, background: &Lifecycle) {
    let reported = Arc::clone(house);
    let sequence = Arc::new(AtomicU64::new(1));
    background.supervise("box office report", REPORT_EVERY, move || {
        let (house, sequence) = (Arc::clone(&reported), Arc::clone(&sequence));
        async move {
            let mut every = tokio::time::interval(REPORT_EVERY);
            loop {
                every.tick().await;
                report(&house, sequence.fetch_add(1, Ordering::Relaxed));
            }
        }
    });
    let kept = Arc::clone(house);
    background.supervise("housekeeping", telemetry::UPKEEP_EVERY, move || {
        let (house, metrics) = (Arc::clone(&kept), metrics.clone());
        async move {
            let mut every = tokio::time::interval(telemetry::UPKEEP_EVERY);
            loop {
                every.tick().await;
                for limit in [&house.limits.sign_ins, &house.limits.joins, &house.limits.requests] {
                    limit.forget_idle();
                }
                if let Some(metrics) = &metrics {
                    metrics.run_upkeep();
                }
            }
        }
    });
}

#[expect(clippy::cast_precision_loss, reason = "counts of orders are far below 2^53")]
fn report(house: &House, sequence: u64) {
    let paying = house.checkout.visits_kept();
    let orders = house.checkout.figures();
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
    for sale in house.sales.values() {
        let mut zones: Vec<ZoneStock> = Vec::new();
        for performance in house.seating.performances(&sale.id) {
            let name = performance.config().performance.to_string();
            for stock in performance.stock() {
                for (state, count) in [("free", stock.free), ("held", stock.held), ("booked", stock.booked), ("blocked", stock.blocked)] {
                    metrics::gauge!("seating_seats", "performance" => name.clone(), "zone" => stock.zone.clone(), "state" => state)
                        .set(f64::from(count));
                }
                match zones.iter_mut().find(|it| it.zone == stock.zone) {
                    Some(it) => {
                        it.free += stock.free;
                        it.held += stock.held;
                        it.booked += stock.booked;
                        it.blocked += stock.blocked;
                    }
                    None => {
                        zones.push(ZoneStock {
                            zone: stock.zone,
                            free: stock.free,
                            held: stock.held,
                            booked: stock.booked,
                            blocked: stock.blocked,
                        });
                    }
                }
            }
        }
        sale.room.box_office_report(BoxOfficeReport { sequence, zones, ended: Vec::new(), paying: paying.clone() });
        gauges(sale);
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of fans are far below 2^53")]
fn gauges(sale: &SaleOnOffer) {
    let figures = sale.room.figures();
    let name = sale.id.to_string();
    for (metric, value) in [
        ("waiting_room_issued", figures.issued),
        ("waiting_room_now_serving", figures.now_serving),
        ("waiting_room_active", u64::from(figures.active)),
        ("waiting_room_capacity", u64::from(figures.capacity)),
        ("waiting_room_claimants", u64::from(figures.claimants)),
    ] {
        metrics::gauge!(metric, "sale" => name.clone()).set(value as f64);
    }
    metrics::counter!("waiting_room_entries_total", "sale" => name).absolute(figures.entries_total);
}

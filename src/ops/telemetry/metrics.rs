//! The one list of metrics, with kind, unit and sentence.
//!
//! Our own metrics have the prefix `stagedoor_`; the others have OpenTelemetry's names. Labels have few
//! values and never name a person or a seat.

use std::time::Duration;

use metrics::Unit;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Starts recording metrics. `None` when this process records already, as in tests.
pub fn init_metrics() -> Option<PrometheusHandle> {
    // Without buckets the exporter would publish summaries, which cannot be aggregated over nodes.
    let handle = PrometheusBuilder::new()
        .set_buckets(&DURATION_BUCKETS_S)
        .ok()?
        .install_recorder()
        .ok()?;
    for metric in METRICS {
        metric.describe();
    }
    Some(handle)
}

/// How often `PrometheusHandle::run_upkeep` must be called.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Upper bounds of the buckets of all histograms, which are durations in seconds.
const DURATION_BUCKETS_S: [f64; 13] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

#[derive(Clone, Copy)]
enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

struct Metric {
    name: &'static str,
    kind: MetricKind,
    unit: Unit,
    sentence: &'static str,
}

impl Metric {
    fn describe(&self) {
        match self.kind {
            MetricKind::Counter => metrics::describe_counter!(self.name, self.unit, self.sentence),
            MetricKind::Gauge => metrics::describe_gauge!(self.name, self.unit, self.sentence),
            MetricKind::Histogram => metrics::describe_histogram!(self.name, self.unit, self.sentence),
        }
    }
}

const fn counter(name: &'static str, sentence: &'static str) -> Metric {
    Metric {
        name,
        kind: MetricKind::Counter,
        unit: Unit::Count,
        sentence,
    }
}

const fn gauge(name: &'static str, unit: Unit, sentence: &'static str) -> Metric {
    Metric {
        name,
        kind: MetricKind::Gauge,
        unit,
        sentence,
    }
}

const fn seconds(name: &'static str, sentence: &'static str) -> Metric {
    Metric {
        name,
        kind: MetricKind::Histogram,
        unit: Unit::Seconds,
        sentence,
    }
}

/// Every metric of this process.
const METRICS: &[Metric] = &[
    // HTTP
    seconds(
        "http_server_request_duration_seconds",
        "Time from a request's head to its response, by route, method and status.",
    ),
    counter(
        "stagedoor_http_requests_received_total",
        "Requests received by the public listener, including those that were refused.",
    ),
    counter("stagedoor_http_problems_total", "Problem responses, by type."),
    counter(
        "stagedoor_http_request_timeouts_total",
        "Requests answered 503 because they exceeded server.request_timeout_ms.",
    ),
    counter(
        "stagedoor_connections_rejected_total",
        "Connections closed at once because too many were open, in all or from one IP.",
    ),
    counter(
        "stagedoor_connection_accept_errors_total",
        "Connections that could not be accepted for lack of file descriptors or memory.",
    ),
    gauge(
        "stagedoor_clock_offset_seconds",
        Unit::Seconds,
        "How far the clock of the machine, PostgreSQL or Redis is ahead of the one that this node follows.",
    ),
    // Overload
    counter(
        "stagedoor_requests_shed_total",
        "Requests refused to protect others from overload, by priority.",
    ),
    gauge(
        "stagedoor_load_shed_level",
        Unit::Count,
        "Shed level from 0 to 1; each quarter sheds one more priority class.",
    ),
    gauge(
        "stagedoor_runtime_queue_delay_seconds",
        Unit::Seconds,
        "How long a ready task waits for a thread: the minimum of the last 0.1 s.",
    ),
    gauge(
        "stagedoor_box_office_overloaded",
        Unit::Count,
        "1 while admitted visitors wait too long, which pauses admissions.",
    ),
    counter(
        "stagedoor_proof_of_work_total",
        "Proofs of work that joins presented or lacked, by outcome.",
    ),
    gauge(
        "stagedoor_proof_of_work_difficulty_bits",
        Unit::Count,
        "Difficulty for an IP without recent joins, in leading zero bits.",
    ),
    counter(
        "stagedoor_operator_refusals_total",
        "Operators' calls refused for their token, by reason: `wrong_token`, or `too_many` before it.",
    ),
    // Waiting room
    counter(
        "stagedoor_waiting_room_numbers_issued_total",
        "Queue numbers issued, by sale.",
    ),
    gauge(
        "stagedoor_waiting_room_now_serving",
        Unit::Count,
        "Highest queue number called, by sale.",
    ),
    gauge(
        "stagedoor_waiting_room_active_visits",
        Unit::Count,
        "Active visits, by sale.",
    ),
    gauge(
        "stagedoor_waiting_room_active_visits_max",
        Unit::Count,
        "Limit of active visits, by sale.",
    ),
    gauge(
        "stagedoor_waiting_room_claimants",
        Unit::Count,
        "Called visitors who wait for a free admission slot, by sale.",
    ),
    counter(
        "stagedoor_waiting_room_admissions_total",
        "Visitors admitted since the sale began, by sale.",
    ),
    gauge(
        "stagedoor_waiting_room_admission_rate_effective_per_second",
        Unit::CountPerSecond,
        "Admissions a second in effect, by sale; below the configured rate while the box office is \
        overloaded.",
    ),
    gauge(
        "stagedoor_waiting_room_admission_rate_configured_per_second",
        Unit::CountPerSecond,
        "Admissions a second as configured or set by an operator, by sale.",
    ),
    gauge(
        "stagedoor_waiting_room_online_ratio",
        Unit::Count,
        "Share of visitors near the front whose page is open, 0 to 1, by sale; estimated from a sample.",
    ),
    counter(
        "stagedoor_waiting_room_forecasts_total",
        "Published wait forecasts whose wait is over, by sale and outcome: `within` the interval (eight of \
         ten should be), `sooner`, `later`, or `invalidated` by a command or a pause. Of visitors who were \
         told that hardly a seat would be left: `unlikely_missed`, or `unlikely_served` when one was free \
         at their turn (two of ten may be).",
    ),
    counter(
        "stagedoor_waiting_room_rebuilds_total",
        "Times this node rebuilt a queue's store from the journal, by sale.",
    ),
    gauge(
        "stagedoor_waiting_room_draw_step",
        Unit::Count,
        "Progress of a fair draw, by sale: 0 committed, 1 entries closed, 2 held.",
    ),
    gauge(
        "stagedoor_waiting_room_draw_entries",
        Unit::Count,
        "Entries of a fair draw, by sale; 0 before they are closed.",
    ),
    gauge(
        "stagedoor_waiting_room_draw_round_timestamp_seconds",
        Unit::Seconds,
        "When the deciding round of the beacon is published, in seconds since 1970, by sale.",
    ),
    gauge(
        "stagedoor_waiting_room_draw_beacon_late",
        Unit::Count,
        "1 while the round is over and cannot be fetched, by sale; if this lasts, change \
        sales.draw.beacon_url.",
    ),
    // Box office
    gauge(
        "stagedoor_seats",
        Unit::Count,
        "Seats by sale, performance, zone and state.",
    ),
    gauge(
        "stagedoor_seat_store_ledger_mismatch_seats",
        Unit::Count,
        "Seats on which the seat store and the ledger disagree, by sale and performance; must be 0.",
    ),
    counter(
        "stagedoor_seat_store_data_loss_total",
        "Times this node found that the seat store had lost its data, by sale and performance.",
    ),
    counter(
        "stagedoor_orders_total",
        "Orders since this process started, by sale and outcome.",
    ),
    gauge(
        "stagedoor_orders_in_progress",
        Unit::Count,
        "Orders in progress at this node, by sale.",
    ),
    counter(
        "stagedoor_box_office_reports_total",
        "Reports to waiting rooms in other processes, by outcome.",
    ),
    gauge(
        "stagedoor_outbox_undelivered_events",
        Unit::Count,
        "Events that are still to be sent to the shop, dead letters included; 0 without a receiver.",
    ),
    gauge(
        "stagedoor_outbox_dead_letters",
        Unit::Count,
        "Events that are not sent any more, each of which stops the later ones of its order; an operator \
        must send it again or skip it.",
    ),
    gauge(
        "stagedoor_outbox_oldest_event_age_seconds",
        Unit::Seconds,
        "Age of the oldest event that is still to be sent to the shop; 0 without one.",
    ),
    counter(
        "stagedoor_outbox_deliveries_total",
        "Attempts to deliver an event to the shop, by outcome: `accepted`, `failed` (sent again), `dead`.",
    ),
    // Databases and the shop
    seconds(
        "db_client_operation_duration_seconds",
        "Time of a database operation including its retries, by system (redis, postgresql) and operation.",
    ),
    counter(
        "stagedoor_redis_errors_total",
        "Calls that Redis rejected; each is an error in the log.",
    ),
    counter(
        "stagedoor_redis_reconnects_total",
        "Connections to Redis that were lost and made again.",
    ),
    counter(
        "stagedoor_key_set_fetches_total",
        "Fetches of the shop's JSON Web Key Set, by outcome.",
    ),
    counter(
        "stagedoor_shop_queries_total",
        "Queries to the shop's database, by outcome.",
    ),
    counter(
        "stagedoor_shop_password_checks_total",
        "Passwords verified, by outcome.",
    ),
    counter(
        "stagedoor_shop_sign_ins_total",
        "Sign-ins, by method and outcome.",
    ),
    counter(
        "stagedoor_shop_circuit_breaker_opened_total",
        "Times the circuit breaker stopped queries to the shop's database.",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn metric_names_are_unique_and_follow_the_conventions() {
        let mut names = HashSet::new();
        for Metric {
            name, kind, sentence, ..
        } in METRICS
        {
            assert!(names.insert(name), "{name} is listed twice");
            assert_eq!(
                name.ends_with("_total"),
                matches!(kind, MetricKind::Counter),
                "{name}"
            );
            assert!(
                name.starts_with("stagedoor_") || matches!(kind, MetricKind::Histogram),
                "{name} needs the prefix"
            );
            assert!(sentence.ends_with('.'), "{name} needs a sentence");
        }
    }
}

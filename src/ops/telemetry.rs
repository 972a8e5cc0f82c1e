//! Logs to standard error, one line a fact; metrics in one list.

use std::{io::IsTerminal, time::Duration};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use super::config::LogFormat;

/// Starts logging. A second start in one process (tests) leaves the first in place.
pub fn init_logs(level: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let _ = match format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}

/// Starts counting. `None` when this process counts already (tests).
pub fn init_metrics() -> Option<PrometheusHandle> {
    let handle = PrometheusBuilder::new().install_recorder().ok()?;
    describe();
    Some(handle)
}

/// How often [`PrometheusHandle::run_upkeep`] wants to be called.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Every metric of this process, with unit and sentence; names are fixed, labels are few and never a person or a seat.
const METRICS: &[(&str, &str)] = &[
    (
        "edge_requests_total",
        "Requests that came to the public listener, refused ones too.",
    ),
    (
        "edge_connections_refused_total",
        "Connections closed at once because too many were open, in all or from one address.",
    ),
    (
        "edge_accept_errors_total",
        "Connections that could not be accepted for want of files or memory.",
    ),
    (
        "edge_problems_total",
        "Answers that said why not, by problem type.",
    ),
    (
        "edge_turned_away_total",
        "Requests that were turned away so that others are answered in time, by class.",
    ),
    (
        "edge_lag_seconds",
        "How long a request waits before it is looked at: the least of the last tenth of a second.",
    ),
    (
        "edge_inside_late",
        "1 while visitors have to wait for too long, so that nobody is let in.",
    ),
    (
        "edge_valve_closed",
        "How far requests are turned away: 0 nobody, 1/4 all browsing, 1/2 those who enter too, 3/4 the queue too, 1 all but what settles.",
    ),
    (
        "edge_timeouts_total",
        "Requests answered 503 because the house took too long.",
    ),
    (
        "edge_proofs_of_work_total",
        "Proofs of work that joins brought, or should have brought, by outcome.",
    ),
    (
        "edge_proof_of_work_bits",
        "What a join from an address that has not joined of late costs, as a power of two of hashes.",
    ),
    ("waiting_room_issued", "Queue numbers given, by sale."),
    (
        "waiting_room_now_serving",
        "Highest queue number called, by sale.",
    ),
    ("waiting_room_active", "Visitors behind the door, by sale."),
    (
        "waiting_room_capacity",
        "Visitors that may be behind the door, by sale.",
    ),
    (
        "waiting_room_claimants",
        "Called fans at the door who wait for a free slot, by sale.",
    ),
    (
        "waiting_room_rate_per_minute",
        "Entries a minute in force, by sale; below the ordered rate while the box office suffers.",
    ),
    (
        "waiting_room_rate_ordered_per_minute",
        "Entries a minute as configured or ordered, by sale.",
    ),
    (
        "waiting_room_entries_total",
        "Visitors let in since the sale was made, by sale.",
    ),
    (
        "waiting_room_draw_step",
        "How far a fair draw has come, by sale: 0 promised, 1 its entries are closed, 2 held.",
    ),
    (
        "waiting_room_draw_entries",
        "Entries of a fair draw, by sale; 0 before they are closed.",
    ),
    (
        "waiting_room_draw_round_at",
        "When the round of the beacon that decides is over, in seconds since 1970, by sale.",
    ),
    (
        "waiting_room_draw_beacon_late",
        "1 while the round is over and its value cannot be had, by sale: change sales.draw.beacon_url if that lasts.",
    ),
    (
        "waiting_room_present_percent",
        "Of a hundred fans near the front, how many have their page open, by sale; from a sample.",
    ),
    (
        "waiting_room_forecasts_total",
        "Published waits whose end is known, by sale and outcome: `within` the range (eight of ten should be), `sooner`, `later`, or `overtaken` by an order or a pause.",
    ),
    ("seating_seats", "Seats by performance and state."),
    (
        "seating_drift_seats",
        "Seats on which the engine and the ledger disagree, by performance; must read 0.",
    ),
    (
        "seating_memories_lost_total",
        "Times this node found that the seat engine had lost its memory, by performance.",
    ),
    (
        "waiting_room_rebuilds_total",
        "Times this node gave the queue's engine its memory back.",
    ),
    (
        "redis_refusals_total",
        "Calls that Redis refused; each is an error in the log.",
    ),
    (
        "redis_connections_lost_total",
        "Connections to Redis that were lost and made again.",
    ),
    (
        "box_office_reports_total",
        "Reports to doors in other processes, by outcome.",
    ),
    (
        "checkout_orders",
        "Orders since this process started, by what became of them; `running` are under way now.",
    ),
    (
        "shop_queries_total",
        "Queries to the shop's database, by outcome.",
    ),
    ("shop_password_checks_total", "Passwords checked, by outcome."),
    ("shop_sign_ins_total", "Sign-ins, by way and outcome."),
    (
        "shop_breaker_opened_total",
        "Times the shop's database was left alone because it had failed.",
    ),
];

fn describe() {
    for (name, sentence) in METRICS {
        if name.ends_with("_total") {
            metrics::describe_counter!(*name, *sentence);
        } else {
            metrics::describe_gauge!(*name, *sentence);
        }
    }
}

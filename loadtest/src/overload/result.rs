//! The result of the overload measurement.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::recorder::Latency;

/// The goodput curve, and the recovery after the last stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OverloadResult {
    /// The machine and the build.
    pub machine: String,
    /// The service under test.
    pub service: String,
    /// The saturating load in visitors a second.
    pub saturating_per_s: f64,
    /// The best goodput of all stages.
    pub peak_per_s: f64,
    /// One per multiple.
    pub stages: Vec<Stage>,
    /// Goodput at ten times the saturating load over the peak.
    pub goodput_ratio: f64,
    /// The median latency of a refusal at ten times.
    pub refusal_p50_ms: f64,
    /// Seconds after the end of the overload until no call was refused and each answer was as fast as that of
    /// a service that was never overloaded. `None`: longer than was observed.
    pub normal_after_s: Option<u64>,
    /// Growth of resident memory from a quarter into the last stage to its end.
    pub rss_growth_kib: i64,
    /// The same without the memory that the visitors who joined may take.
    pub rss_growth_without_fans_kib: i64,
}

/// One multiple of the saturating load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stage {
    /// The multiple; 0 while searching.
    pub factor: f64,
    /// Visitors a second who arrived.
    pub offered_per_s: f64,
    /// Tickets a second.
    pub goodput_per_s: f64,
    /// Joins a second.
    pub joins_per_s: f64,
    /// Refused calls.
    pub refused: u64,
    /// Failed calls.
    pub failed: u64,
    /// Latencies of all refusals.
    pub refusal: Latency,
    /// Refusals by kind of call.
    pub refused_by_call: BTreeMap<String, RefusedCalls>,
    /// Latencies of holds.
    pub hold: Latency,
    /// Latencies of orders.
    pub order: Latency,
    /// Resident memory of the service a quarter into the stage.
    pub rss_quarter_kib: u64,
    /// Resident memory at the end of the stage.
    pub rss_end_kib: u64,
    /// Visitors who joined between those two moments.
    pub joined_between: u64,
}

/// Refusals of one kind of call.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct RefusedCalls {
    /// How many.
    pub count: u64,
    /// Their median latency.
    pub p50_ms: f64,
}

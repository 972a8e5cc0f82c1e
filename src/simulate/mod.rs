//! Simulation: whole sales in virtual time, to see how admission and its forecasts perform before a real
//! crowd finds out. `stagedoor rehearse` runs it.
//!
//! A simulated sale runs the waiting room's own policy, show rate model, wait model and memory store; only
//! the clock, the crowd and the journal's disk are not real. A seed replays a sale exactly.

pub(crate) mod checker;
mod crowd;
mod forecasts;
mod sale;
mod scenarios;

use serde::Serialize;

pub use self::{
    forecasts::ForecastScore,
    scenarios::{SCENARIOS, Scenario, UnknownScenario, named},
};
use self::{
    forecasts::{Forecast, UnlikelyOutcomes, score},
    sale::{Sale, Timeline},
};
use crate::waiting_room::store::port::StoreError;

/// One simulated sale.
#[derive(Debug)]
pub struct Rehearsal {
    /// Seed of its randomness.
    pub seed: u64,
    /// Queue, visits and forecasts over virtual time.
    pub history: SaleHistory,
    forecasts: Vec<Forecast>,
    without_forecast: u32,
    unlikely: UnlikelyOutcomes,
    slots: [u64; 2],
    came: u64,
    refused_at_first: u64,
    extra_waits_ms: Vec<u64>,
    entries: u64,
    late_entries: u64,
    violations: Vec<String>,
    violations_total: u64,
}

/// How a sale went, for plots.
#[derive(Clone, Debug, Default)]
pub struct SaleHistory {
    /// Active visits at most.
    pub active_visits_max: u32,
    /// Second in which the last seat was booked.
    pub sold_out_s: Option<u32>,
    /// Moments in order of time.
    pub points: Vec<HistoryPoint>,
}

/// One moment of a sale. The forecast is that for a visitor who joins at the end of the queue at this moment.
#[derive(Clone, Copy, Debug)]
pub struct HistoryPoint {
    /// Seconds after the start.
    pub at_s: u32,
    /// Numbers that wait to be called.
    pub waiting: u32,
    /// Active visits.
    pub active_visits: u32,
    /// Entries so far.
    pub entries: u64,
    /// Forecast of the wait: p10, p50, p90 in seconds.
    pub wait_s: Option<[u32; 3]>,
    /// The wait that it turned out to be, in seconds.
    pub actual_s: Option<u32>,
}

/// Results of many simulated sales of one scenario. Names are those of the report's JSON.
#[derive(Clone, Debug, Serialize)]
pub struct ScenarioReport {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// Whether something happens in it that no forecast can know.
    pub is_disturbed: bool,
    /// Metrics of all its sales.
    #[serde(flatten)]
    pub metrics: SimulationMetrics,
    /// Violations of invariants, in words.
    pub violations: Vec<String>,
    /// Seeds with violations.
    pub broken_seeds: Vec<u64>,
}

/// Metrics of simulated sales; `null` where a sale gave nothing to measure.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct SimulationMetrics {
    /// Simulated sales.
    pub runs: usize,
    /// Score of the forecasts.
    #[serde(flatten)]
    pub forecast_score: ForecastScore,
    /// Standard error of the coverage, from how it differs between the sales: waits of one sale share its
    /// luck, so few sales say little however many visitors they have. `null` for one sale.
    pub coverage_error: Option<f64>,
    /// Share of the slots in use after ramp-up, while visitors waited.
    pub slot_use: Option<f64>,
    /// Share of called visitors who found no slot at once.
    pub refused_at_first: Option<f64>,
    /// 95th percentile of how long those then waited, in seconds.
    pub extra_wait_p95_s: Option<f64>,
    /// Share of entries that were late arrivals.
    pub late_arrival_share: Option<f64>,
    /// Visitors who were told, when asked once at random, that hardly a seat would be left.
    pub told_unlikely: u64,
    /// Share of these at whose turn a seat was free; 0.2 at most if the forecast is right.
    pub unlikely_served_share: Option<f64>,
    /// How often a forecast was asked for and none was published.
    pub without_forecast: u64,
    /// Violations of invariants.
    pub violations_total: u64,
}

/// Simulates one sale.
///
/// # Errors
/// [`StoreError`] when the store and the simulated journal disagree.
pub async fn rehearse(scenario: &Scenario, fans: u32, seed: u64) -> Result<Rehearsal, StoreError> {
    let (timeline, issued_by) = Sale::new(scenario, fans, seed).run().await?;
    let (forecasts, unsaid) = forecasts::draw(&timeline, &issued_by, seed);
    let (violations, violations_total) = timeline.checker.violations();
    Ok(Rehearsal {
        seed,
        history: history_of(&timeline),
        forecasts,
        without_forecast: unsaid,
        unlikely: forecasts::draw_unlikely(&timeline, &issued_by, seed),
        slots: [timeline.slots.used, timeline.slots.offered],
        came: timeline.came,
        refused_at_first: timeline.refused_at_first,
        entries: timeline.checker.entries(),
        late_entries: timeline.checker.late_entries(),
        violations: violations.to_vec(),
        violations_total,
        extra_waits_ms: timeline.extra_waits_ms,
    })
}

/// Evaluates the simulated sales of one scenario.
pub fn evaluate(scenario: &Scenario, rehearsals: &[Rehearsal]) -> ScenarioReport {
    let mut violations: Vec<String> = rehearsals
        .iter()
        .flat_map(|it| {
            it.violations
                .iter()
                .map(|what| format!("seed {}: {what}", it.seed))
        })
        .collect();
    violations.truncate(20);
    ScenarioReport {
        scenario: scenario.name,
        is_disturbed: scenario.is_disturbed(),
        metrics: metrics(rehearsals),
        violations,
        broken_seeds: rehearsals
            .iter()
            .filter(|it| it.violations_total > 0)
            .map(|it| it.seed)
            .collect(),
    }
}

/// Metrics of any simulated sales together.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub fn metrics<'a>(rehearsals: impl IntoIterator<Item = &'a Rehearsal>) -> SimulationMetrics {
    let rehearsals: Vec<&Rehearsal> = rehearsals.into_iter().collect();
    let forecasts: Vec<Forecast> = rehearsals
        .iter()
        .flat_map(|it| it.forecasts.iter().copied())
        .collect();
    let sum = |of: fn(&Rehearsal) -> u64| rehearsals.iter().map(|it| of(it)).sum::<u64>();
    let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
    let mut extra_ms: Vec<u64> = rehearsals
        .iter()
        .flat_map(|it| it.extra_waits_ms.iter().copied())
        .collect();
    extra_ms.sort_unstable();
    SimulationMetrics {
        runs: rehearsals.len(),
        forecast_score: score(&forecasts),
        coverage_error: standard_error(rehearsals.iter().filter_map(|it| score(&it.forecasts).coverage)),
        slot_use: share(sum(|it| it.slots[0]), sum(|it| it.slots[1])),
        refused_at_first: share(sum(|it| it.refused_at_first), sum(|it| it.came)),
        extra_wait_p95_s: extra_ms
            .get(extra_ms.len() * 95 / 100)
            .map(|&ms| ms as f64 / 1_000.0),
        late_arrival_share: share(sum(|it| it.late_entries), sum(|it| it.entries)),
        told_unlikely: sum(|it| it.unlikely.told),
        unlikely_served_share: share(sum(|it| it.unlikely.served), sum(|it| it.unlikely.told)),
        without_forecast: sum(|it| it.without_forecast.into()),
        violations_total: sum(|it| it.violations_total),
    }
}

/// Standard error of the mean of these; `None` for fewer than two.
#[expect(clippy::cast_precision_loss, reason = "a few sales")]
fn standard_error(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    if values.len() < 2 {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    Some((variance / count).sqrt())
}

/// Points of a plot at most.
const POINTS_MAX: usize = 400;

fn history_of(timeline: &Timeline) -> SaleHistory {
    let every = timeline.statuses.len().div_ceil(POINTS_MAX).max(1);
    let seconds = |ms: u64| u32::try_from(ms / 1_000).unwrap_or(u32::MAX);
    let points = timeline
        .statuses
        .iter()
        .enumerate()
        .step_by(every)
        .map(|(second, status)| {
            let at_s = u32::try_from(second).unwrap_or(u32::MAX);
            let called = timeline
                .calls
                .get(timeline.calls.partition_point(|(upto, _)| *upto < status.issued));
            let waiting = status.issued.saturating_sub(status.now_serving);
            HistoryPoint {
                at_s,
                waiting,
                active_visits: status.active,
                entries: status.entries,
                wait_s: crate::waiting_room::forecast::wait_table::interpolate(
                    &status.table,
                    waiting.saturating_sub(1).into(),
                ),
                actual_s: called.map(|(_, ms)| seconds(*ms).saturating_sub(at_s)),
            }
        });
    SaleHistory {
        active_visits_max: timeline.capacity,
        sold_out_s: timeline.sold_out_ms.map(seconds),
        points: points.collect(),
    }
}

#[cfg(test)]
mod tests;

//! A run's result as one JSON file, which can be compared with another result or merged with other parts of
//! the run.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use stagedoor::demo::client::Observations;

use crate::{
    audit::Verdict,
    forecast_check::ForecastFigures,
    recorder::{CallStats, Second},
    sse_client::StreamFigures,
};

/// The file with what the clients of one process observed.
pub const OBSERVATIONS_FILE: &str = "observations.json";
/// A hold is gone this long after its deadline at the latest.
pub const EXPIRY_GRACE: Duration = Duration::from_secs(15);

/// The result of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunResult {
    /// `run` or `flash`, and the settings in words.
    pub what: String,
    /// The service under test.
    pub service: String,
    /// The machine and the build.
    pub machine: String,
    /// The version of the load test.
    pub version: String,
    /// When the crowd started to arrive, RFC 3339.
    pub began_at: String,
    /// How long the run took.
    pub seconds: f64,
    /// Why the run ended early, if it did.
    pub ended_early: Option<String>,
    /// Which part of a shared run this is, for instance `2/3`.
    pub part: Option<String>,
    /// The visitors' outcomes.
    pub fans: FanFigures,
    /// Latencies by kind of call.
    pub calls: BTreeMap<String, CallStats>,
    /// Errors by kind.
    pub errors: BTreeMap<String, u64>,
    /// One row a second.
    pub series: Vec<Second>,
    /// Useful work.
    pub goodput: Goodput,
    /// The event streams, if there were any.
    pub streams: Option<StreamFigures>,
    /// The service's process, if the run started it.
    pub server: Option<ProcessFigures>,
    /// The load test's own process.
    pub client: Option<ProcessFigures>,
    /// What the status told of waits, and how it came out; absent in merged results.
    #[serde(default)]
    pub forecasts: Option<ForecastFigures>,
    /// The auditor's verdict.
    pub audit: Option<Verdict>,
}

/// The visitors' outcomes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FanFigures {
    /// Visitors who were to come.
    pub coming: u32,
    /// Acknowledged joins.
    pub joined: u32,
    /// Admissions.
    pub entered: u32,
    /// Granted holds.
    pub held: u32,
    /// Holds that another visitor's hold prevented.
    pub conflicts: u32,
    /// Delivered tickets.
    pub tickets: u32,
    /// The highest number of active visits.
    pub active_max: u32,
    /// Visitors by how their day ended.
    pub endings: BTreeMap<String, u32>,
    /// Orders by their last state.
    pub orders: BTreeMap<String, u32>,
}

/// Useful work over the whole run.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Goodput {
    /// Answers a second.
    pub answered_per_s: f64,
    /// Joins a second in the best ten seconds.
    pub joins_per_s: f64,
    /// Admissions a second in the best ten seconds.
    pub entries_per_s: f64,
    /// Tickets a second in the best ten seconds.
    pub tickets_per_s: f64,
}

/// Memory and CPU time of a process.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ProcessFigures {
    /// Resident memory before the run.
    pub rss_before_kib: u64,
    /// Resident memory when all had joined.
    pub rss_joined_kib: u64,
    /// The highest resident memory.
    pub rss_peak_kib: u64,
    /// CPU time of the run.
    pub cpu_s: f64,
    /// The growth until all had joined, for each of them; absent where the process has not grown.
    pub bytes_per_fan: Option<f64>,
}

impl ProcessFigures {
    /// The memory of a fan in words.
    pub fn memory_of_a_fan(&self) -> String {
        self.bytes_per_fan
            .map_or_else(|| "not measurable".into(), |bytes| format!("{bytes:.0} B a fan"))
    }
}

impl Goodput {
    /// The goodput of a run's seconds.
    #[expect(clippy::cast_precision_loss, reason = "counts of a run")]
    pub fn of(series: &[Second]) -> Self {
        let best = |of: fn(&Second) -> u64| {
            let width = series.len().clamp(1, 10);
            series
                .windows(width)
                .map(|window| window.iter().map(of).sum::<u64>() as f64 / width as f64)
                .fold(0.0, f64::max)
        };
        let answered: u64 = series.iter().map(|second| second.answered).sum();
        Self {
            answered_per_s: answered as f64 / series.len().max(1) as f64,
            joins_per_s: best(|second| second.joins),
            entries_per_s: best(|second| second.entries),
            tickets_per_s: best(|second| second.tickets),
        }
    }
}

impl RunResult {
    /// Reads a `result.json`.
    ///
    /// # Errors
    /// The file cannot be read or has another form.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a result of a load test", file.display()))
    }

    /// Writes a `result.json`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        fs::write(file, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Merges all parts of one run: counts and histograms are added, seconds are aligned.
    ///
    /// # Errors
    /// A part is missing, given twice, or of another run.
    pub fn merged(parts: &[Self]) -> anyhow::Result<Self> {
        let Some(first) = parts.first() else {
            bail!("no part is given")
        };
        check_parts(parts)?;
        let mut whole = Self {
            part: None,
            ..first.clone()
        };
        for part in &parts[1..] {
            if part.service != first.service || part.what != first.what {
                bail!(
                    "parts of different runs: {}, {}; and {}, {}",
                    first.what,
                    first.service,
                    part.what,
                    part.service
                );
            }
            whole.seconds = whole.seconds.max(part.seconds);
            whole.ended_early = whole.ended_early.or_else(|| part.ended_early.clone());
            whole.fans.add(&part.fans);
            for (name, stats) in &part.calls {
                let sum = whole.calls.entry(name.clone()).or_default();
                sum.answered = sum.answered.merged(&stats.answered);
                sum.refused = sum.refused.merged(&stats.refused);
                sum.failed += stats.failed;
            }
            for (kind, count) in &part.errors {
                *whole.errors.entry(kind.clone()).or_default() += count;
            }
            if whole.series.len() < part.series.len() {
                whole.series.resize(part.series.len(), Second::default());
            }
            whole
                .series
                .iter_mut()
                .zip(&part.series)
                .for_each(|(sum, second)| sum.add(second));
            whole.streams = whole.streams.or(part.streams);
            whole.audit = None;
        }
        whole.goodput = Goodput::of(&whole.series);
        Ok(whole)
    }
}

/// Each of `1/3`, `2/3`, `3/3` must be there once.
fn check_parts(parts: &[RunResult]) -> anyhow::Result<()> {
    let part_of = |result: &RunResult| result.part.as_deref().and_then(parse_part);
    let Some((_, count)) = parts.first().and_then(part_of) else {
        bail!("a result without --part is complete already")
    };
    let mut seen: Vec<u32> = Vec::new();
    for part in parts {
        match part_of(part) {
            Some((n, all)) if all == count && !seen.contains(&n) => seen.push(n),
            other => bail!("parts do not belong together: {other:?} of {count}"),
        }
    }
    if seen.len() != count as usize {
        bail!("{} of {count} parts are there", seen.len());
    }
    Ok(())
}

/// Parses `2/3`, the second part of three; both count from 1.
pub fn parse_part(text: &str) -> Option<(u32, u32)> {
    let (n, all) = text.split_once('/')?;
    let (n, all) = (n.parse().ok()?, all.parse().ok()?);
    (n >= 1 && n <= all).then_some((n, all))
}

impl FanFigures {
    fn add(&mut self, other: &Self) {
        self.coming += other.coming;
        self.joined += other.joined;
        self.entered += other.entered;
        self.held += other.held;
        self.conflicts += other.conflicts;
        self.tickets += other.tickets;
        self.active_max = self.active_max.max(other.active_max);
        for (how, count) in &other.endings {
            *self.endings.entry(how.clone()).or_default() += count;
        }
        for (state, count) in &other.orders {
            *self.orders.entry(state.clone()).or_default() += count;
        }
    }
}

/// Reads what clients observed.
///
/// # Errors
/// The file cannot be read or has another form.
pub fn read_observations(file: &Path) -> anyhow::Result<Observations> {
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} has no observations", file.display()))
}

/// Writes what clients observed.
///
/// # Errors
/// The file cannot be written.
pub fn write_observations(observations: &Observations, file: &Path) -> anyhow::Result<()> {
    fs::write(file, serde_json::to_vec(observations)?)
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;
    use stagedoor::demo::client::{Call, Reply};

    use super::*;
    use crate::recorder::Recorder;

    /// A part whose joins all took so long.
    pub(crate) fn result(part: &str, ms: u64) -> RunResult {
        let recorder = Recorder::default();
        let ok = Ok(Reply {
            status: 201,
            retry_after: None,
            etag: None,
            body: Bytes::new(),
            wire_bytes: 0,
        });
        for n in 0..100 {
            recorder.record(
                Call::Join,
                Duration::from_secs(n / 10),
                Duration::from_secs(n / 10) + Duration::from_millis(ms),
                &ok,
            );
        }
        let series = recorder.seconds();
        let goodput = Goodput::of(&series);
        RunResult {
            part: Some(part.to_owned()),
            calls: recorder.calls(),
            series,
            goodput,
            fans: FanFigures {
                joined: 100,
                ..FanFigures::default()
            },
            ..RunResult::default()
        }
    }

    #[test]
    fn parts_merge_to_the_whole() {
        let whole = RunResult::merged(&[result("1/2", 1), result("2/2", 3)]).unwrap();
        assert_eq!(
            (
                whole.fans.joined,
                whole.calls["join"].answered.count,
                whole.series[0].due
            ),
            (200, 200, 20)
        );
        assert!(whole.calls["join"].answered.p90_ms > 2.9 && whole.calls["join"].answered.p50_ms < 1.1);
        assert!(
            (whole.goodput.answered_per_s - 20.0).abs() < 0.1,
            "{:?}",
            whole.goodput
        );
    }

    #[test]
    fn unrelated_parts_are_rejected() {
        for parts in [
            vec![result("1/2", 1)],
            vec![result("1/2", 1), result("1/2", 1)],
            vec![result("1/2", 1), result("2/3", 1)],
            vec![],
        ] {
            assert!(RunResult::merged(&parts).is_err());
        }
        let other = RunResult {
            service: "another".into(),
            ..result("2/2", 1)
        };
        assert!(RunResult::merged(&[result("1/2", 1), other]).is_err());
        assert_eq!(
            (
                parse_part("0/2"),
                parse_part("3/2"),
                parse_part("x"),
                parse_part("2/2")
            ),
            (None, None, None, Some((2, 2)))
        );
    }
}

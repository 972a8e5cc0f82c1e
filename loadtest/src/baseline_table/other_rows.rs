//! The figures that need no baseline server: event streams, simulated sales, overload.

use std::{fs, time::Duration};

use anyhow::Context;
use stagedoor::simulate;

use super::{
    args::BaselineArgs,
    table::{Row, Table},
};
use crate::{
    environment::Backend,
    overload::OverloadResult,
    process::Process,
    sse_bench::{self, StreamsArgs},
};

const STREAMS: u32 = 10_000;
/// Visitors of each simulated sale.
const SIMULATED_FANS: u32 = 20_000;

/// Adds the cost of an event stream.
pub(super) async fn add_streams(args: &BaselineArgs, table: &mut Table) {
    let streams_args = StreamsArgs {
        count: STREAMS,
        minutes: args.stream_minutes,
        backend: Backend::Embedded,
        pin: None,
        out: args.out.clone(),
    };
    let result = match sse_bench::measure(&streams_args).await {
        Ok(result) => result,
        Err(why) => {
            table.not_measured.push(format!("streams: {why:#}"));
            return;
        }
    };
    let backend = Backend::Embedded.name();
    let lower = |figure, value, unit, goal| Row::lower_is_better(figure, backend, value, unit, goal);
    table.push(lower(
        "memory per SSE stream, of 10,000",
        result.rss_bytes_each,
        "B",
        Some(16_384.0),
    ));
    table.push(lower(
        "kernel memory per stream, both ends",
        result.kernel_bytes_each,
        "B",
        None,
    ));
    table.push(lower(
        "CPU per stream and event",
        result.cpu_us_each_event,
        "us",
        None,
    ));
    let received = ratio(result.streams.received, result.streams.due);
    let figure = "events received over events due";
    table.push(Row::higher_is_better(
        figure,
        backend,
        received,
        "ratio",
        Some(1.0),
    ));
}

#[expect(clippy::cast_precision_loss, reason = "events of minutes")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Adds the quality of admission and forecasts in simulated sales.
pub(super) async fn add_forecast(args: &BaselineArgs, table: &mut Table) -> anyhow::Result<()> {
    let (mut all, mut slot_use_with_absence) = (Vec::new(), None);
    for scenario in simulate::named("all")? {
        let mut runs = Vec::new();
        for seed in 0..args.seeds {
            runs.push(simulate::rehearse(scenario, SIMULATED_FANS, u64::from(seed) + 1).await?);
        }
        let verdict = simulate::evaluate(scenario, &runs);
        eprintln!(
            "{}: coverage {:?}, slot use {:?}",
            scenario.name, verdict.metrics.forecast_score.coverage, verdict.metrics.slot_use
        );
        if scenario.name.contains("absent") {
            slot_use_with_absence = verdict.metrics.slot_use;
        }
        all.extend(runs);
    }
    let pooled = simulate::metrics(&all);
    let slot_use = slot_use_with_absence.or(pooled.slot_use);
    let score = &pooled.forecast_score;
    let backend = format!("simulated, {} sales", pooled.runs);
    let mut add = |figure: &str, value: Option<f64>, goal, higher_is_better| match value {
        Some(value) => {
            let row = Row::higher_is_better(figure, &backend, value, "ratio", goal);
            table.push(Row {
                higher_is_better,
                ..row
            });
        }
        None => table
            .not_measured
            .push(format!("{figure}: no simulated sale has a value for it")),
    };
    add("slot use after ramp-up, many absent", slot_use, Some(0.98), true);
    add(
        "share of waits within p10 to p90 (0.77 to 0.83)",
        score.coverage,
        None,
        true,
    );
    add(
        "interval score over position / rate",
        score.interval_score_ratio,
        Some(0.6),
        false,
    );
    add("median error of p50", score.p50_error, Some(0.1), false);
    Ok(())
}

/// Adds the goodput beyond capacity.
pub(super) async fn add_overload(args: &BaselineArgs, table: &mut Table) {
    match measure_overload(args).await {
        Ok(result) => {
            let backend = Backend::Embedded.name();
            let figure = "goodput at 10x the saturating load over the peak";
            let last = result.stages.last();
            table.push(Row {
                rates: last.map(|stage| (stage.goodput_per_s, result.peak_per_s)),
                baseline: "tickets; the service on one core".to_owned(),
                ..Row::higher_is_better(figure, backend, result.goodput_ratio, "ratio", Some(0.9))
            });
            let figure = "refusals at 10x, median";
            table.push(Row::lower_is_better(
                figure,
                backend,
                result.refusal_p50_ms,
                "ms",
                Some(5.0),
            ));
        }
        Err(why) => table.not_measured.push(format!("overload: {why:#}")),
    }
}

/// Measures in a process of its own: the service has one core to itself, and the crowd another, where there
/// are two.
pub(crate) async fn measure_overload(args: &BaselineArgs) -> anyhow::Result<OverloadResult> {
    let out = args.out.to_str().context("--out: must be UTF-8")?;
    let has_two_cores = std::thread::available_parallelism()?.get() > 1;
    let mut command = vec!["overload", "--from", "200", "--factors", "0.5,1,2", "--out", out];
    if has_two_cores {
        command.extend(["--pin", "0"]);
    }
    let file = args.out.join("overload.json");
    let _ = fs::remove_file(&file);
    let mut process = Process::start("the overload measurement", &command, has_two_cores.then_some("1"))?;
    let ended = loop {
        match process.ended() {
            Some(how) => break how,
            None => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    };
    // A missed goal is an exit status, too: only a missing file is a failure.
    let text = fs::read(&file).with_context(|| ended)?;
    serde_json::from_slice(&text).with_context(|| format!("{}", file.display()))
}

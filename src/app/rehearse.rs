//! `stagedoor rehearse`: simulates sales on all cores and reports a table, JSON, or a page with plots.

mod plots;

use std::{
    fmt::Write,
    fs,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context, bail};
use serde::Serialize;

use crate::simulate::{self, Rehearsal, Scenario, ScenarioReport, SimulationMetrics};

/// What is rehearsed, and how it is reported.
#[derive(Clone, Debug)]
pub struct RehearseOptions {
    /// A scenario's name, or `all`.
    pub scenario: String,
    /// Simulated fans in each sale; at least 1.
    pub fans: u32,
    /// The first seed.
    pub seed: u64,
    /// How many consecutive seeds; at least 1.
    pub seeds: u32,
    /// Prints JSON instead of a table.
    pub json: bool,
    /// Directory for a page with plots; `None` for no page.
    pub out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report<'a> {
    pooled: SimulationMetrics,
    scenarios: &'a [ScenarioReport],
}

/// Rehearses and prints the report.
///
/// # Errors
/// When an invariant was violated, the scenario is unknown, or the page cannot be written.
pub fn run(options: &RehearseOptions) -> anyhow::Result<()> {
    if options.fans == 0 || options.seeds == 0 {
        bail!("a rehearsal needs at least one fan and one seed");
    }
    let scenarios = simulate::named(&options.scenario)?;
    let rehearsals = run_all(&scenarios, options)?;
    let verdicts: Vec<ScenarioReport> = scenarios
        .iter()
        .zip(&rehearsals)
        .map(|(scenario, runs)| simulate::evaluate(scenario, runs))
        .collect();
    let pooled = simulate::metrics(rehearsals.iter().flatten());
    if options.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&Report {
                pooled,
                scenarios: &verdicts
            })?
        );
    } else {
        print!("{}", table(&pooled, &verdicts));
    }
    if let Some(dir) = &options.out {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let file = dir.join("rehearsal.html");
        let first = scenarios
            .iter()
            .zip(&rehearsals)
            .filter_map(|(scenario, runs)| Some((*scenario, runs.first()?)));
        fs::write(&file, plots::page(first, &verdicts))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    for (verdict, seed) in verdicts
        .iter()
        .filter_map(|verdict| Some((verdict, verdict.broken_seeds.first()?)))
    {
        eprintln!("{}: {}", verdict.scenario, verdict.violations.join("\n  "));
        eprintln!(
            "replay: stagedoor rehearse --scenario {} --fans {} --seed {seed}",
            verdict.scenario, options.fans
        );
    }
    if pooled.violations_total > 0 {
        bail!("{} violations", pooled.violations_total);
    }
    Ok(())
}

/// The rehearsals of each scenario, by seed. Each thread takes the next one from a shared counter.
fn run_all(scenarios: &[&Scenario], options: &RehearseOptions) -> anyhow::Result<Vec<Vec<Rehearsal>>> {
    let seeds = options.seeds as usize;
    let total = scenarios.len() * seeds;
    let next = AtomicUsize::new(0);
    let work = || -> anyhow::Result<Vec<(usize, Rehearsal)>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .context("cannot start the runtime")?;
        let mut done = Vec::new();
        loop {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth >= total {
                return Ok(done);
            }
            let (scenario, seed) = (
                scenarios[nth / seeds],
                options.seed.wrapping_add((nth % seeds) as u64),
            );
            let rehearsed = runtime.block_on(simulate::rehearse(scenario, options.fans, seed));
            done.push((
                nth,
                rehearsed.with_context(|| format!("{} with seed {seed}", scenario.name))?,
            ));
        }
    };
    let cores = std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(total);
    let mut done = std::thread::scope(|scope| -> anyhow::Result<Vec<(usize, Rehearsal)>> {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let mut done = Vec::with_capacity(total);
        for worker in workers {
            let Ok(part) = worker.join() else {
                bail!("a rehearsal panicked")
            };
            done.extend(part?);
        }
        Ok(done)
    })?;
    done.sort_unstable_by_key(|(nth, _)| *nth);
    let mut by_scenario: Vec<Vec<Rehearsal>> = scenarios.iter().map(|_| Vec::new()).collect();
    for (nth, rehearsed) in done {
        by_scenario[nth / seeds].push(rehearsed);
    }
    Ok(by_scenario)
}

fn table(pooled: &SimulationMetrics, verdicts: &[ScenarioReport]) -> String {
    let mut out = format!(
        "{:<18} {:>5} {:>9} {:>6} {:>6} {:>6} {:>6} {:>9} {:>8} {:>6} {:>7} {:>9} {:>9} {:>9} {:>9} {:>7}\n",
        "scenario",
        "runs",
        "coverage",
        "+-",
        "below",
        "above",
        "score",
        "p50 err",
        "slots",
        "full",
        "p95 s",
        "late",
        "surprised",
        "with them",
        "none left",
        "broken"
    );
    let rows = verdicts
        .iter()
        .map(|verdict| (verdict.scenario, &verdict.metrics))
        .chain([("pooled", pooled)]);
    for (name, it) in rows {
        let _ = writeln!(
            out,
            "{name:<18} {:>5} {:>9} {:>6} {:>6} {:>6} {:>6} {:>9} {:>8} {:>6} {:>7} {:>9} {:>9} {:>9} {:>9} \
             {:>7}",
            it.runs,
            figure(it.forecast_score.coverage),
            figure(it.coverage_error),
            figure(it.forecast_score.below),
            figure(it.forecast_score.above),
            figure(it.forecast_score.interval_score_ratio),
            figure(it.forecast_score.p50_error),
            figure(it.slot_use),
            figure(it.refused_at_first),
            figure(it.extra_wait_p95_s),
            figure(it.late_arrival_share),
            figure(it.forecast_score.disturbed_coverage),
            figure(it.forecast_score.coverage_with_disturbed),
            figure(it.unlikely_served_share),
            it.violations_total,
        );
    }
    let _ = writeln!(
        out,
        "coverage, below, above: shares of waits within, shorter and longer than p10 to p90, give or take \
         {} s;\n\
         +-: standard error of the coverage: waits of one sale share its luck, and its crowd differs\n\
         from what is assumed before the sale, which a small or short sale leaves little time to learn;\n\
         the goal is 0.80 for all sales together;\n\
         surprised: coverage of forecasts that a disturbance overtook; with them: coverage of all;\n\
         none left: share of visitors told that hardly a seat would be left at whose turn one was free",
        pooled.forecast_score.grace_s
    );
    out
}

fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.3}"))
}

//! Writes a run's result and prints its summary.

use std::{fs, path::Path, process::ExitCode};

use anyhow::Context;

use crate::{
    audit::Verdict,
    report,
    result::{ProcessFigures, RunResult},
};

/// The exit status of a run that ended early.
const ENDED_EARLY: u8 = 3;
/// The calls in the printed summary; the result has all.
const SUMMARY_CALLS: [&str; 6] = ["sign in", "join", "status", "enter", "hold", "order"];

/// Writes `result.json` and `report.html`.
///
/// # Errors
/// A file cannot be written.
pub fn write_result(result: &RunResult, out: &Path) -> anyhow::Result<()> {
    result.write(&out.join("result.json"))?;
    let file = out.join("report.html");
    fs::write(&file, report::page(result)).with_context(|| format!("cannot write {}", file.display()))
}

/// Prints the summary and returns the exit status: 1 for violations and for forecasts that did not hold, 3
/// for a run that ended early.
pub fn print_summary(result: &RunResult) -> ExitCode {
    let fans = &result.fans;
    let endings: Vec<String> = fans
        .endings
        .iter()
        .map(|(how, count)| format!("{how} {count}"))
        .collect();
    println!(
        "{} fans: {} joined, {} admitted, {} tickets; {}",
        fans.coming,
        fans.joined,
        fans.entered,
        fans.tickets,
        endings.join(", ")
    );
    for name in SUMMARY_CALLS {
        let Some(stats) = result.calls.get(name) else {
            continue;
        };
        println!(
            "{name:<7} p50 {:>8.2} ms  p99 {:>8.2} ms  max {:>8.2} ms  of {}; {} refused (p50 {:.2} ms), {} \
             failed",
            stats.answered.p50_ms,
            stats.answered.p99_ms,
            stats.answered.max_ms,
            stats.answered.count,
            stats.refused.count,
            stats.refused.p50_ms,
            stats.failed
        );
    }
    print_process("server", result.server.as_ref());
    print_process("crowd", result.client.as_ref());
    let mut status = ExitCode::SUCCESS;
    if let Some(forecasts) = &result.forecasts {
        println!("{}", forecasts.in_words());
        if let Some(finding) = forecasts.finding() {
            println!("{finding}");
            status = ExitCode::FAILURE;
        }
    }
    if let Some(verdict) = &result.audit {
        print_verdict(verdict);
        if verdict.violations_count > 0 {
            status = ExitCode::FAILURE;
        }
    }
    if let Some(why) = &result.ended_early {
        eprintln!("loadtest: ended early: {why}; what was measured so far is above");
        status = ExitCode::from(ENDED_EARLY);
    }
    status
}

fn print_process(name: &str, figures: Option<&ProcessFigures>) {
    if let Some(figures) = figures {
        println!(
            "{name}: {} when all had joined, peak {} MiB, {:.1} s of CPU",
            figures.memory_of_a_fan(),
            figures.rss_peak_kib >> 10,
            figures.cpu_s
        );
    }
}

fn print_verdict(verdict: &Verdict) {
    if let Some(why) = &verdict.not_audited {
        println!("not audited: {why}");
        return;
    }
    println!(
        "auditor: {} violations in {}",
        verdict.violations_count,
        verdict.scope()
    );
    for violation in &verdict.violations {
        println!("  {violation}");
    }
}

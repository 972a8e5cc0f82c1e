//! Load beyond capacity: the load that saturates a service, its goodput at half to ten times as much, and how
//! soon it is back to normal.
//!
//! The unit of load is a visitor who wants everything at once: join, enter, hold, order, tickets, leave.
//! Admission is configured far wider than the service can bear, so that only its own load shedding protects
//! it. Each stage has a fresh service. Goodput is tickets a second; every visitor wants one.
//!
//! Stages are long and their start does not count: an overloaded service admits thousands before it notices,
//! and then sells to them for half a minute without having to admit anyone, faster than it could sustain.

mod args;
mod page;
mod result;
mod stage;

use std::{fs, process::ExitCode, time::Duration};

use anyhow::{Context, bail};

use self::stage::{WARM_UP_S, run_stage, start_service};
pub use self::{
    args::OverloadArgs,
    result::{OverloadResult, RefusedCalls, Stage},
};
use crate::{process::machine, recorder::Second};

const LAST_FACTOR: f64 = 10.0;
/// How long the service is observed after the overload.
const RECOVERY: Duration = Duration::from_secs(20);
/// The load during the recovery, as a multiple of the saturating load.
const RECOVERY_FACTOR: f64 = 0.5;
/// An answer within this time is always normal.
const NORMAL_US: u64 = 250_000;
/// So many times the slowest answer of a service that was never overloaded is normal, too.
const NORMAL_FACTOR: f64 = 1.5;
/// What a waiting visitor may take in the service's memory.
const BYTES_PER_FAN: u64 = 40;
/// A search that has not saturated the service by then is wrong.
const SEARCH_MAX: f64 = 20_000.0;
/// A service that does less than this share of the offered load is saturated.
const SATURATED_BELOW: f64 = 0.8;

/// Measures, writes the result, and fails when a goal is missed.
///
/// # Errors
/// An argument is wrong, a service does not start, or a file cannot be written.
pub async fn run(args: OverloadArgs) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(&args.out).with_context(|| format!("--out: cannot make {}", args.out.display()))?;
    let result = measure(&args).await?;
    fs::write(
        args.out.join("overload.json"),
        serde_json::to_vec_pretty(&result)?,
    )?;
    fs::write(args.out.join("overload.html"), page::page(&result))?;
    print(&result).context("no stage")?;
    let reaches_goals = result.goodput_ratio >= 0.9
        && result.refusal_p50_ms <= 5.0
        && result.normal_after_s.is_some_and(|s| s <= 10);
    Ok(if reaches_goals {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(result: &OverloadResult) -> Option<()> {
    let last = result.stages.last()?;
    println!("{}\n{}", result.machine, result.service);
    println!(
        "goodput at 10x over the peak: {:.2} ({:.0} of {:.0} a second), goal >= 0.90",
        result.goodput_ratio, last.goodput_per_s, result.peak_per_s
    );
    println!(
        "refusals at 10x: {} answered in {:.2} ms at the median, goal <= 5 ms",
        last.refused, result.refusal_p50_ms
    );
    match result.normal_after_s {
        Some(s) => println!("normal {s} s after the overload, goal <= 10 s"),
        None => println!("not normal within {RECOVERY:?} after the overload, goal <= 10 s"),
    }
    for (call, refused) in &last.refused_by_call {
        println!(
            "  {call}: {} refused, {:.2} ms at the median",
            refused.count, refused.p50_ms
        );
    }
    println!(
        "memory from a quarter into the last stage to its end: {:+} KiB, {:+} KiB without {BYTES_PER_FAN} B \
         for each \
         of {} fans who joined",
        result.rss_growth_kib, result.rss_growth_without_fans_kib, last.joined_between
    );
    Some(())
}

/// Measures without printing the result.
///
/// # Errors
/// As [`run`].
pub async fn measure(args: &OverloadArgs) -> anyhow::Result<OverloadResult> {
    if args.stage as usize <= WARM_UP_S || args.last_stage as usize <= WARM_UP_S {
        bail!("--stage and --last-stage: must be more than the {WARM_UP_S} seconds of warm-up");
    }
    let saturating = match args.saturating {
        Some(rate) if rate.is_finite() && rate > 0.0 => rate,
        Some(rate) => bail!("--saturating {rate}: must be more than 0"),
        None => search(args).await?,
    };
    println!("saturating: {saturating:.0} fans a second");
    let (mut stages, mut normal_us) = (Vec::new(), NORMAL_US);
    for &factor in &args.factors {
        let service = start_service(args).await?;
        let (stage, seconds) = run_stage(&service, factor, saturating * factor, args.stage).await?;
        if (factor - RECOVERY_FACTOR).abs() < 1e-9 {
            normal_us = normal_latency_us(&seconds);
        }
        stages.push(stage);
    }
    let service = start_service(args).await?;
    let (last, _) = run_stage(&service, LAST_FACTOR, saturating * LAST_FACTOR, args.last_stage).await?;
    let recovery_s = u32::try_from(RECOVERY.as_secs()).unwrap_or(20);
    let (_, recovery) = run_stage(
        &service,
        RECOVERY_FACTOR,
        saturating * RECOVERY_FACTOR,
        recovery_s,
    )
    .await?;
    let growth = signed(last.rss_end_kib) - signed(last.rss_quarter_kib);
    let last_goodput = last.goodput_per_s;
    stages.push(last.clone());
    let peak = stages.iter().map(|stage| stage.goodput_per_s).fold(0.0, f64::max);
    Ok(OverloadResult {
        machine: machine(),
        service: service.description.clone(),
        saturating_per_s: saturating,
        peak_per_s: peak,
        goodput_ratio: if peak > 0.0 { last_goodput / peak } else { 0.0 },
        refusal_p50_ms: last.refusal.p50_ms,
        normal_after_s: normal_after(&recovery, normal_us),
        rss_growth_kib: growth,
        rss_growth_without_fans_kib: growth - signed(last.joined_between * BYTES_PER_FAN / 1_024),
        stages,
    })
}

fn signed(kib: u64) -> i64 {
    i64::try_from(kib).unwrap_or(i64::MAX)
}

/// Doubles the load until the service does not keep up. The best goodput is the saturating load.
async fn search(args: &OverloadArgs) -> anyhow::Result<f64> {
    let (mut rate, mut best) = (args.from, 0.0_f64);
    while rate < SEARCH_MAX {
        let service = start_service(args).await?;
        let (stage, _) = run_stage(&service, 0.0, rate, args.stage).await?;
        best = best.max(stage.goodput_per_s);
        if stage.goodput_per_s < rate * SATURATED_BELOW {
            if best > 0.0 {
                return Ok(best);
            }
            bail!("no ticket was sold at {rate:.0} fans a second");
        }
        rate *= 2.0;
    }
    bail!("even {SEARCH_MAX} fans a second do not saturate this service")
}

/// The slowest normal answer at the recovery's load, by a service that was never overloaded.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a minute at most"
)]
fn normal_latency_us(seconds: &[Second]) -> u64 {
    let slowest = seconds
        .iter()
        .skip(WARM_UP_S)
        .map(|second| second.slowest_us)
        .max()
        .unwrap_or(0);
    NORMAL_US.max((slowest as f64 * NORMAL_FACTOR) as u64)
}

/// The first second after which no call is refused, failed or slow.
fn normal_after(recovery: &[Second], normal_us: u64) -> Option<u64> {
    let is_normal =
        |second: &Second| second.refused == 0 && second.failed == 0 && second.slowest_us <= normal_us;
    let normal = recovery
        .iter()
        .rev()
        .take_while(|second| is_normal(second))
        .count();
    // One or two normal seconds at the end may be chance.
    (normal >= 3).then(|| (recovery.len() - normal) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_means_nothing_refused_failed_or_slow() {
        let normal = Second {
            answered: 9,
            slowest_us: 9_000,
            ..Second::default()
        };
        let refused = Second {
            refused: 1,
            ..normal.clone()
        };
        let slow = Second {
            slowest_us: 400_000,
            ..normal.clone()
        };
        let after = |seconds: &[&Second]| {
            let seconds: Vec<Second> = seconds.iter().map(|second| (*second).clone()).collect();
            normal_after(&seconds, normal_latency_us(&[]))
        };
        assert_eq!(after(&[&normal, &normal, &normal]), Some(0));
        assert_eq!(
            after(&[&refused, &normal, &slow, &normal, &normal, &normal]),
            Some(3)
        );
        assert_eq!(after(&[&normal, &normal, &normal, &refused, &normal]), None);
    }
}

//! More than can be answered: the load that saturates a house, what it still does at half to ten times as much, and how
//! soon it is itself again.
//!
//! The unit of load is a fan who wants the whole journey at once: join, enter, hold, order, tickets, leave. The door is set
//! far wider than the house can bear, so that nothing but the house's own shedding protects it. Each stage has a house of
//! its own. Goodput is tickets a second; everybody wants one.
//!
//! Stages are long, and their beginning is not counted: a house that is asked for too much lets thousands in before it
//! knows, and sells to them for half a minute without having to let anybody else in, faster than it could go on.

use std::{
    collections::BTreeMap, fmt::Write, fs, path::PathBuf, process::ExitCode, sync::Arc, time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::{
    arrivals::{Shape, times},
    book::{Latency, Second},
    crowd::{Crowd, CrowdConfig, Looking},
    ground::{Engine, Ground, GroundArgs, PERFORMANCE, SALE, Scene},
    process::machine,
    report::{Line, page_head, plot},
    wire::Wire,
};

/// How hard, and for how long.
#[derive(Args, Clone, Debug)]
pub struct OverloadArgs {
    #[arg(long, value_enum, default_value_t = Engine::Memory)]
    pub engine: Engine,
    /// Cores for the house (as taskset takes them); the crowd is best kept off them: taskset -c 1 loadtest overload --pin 0.
    #[arg(long, value_name = "CORES")]
    pub pin: Option<String>,
    /// Seconds of each stage but the last.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub stage: u32,
    /// Seconds at ten times the saturating load.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub longest: u32,
    /// Fans a second that saturate the house, when they are known; else they are looked for.
    #[arg(long, value_name = "PER_SECOND")]
    pub saturating: Option<f64>,
    /// Where the search begins.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 50.0)]
    pub from: f64,
    /// The multiples that are asked for before the last, which is ten.
    #[arg(long, value_delimiter = ',', default_values_t = [0.5, 1.0, 2.0, 5.0])]
    pub factors: Vec<f64>,
    #[arg(long, value_name = "DIR", default_value = "loadtest-out")]
    pub out: PathBuf,
}

/// What came of one multiple.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stage {
    pub factor: f64,
    pub offered_per_s: f64,
    pub goodput_per_s: f64,
    pub joins_per_s: f64,
    pub refused: u64,
    pub failed: u64,
    pub refusal: Latency,
    /// How many were refused at which step, and their median in milliseconds.
    pub refused_at: BTreeMap<String, (u64, f64)>,
    pub hold: Latency,
    pub order: Latency,
    /// Resident memory a quarter into the stage and at its end.
    pub rss_kib: (u64, u64),
    /// Fans who took a place meanwhile: they may weigh something.
    pub joined_between: u64,
}

/// The curve, and what followed the last stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OverloadResult {
    pub machine: String,
    pub house: String,
    pub saturating_per_s: f64,
    pub peak_per_s: f64,
    pub stages: Vec<Stage>,
    /// Goodput at ten times over the peak.
    pub goodput_ratio: f64,
    pub refusal_p50_ms: f64,
    /// Seconds after the load had gone until nobody was refused any more and every answer came as soon as it does at that
    /// load in a house that was never asked more.
    pub normal_after_s: Option<u64>,
    pub rss_growth_kib: i64,
    pub rss_growth_without_fans_kib: i64,
}

const WARM_UP_S: usize = 10;
const LAST: f64 = 10.0;
const CALM: Duration = Duration::from_secs(20);
const CALM_LOAD: f64 = 0.5;
const NORMAL_US: u64 = 250_000;
/// What is this many times as slow as the slowest of a house that was never overloaded is as usual.
const AS_USUAL: f64 = 1.5;
/// What a waiting fan may weigh in the house.
const BYTES_A_FAN: u64 = 40;
const DEADLINE: Duration = Duration::from_secs(10);
/// More than there are calls at a time: a refusal must not wait for a connection of the crowd's own.
const CONNECTIONS: usize = 8_192;
/// A search that has not found the end by then is wrong.
const SEARCHED_MAX: f64 = 20_000.0;

/// Measures, leaves overload.json and overload.html, and fails when a goal is missed.
pub async fn run(args: OverloadArgs) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(&args.out).with_context(|| format!("--out: cannot make {}", args.out.display()))?;
    let result = measure(&args).await?;
    fs::write(
        args.out.join("overload.json"),
        serde_json::to_vec_pretty(&result)?,
    )?;
    fs::write(args.out.join("overload.html"), page(&result))?;
    let ten = result.stages.last().context("no stage")?;
    println!("{}\n{}", result.machine, result.house);
    println!(
        "goodput at 10x over the peak: {:.2} ({:.0} of {:.0} a second), goal >= 0.90",
        result.goodput_ratio, ten.goodput_per_s, result.peak_per_s
    );
    println!(
        "refusals at 10x: {} answered within {:.2} ms at the median, goal <= 5 ms",
        ten.refused, result.refusal_p50_ms
    );
    match result.normal_after_s {
        Some(s) => println!("normal {s} s after the load had gone, goal <= 10 s"),
        None => println!("not normal within {CALM:?} after the load had gone, goal <= 10 s"),
    }
    for (step, (count, p50_ms)) in &ten.refused_at {
        println!("  {step}: {count} refused, {p50_ms:.2} ms at the median");
    }
    println!(
        "memory from a quarter into the last stage to its end: {:+} KiB, {:+} KiB without {BYTES_A_FAN} B for each of {} fans who joined",
        result.rss_growth_kib, result.rss_growth_without_fans_kib, ten.joined_between
    );
    let is_well = result.goodput_ratio >= 0.9
        && result.refusal_p50_ms <= 5.0
        && result.normal_after_s.is_some_and(|s| s <= 10);
    Ok(if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The measurement alone.
pub async fn measure(args: &OverloadArgs) -> anyhow::Result<OverloadResult> {
    if args.stage as usize <= WARM_UP_S || args.longest as usize <= WARM_UP_S {
        bail!("--stage and --longest: more than {WARM_UP_S} seconds, which warm up");
    }
    let saturating = match args.saturating {
        Some(rate) if rate.is_finite() && rate > 0.0 => rate,
        Some(rate) => bail!("--saturating {rate}: must be more than 0"),
        None => search(args).await?,
    };
    println!("saturating: {saturating:.0} fans a second");
    let (mut stages, mut usual_us) = (Vec::new(), NORMAL_US);
    for &factor in &args.factors {
        let ground = house(args).await?;
        let (it, seconds) = stage(&ground, factor, saturating * factor, args.stage).await?;
        if (factor - CALM_LOAD).abs() < 1e-9 {
            usual_us = usual(&seconds);
        }
        stages.push(it);
    }
    let ground = house(args).await?;
    let (last, _) = stage(&ground, LAST, saturating * LAST, args.longest).await?;
    let (_, calm) = stage(
        &ground,
        CALM_LOAD,
        saturating * CALM_LOAD,
        u32::try_from(CALM.as_secs()).unwrap_or(20),
    )
    .await?;
    let normal_after_s = normal_after(&calm, usual_us);
    let growth = signed(last.rss_kib.1) - signed(last.rss_kib.0);
    stages.push(last.clone());
    let peak = stages.iter().map(|it| it.goodput_per_s).fold(0.0, f64::max);
    Ok(OverloadResult {
        machine: machine(),
        house: ground.described.clone(),
        saturating_per_s: saturating,
        peak_per_s: peak,
        goodput_ratio: if peak > 0.0 {
            last.goodput_per_s / peak
        } else {
            0.0
        },
        refusal_p50_ms: last.refusal.p50_ms,
        normal_after_s,
        rss_growth_kib: growth,
        rss_growth_without_fans_kib: growth - signed(last.joined_between * BYTES_A_FAN / 1_024),
        stages,
    })
}

fn signed(kib: u64) -> i64 {
    i64::try_from(kib).unwrap_or(i64::MAX)
}

/// Doubles the load until it is not done any more; what was done at the most is the saturating load.
async fn search(args: &OverloadArgs) -> anyhow::Result<f64> {
    let (mut rate, mut most) = (args.from, 0.0_f64);
    while rate < SEARCHED_MAX {
        let ground = house(args).await?;
        let (it, _) = stage(&ground, 0.0, rate, args.stage).await?;
        most = most.max(it.goodput_per_s);
        if it.goodput_per_s < rate * 0.8 {
            return if most > 0.0 {
                Ok(most)
            } else {
                bail!("not a ticket was sold at {rate:.0} fans a second")
            };
        }
        rate *= 2.0;
    }
    bail!("even {SEARCHED_MAX} fans a second do not saturate this house")
}

async fn house(args: &OverloadArgs) -> anyhow::Result<Ground> {
    let scene = Scene {
        seats: 100_000,
        // Far more than any house bears: the door protects nothing here.
        rate_per_minute: 1_200_000,
        capacity: 20_000,
        hold_s: 60,
        max_fans: 4_000_000,
        open_in: Duration::ZERO,
        watchers_max: 10,
    };
    Ground::prepare(&GroundArgs::started(args.engine, args.pin.clone()), &scene).await
}

/// One crowd of `rate` fans a second; what came of it, and its seconds.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of some seconds"
)]
async fn stage(
    ground: &Ground,
    factor: f64,
    rate: f64,
    seconds: u32,
) -> anyhow::Result<(Stage, Vec<Second>)> {
    let length = Duration::from_secs(u64::from(seconds));
    let fans = (rate * length.as_secs_f64()).ceil().clamp(1.0, 4e6) as u32;
    let config = CrowdConfig {
        sale: SALE.to_owned(),
        performance: PERFORMANCE.to_owned(),
        shop: None,
        arrivals: times(&Shape::Poisson, fans, length, u64::from(seconds))?,
        first: 1,
        every: 1,
        seed: 1,
        pace: 0.0,
        absent: 0.0,
        walk_away: 0.0,
        singles: true,
        good_cards: true,
        looking: Looking::Cache,
        watchers: 0,
        bots: 0,
        limit: length,
    };
    let crowd = Arc::new(Crowd::new(
        config,
        Wire::new(
            ground.target.address,
            &ground.target.authority,
            CONNECTIONS,
            DEADLINE,
        ),
    ));
    let rss = |ground: &Ground| ground.usage().map_or(0, |it| it.rss_kib);
    let early = async {
        tokio::time::sleep(length / 4).await;
        (rss(ground), crowd.told.counts().0)
    };
    let (early, ()) = tokio::join!(early, crowd.live());
    let late = (rss(ground), crowd.told.counts().0);
    let series = crowd.book.seconds();
    let whole = &series[WARM_UP_S.min(series.len())..(seconds as usize).min(series.len())];
    let a_second =
        |of: fn(&Second) -> u64| whole.iter().map(of).sum::<u64>() as f64 / whole.len().max(1) as f64;
    let steps = crowd.book.steps();
    let refusal = steps
        .values()
        .fold(Latency::default(), |sum, it| sum.merged(&it.refused));
    let refused_at = steps.iter().filter(|(_, it)| it.refused.count > 0);
    let refused_at = refused_at
        .map(|(step, it)| (step.clone(), (it.refused.count, it.refused.p50_ms)))
        .collect();
    let of = |name: &str| steps.get(name).map(|it| it.answered.clone()).unwrap_or_default();
    let stage = Stage {
        factor,
        offered_per_s: rate,
        goodput_per_s: a_second(|it| it.tickets),
        joins_per_s: a_second(|it| it.joins),
        refused: refusal.count,
        failed: steps.values().map(|it| it.failed).sum(),
        refusal,
        refused_at,
        hold: of("hold"),
        order: of("order"),
        rss_kib: (early.0, late.0),
        joined_between: u64::from(late.1.saturating_sub(early.1)),
    };
    println!(
        "{rate:>7.0} fans/s ({factor:>4}x): {:>6.1} tickets/s, {:>7.1} joins/s; {} refused (median {:.2} ms), {} failed; hold p99 {:.1} ms, order p99 {:.1} ms; {} MiB{}",
        stage.goodput_per_s,
        stage.joins_per_s,
        stage.refused,
        stage.refusal.p50_ms,
        stage.failed,
        stage.hold.p99_ms,
        stage.order.p99_ms,
        stage.rss_kib.1 >> 10,
        if stage.failed == 0 {
            String::new()
        } else {
            format!("; {:?}", crowd.book.errors())
        }
    );
    Ok((stage, series))
}

/// How slow an answer may be at that load, by a house that was never asked more.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a minute at most"
)]
fn usual(seconds: &[Second]) -> u64 {
    let slowest = seconds
        .iter()
        .skip(WARM_UP_S)
        .map(|it| it.slowest_us)
        .max()
        .unwrap_or(0);
    NORMAL_US.max((slowest as f64 * AS_USUAL) as u64)
}

/// The first second after which nothing is refused, lost or slow any more.
fn normal_after(calm: &[Second], usual_us: u64) -> Option<u64> {
    let is_well = |it: &Second| it.refused == 0 && it.failed == 0 && it.slowest_us <= usual_us;
    let well = calm.iter().rev().take_while(|it| is_well(it)).count();
    // A last second that is well by chance is no proof.
    (well >= 3).then(|| (calm.len() - well) as u64)
}

fn page(result: &OverloadResult) -> String {
    let mut out = page_head("Overload");
    let _ = write!(
        out,
        "<p>{}<br>{}<br>Saturating load {:.0} fans a second; at ten times of it {:.2} of the peak's goodput; refusals {:.2} ms at the median.</p>",
        result.machine, result.house, result.saturating_per_s, result.goodput_ratio, result.refusal_p50_ms
    );
    let line = |name, of: fn(&Stage) -> f64| Line {
        name,
        points: result.stages.iter().map(|it| (it.factor, of(it))).collect(),
    };
    let ticks: Vec<(f64, String)> = result
        .stages
        .iter()
        .map(|it| (it.factor, format!("{}x", it.factor)))
        .collect();
    out += &plot(
        "tickets a second over the load, in multiples of the saturating one",
        &[line("tickets", |it| it.goodput_per_s)],
        &ticks,
    );
    out += &plot("joins a second", &[line("joins", |it| it.joins_per_s)], &ticks);
    out += &plot(
        "latency, ms",
        &[
            line("hold p99", |it| it.hold.p99_ms),
            line("order p99", |it| it.order.p99_ms),
            line("refusal p50", |it| it.refusal.p50_ms),
        ],
        &ticks,
    );
    out + "</html>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_is_when_nothing_is_refused_lost_or_slow_any_more() {
        let well = Second {
            answered: 9,
            slowest_us: 9_000,
            ..Second::default()
        };
        let (refused, slow) = (
            Second {
                refused: 1,
                ..well.clone()
            },
            Second {
                slowest_us: 400_000,
                ..well.clone()
            },
        );
        let after = |seconds: &[&Second]| {
            normal_after(
                &seconds.iter().map(|it| (*it).clone()).collect::<Vec<_>>(),
                usual(&[]),
            )
        };
        assert_eq!(after(&[&well, &well, &well]), Some(0));
        assert_eq!(after(&[&refused, &well, &slow, &well, &well, &well]), Some(3));
        assert_eq!(after(&[&well, &well, &well, &refused, &well]), None);
    }
}

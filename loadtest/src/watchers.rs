//! Many who have the board told to them: memory and CPU of the house for each, and an honest count of what they got.

use std::{fs, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::{
    ground::{Engine, Ground, GroundArgs, Scene},
    process::{Usage, machine},
    watching::{WatchFigures, Watched, watch},
};

/// How many watch, and for how long.
#[derive(Args, Clone, Debug)]
pub struct WatchersArgs {
    #[arg(long, default_value_t = 10_000)]
    pub count: u32,
    #[arg(long, default_value_t = 5.0)]
    pub minutes: f64,
    #[arg(long, value_enum, default_value_t = Engine::Memory)]
    pub engine: Engine,
    /// Cores for the house (as taskset takes them).
    #[arg(long, value_name = "CORES")]
    pub pin: Option<String>,
    /// Where watchers.json is left.
    #[arg(long, value_name = "DIR", default_value = "loadtest-out")]
    pub out: PathBuf,
}

/// What they cost, and what they got.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WatchersResult {
    pub machine: String,
    pub house: String,
    pub seconds: f64,
    pub seen: WatchFigures,
    /// Of the house's process: resident memory that came with each watcher, and after the watching.
    pub rss_bytes_each: f64,
    pub rss_bytes_each_in_the_end: f64,
    /// Of the kernel, both ends of each connection together, where this machine says so.
    pub kernel_bytes_each: f64,
    /// Of one core, beyond what the idle house takes.
    pub cpu_us_each_board: f64,
    pub cpu_share: f64,
    pub sent_bytes_each_s: f64,
}

const BYTES_GOAL: f64 = 16.0 * 1_024.0;
const CONNECT_WITHIN: Duration = Duration::from_mins(3);
const IDLE: Duration = Duration::from_secs(10);

/// Watches and says what it cost; fails when somebody missed a board.
pub async fn run(args: WatchersArgs) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(&args.out).with_context(|| format!("--out: cannot make {}", args.out.display()))?;
    let result = measure(&args).await?;
    let file = args.out.join("watchers.json");
    fs::write(&file, serde_json::to_vec_pretty(&result)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    let seen = &result.seen;
    println!("{}\n{}", result.machine, result.house);
    println!(
        "{} watchers for {:.0} s: {} boards went out; {} of {} received; {} watchers missed one or more; {} streams broke, {} were refused",
        seen.watchers,
        result.seconds,
        seen.boards,
        seen.received,
        seen.due,
        seen.missed_some,
        seen.broken,
        seen.refused
    );
    println!(
        "the house's memory: {:.0} B a watcher (in the end {:.0}), goal <= {BYTES_GOAL:.0}; the kernel's, both ends: {:.0} B",
        result.rss_bytes_each, result.rss_bytes_each_in_the_end, result.kernel_bytes_each
    );
    println!(
        "the house's CPU: {:.2} us a watcher and board, {:.1} % of a core; {:.0} B a second to each",
        result.cpu_us_each_board,
        result.cpu_share * 100.0,
        result.sent_bytes_each_s
    );
    Ok(if seen.missed_some == 0 && seen.broken == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The measurement alone.
#[expect(clippy::cast_precision_loss, reason = "bytes and boards of minutes")]
pub async fn measure(args: &WatchersArgs) -> anyhow::Result<WatchersResult> {
    if args.count == 0 || !(args.minutes.is_finite() && args.minutes > 0.0) {
        bail!("--count and --minutes: must be more than 0");
    }
    let scene = Scene {
        seats: 500,
        rate_per_minute: 600,
        capacity: 100,
        hold_s: 30,
        max_fans: 1_000,
        open_in: Duration::from_hours(1),
        watchers_max: args.count,
    };
    let ground = Ground::prepare(&GroundArgs::started(args.engine, args.pin.clone()), &scene).await?;
    let usage = || {
        ground
            .usage()
            .context("this machine does not say what a process uses (/proc)")
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = usage()?;
    tokio::time::sleep(IDLE).await;
    let before = usage()?;
    let idle_share = before.cpu.saturating_sub(idle.cpu).as_secs_f64() / IDLE.as_secs_f64();
    let kernel = kernel_kib();

    let watched = Arc::new(Watched::default());
    let path: Arc<str> = format!("/v1/sales/{}/board/events", ground.facts.id).into();
    let mut all = JoinSet::new();
    for n in 0..args.count {
        let (watched, path, to) = (Arc::clone(&watched), Arc::clone(&path), ground.target.address);
        all.spawn(async move { watch(to, &path, &watched).await });
        if n % 200 == 199 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let connected = tokio::time::timeout(CONNECT_WITHIN, async {
        while watched.figures(None).open < u64::from(args.count) {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    if connected.await.is_err() {
        bail!(
            "{} of {} could connect within {CONNECT_WITHIN:?}: {:?}",
            watched.figures(None).open,
            args.count,
            watched.figures(None)
        );
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (there, kernel_there) = (usage()?, kernel_kib());
    println!("{} connected", args.count);
    let (began, length) = (
        watched.figures(None),
        Duration::from_secs_f64(args.minutes * 60.0),
    );
    let mut left = length;
    while !left.is_zero() {
        let step = left.min(Duration::from_secs(10));
        tokio::time::sleep(step).await;
        left -= step;
        let seen = watched.figures(None);
        println!(
            "{:>5.0} s  {} open, {} boards, {} received",
            length.saturating_sub(left).as_secs_f64(),
            seen.open,
            seen.boards,
            seen.received
        );
    }
    let end: Usage = usage()?;
    // Those who get the last board a moment later than others have not missed it.
    let last = watched.last();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let seen = watched.figures(last);
    let (count, seconds) = (f64::from(args.count), length.as_secs_f64());
    let each = |kib: u64, base: u64| kib.saturating_sub(base) as f64 * 1_024.0 / count;
    let share = end.cpu.saturating_sub(there.cpu).as_secs_f64() / seconds - idle_share;
    let boards = (seen.received - began.received).max(1) as f64;
    Ok(WatchersResult {
        machine: machine(),
        house: ground.described.clone(),
        seconds,
        seen,
        rss_bytes_each: each(there.rss_kib, before.rss_kib),
        rss_bytes_each_in_the_end: each(end.rss_kib, before.rss_kib),
        kernel_bytes_each: each(kernel_there, kernel),
        cpu_us_each_board: share * seconds * 1e6 / boards,
        cpu_share: share,
        sent_bytes_each_s: (seen.bytes - began.bytes) as f64 / count / seconds,
    })
}

/// The kernel's slab and socket memory of the whole machine.
fn kernel_kib() -> u64 {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let slab: u64 = memory
        .lines()
        .find_map(|line| {
            line.strip_prefix("Slab:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let sockets = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let pages = sockets
        .lines()
        .filter(|line| line.starts_with("TCP:"))
        .find_map(|line| line.split_whitespace().last()?.parse::<u64>().ok());
    slab + pages.unwrap_or(0) * 4
}

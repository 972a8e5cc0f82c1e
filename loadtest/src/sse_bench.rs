//! Many clients of the status stream at once: the service's memory and CPU for each, and a count of what they
//! received.

use std::{fs, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use stagedoor::demo::client::paths;
use tokio::task::JoinSet;

use crate::{
    environment::{Backend, SaleSpec, Service, ServiceArgs, VISIT_MAX_S},
    process::{Usage, kib_field, machine},
    sse_client::{self, StreamFigures, StreamStats},
};

/// How many streams, and for how long.
#[derive(Args, Clone, Debug)]
pub struct StreamsArgs {
    /// How many streams are opened.
    #[arg(long, default_value_t = 10_000)]
    pub count: u32,
    /// Minutes that the streams are followed.
    #[arg(long, default_value_t = 5.0)]
    pub minutes: f64,
    /// The backend of the service.
    #[arg(long, value_enum, default_value_t = Backend::Embedded)]
    pub backend: Backend,
    /// CPU cores for the service (as taskset takes them).
    #[arg(long, value_name = "CORES")]
    pub pin: Option<String>,
    /// Where streams.json is written.
    #[arg(long, value_name = "DIR", default_value = "loadtest-out")]
    pub out: PathBuf,
}

/// What the streams cost and what they carried.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamsResult {
    /// The machine and the build.
    pub machine: String,
    /// The service under test.
    pub service: String,
    /// How long the streams were followed.
    pub seconds: f64,
    /// What the clients received.
    pub streams: StreamFigures,
    /// Resident memory of the service that each stream added when all were connected.
    pub rss_bytes_each: f64,
    /// The same at the end.
    pub rss_bytes_each_at_end: f64,
    /// Kernel memory of both ends of each connection, where `/proc` reports it.
    pub kernel_bytes_each: f64,
    /// CPU time of the service for each event, beyond that of an idle service.
    pub cpu_us_each_event: f64,
    /// That CPU time as a share of one core.
    pub cpu_share: f64,
    /// Bytes a second sent to each client.
    pub bytes_each_s: f64,
}

const BYTES_GOAL: f64 = 16.0 * 1_024.0;
const CONNECT_TIMEOUT: Duration = Duration::from_mins(3);
/// How long the idle service is observed.
const IDLE: Duration = Duration::from_secs(10);
/// Events still on their way when the measurement ends get this long.
const GRACE: Duration = Duration::from_secs(3);

/// Measures and prints; fails when a client missed an event.
///
/// # Errors
/// The service does not start, or not all streams connect.
pub async fn run(args: StreamsArgs) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(&args.out).with_context(|| format!("--out: cannot make {}", args.out.display()))?;
    let result = measure(&args).await?;
    let file = args.out.join("streams.json");
    fs::write(&file, serde_json::to_vec_pretty(&result)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    print(&result);
    let is_complete = result.streams.incomplete == 0 && result.streams.broken == 0;
    Ok(if is_complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(result: &StreamsResult) {
    let streams = &result.streams;
    println!("{}\n{}", result.machine, result.service);
    println!(
        "{} streams for {:.0} s: {} status versions; {} of {} events received; {} streams missed at least \
         one; \
         {} broke, {} were refused",
        streams.clients,
        result.seconds,
        streams.versions,
        streams.received,
        streams.due,
        streams.incomplete,
        streams.broken,
        streams.refused
    );
    println!(
        "memory of the service: {:.0} B a stream (at the end {:.0}), goal <= {BYTES_GOAL:.0}; \
         of the kernel, both ends: {:.0} B",
        result.rss_bytes_each, result.rss_bytes_each_at_end, result.kernel_bytes_each
    );
    println!(
        "CPU of the service: {:.2} us an event, {:.1} % of a core; {:.0} B a second to each client",
        result.cpu_us_each_event,
        result.cpu_share * 100.0,
        result.bytes_each_s
    );
}

/// Measures without printing the result.
///
/// # Errors
/// As [`run`].
#[expect(clippy::cast_precision_loss, reason = "bytes and events of minutes")]
pub async fn measure(args: &StreamsArgs) -> anyhow::Result<StreamsResult> {
    if args.count == 0 || !(args.minutes.is_finite() && args.minutes > 0.0) {
        bail!("--count and --minutes: must be more than 0");
    }
    let service = start(args).await?;
    let usage = || {
        service
            .usage()
            .context("this machine does not report what a process uses (/proc)")
    };
    let (before, idle_share) = measure_idle(&usage).await?;
    let kernel_before = kernel_kib();

    let stats = Arc::new(StreamStats::default());
    let _clients = connect_all(args, &service, &stats).await?;
    tokio::time::sleep(GRACE).await;
    let (connected, kernel_connected) = (usage()?, kernel_kib());
    println!("{} connected", args.count);
    let at_start = stats.figures(None);
    let length = Duration::from_secs_f64(args.minutes * 60.0);
    follow(length, &stats).await;
    let end: Usage = usage()?;
    let newest = stats.newest();
    tokio::time::sleep(GRACE).await;
    let streams = stats.figures(newest);

    let (count, seconds) = (f64::from(args.count), length.as_secs_f64());
    let bytes_each = |kib: u64, base: u64| kib.saturating_sub(base) as f64 * 1_024.0 / count;
    let cpu_share = end.cpu.saturating_sub(connected.cpu).as_secs_f64() / seconds - idle_share;
    let events = (streams.received - at_start.received).max(1) as f64;
    Ok(StreamsResult {
        machine: machine(),
        service: service.description.clone(),
        seconds,
        streams,
        rss_bytes_each: bytes_each(connected.rss_kib, before.rss_kib),
        rss_bytes_each_at_end: bytes_each(end.rss_kib, before.rss_kib),
        kernel_bytes_each: bytes_each(kernel_connected, kernel_before),
        cpu_us_each_event: cpu_share * seconds * 1e6 / events,
        cpu_share,
        bytes_each_s: (streams.bytes - at_start.bytes) as f64 / count / seconds,
    })
}

async fn start(args: &StreamsArgs) -> anyhow::Result<Service> {
    let spec = SaleSpec {
        seats: 500,
        admission_rate_per_minute: 600,
        active_visits_max: 100,
        visit_max_s: VISIT_MAX_S,
        hold_ttl_s: 30,
        queue_entries_max: 1_000,
        open_in: Duration::from_hours(1),
        status_streams_max: args.count,
    };
    Service::prepare(&ServiceArgs::started(args.backend, args.pin.clone()), &spec).await
}

/// The usage after the idle phase, and the share of a core that the idle service takes.
async fn measure_idle(usage: &impl Fn() -> anyhow::Result<Usage>) -> anyhow::Result<(Usage, f64)> {
    tokio::time::sleep(Duration::from_secs(2)).await;
    let first = usage()?;
    tokio::time::sleep(IDLE).await;
    let last = usage()?;
    Ok((
        last,
        last.cpu.saturating_sub(first.cpu).as_secs_f64() / IDLE.as_secs_f64(),
    ))
}

/// Opens all streams and waits until every one is connected.
async fn connect_all(
    args: &StreamsArgs,
    service: &Service,
    stats: &Arc<StreamStats>,
) -> anyhow::Result<JoinSet<()>> {
    let path: Arc<str> = paths::status_events(&service.sale.id).into();
    let mut clients = JoinSet::new();
    for n in 0..args.count {
        let (stats, path, server) = (Arc::clone(stats), Arc::clone(&path), service.target.address);
        clients.spawn(async move { sse_client::follow(server, &path, &stats).await });
        // In steps, so that the listener's backlog does not overflow.
        if n % 200 == 199 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, async {
        while stats.figures(None).open < u64::from(args.count) {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    if connected.await.is_err() {
        let figures = stats.figures(None);
        bail!(
            "{} of {} connected within {CONNECT_TIMEOUT:?}: {figures:?}",
            figures.open,
            args.count
        );
    }
    Ok(clients)
}

/// Waits and prints the progress.
async fn follow(length: Duration, stats: &StreamStats) {
    let mut left = length;
    while !left.is_zero() {
        let step = left.min(Duration::from_secs(10));
        tokio::time::sleep(step).await;
        left -= step;
        let figures = stats.figures(None);
        println!(
            "{:>5.0} s  {} open, {} versions, {} events received",
            length.saturating_sub(left).as_secs_f64(),
            figures.open,
            figures.versions,
            figures.received
        );
    }
}

/// The kernel's slab and TCP memory of the whole machine.
fn kernel_kib() -> u64 {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let sockets = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let tcp_pages = sockets
        .lines()
        .filter(|line| line.starts_with("TCP:"))
        .find_map(|line| line.split_whitespace().last()?.parse::<u64>().ok());
    kib_field(&memory, "Slab:").unwrap_or(0) + tcp_pages.unwrap_or(0) * 4
}

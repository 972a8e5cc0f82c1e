//! The command line of the load tests.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use loadtest::{
    baseline_table::{self, BaselineArgs},
    baselines,
    build_pairs::{self, BuildPairsArgs},
    comparison::compare,
    environment::{ServiceArgs, WEBHOOK_SECRET},
    merge::{self, MergeArgs},
    overload::{self, OverloadArgs},
    process,
    result::RunResult,
    run::{self, CrowdArgs, RunKind},
    side_by_side::{self, SideBySideArgs},
    sse_bench::{self, StreamsArgs},
};
use stagedoor::{
    app::{self, Roles},
    ops::config::{self, Secret},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load tests for stagedoor: crowds over real HTTP, and figures beside baselines. Exit status: 0 success, 1 a
/// violation, a regression or forecasts that did not hold, 2 a wrong command line, 3 the run ended early.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Whole visits, from joining to tickets, with an audit at the end.
    Run {
        #[command(flatten)]
        service: Box<ServiceArgs>,
        #[command(flatten)]
        crowd: Box<CrowdArgs>,
    },
    /// A million visitors at once; a stadium sells out.
    Flash {
        #[command(flatten)]
        service: Box<ServiceArgs>,
        #[command(flatten)]
        crowd: Box<CrowdArgs>,
    },
    /// Many status streams at once: what each costs, and whether every client receives every event.
    Streams(StreamsArgs),
    /// Finds the load that saturates a service, and offers half to ten times as much.
    Overload(OverloadArgs),
    /// The table of figures, each over its baseline, on both backends.
    Baselines(BaselineArgs),
    /// What a buyer compares: the service beside the usual sorted-set queue and the usual seat locks.
    SideBySide(SideBySideArgs),
    /// This build of the service beside another, in alternation: whether a change made it slower.
    BuildPairs(BuildPairsArgs),
    /// Two results of a run side by side.
    Compare {
        /// The result before.
        a: PathBuf,
        /// The result after.
        b: PathBuf,
        /// Fail when a p99 or a rate of B is worse than that of A by more than this percentage.
        #[arg(long, value_name = "PERCENT")]
        fail_over: Option<f64>,
    },
    /// Merges the parts of one run, and audits them together.
    Merge(MergeArgs),
    /// A service, in a process of its own.
    #[command(hide = true)]
    Serve { config: PathBuf },
    /// The baseline server, in a process of its own; on a Redis unless its URL is empty.
    #[command(hide = true)]
    BaselineServer { port: u16, redis_url: String },
    /// A sandbox gateway, in a process of its own.
    #[command(hide = true)]
    Gateway {
        listen: std::net::SocketAddr,
        database_file: PathBuf,
        webhooks: String,
    },
}

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(status) => status,
        Err(e) => {
            eprintln!("loadtest: {e:#}");
            ExitCode::from(2)
        }
    }
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run { service, crowd } => block_on(run::run(RunKind::Run, *service, *crowd)),
        Command::Flash { service, crowd } => block_on(run::run(RunKind::Flash, *service, *crowd)),
        Command::Streams(args) => block_on(sse_bench::run(args)),
        Command::Overload(args) => block_on(overload::run(args)),
        Command::Baselines(args) => block_on(baseline_table::run(args)),
        Command::SideBySide(args) => block_on(side_by_side::run(args)),
        Command::BuildPairs(args) => block_on(build_pairs::run(args)),
        Command::Compare { a, b, fail_over } => compare_results(&a, &b, fail_over),
        Command::Merge(args) => block_on(merge::run(args)),
        Command::Serve { config } => {
            process::exit_with_owner();
            let settings = config::load(Some(&config), std::iter::empty())?;
            app::block_on(app::serve(settings, Roles::All))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::BaselineServer { port, redis_url } => {
            process::exit_with_owner();
            let redis_url = Some(redis_url.as_str()).filter(|url| !url.is_empty());
            block_on(baselines::serve(port, redis_url))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Gateway {
            listen,
            database_file,
            webhooks,
        } => {
            process::exit_with_owner();
            let secret = Secret::new(WEBHOOK_SECRET);
            app::block_on(app::sandbox_gateway(
                listen,
                database_file,
                Some(webhooks),
                secret,
            ))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn compare_results(a: &Path, b: &Path, fail_over: Option<f64>) -> anyhow::Result<ExitCode> {
    let comparison = compare(
        &RunResult::read(a)?,
        &RunResult::read(b)?,
        fail_over.unwrap_or(10.0),
    );
    print!("{}", comparison.table);
    for regression in &comparison.regressions {
        println!("worse: {regression}");
    }
    let is_failure = fail_over.is_some() && !comparison.regressions.is_empty();
    Ok(if is_failure {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    // Ten thousand streams are as many open files.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

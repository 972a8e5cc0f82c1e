//! The command line of the load tests.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use loadtest::{
    floors,
    ground::{GroundArgs, WEBHOOK_SECRET},
    merge, overload, process, ratios,
    result::{RunResult, compare},
    run::{self, CrowdArgs, Kind},
    watchers,
};
use stagedoor::{
    app::{self, Roles},
    ops::config::{self, Secret},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Crowds over real HTTP against a house of stagedoor, and what it bears. Exit status: 0 all is well, 1 a promise was broken
/// or something got worse, 2 the command line is wrong, 3 the run ended before its end.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Whole journeys, from joining to tickets, with an auditor in the end.
    Run {
        #[command(flatten)]
        place: Box<GroundArgs>,
        #[command(flatten)]
        who: Box<CrowdArgs>,
    },
    /// A million fans at once, a stadium sold out.
    Flash {
        #[command(flatten)]
        place: Box<GroundArgs>,
        #[command(flatten)]
        who: Box<CrowdArgs>,
    },
    /// Many watchers of the board's event stream at once: what each costs, and whether all receive each board.
    Watchers(watchers::WatchersArgs),
    /// Finds the load that saturates a house, and asks half to ten times as much of it.
    Overload(overload::OverloadArgs),
    /// The table of figures, each over the floor that it stands on, on both engines.
    Ratios(ratios::RatiosArgs),
    /// Two results beside each other.
    Compare {
        a: PathBuf,
        b: PathBuf,
        /// Fails when a p99 or a rate of B is worse than that of A by more than so many per cent.
        #[arg(long, value_name = "PERCENT")]
        fail_over: Option<f64>,
    },
    /// Adds up the parts of one run, and judges them together.
    Merge(merge::MergeArgs),
    /// A house, in a process of its own.
    #[command(hide = true)]
    Serve { config: PathBuf },
    /// A floor, in a process of its own; with a Redis, if one is named.
    #[command(hide = true)]
    Floor { port: u16, redis: String },
    /// A sandbox gateway, in a process of its own.
    #[command(hide = true)]
    Gateway {
        listen: std::net::SocketAddr,
        book: PathBuf,
        webhooks: String,
    },
}

fn main() -> ExitCode {
    match start(Cli::parse().command) {
        Ok(status) => status,
        Err(e) => {
            eprintln!("loadtest: {e:#}");
            ExitCode::from(2)
        }
    }
}

fn start(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run { place, who } => block_on(run::run(Kind::Run, *place, *who)),
        Command::Flash { place, who } => block_on(run::run(Kind::Flash, *place, *who)),
        Command::Watchers(args) => block_on(watchers::run(args)),
        Command::Overload(args) => block_on(overload::run(args)),
        Command::Ratios(args) => block_on(ratios::run(args)),
        Command::Compare { a, b, fail_over } => {
            let (table, worse) = compare(
                &RunResult::read(&a)?,
                &RunResult::read(&b)?,
                fail_over.unwrap_or(10.0),
            );
            print!("{table}");
            for it in &worse {
                println!("worse: {it}");
            }
            Ok(if fail_over.is_some() && !worse.is_empty() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            })
        }
        Command::Merge(args) => block_on(merge::run(args)),
        Command::Serve { config: file } => {
            process::end_with_owner();
            app::block_on(app::serve(
                config::load(Some(&file), std::iter::empty())?,
                Roles::All,
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Floor { port, redis } => {
            process::end_with_owner();
            block_on(floors::serve(
                port,
                Some(redis.as_str()).filter(|it| !it.is_empty()),
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Gateway {
            listen,
            book,
            webhooks,
        } => {
            process::end_with_owner();
            app::block_on(app::sandbox_gateway(
                listen,
                book,
                Some(webhooks),
                Secret::new(WEBHOOK_SECRET),
            ))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    // Ten thousand watchers are as many files.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

//! Two builds of the service in alternation: whether a change made it slower.
//!
//! Both builds run at once on the same machine, each with its own Redis and PostgreSQL or its own files, and
//! take turns as the two sides of the baseline table do ([`crate::baseline_table`]). The other build must
//! speak the same HTTP contract and read the same configuration.

use std::{fmt::Write, fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use stagedoor::demo::client::paths;

use crate::{
    baseline_table::{
        fixture::{EMPTY, Fixture},
        hold_bench, order_bench,
        paired::{Pairs, Side, compare_in_pairs},
        table::{Row, Table, combine},
    },
    environment::{Backend, BackendServers, Durability},
    process::own_program,
};

/// The names for `--only`.
const FIGURES: [&str; 5] = ["join", "position", "status", "hold", "order"];
const OTHER: &str = "the other build";

/// Which build, and which figures.
#[derive(Args, Clone, Debug)]
pub struct BuildPairsArgs {
    /// The `loadtest` program of the other build.
    #[arg(long, value_name = "PROGRAM")]
    pub other: PathBuf,
    /// Only these: join, position, status, hold, order.
    #[arg(long, value_delimiter = ',', value_name = "FIGURES")]
    pub only: Vec<String>,
    /// Only this backend.
    #[arg(long, value_enum)]
    pub backend: Option<Backend>,
    /// Pairs of turns for each figure; for orders at most 39.
    #[arg(long, default_value_t = 25)]
    pub pairs: usize,
    /// How often everything is measured, with fresh servers; more than once shows the spread.
    #[arg(long, default_value_t = 1)]
    pub repeat: u32,
    /// The lower end of every ratio's interval must reach this.
    #[arg(long, value_name = "RATIO")]
    pub goal: Option<f64>,
    /// Where build-pairs.json is written.
    #[arg(long, value_name = "DIR", default_value = "loadtest-out")]
    pub out: PathBuf,
}

/// Measures and prints the ratios of this build over the other, as rates. Exit status 1 where the goal is
/// missed.
///
/// # Errors
/// An argument is wrong, a server does not start, or a file cannot be written.
pub async fn run(args: BuildPairsArgs) -> anyhow::Result<ExitCode> {
    if let Some(unknown) = args
        .only
        .iter()
        .find(|figure| !FIGURES.contains(&figure.as_str()))
    {
        bail!("--only {unknown}: must be one of {}", FIGURES.join(", "));
    }
    if args.repeat == 0 || args.pairs == 0 {
        bail!("--repeat and --pairs: must be at least 1");
    }
    if !args.other.is_file() {
        bail!("--other {}: there is no such file", args.other.display());
    }
    fs::create_dir_all(&args.out).with_context(|| format!("--out: cannot make {}", args.out.display()))?;
    let mut tables = Vec::new();
    for _ in 0..args.repeat {
        tables.push(measure(&args).await?);
    }
    let table = combine(&tables);
    let file = args.out.join("build-pairs.json");
    fs::write(&file, serde_json::to_string_pretty(&table)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    print!("{}", render(&table));
    // Of the rows of CPU time less is better; the goal is one of rates.
    let mut rates = table.rows.iter().filter(|row| row.rates.is_some());
    let is_met = args.goal.is_none_or(|goal| {
        table.not_measured.is_empty() && rates.all(|row| row.interval.is_some_and(|(low, _)| low >= goal))
    });
    Ok(if is_met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn render(table: &Table) -> String {
    let mut text = format!(
        "{}\nthis build over the other: median ratio, 95 % interval, rates\n",
        table.machine
    );
    for row in &table.rows {
        let (low, high) = row.interval.unwrap_or_default();
        let rates = row
            .rates
            .map(|(ours, other)| format!("{ours:.0} and {other:.0} a second"))
            .unwrap_or_default();
        let spread = row
            .spread
            .map(|(least, most)| format!(" (medians {least:.3} to {most:.3})"))
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "{:<18} {:<17} {:.3} [{low:.3}, {high:.3}] {rates}{spread}",
            row.figure, row.backend, row.value
        );
    }
    for why in &table.not_measured {
        let _ = writeln!(text, "not measured: {why}");
    }
    text
}

async fn measure(args: &BuildPairsArgs) -> anyhow::Result<Table> {
    let wanted = |figure: &str| args.only.is_empty() || args.only.iter().any(|only| only == figure);
    let figures: Vec<&str> = FIGURES.into_iter().filter(|figure| wanted(figure)).collect();
    let mut table = Table::new(&figures);
    let backends = [Backend::Embedded, Backend::RedisPostgresql];
    for backend in backends
        .into_iter()
        .filter(|backend| args.backend.is_none_or(|only| only == *backend))
    {
        let ours = open(&own_program()?, backend).await?;
        let other = open(&args.other, backend).await.context("the other build")?;
        for figure in &figures {
            match pairs(figure, args.pairs, &ours, &other).await {
                Ok(pairs) => {
                    table.push(Row::of_pairs(*figure, backend.name(), &pairs, args.goal, OTHER));
                    if let Some((ratio, interval)) = pairs.cpu_ratio() {
                        let figure = format!("{figure}, CPU");
                        let row = Row::lower_is_better(figure, backend.name(), ratio, "ratio", None);
                        table.push(Row {
                            interval: Some(interval),
                            ..row
                        });
                    }
                }
                Err(why) => table
                    .not_measured
                    .push(format!("{figure}, {}: {why:#}", backend.name())),
            }
        }
    }
    Ok(table)
}

/// Joins are acknowledged without waiting for the disk: the disk would hide the work of the service.
async fn open(program: &std::path::Path, backend: Backend) -> anyhow::Result<Fixture> {
    let servers = match backend {
        Backend::Embedded => None,
        Backend::RedisPostgresql => Some(BackendServers::start().await?),
    };
    Fixture::open_program(program, backend, Durability::Async, servers).await
}

async fn pairs(figure: &str, count: usize, ours: &Fixture, other: &Fixture) -> anyhow::Result<Pairs> {
    match figure {
        "join" => {
            let join = |fixture: &Fixture| Side::post(&fixture.service, &paths::queue(EMPTY));
            compare_in_pairs(count, &join(ours), &join(other)).await
        }
        "position" => compare_in_pairs(count, &position(ours).await?, &position(other).await?).await,
        "status" => {
            let status = |fixture: &Fixture| Side::get(&fixture.service, &paths::status(EMPTY));
            compare_in_pairs(count, &status(ours), &status(other)).await
        }
        "hold" => hold_bench::compare_builds(count, ours, other).await,
        "order" => order_bench::compare_builds(count, ours, other).await,
        unknown => bail!("unknown figure {unknown}"),
    }
}

async fn position(fixture: &Fixture) -> anyhow::Result<Side> {
    let tokens = fixture.tokens(EMPTY).await?;
    Ok(Side::get_each(
        &fixture.service,
        &paths::position(EMPTY),
        paths::QUEUE_TOKEN,
        &tokens,
    ))
}

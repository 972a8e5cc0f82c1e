//! Measures the comparison and writes it.

use std::{fs, process::ExitCode};

use anyhow::{Context, bail};

use super::{args::SideBySideArgs, http_rows, render::markdown, scale_rows, usual::UsualWay};
use crate::{
    baseline_table::{
        fixture::Fixture,
        paired::CONNECTIONS_MAX,
        table::{Table, combine},
    },
    environment::{Backend, BackendServers},
};

/// Measures all rows and prints the table.
///
/// # Errors
/// An argument is wrong, a server does not start, or a file cannot be written.
pub async fn run(args: SideBySideArgs) -> anyhow::Result<ExitCode> {
    if args.repeat == 0 || args.fans == 0 {
        bail!("--repeat and --fans: must be at least 1");
    }
    if !(1..=CONNECTIONS_MAX).contains(&args.overload_clients) {
        bail!("--overload-clients: must be from 1 to {CONNECTIONS_MAX}");
    }
    fs::create_dir_all(&args.out).with_context(|| format!("--out: cannot make {}", args.out.display()))?;
    let mut tables = Vec::new();
    for n in 0..args.repeat {
        eprintln!("repetition {} of {}", n + 1, args.repeat);
        tables.push(measure(&args).await?);
    }
    let table = combine(&tables);
    let service = format!(
        "{} backend, joins {}",
        args.backend.name(),
        args.durability.name()
    );
    let (json, text) = (serde_json::to_string_pretty(&table)?, markdown(&table, &service));
    for (name, content) in [("side-by-side.json", &json), ("side-by-side.md", &text)] {
        let file = args.out.join(name);
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
    }
    println!("{}", if args.json { json } else { text });
    Ok(ExitCode::SUCCESS)
}

/// One repetition, with fresh servers on both sides.
async fn measure(args: &SideBySideArgs) -> anyhow::Result<Table> {
    let servers = match args.backend {
        Backend::Embedded => None,
        Backend::RedisPostgresql => Some(BackendServers::start().await?),
    };
    let usual = UsualWay::start().await?;
    let fixture = Fixture::open(args.backend, args.durability, servers).await?;
    let mut table = Table::new(&["side by side"]);
    http_rows::add(&fixture, &usual, &mut table).await;
    if !args.quick {
        scale_rows::add(args, &fixture, &usual, &mut table).await;
    }
    Ok(table)
}

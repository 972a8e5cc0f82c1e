//! Measures the table, once or repeatedly, and prints it.

use std::{fs, process::ExitCode};

use anyhow::Context;

use super::{
    args::BaselineArgs,
    http_rows, in_process, other_rows,
    render::render,
    repetitions::{REPETITIONS_FILE, missing_figures, read_repetitions},
    table::{Table, combine},
};

/// Measures and prints the table. A missed goal is reported and is no failure of the measurement.
///
/// # Errors
/// An argument is wrong, a server does not start, or a file cannot be written.
pub async fn run(args: BaselineArgs) -> anyhow::Result<ExitCode> {
    args.check()?;
    fs::create_dir_all(&args.out).with_context(|| format!("--out: cannot make {}", args.out.display()))?;
    let mut tables = if args.resume {
        read_repetitions(&args.out)?
    } else {
        Vec::new()
    };
    for n in 0..args.repeat as usize {
        let missing = missing_figures(&args.only, n, tables.get(n));
        if missing.is_empty() {
            continue;
        }
        eprintln!("repetition {} of {}: {}", n + 1, args.repeat, missing.join(", "));
        let table = measure(&args, &missing).await?;
        match tables.get_mut(n) {
            Some(before) => before.extend(table),
            None => tables.push(table),
        }
        // Written after each repetition, so that an interrupted measurement can be resumed.
        fs::write(
            args.out.join(REPETITIONS_FILE),
            serde_json::to_vec_pretty(&tables)?,
        )?;
        fs::write(
            args.out.join("baselines.json"),
            serde_json::to_vec_pretty(&combine(&tables))?,
        )?;
    }
    let table = combine(&tables);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&table)?);
    } else {
        print!("{}", render(&table, args.markdown));
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(args: &BaselineArgs, figures: &[&str]) -> anyhow::Result<Table> {
    let mut table = Table::new(figures);
    if figures.contains(&"seats") {
        table.rows.extend(in_process::rows());
    }
    http_rows::add(args, figures, &mut table).await?;
    if figures.contains(&"streams") {
        other_rows::add_streams(args, &mut table).await;
    }
    if figures.contains(&"forecast") {
        other_rows::add_forecast(args, &mut table).await?;
    }
    if figures.contains(&"overload") {
        other_rows::add_overload(args, &mut table).await;
    }
    Ok(table)
}

//! The command line: parses arguments and calls the library. Each command is in the file of its name.

mod audit;
mod config;
mod demo;
mod draw;
mod journal;
mod openapi;
mod operator_token;
mod password_formats;
mod plan;
mod preflight;
mod rehearse;
mod sandbox_gateway;
mod serve;
mod ticket;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::ops::config::Settings;

/// A virtual waiting room with verifiable positions, and a box office that never sells a seat twice.
#[derive(Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    demo: demo::Args,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a demo sale that starts a minute from now, with a shop, a payment gateway and an optional crowd.
    Demo(demo::Args),
    /// Serves the sales of a configuration.
    Serve(serve::Args),
    /// Checks and generates seating plans.
    #[command(subcommand)]
    Plan(plan::Command),
    /// Shows the configuration.
    #[command(subcommand)]
    Config(config::Command),
    /// Verifies tickets.
    #[command(subcommand)]
    Ticket(ticket::Command),
    /// Recomputes and verifies published fair draws.
    #[command(subcommand)]
    Draw(draw::Command),
    /// Prints the OpenAPI document of the public API or of the admin API.
    Openapi(openapi::Args),
    /// Makes an operator's token, and its hash for the configuration.
    OperatorToken,
    /// Measures what verifying a stored password costs on this machine, for each format.
    PasswordFormats,
    /// Shows or verifies a queue's journal: every change to the queue, in a hash chain.
    #[command(subcommand)]
    Journal(journal::Command),
    /// Audits a sale by its databases: no seat sold twice, no payment without tickets, rate and limits kept.
    Audit(audit::Args),
    /// Checks an installation before the sale: databases, Redis, the shop and its customers, plans, limits.
    Preflight(preflight::Args),
    /// Rehearses whole sales in virtual time: checks the waiting room's guarantees and scores its forecasts.
    Rehearse(rehearse::Args),
    /// Runs a payment gateway that moves no money and injects faults on demand.
    SandboxGateway(sandbox_gateway::Args),
}

/// Runs the command; without one, the demo.
///
/// # Errors
/// Why the command failed, in words for the operator.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command.unwrap_or(Command::Demo(cli.demo)) {
        Command::Demo(args) => demo::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Plan(command) => plan::run(command),
        Command::Config(command) => config::run(command),
        Command::Ticket(command) => ticket::run(command),
        Command::Draw(command) => draw::run(command),
        Command::Openapi(args) => {
            openapi::run(&args);
            Ok(())
        }
        Command::OperatorToken => {
            operator_token::run();
            Ok(())
        }
        Command::PasswordFormats => {
            password_formats::run();
            Ok(())
        }
        Command::Journal(command) => journal::run(command),
        Command::Audit(args) => audit::run(args),
        Command::Preflight(args) => preflight::run(&args),
        Command::Rehearse(args) => rehearse::run(args),
        Command::SandboxGateway(args) => sandbox_gateway::run(args),
    }
}

/// The settings of an installation that a command judges: its file, its environment, and the data directory
/// if one is named.
fn settings_of(file: Option<&Path>, data: Option<PathBuf>) -> anyhow::Result<Settings> {
    let mut settings = crate::ops::config::load(file, env())?;
    settings.data.dir = data.unwrap_or(settings.data.dir);
    Ok(settings)
}

/// The process's environment variables that are valid Unicode; the configuration ignores all others.
fn env() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
}

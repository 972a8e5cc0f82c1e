//! `stagedoor config`

use std::path::PathBuf;

use clap::Subcommand;
use stagedoor::ops::config;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Prints the effective configuration; secrets are masked.
    Show {
        /// The configuration file; the defaults when not given.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

pub(super) fn run(command: Command) -> anyhow::Result<()> {
    let Command::Show { config: file } = command;
    print!("{}", config::show(&config::load(file.as_deref(), super::env())?));
    Ok(())
}

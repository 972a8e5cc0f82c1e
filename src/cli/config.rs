//! `stagedoor config`

use std::path::PathBuf;

use clap::Subcommand;

use crate::{
    app,
    kernel::{Clock, SystemClock},
    ops::config,
};

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
    let settings = config::load(file.as_deref(), super::env())?;
    print!("{}", config::show(&settings));
    for sale in &settings.sales {
        for reason in sale.reasons_not_to_begin(SystemClock::new().now()) {
            eprintln!(
                "sale {}, if it has not begun yet, would not start: {reason}",
                sale.id
            );
        }
    }
    app::check_plans(&settings)
}

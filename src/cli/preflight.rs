//! `stagedoor preflight`

use std::path::PathBuf;

use crate::{app, ops::config};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The configuration file; the defaults when not given.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints the report as JSON: `checks` with name, verdict (ok, warning, failed), finding and remedy.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let settings = config::load(args.config.as_deref(), super::env());
    app::block_on(app::preflight::run(settings, args.json))
}

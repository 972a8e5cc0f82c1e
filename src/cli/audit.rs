//! `stagedoor audit`

use std::path::PathBuf;

use stagedoor::{
    app::{self, audit::DatabaseUrls},
    ops::config,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The data directory of a node, running or not.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The configuration whose sales are audited; the demo's own sale when not given.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The ledger, where it is not in the data directory: sqlite:FILE or postgres://... Leave the password to
    /// PGPASSWORD or ~/.pgpass, where other users of the machine do not see it.
    #[arg(long, value_name = "URL")]
    ledger: Option<String>,
    /// The queue's journal, likewise.
    #[arg(long, value_name = "URL")]
    journal: Option<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let sales = match &args.config {
        Some(file) => config::load(Some(file), super::env())?.sales,
        None => Vec::new(),
    };
    let urls = DatabaseUrls {
        ledger: args.ledger,
        journal: args.journal,
    };
    app::block_on(app::audit::run(&args.data, &urls, sales))
}

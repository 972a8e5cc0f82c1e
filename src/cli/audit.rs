//! `stagedoor audit`

use std::path::PathBuf;

use crate::app::{self, audit::DatabaseUrls};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The data directory of a node, running or not; without a configuration the demo's.
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    data: Option<PathBuf>,
    /// The installation's configuration, which names its databases and sales; variables STAGEDOOR__...
    /// override it as they do for `serve`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The ledger, where it is elsewhere: sqlite:FILE or postgres://... Leave the password to PGPASSWORD or
    /// ~/.pgpass, where other users of the machine do not see it.
    #[arg(long, value_name = "URL")]
    ledger: Option<String>,
    /// The queue's journal, likewise.
    #[arg(long, value_name = "URL")]
    journal: Option<String>,
    /// The database file of the sandbox gateway's statement, where it is a process of its own. Without it
    /// money is not checked.
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let settings = super::settings_of(args.config.as_deref(), args.data)?;
    let urls = DatabaseUrls {
        ledger: args.ledger,
        journal: args.journal,
        gateway: args.gateway,
    };
    app::block_on(async move { app::audit::run(&settings, &urls).await })
}

//! `stagedoor journal`

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;

use crate::{
    app,
    kernel::SaleId,
    ops::{config::DatabaseLocation, journal_cli},
    waiting_room::JournalLocation,
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Recomputes the hash chain of the journal and names the first link that is wrong. Reads only.
    Verify {
        #[command(flatten)]
        source: Source,
        /// A chain head that the status published earlier; detects a journal that was truncated or rewritten
        /// since.
        #[arg(long, value_name = "SEQUENCE:HEX")]
        head: Option<String>,
        /// One sale instead of all.
        #[arg(long, value_name = "ID")]
        sale: Option<String>,
    },
    /// Prints the journal as JSON, one record a line.
    Show {
        #[command(flatten)]
        source: Source,
        /// One sale instead of all.
        #[arg(long, value_name = "ID")]
        sale: Option<String>,
        /// Only records of this kind, such as `operator`, `called` or `admitted`.
        #[arg(long)]
        kind: Option<String>,
    },
}

#[derive(clap::Args)]
#[group(required = true, multiple = true)]
pub(super) struct Source {
    /// The journal's database: sqlite:FILE or postgres://... Leave the password to PGPASSWORD or ~/.pgpass.
    #[arg(long, value_name = "URL", conflicts_with_all = ["data", "config"])]
    journal: Option<String>,
    /// The data directory of a node; without a configuration the demo's.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The installation's configuration, which names its journal; variables STAGEDOOR__... override it as
    /// they do for `serve`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Source {
    fn location(self) -> anyhow::Result<JournalLocation> {
        if let Some(url) = &self.journal {
            return journal_cli::location(url).context("--journal");
        }
        let settings = super::settings_of(self.config.as_deref(), self.data)?;
        Ok(match settings.journal_database() {
            DatabaseLocation::Sqlite(file) => JournalLocation::File(file),
            DatabaseLocation::Postgres(url) => JournalLocation::Postgres {
                url: url.expose().to_owned(),
            },
        })
    }
}

pub(super) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Verify { source, head, sale } => {
            let location = source.location()?;
            let sale = parse_sale(sale)?;
            let head = head
                .map(|text| journal_cli::head(&text).context("--head"))
                .transpose()?;
            app::block_on(async move { journal_cli::verify(&location, sale.as_ref(), head).await })
        }
        Command::Show { source, sale, kind } => {
            let location = source.location()?;
            let sale = parse_sale(sale)?;
            app::block_on(async move { journal_cli::show(&location, sale.as_ref(), kind.as_deref()).await })
        }
    }
}

fn parse_sale(id: Option<String>) -> anyhow::Result<Option<SaleId>> {
    id.map(|id| {
        id.parse()
            .with_context(|| format!("--sale: {id} is not a sale id"))
    })
    .transpose()
}

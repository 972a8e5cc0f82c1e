//! `stagedoor journal`

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use stagedoor::{app, kernel::SaleId, ops::journal_cli, waiting_room::JournalLocation};

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
#[group(required = true, multiple = false)]
pub(super) struct Source {
    /// The journal's database: sqlite:FILE or postgres://... Leave the password to PGPASSWORD or ~/.pgpass.
    #[arg(long, value_name = "URL")]
    journal: Option<String>,
    /// The data directory of a node that keeps its journal in a file.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Source {
    fn location(self) -> anyhow::Result<JournalLocation> {
        match (self.journal, self.data) {
            (Some(url), _) => journal_cli::location(&url).context("--journal"),
            (None, data) => Ok(JournalLocation::File(data.unwrap_or_default().join("queue.db"))),
        }
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

//! `stagedoor ticket`

use std::path::PathBuf;

use clap::Subcommand;

use crate::ops::tickets;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Verifies a ticket's code offline and prints what it admits to.
    Verify {
        /// The content of the QR code.
        code: String,
        /// The service's public keys, as `GET /.well-known/jwks.json` returns them.
        #[arg(long, value_name = "FILE")]
        jwks: PathBuf,
    },
}

pub(super) fn run(command: Command) -> anyhow::Result<()> {
    let Command::Verify { code, jwks } = command;
    tickets::verify(&code, &jwks)
}

//! `stagedoor draw`

use std::path::PathBuf;

use clap::Subcommand;

use crate::ops::draws::{self, VerifyInputs};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Prints the order of a draw: one line an entry, its arrival number and its queue number, both 1-based.
    Order {
        /// The draw seed, 64 hexadecimal digits.
        #[arg(long, value_name = "HEX")]
        seed: String,
        /// How many entries are in the draw.
        #[arg(long)]
        entries: u32,
    },
    /// Verifies a published draw and names every value that is wrong.
    Verify {
        /// The response of `GET /v1/sales/{sale}/draw`; it may include the list of `leaves`.
        file: PathBuf,
        /// The response of `GET /v1/sales/{sale}/draw/entries`, packed or as JSON.
        #[arg(long, value_name = "FILE")]
        leaves: Option<PathBuf>,
        /// A visitor's response of `GET /v1/sales/{sale}/draw/receipt`, from before or after the draw.
        #[arg(long, value_name = "FILE")]
        receipt: Option<PathBuf>,
        /// The service's public keys, as `GET /.well-known/jwks.json` returns them; they verify the receipt's
        /// signature.
        #[arg(long, value_name = "FILE")]
        keys: Option<PathBuf>,
    },
}

pub(super) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Order { seed, entries } => draws::order(&seed, entries),
        Command::Verify {
            file,
            leaves,
            receipt,
            keys,
        } => {
            let inputs = VerifyInputs {
                leaves: leaves.as_deref(),
                receipt: receipt.as_deref(),
                keys: keys.as_deref(),
            };
            draws::verify(&file, inputs)
        }
    }
}

//! `stagedoor plan`

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use crate::{ops::plans, seating::VenueKind};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Checks a seating plan (pretix format) and lists everything that is wrong with it.
    Check {
        /// The plan's file.
        file: PathBuf,
    },
    /// Writes a generated seating plan to standard output.
    Generate {
        /// The kind of venue.
        kind: Venue,
        /// How many seats it has.
        #[arg(long)]
        seats: u32,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Venue {
    Theatre,
    Arena,
    Stadium,
}

pub(super) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Check { file } => plans::check(&file),
        Command::Generate { kind, seats } => {
            let kind = match kind {
                Venue::Theatre => VenueKind::Theatre,
                Venue::Arena => VenueKind::Arena,
                Venue::Stadium => VenueKind::Stadium,
            };
            println!("{}", plans::generate(kind, seats)?);
            Ok(())
        }
    }
}

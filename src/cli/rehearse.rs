//! `stagedoor rehearse`

use std::path::PathBuf;

use crate::app::rehearse::{self, RehearseOptions};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Which scenario; an unknown name lists those that exist.
    #[arg(long, value_name = "NAME|all", default_value = "all")]
    scenario: String,
    /// Simulated fans in each sale.
    #[arg(long, default_value_t = 20_000)]
    fans: u32,
    /// Seed of the randomness; the same seed gives the same sale.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Sales of each scenario, with seeds from `--seed` on.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    seeds: u32,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Writes a page with plots into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    rehearse::run(&RehearseOptions {
        scenario: args.scenario,
        fans: args.fans,
        seed: args.seed,
        seeds: args.seeds,
        json: args.json,
        out: args.out,
    })
}

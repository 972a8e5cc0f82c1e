//! The command line of the comparison.

use std::path::PathBuf;

use clap::Args;

use crate::environment::{Backend, Durability};

/// Which service is compared, and how thoroughly.
#[derive(Args, Clone, Debug)]
pub struct SideBySideArgs {
    /// Only the five HTTP rows, in about three minutes.
    #[arg(long)]
    pub quick: bool,
    /// The backend of the service. The usual way always has a Redis of its own.
    #[arg(long, value_enum, default_value_t = Backend::RedisPostgresql)]
    pub backend: Backend,
    /// When the service acknowledges joins. The usual way loses the last second in a crash, which is less
    /// than `async` promises.
    #[arg(long, value_enum, default_value_t = Durability::Committed)]
    pub durability: Durability,
    /// How often everything is measured; more than once shows the spread.
    #[arg(long, default_value_t = 1)]
    pub repeat: u32,
    /// Visitors of the memory row and of the million arrivals.
    #[arg(long, default_value_t = 1_000_000)]
    pub fans: u32,
    /// Clients of the overload row.
    #[arg(long, default_value_t = 4_000)]
    pub overload_clients: usize,
    /// Print JSON instead of the markdown table.
    #[arg(long)]
    pub json: bool,
    /// Where side-by-side.json and side-by-side.md are written.
    #[arg(long, value_name = "DIR", default_value = "loadtest-out")]
    pub out: PathBuf,
}

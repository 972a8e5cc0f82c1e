//! The command line of the baseline table.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use super::paired::CONNECTIONS_MAX;

/// Which figures, and how often.
#[derive(Args, Clone, Debug)]
pub struct BaselineArgs {
    /// Only these: join, status, position, hold, seats, memory, growth, streams, origin, forecast, overload.
    #[arg(long, value_delimiter = ',', value_name = "FIGURES")]
    pub only: Vec<String>,
    /// How often the whole table is measured; more than once shows the spread. The forecast is deterministic
    /// and is computed once.
    #[arg(long, default_value_t = 1)]
    pub repeat: u32,
    /// Measure only what --out lacks of the same machine and program, to continue a long measurement or to
    /// measure in parts.
    #[arg(long)]
    pub resume: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Print the table as markdown.
    #[arg(long)]
    pub markdown: bool,
    /// Waiting visitors whose memory is measured; some figures use four times as many.
    #[arg(long, default_value_t = 1_000_000)]
    pub fans: u32,
    /// Seeds of each simulated scenario.
    #[arg(long, default_value_t = 25)]
    pub seeds: u32,
    /// Minutes that the streams are followed.
    #[arg(long, default_value_t = 1.0)]
    pub stream_minutes: f64,
    /// Joins in flight: few wait for each commit, many share it.
    #[arg(long, value_delimiter = ',', value_name = "CONNECTIONS", default_values_t = [64, 256])]
    pub joining: Vec<usize>,
    /// Where baselines.json is written.
    #[arg(long, value_name = "DIR", default_value = "loadtest-out")]
    pub out: PathBuf,
}

/// The names for `--only`.
pub const FIGURES: [&str; 11] = [
    "join", "status", "position", "hold", "seats", "memory", "growth", "streams", "origin", "forecast",
    "overload",
];

impl BaselineArgs {
    /// Checks the arguments.
    ///
    /// # Errors
    /// Names the wrong argument.
    pub fn check(&self) -> anyhow::Result<()> {
        if let Some(unknown) = self
            .only
            .iter()
            .find(|figure| !FIGURES.contains(&figure.as_str()))
        {
            bail!("--only {unknown}: must be one of {}", FIGURES.join(", "));
        }
        if self.repeat == 0 || self.fans == 0 {
            bail!("--repeat and --fans: must be at least 1");
        }
        if self
            .joining
            .iter()
            .any(|count| !(1..=CONNECTIONS_MAX).contains(count))
        {
            bail!("--joining: must be from 1 to {CONNECTIONS_MAX}");
        }
        Ok(())
    }
}

//! The command line of the overload measurement.

use std::path::PathBuf;

use clap::Args;

use crate::environment::Backend;

/// How much load, and for how long.
#[derive(Args, Clone, Debug)]
pub struct OverloadArgs {
    /// The backend of the service.
    #[arg(long, value_enum, default_value_t = Backend::Embedded)]
    pub backend: Backend,
    /// CPU cores for the service (as taskset takes them); keep the crowd off them: taskset -c 1 loadtest
    /// overload --pin 0.
    #[arg(long, value_name = "CORES")]
    pub pin: Option<String>,
    /// Seconds of each stage but the last.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub stage: u32,
    /// Seconds of the last stage, at ten times the saturating load.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub last_stage: u32,
    /// The saturating load in visitors a second, if it is known; it is searched for otherwise.
    #[arg(long, value_name = "PER_SECOND")]
    pub saturating: Option<f64>,
    /// Where the search starts.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 50.0)]
    pub from: f64,
    /// Multiples of the saturating load before the last stage.
    #[arg(long, value_delimiter = ',', default_values_t = [0.5, 1.0, 2.0, 5.0])]
    pub factors: Vec<f64>,
    /// Where overload.json and overload.html are written.
    #[arg(long, value_name = "DIR", default_value = "loadtest-out")]
    pub out: PathBuf,
}

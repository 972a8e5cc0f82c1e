//! Who comes to a run, as the command line says.

use std::path::PathBuf;

use clap::Args;

use crate::{arrivals::Shape, crowd::StatusPolling};

/// Who comes.
#[derive(Args, Clone, Debug)]
pub struct CrowdArgs {
    /// Visitors; 2000 for a run, 1000000 for a flash.
    #[arg(long)]
    pub fans: Option<u32>,
    /// constant, poisson, flash, or a file of lines `second,arrivals`; poisson for a run.
    #[arg(long, value_name = "SHAPE|FILE")]
    pub arrivals: Option<Shape>,
    /// Seconds within which they arrive; 30 for a run, 60 for a flash.
    #[arg(long, value_name = "SECONDS")]
    pub within: Option<u32>,
    /// The same seed brings the same visitors at the same moments.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Multiplies human pauses; 0.1 is ten times as fast as a human.
    #[arg(long)]
    pub pace: Option<f64>,
    /// The same for the pauses of admitted visitors alone, so that visits last as long as wanted; as --pace
    /// without it. At 1 a visit lasts about 40 s.
    #[arg(long)]
    pub visit_pace: Option<f64>,
    /// The share of called visitors who never come.
    #[arg(long, default_value_t = 0.1)]
    pub absent: f64,
    /// The share of visitors with a hold who abandon it.
    #[arg(long, default_value_t = 0.03)]
    pub abandon_hold: f64,
    /// How waiting visitors follow the status; direct for a run, cached for a flash.
    #[arg(long, value_enum)]
    pub polling: Option<StatusPolling>,
    /// Clients that follow the status as an event stream.
    #[arg(long, default_value_t = 0)]
    pub streams: u32,
    /// Bots: they take several queue entries, ask before their call, and try forged proofs.
    #[arg(long, default_value_t = 0)]
    pub bots: u32,
    /// Connections for all visitors together.
    #[arg(long, default_value_t = 512)]
    pub connections: usize,
    /// Seconds until the on-sale start of a service that is started.
    #[arg(long, value_name = "SECONDS")]
    pub open_in: Option<u32>,
    /// Seconds after which the run ends at the latest.
    #[arg(long, value_name = "SECONDS", default_value_t = 1_800)]
    pub limit: u32,
    /// Which part of the crowd this process plays, when several share a run: 1/3, 2/3, 3/3. All parts take
    /// the same settings, the same --start-at and the same --target.
    #[arg(long, value_name = "N/COUNT")]
    pub part: Option<String>,
    /// The crowd starts to arrive at this time (RFC 3339), so that parts arrive together.
    #[arg(long, value_name = "TIME")]
    pub start_at: Option<String>,
    /// Where result.json, observations.json and report.html are written.
    #[arg(long, value_name = "DIR", default_value = "loadtest-out")]
    pub out: PathBuf,
    /// Audit at once instead of waiting until every hold has expired.
    #[arg(long)]
    pub no_settle: bool,
}

/// Decides the defaults of [`CrowdArgs`] and of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunKind {
    /// Two thousand visitors in half a minute.
    Run,
    /// A million visitors in a minute.
    Flash,
}

impl RunKind {
    /// The name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Flash => "flash",
        }
    }

    /// The given value, or the default of this kind.
    pub fn default_of<T>(self, given: Option<T>, run: T, flash: T) -> T {
        given.unwrap_or(match self {
            Self::Run => run,
            Self::Flash => flash,
        })
    }
}

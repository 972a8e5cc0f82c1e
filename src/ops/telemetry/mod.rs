//! Logs and metrics of the process.

mod log_limit;
mod logs;
mod metrics;

pub use self::{
    logs::init_logs,
    metrics::{UPKEEP_INTERVAL, init_metrics},
};

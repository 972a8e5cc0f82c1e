//! Structured logs on standard error, one line an event.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::ops::config::LogFormat;

/// Starts logging. In tests, where it is called several times in one process, only the first call has an
/// effect.
pub fn init_logs(level: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let _ = match format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}

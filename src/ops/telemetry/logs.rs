//! Structured logs on standard error, one line an event.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::ops::{config::LogFormat, telemetry::log_limit::limited};

/// Starts logging; repeated warnings and errors are limited. In tests, where it is called several times in
/// one process, only the first call has an effect.
pub fn init_logs(level: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // Reporting that a line cannot be written, as to a full disk, would panic where stderr is that file.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(limited(lines))
        .try_init();
}

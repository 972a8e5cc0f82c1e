//! The async runtime, and the signals that end the process.

use std::{future::Future, time::Duration};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How many tasks run between two polls of the sockets. With tokio's default of 61, under full load a request
/// would wait some milliseconds before the server could even refuse it.
const EVENT_INTERVAL: u32 = 16;
/// How long the runtime waits for its blocking threads at the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(300);

/// Runs `work` on a new multi-threaded runtime.
///
/// # Errors
/// The error of `work`, or no threads.
pub fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    // A soft limit of 1024 file descriptors is common and far too low for a sale. A refusal is not an error:
    // the hard limit then decides how many connections are possible.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(work);
    // A thread that hangs in the operating system must not keep a process that has failed.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    result
}

/// SIGTERM and SIGINT, which ask the process to end.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes the signals over from their default action, which kills the process.
    pub(super) fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
        })
    }

    /// Resolves on the next signal.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

//! Why a test server is not usable.

use std::io;

/// Why a server could not be started or controlled.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The named program or account is missing on this machine.
    #[error("{0} is not installed here")]
    NotInstalled(&'static str),
    /// The server ended before it accepted connections, or did not reach the awaited state in time.
    #[error("{server} did not start: {log}")]
    DidNotStart {
        /// The server's product name.
        server: &'static str,
        /// What the server logged, or the state that it did not reach.
        log: String,
    },
    /// The server runs and rejected a command.
    #[error("{server} rejected a command: {reason}")]
    Rejected {
        /// The server's product name.
        server: &'static str,
        /// The server's own error text.
        reason: String,
    },
    /// A process, a signal or a file of the server failed.
    #[error("a test server's process or folder: {0}")]
    Io(#[from] io::Error),
}

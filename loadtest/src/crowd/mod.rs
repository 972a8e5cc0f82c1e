//! A crowd of visitors over real HTTP: they arrive on schedule, wait, are called, and buy.
//!
//! A waiting visitor is a number, a token and an index: no task, no timer, no connection. The queue status is
//! the same for all of them, so one reader asks for it as a cache in front of the server would; how much of
//! the polling reaches the server is a setting ([`StatusPolling`]). Only called visitors are tasks, and the
//! server's own limit of active visits bounds those. So a million visitors fit into one process.

mod bots;
mod config;
mod joining;
mod live;
mod numbers;
mod polling;
mod state;
mod visitor;

pub use self::config::{CrowdConfig, StatusPolling};
pub use self::state::Crowd;

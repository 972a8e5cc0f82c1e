//! Options of the demo.

use std::{net::SocketAddr, path::PathBuf};

/// The options of the command line.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Of the public listener; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Of the admin listener.
    pub admin_listen: SocketAddr,
    /// The data directory; `None` creates a new one.
    pub data: Option<PathBuf>,
    /// How browsers reach the demo behind a proxy; `None` means its own public listener.
    pub public_base: Option<String>,
    /// Seconds until the sale starts.
    pub open_in_s: u32,
    /// Seconds until visitors may join; at most `open_in_s`.
    pub prequeue_in_s: u32,
    /// Seats of the plan.
    pub seats: u32,
    /// Simulated fans; 0 for none.
    pub crowd: u32,
    /// Admissions a minute.
    pub admission_rate_per_minute: u32,
    /// Visits that may be active at once.
    pub active_visits_max: u32,
    /// Whether the order of those who join before the start is drawn.
    pub fair_draw: bool,
}

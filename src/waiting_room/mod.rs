//! Who comes in, and when.

use std::time::Duration;

use crate::kernel::{SaleId, Timestamp};

/// What a promoter decides about one sale's door.
#[derive(Clone, Debug)]
pub struct Config {
    pub sale: SaleId,
    /// From when fans may take a place; before it `join` answers "not open yet".
    pub prequeue_at: Timestamp,
    /// From when fans are called.
    pub opens_at: Timestamp,
    /// After which nobody joins or enters any more.
    pub closes_at: Timestamp,
    pub rate_per_minute: u32,
    /// Active visitors at most.
    pub capacity: u32,
    /// Entries that may come at once on top of the rate; one second's worth (at least 1) when `None`.
    pub burst: Option<u32>,
    /// How long a called fan has to come before she is passed over.
    pub call_window: Duration,
    /// Of each entry slot, the share that those passed over may take when both lanes want it, 0 to 1.
    pub returner_share: f64,
    /// Life of a pass; it is renewed while the visit lasts.
    pub pass_life: Duration,
    /// A visit ends after this long whatever the visitor does.
    pub visit_max: Duration,
    /// Places at most; beyond it `join` says that the queue is full.
    pub max_fans: u32,
    /// Issuer of passes: the public base URL.
    pub issuer: String,
    /// Watchers of the board's event stream at most.
    pub watchers_max: usize,
}

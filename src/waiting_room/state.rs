//! State that the store, the forecast and the admission policy share: how admission is set, what is counted, and what
//! the policy decides by.
//!
//! Plain values without behavior of their own, on the ground floor of the waiting room so that none of the three has to
//! name another.

use std::sync::Arc;

use crate::{kernel::Timestamp, waiting_room::types::Config};

/// Share of the rate that is used while the box office is silent.
pub(crate) const SILENT_SHARE: f64 = 0.5;

/// How the door is set: by its operators, by the stock, and by how the box office fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// In force: as ordered, less what the box office's state takes away.
    pub rate_per_minute: u32,
    pub rate_ordered: u32,
    /// How many millionths of the ordered rate are taken away while the box office suffers.
    pub slowed_ppm: u32,
    /// When that was last decided.
    pub slowed_at: Option<Timestamp>,
    pub capacity: u32,
    /// By order. See also [`Settings::is_stopped`].
    pub paused: bool,
    pub closed: bool,
    pub sold_out: bool,
    /// A draw has given the line its order.
    pub drawn: bool,
    pub notice: Option<Arc<str>>,
    pub pass_generation: u32,
    /// Orders so far: each is another version of the settings, and the last one counts.
    pub orders: u32,
}

impl Settings {
    /// As a sale begins.
    pub(crate) fn of(config: &Config) -> Self {
        let (rate, capacity) = (config.rate_per_minute, config.capacity);
        Self {
            rate_per_minute: rate,
            rate_ordered: rate,
            capacity,
            ..Self::default()
        }
    }

    /// Nobody is called and nobody enters, and call windows stand still: by order, or because no rate or no capacity is
    /// left to enter by.
    pub(crate) fn is_stopped(&self) -> bool {
        self.paused || self.rate_ordered == 0 || self.capacity == 0
    }
}

/// Counts for the board, metrics and operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub issued: u32,
    pub now_serving: u32,
    pub active: u32,
    pub claimants: u32,
    pub returners: u32,
    pub waiting: u32,
    pub passed_over: u32,
    pub entries_total: u64,
    /// Entries of those who had been passed over and came back.
    pub returned_total: u64,
    pub ended_total: u64,
}

/// What the policy knows of the door at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Situation {
    /// The sale is on and not paused, and there are seats.
    pub calling: bool,
    /// Numbers given out and not called yet.
    pub uncalled: u32,
    pub capacity: u32,
    pub active: u32,
    pub rate_per_minute: u32,
    /// Entries the rate allows at this moment.
    pub permits: u32,
    /// Permits there are at most.
    pub burst: u32,
    /// Visits that ended per second, lately.
    pub departures_per_s: f64,
    /// Called fans who stand before the door.
    pub claimants: u32,
    /// Returners who stand before the door.
    pub returners: u32,
    pub returner_share: f64,
    pub outlook: Outlook,
    /// Free seats as the box office last said; `None` before it has said anything.
    pub seats_free: Option<u32>,
    /// The box office has not been heard of for a while.
    pub box_office_silent: bool,
    /// Whether it is this node's turn to call, of several.
    pub is_caller: bool,
}

/// What is expected of calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outlook {
    /// Of those called, the share that comes within the call window.
    pub share: f64,
    /// How long after the call those come who come, on average, in seconds.
    pub lead_s: f64,
    /// Of those called and not come yet, how many are still expected.
    pub coming: f64,
}

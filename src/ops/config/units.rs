//! Converts settings with a unit to durations.

use std::time::Duration;

/// A setting in seconds.
pub(super) fn seconds(s: u32) -> Duration {
    Duration::from_secs(u64::from(s))
}

/// A setting in milliseconds.
pub(super) fn millis(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}

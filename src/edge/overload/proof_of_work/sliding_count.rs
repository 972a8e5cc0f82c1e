//! An approximate count of events in a sliding window.

use std::time::Duration;

/// An approximate sliding-window counter: the count of this window, and a share of that of the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlidingCount {
    window: u64,
    current: u32,
    previous: u32,
}

impl SlidingCount {
    /// Counts an event.
    pub(super) fn add(&mut self, at: Duration, window: Duration) {
        self.advance(at, window);
        self.current = self.current.saturating_add(1);
    }

    /// About how many events the last window saw.
    pub(super) fn count(&self, at: Duration, window: Duration) -> u64 {
        let mut then = *self;
        then.advance(at, window);
        let window_ms = millis(window);
        let elapsed_ms = millis(at) % window_ms;
        u64::from(then.current) + u64::from(then.previous) * (window_ms - elapsed_ms) / window_ms
    }

    fn advance(&mut self, at: Duration, window: Duration) {
        let number = millis(at) / millis(window);
        match number.saturating_sub(self.window) {
            0 => {}
            1 => (self.previous, self.current) = (self.current, 0),
            _ => (self.previous, self.current) = (0, 0),
        }
        self.window = self.window.max(number);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// How many times `normal` can be doubled without exceeding `count`.
pub(super) fn doublings(count: u64, normal: u64) -> u8 {
    let times = count
        .checked_div(normal)
        .and_then(u64::checked_ilog2)
        .unwrap_or(0);
    u8::try_from(times).expect("64 bits are doubled 63 times")
}

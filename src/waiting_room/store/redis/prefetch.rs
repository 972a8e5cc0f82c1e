//! Numbers prefetched for anonymous visitors who join within the next milliseconds.

use std::{collections::VecDeque, ops::Range, time::Duration};

use crate::kernel::Timestamp;

/// A block serves joins for this long, so that a later join elsewhere does not get a lower number.
const BLOCK_TTL: Duration = Duration::from_millis(15);
/// A block holds as many numbers as joins come in this time; the next is fetched when half of it is left.
const PREFETCH_HORIZON: Duration = Duration::from_millis(8);
/// Smaller blocks do not pay.
const BLOCK_MIN: u32 = 13;
/// Larger blocks would leave too many numbers unused.
const BLOCK_MAX: u32 = 1_024;
/// Joins are counted per window of this length.
pub(super) const RATE_WINDOW: Duration = Duration::from_millis(100);

/// Numbers that were prefetched with one call.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) numbers: Range<u32>,
    /// The epoch under which they were assigned.
    pub(super) epoch: u64,
    /// The block serves joins from this moment on.
    pub(super) since: Timestamp,
}

/// Prefetched blocks, and how many anonymous visitors join.
#[derive(Debug, Default)]
pub(super) struct Prefetch {
    blocks: VecDeque<Block>,
    /// When the last one joined.
    last_join: Timestamp,
    window_start: Timestamp,
    /// Joins in the window so far.
    joins: u32,
    /// Joins in the whole window before it.
    previous_joins: u32,
    /// Numbers of dropped blocks that belong to no visitor, and that Redis was not told of.
    unused: u32,
}

impl Prefetch {
    /// Counts an anonymous visitor who joins.
    pub(super) fn record_join(&mut self, at: Timestamp) {
        if at < self.window_start || at >= self.window_start.plus(RATE_WINDOW) {
            let is_next = at >= self.window_start && at < self.window_start.plus(RATE_WINDOW * 2);
            self.previous_joins = if is_next { self.joins } else { 0 };
            (self.window_start, self.joins) = (at, 0);
        }
        self.joins += 1;
        self.last_join = at;
    }

    /// Joins in the last whole window.
    pub(super) fn joins_per_window(&self) -> u32 {
        self.previous_joins
    }

    /// How many numbers to prefetch, and from which moment on they serve joins.
    pub(super) fn wanted(&self) -> (u32, Timestamp) {
        let horizons_per_window =
            u32::try_from(RATE_WINDOW.as_millis() / PREFETCH_HORIZON.as_millis()).unwrap_or(1);
        let wanted = self.previous_joins / horizons_per_window;
        let wanted = if wanted < BLOCK_MIN {
            0
        } else {
            wanted.min(BLOCK_MAX)
        };
        (wanted, self.last_join)
    }

    /// Whether another block should be fetched now.
    pub(super) fn is_low(&self) -> bool {
        let left: usize = self.blocks.iter().map(|block| block.numbers.len()).sum();
        u32::try_from(left).is_ok_and(|left| left < self.wanted().0 / 2)
    }

    /// How many numbers were dropped since this was last asked.
    pub(super) fn take_unused(&mut self) -> u32 {
        std::mem::take(&mut self.unused)
    }

    /// Adds a fetched block.
    pub(super) fn add(&mut self, block: Block) {
        self.blocks.push_back(block);
    }

    /// The next number for a join at this moment under this epoch; drops blocks that no longer serve.
    pub(super) fn take(&mut self, epoch: u64, at: Timestamp) -> Option<u32> {
        let serves = |block: &Block| {
            block.epoch == epoch
                && at >= block.since
                && at < block.since.plus(BLOCK_TTL)
                && !block.numbers.is_empty()
        };
        while let Some(block) = self.blocks.pop_front_if(|block| !serves(block)) {
            // After a loss of Redis the rebuild counts those of the epoch before.
            if block.epoch == epoch {
                self.unused += u32::try_from(block.numbers.len()).unwrap_or(0);
            }
        }
        self.blocks.front_mut()?.numbers.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + ms)
    }

    /// `each_ms` joins in each of `for_ms` milliseconds.
    fn joined(each_ms: u32, for_ms: i64) -> Prefetch {
        let mut prefetch = Prefetch::default();
        for at in 0..for_ms {
            (0..each_ms).for_each(|_| prefetch.record_join(ms(at)));
        }
        prefetch
    }

    #[test]
    fn a_block_follows_the_join_rate_and_none_is_fetched_for_few() {
        let wanted = |each_ms, for_ms| joined(each_ms, for_ms).wanted().0;
        assert_eq!(
            (wanted(40, 150), wanted(10, 150), wanted(1_000, 150)),
            (333, 83, BLOCK_MAX)
        );
        assert_eq!((wanted(40, 50), wanted(1, 150)), (0, 0));
        let mut prefetch = joined(40, 150);
        assert!(prefetch.is_low());
        prefetch.record_join(ms(1_000));
        assert_eq!(
            (prefetch.wanted().0, prefetch.is_low()),
            (0, false),
            "the burst is over"
        );
        let mut prefetch = joined(40, 150);
        prefetch.record_join(ms(-1_000));
        assert_eq!(
            prefetch.wanted(),
            (0, ms(-1_000)),
            "a clock that steps back starts a new window"
        );
    }

    #[test]
    fn a_block_serves_for_milliseconds_and_under_its_epoch() {
        let mut prefetch = joined(40, 150);
        prefetch.add(Block {
            numbers: 7..200,
            epoch: 3,
            since: ms(150),
        });
        assert!(!prefetch.is_low());
        assert_eq!(
            (prefetch.take(3, ms(150)), prefetch.take(3, ms(164))),
            (Some(7), Some(8))
        );
        prefetch.add(Block {
            numbers: 200..202,
            epoch: 3,
            since: ms(155),
        });
        assert_eq!(
            (prefetch.take(3, ms(165)), prefetch.take(3, ms(169))),
            (Some(200), Some(201)),
            "the first block is too old"
        );
        assert!(prefetch.take(3, ms(169)).is_none() && prefetch.is_low());
        prefetch.add(Block {
            numbers: 300..400,
            epoch: 3,
            since: ms(155),
        });
        assert_eq!(prefetch.take(4, ms(156)), None, "Redis lost its data since");
        prefetch.add(Block {
            numbers: 400..500,
            epoch: 4,
            since: ms(155),
        });
        assert_eq!(prefetch.take(4, ms(154)), None, "the clock stepped back");
    }
}

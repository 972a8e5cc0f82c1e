//! How often the same key may do something: a client's address, an account, a visit.
//!
//! Each limit is GCRA, the generic cell rate algorithm (ITU-T I.371): one moment per key, no counter to
//! reset. The crate `governor` implements the same but can neither tell whether a request would pass without
//! taking it, nor give it back: a join has to know the first before it asks for a proof of work, and a right
//! password costs nothing.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;

use crate::kernel::Clock;

/// A number of requests per period, with a burst of the same size.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Requests per period; 0 means no limit.
    pub count: u32,
    /// The period.
    pub per: Duration,
}

impl Rate {
    /// So many requests a minute; 0 means no limit.
    #[must_use]
    pub const fn per_minute(count: u32) -> Self {
        Self {
            count,
            per: Duration::from_mins(1),
        }
    }

    /// So many requests a second; 0 means no limit.
    #[must_use]
    pub const fn per_second(count: u32) -> Self {
        Self {
            count,
            per: Duration::from_secs(1),
        }
    }
}

/// Keys that are tracked at once, some 60 bytes each. Beyond it new keys pass: a flood of keys must not fill
/// the memory, and the load shedder bounds what they can cost.
const KEYS_MAX: usize = 1_000_000;

/// One rate limit, kept for each key on its own.
pub struct RateLimit<K> {
    clock: Arc<dyn Clock>,
    rate: Rate,
    /// Per key, the moment (of the monotonic clock) up to which its requests are paid for: GCRA's theoretical
    /// arrival time.
    paid_until: DashMap<K, Duration>,
    /// About the length of `paid_until`, whose own `len` locks every shard.
    keys: AtomicUsize,
    keys_max: usize,
}

impl<K: Eq + Hash> RateLimit<K> {
    /// A limit that no key has used yet.
    #[must_use]
    pub fn new(rate: Rate, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            rate,
            paid_until: DashMap::new(),
            keys: AtomicUsize::new(0),
            keys_max: KEYS_MAX,
        }
    }

    /// Whether there is a limit at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.rate.count != 0
    }

    /// Takes one request's worth.
    ///
    /// # Errors
    /// How long the key has to wait until one is free.
    pub fn take(&self, key: K) -> Result<(), Duration> {
        if !self.is_enabled() {
            return Ok(());
        }
        let now = self.clock.monotonic();
        match self.paid_until.entry(key) {
            dashmap::Entry::Occupied(mut paid_until) => {
                let next = self.next(*paid_until.get(), now)?;
                paid_until.insert(next);
            }
            dashmap::Entry::Vacant(key) => {
                let next = self.next(now, now)?;
                if self.keys.load(Ordering::Relaxed) < self.keys_max {
                    key.insert(next);
                    self.keys.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// Gives back what one [`take`](Self::take) took.
    pub fn give_back(&self, key: &K) {
        if let Some(mut paid_until) = self.paid_until.get_mut(key) {
            *paid_until = paid_until.saturating_sub(self.rate.per / self.rate.count.max(1));
        }
    }

    /// How long this key has to wait for one request's worth; `None` when a request would pass. Takes
    /// nothing.
    #[must_use]
    pub fn wait(&self, key: &K) -> Option<Duration> {
        if !self.is_enabled() {
            return None;
        }
        let paid_until = *self.paid_until.get(key)?;
        self.next(paid_until, self.clock.monotonic()).err()
    }

    /// Up to when one request more would be paid for, or how long to wait until it may be made.
    fn next(&self, paid_until: Duration, now: Duration) -> Result<Duration, Duration> {
        let next = paid_until.max(now) + self.rate.per / self.rate.count;
        let burst_ends = now + self.rate.per;
        next.checked_sub(burst_ends)
            .filter(|wait| !wait.is_zero())
            .map_or(Ok(next), Err)
    }

    /// Drops the keys whose allowance is whole again. To be called now and then.
    pub fn remove_idle(&self) {
        let now = self.clock.monotonic();
        self.paid_until.retain(|_, paid_until| *paid_until > now);
        self.keys.store(self.paid_until.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{ManualClock, Timestamp};

    fn limit(count: u32) -> (Arc<ManualClock>, RateLimit<&'static str>) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let limit = RateLimit::new(Rate::per_minute(count), Arc::clone(&clock) as Arc<dyn Clock>);
        (clock, limit)
    }

    #[test]
    fn a_key_gets_its_burst_and_then_its_rate() {
        let (clock, limit) = limit(6);
        assert!((0..6).all(|_| limit.wait(&"one").is_none() && limit.take("one").is_ok()));
        assert_eq!(limit.take("one"), Err(Duration::from_secs(10)));
        assert_eq!(limit.wait(&"one"), Some(Duration::from_secs(10)));
        assert!(limit.wait(&"other").is_none() && limit.take("other").is_ok());
        clock.advance(Duration::from_secs(10));
        assert!(limit.take("one").is_ok());
        assert!(limit.take("one").is_err());
        clock.advance(Duration::from_mins(1));
        limit.remove_idle();
        assert!(limit.paid_until.is_empty());
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (_, limit) = limit(2);
        for _ in 0..10 {
            limit.take("one").unwrap();
            limit.give_back(&"one");
        }
        assert!(limit.take("one").is_ok() && limit.take("one").is_ok() && limit.take("one").is_err());
        limit.give_back(&"other");
        assert!((0..2).all(|_| limit.take("other").is_ok()) && limit.take("other").is_err());
    }

    #[test]
    fn zero_means_no_limit() {
        let (_, limit) = limit(0);
        assert!((0..1_000).all(|_| limit.take("one").is_ok()));
        limit.give_back(&"one");
        assert_eq!(limit.wait(&"one"), None);
    }

    #[test]
    fn tracked_keys_are_bounded_and_idle_ones_make_room() {
        let (clock, limit) = limit(1);
        let limit = RateLimit { keys_max: 1, ..limit };
        assert!(limit.take("one").is_ok() && limit.take("one").is_err());
        assert!(
            (0..3).all(|_| limit.take("other").is_ok()),
            "not tracked, so it passes"
        );
        clock.advance(Duration::from_mins(2));
        limit.remove_idle();
        assert!(limit.take("other").is_ok() && limit.take("other").is_err());
    }
}

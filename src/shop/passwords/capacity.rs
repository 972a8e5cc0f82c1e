//! What the password threads can do: their number, the queue's limits and a verification's time multiplied
//! out.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    kernel::Clock,
    shop::passwords::{password_format::PasswordFormat, stored_hash::StoredHash},
};

/// Limits of the password threads and of the queue before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordLimits {
    /// Threads that verify passwords.
    pub threads: usize,
    /// Sign-ins that may wait for them.
    pub queue_max: usize,
    /// How long one may wait: fewer wait where that takes longer.
    pub wait_max: Duration,
}

impl PasswordLimits {
    /// Whether a sign-in can be answered in time at all.
    #[must_use]
    pub fn can_serve(&self, check_time: Duration) -> bool {
        check_time <= self.wait_max
    }

    /// Verifications a second of all threads.
    #[must_use]
    pub fn checks_per_second(&self, check_time: Duration) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most some hundred threads")]
        let threads = self.threads as f64;
        threads / check_time.as_secs_f64().max(1e-6)
    }

    /// Sign-ins that are verified or wait at once. As many as are done in time: one that is answered too late
    /// has only cost a thread its time.
    #[must_use]
    pub fn slots(&self, check_time: Duration) -> usize {
        let check_ms = check_time.as_millis().max(1);
        let rounds = usize::try_from(self.wait_max.as_millis() / check_ms).unwrap_or(usize::MAX);
        let in_time = rounds.saturating_add(1).saturating_mul(self.threads);
        in_time.min(self.slots_max())
    }

    /// Sign-ins that wait at once.
    #[must_use]
    pub fn waiting(&self, check_time: Duration) -> usize {
        self.slots(check_time).saturating_sub(self.threads)
    }

    /// Sign-ins that are verified or wait at once when verifications cost next to nothing.
    pub(crate) fn slots_max(&self) -> usize {
        self.threads.saturating_add(self.queue_max).min(1 << 20)
    }
}

/// A hash of each format that some customers have, with their number.
#[derive(Default)]
pub(crate) struct HashSample(BTreeMap<PasswordFormat, (usize, StoredHash)>);

/// What a verification costs on one core of this machine.
#[derive(Clone)]
pub(crate) struct MeasuredHash {
    pub(crate) hash: StoredHash,
    pub(crate) check_time: Duration,
}

impl HashSample {
    pub(crate) fn add(&mut self, hash: StoredHash) {
        self.0.entry(hash.format()).or_insert((0, hash)).0 += 1;
    }

    /// Verifies one hash of the most frequent format; `None` without any. Takes a core for up to some
    /// seconds.
    pub(crate) fn measure(&self, clock: &dyn Clock) -> Option<MeasuredHash> {
        let (_, hash) = self.0.values().max_by_key(|(count, _)| *count)?;
        Some(MeasuredHash {
            hash: hash.clone(),
            check_time: time_of(hash, clock),
        })
    }
}

/// How long one verification takes.
pub(crate) fn time_of(hash: &StoredHash, clock: &dyn Clock) -> Duration {
    let began = clock.monotonic();
    std::hint::black_box(hash.matches("not the password"));
    clock.monotonic().saturating_sub(began)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(threads: usize, wait_max_ms: u64) -> PasswordLimits {
        PasswordLimits {
            threads,
            queue_max: 64,
            wait_max: Duration::from_millis(wait_max_ms),
        }
    }

    #[test]
    fn as_many_wait_as_are_done_in_time() {
        let slots = |check_ms, threads| limits(threads, 4_000).slots(Duration::from_millis(check_ms));
        assert_eq!(slots(250, 1), 17, "16 wait for 4 s, and one is verified");
        assert_eq!(slots(250, 2), 34);
        assert_eq!(slots(10, 1), 65, "password_queue_max");
        assert_eq!(slots(9_000, 1), 1, "always one");
        assert_eq!(limits(2, 4_000).waiting(Duration::from_millis(250)), 32);
    }

    #[test]
    fn a_verification_that_outlasts_a_request_is_no_sign_in() {
        let (limits, second) = (limits(3, 4_000), Duration::from_secs(1));
        assert!((limits.checks_per_second(second / 4) - 12.0).abs() < 1e-9);
        assert!(limits.can_serve(4 * second) && !limits.can_serve(5 * second));
    }
}

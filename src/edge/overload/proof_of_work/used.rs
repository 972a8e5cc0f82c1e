//! Challenges that were used, remembered until they expire.

use std::{collections::HashSet, time::Duration};

use crate::{edge::overload::proof_of_work::challenge::ProofRejection, kernel::Timestamp};

/// A challenge that was used and counts no more.
#[derive(Debug)]
pub struct UsedChallenge {
    /// The first 64 bits of `challenge`.
    pub(super) id: u64,
    pub(super) expires_at_s: i64,
}

/// Used challenges by expiry, in windows as long as a challenge lives: a live one expires in this window or
/// in the next, so older ones are dropped as a whole.
#[derive(Debug, Default)]
pub(super) struct UsedChallenges {
    window: i64,
    pub(super) current: HashSet<u64>,
    pub(super) next: HashSet<u64>,
}

impl UsedChallenges {
    /// Adds a challenge.
    ///
    /// # Errors
    /// It was used already, or too many are remembered.
    pub(super) fn add(
        &mut self,
        used: &UsedChallenge,
        now: Timestamp,
        challenge_ttl: Duration,
        used_challenges_max: usize,
    ) -> Result<(), ProofRejection> {
        self.advance(now, challenge_ttl);
        if self.set_of(used, challenge_ttl).contains(&used.id) {
            return Err(ProofRejection::AlreadyUsed);
        }
        if self.current.len() + self.next.len() >= used_challenges_max {
            return Err(ProofRejection::TooManyUsed);
        }
        self.set_of(used, challenge_ttl).insert(used.id);
        Ok(())
    }

    /// Forgets a challenge that bought nothing.
    pub(super) fn remove(&mut self, used: &UsedChallenge, challenge_ttl: Duration) {
        self.set_of(used, challenge_ttl).remove(&used.id);
    }

    fn set_of(&mut self, used: &UsedChallenge, challenge_ttl: Duration) -> &mut HashSet<u64> {
        if window_of(used.expires_at_s, challenge_ttl) > self.window {
            &mut self.next
        } else {
            &mut self.current
        }
    }

    /// Drops what has expired.
    pub(super) fn advance(&mut self, now: Timestamp, challenge_ttl: Duration) {
        let number = window_of(now.as_secs(), challenge_ttl);
        match number.saturating_sub(self.window) {
            ..=0 => return,
            1 => self.current = std::mem::take(&mut self.next),
            _ => (self.current, self.next) = (HashSet::new(), HashSet::new()),
        }
        self.window = number;
    }
}

fn window_of(at_s: i64, challenge_ttl: Duration) -> i64 {
    at_s.div_euclid(i64::try_from(challenge_ttl.as_secs()).unwrap_or(i64::MAX).max(1))
}

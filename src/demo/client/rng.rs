//! Seeded random decisions of one visitor.

use std::time::Duration;

use crate::kernel::{Entropy, SeededEntropy};

/// The same decisions in every run with the same seed; they depend only on the order of the calls.
pub struct VisitorRng(SeededEntropy);

impl VisitorRng {
    /// The decisions of one customer in the crowd of this seed.
    #[must_use]
    pub fn new(seed: u64, customer: u32) -> Self {
        // The multiplier (that of SplitMix64) keeps neighboring seeds from sharing customers.
        Self(SeededEntropy::new(
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .wrapping_add(u64::from(customer)),
        ))
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&self) -> f64 {
        self.0.unit()
    }

    /// `true` with this probability.
    pub fn chance(&self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform in `0..bound`; 0 when `bound` is 0.
    pub fn below(&self, bound: usize) -> usize {
        usize::try_from(self.0.below(bound as u64)).unwrap_or(0)
    }

    /// One of the values, as often as its weight says.
    pub fn weighted<T: Copy>(&self, choices: &[(T, u32)]) -> T {
        let total: u32 = choices.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.below(total as usize);
        for (value, weight) in choices {
            match drawn.checked_sub(*weight as usize) {
                Some(rest) => drawn = rest,
                None => return *value,
            }
        }
        choices[choices.len() - 1].0
    }

    /// A human pause: log-normal around `median` with sigma 0.6, which doubles one pause in eight, bounded to
    /// a tenth and eight times the median.
    pub fn pause(&self, median: Duration) -> Duration {
        // Box-Muller.
        let (u, v) = (1.0 - self.unit(), self.unit());
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        median.mul_f64((0.6 * normal).exp().clamp(0.1, 8.0))
    }

    /// Uniform from zero to `max`: full jitter.
    pub fn jitter(&self, max: Duration) -> Duration {
        max.mul_f64(self.unit())
    }

    /// A fresh idempotency key.
    pub fn idempotency_key(&self) -> String {
        let mut bytes = [0; 16];
        self.0.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_follow_from_seed_and_customer() {
        let keys = |seed, customer| {
            let rng = VisitorRng::new(seed, customer);
            (0..3).map(|_| rng.idempotency_key()).collect::<Vec<_>>()
        };
        assert_eq!(keys(1, 7), keys(1, 7));
        assert_ne!(keys(1, 7), keys(1, 8));
        assert_ne!(keys(1, 7), keys(2, 7));
    }

    #[test]
    fn weights_and_medians_are_kept() {
        let rng = VisitorRng::new(3, 1);
        let heavy = (0..10_000)
            .filter(|_| rng.weighted(&[("heavy", 90), ("light", 10)]) == "heavy")
            .count();
        assert!((8_800..9_200).contains(&heavy), "{heavy}");
        let median = Duration::from_secs(10);
        let longer = (0..10_000).filter(|_| rng.pause(median) > median).count();
        assert!((4_800..5_200).contains(&longer), "{longer}");
    }
}

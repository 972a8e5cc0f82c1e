//! One fan's own luck and temper, from the crowd's seed and her number.

use std::time::Duration;

use crate::kernel::{Entropy, SeededEntropy};

/// The same in every run with the same seed; what is drawn depends on the order of drawing alone.
pub struct Dice(SeededEntropy);

impl Dice {
    #[must_use]
    pub fn new(seed: u64, customer: u32) -> Self {
        // The multiplier (that of SplitMix64) keeps neighbouring seeds from sharing fans.
        Self(SeededEntropy::new(
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .wrapping_add(u64::from(customer)),
        ))
    }

    /// In `[0, 1)`.
    pub fn unit(&self) -> f64 {
        self.0.unit()
    }

    /// `true` as often as `probability` says.
    pub fn chance(&self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// In `0..bound`; 0 when `bound` is 0.
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

    /// A human pause: log-normal around `median` (spread 0.6, so that one in six takes about twice as long), from a
    /// tenth to eight times of it.
    pub fn pause(&self, median: Duration) -> Duration {
        let (u, v) = (1.0 - self.unit(), self.unit());
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        median.mul_f64((0.6 * normal).exp().clamp(0.1, 8.0))
    }

    /// Uniform from zero to `most`: full jitter.
    pub fn up_to(&self, most: Duration) -> Duration {
        most.mul_f64(self.unit())
    }

    /// A fresh idempotency key.
    pub fn key(&self) -> String {
        let mut bytes = [0; 16];
        self.0.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fan_is_the_same_in_every_run_and_another_than_her_neighbour() {
        let keys = |seed, customer| {
            let dice = Dice::new(seed, customer);
            (0..3).map(|_| dice.key()).collect::<Vec<_>>()
        };
        assert_eq!(keys(1, 7), keys(1, 7));
        assert_ne!(keys(1, 7), keys(1, 8));
        assert_ne!(keys(1, 7), keys(2, 7));
    }

    #[test]
    fn weights_and_medians_are_kept() {
        let dice = Dice::new(3, 1);
        let heavy = (0..10_000)
            .filter(|_| dice.weighted(&[("heavy", 90), ("light", 10)]) == "heavy")
            .count();
        assert!((8_800..9_200).contains(&heavy), "{heavy}");
        let median = Duration::from_secs(10);
        let longer = (0..10_000).filter(|_| dice.pause(median) > median).count();
        assert!((4_800..5_200).contains(&longer), "{longer}");
    }
}

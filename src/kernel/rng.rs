//! Randomness as a parameter, so that a failing seed can be replayed.

use std::{cell::RefCell, sync::Mutex};

use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};

/// A source of random bytes.
pub trait Entropy: Send + Sync + 'static {
    fn fill(&self, bytes: &mut [u8]);

    /// A number drawn uniformly from `0..bound` (0 when `bound` is 0).
    fn below(&self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        // Rejection keeps it uniform: draws from the incomplete last cycle are thrown away.
        let zone = u64::MAX - u64::MAX % bound;
        loop {
            let mut bytes = [0; 8];
            self.fill(&mut bytes);
            let drawn = u64::from_le_bytes(bytes);
            if drawn < zone {
                return drawn % bound;
            }
        }
    }

    /// A number drawn uniformly from `[0, 1)`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    fn unit(&self) -> f64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        let drawn = (u64::from_le_bytes(bytes) >> 11) as f64;
        drawn / (1_u64 << 53) as f64
    }
}

/// The operating system's generator: for keys, holds, everything that must not be guessed.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let from_the_system =
            |bytes: &mut [u8]| aws_lc_rs::rand::fill(bytes).expect("the operating system gives random bytes");
        let len = bytes.len();
        if len > DRAWN_AHEAD / 8 {
            return from_the_system(bytes);
        }
        AHEAD.with_borrow_mut(|(ahead, left)| {
            if *left < len {
                from_the_system(&mut ahead[..]);
                *left = DRAWN_AHEAD;
            }
            let drawn = &mut ahead[*left - len..*left];
            bytes.copy_from_slice(drawn);
            // Nobody who reads our memory later learns what was given out.
            drawn.fill(0);
            *left -= len;
        });
    }
}

/// Bytes that a thread draws at once: each draw mixes in what the processor gives, which costs as much as 100 bytes.
const DRAWN_AHEAD: usize = 512;

thread_local! {
    static AHEAD: RefCell<([u8; DRAWN_AHEAD], usize)> = const { RefCell::new(([0; DRAWN_AHEAD], 0)) };
}

/// The same bytes for the same seed: for simulations and tests.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<ChaCha12Rng>);

impl SeededEntropy {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(ChaCha12Rng::seed_from_u64(seed)))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_draws() {
        let (a, b) = (SeededEntropy::new(7), SeededEntropy::new(7));
        let draws = |e: &SeededEntropy| (0..50).map(|_| e.below(1_000)).collect::<Vec<_>>();
        assert_eq!(draws(&a), draws(&b));
        assert_ne!(draws(&a), draws(&SeededEntropy::new(8)));
    }

    #[test]
    fn nothing_that_was_drawn_ahead_is_given_twice() {
        let mut seen = std::collections::HashSet::new();
        for len in [8, 16, 61, 64, 65, 512, 600] {
            for _ in 0..40 {
                let mut bytes = vec![0; len];
                OsEntropy.fill(&mut bytes);
                assert!(
                    bytes.chunks_exact(8).all(|word| seen.insert(word.to_vec())),
                    "{len} bytes"
                );
            }
        }
    }

    #[test]
    fn draws_stay_below_their_bound() {
        let entropy = SeededEntropy::new(1);
        assert!((0..1_000).all(|_| entropy.below(3) < 3));
        assert!((0..1_000).all(|_| (0.0..1.0).contains(&entropy.unit())));
    }
}

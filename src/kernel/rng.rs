//! Randomness as a parameter, so that tests and simulations can be replayed by their seed.

use std::{cell::RefCell, sync::Mutex};

use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};

/// A source of random bytes.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the slice with random bytes.
    fn fill(&self, bytes: &mut [u8]);

    /// A uniform number of `0..bound` (0 when `bound` is 0).
    fn below(&self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        // Rejection sampling: values of the incomplete last cycle would bias the result.
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

    /// A uniform number of `[0, 1)`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    fn unit(&self) -> f64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        let drawn = (u64::from_le_bytes(bytes) >> 11) as f64;
        drawn / (1_u64 << 53) as f64
    }
}

/// The operating system's generator, for keys, holds, and everything that must be unguessable.
///
/// Each thread fetches bytes in advance, because each call of the generator has a high fixed cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let fill_from_system =
            |bytes: &mut [u8]| aws_lc_rs::rand::fill(bytes).expect("the operating system gives random bytes");
        let len = bytes.len();
        if len > PREFETCHED_LEN / 8 {
            return fill_from_system(bytes);
        }
        PREFETCHED.with_borrow_mut(|(buffer, remaining)| {
            if *remaining < len {
                fill_from_system(&mut buffer[..]);
                *remaining = PREFETCHED_LEN;
            }
            let unused = &mut buffer[*remaining - len..*remaining];
            bytes.copy_from_slice(unused);
            // Erase used bytes, so that a later memory disclosure does not reveal secrets already handed out.
            unused.fill(0);
            *remaining -= len;
        });
    }
}

/// Bytes that a thread fetches at once. The fixed cost of one fetch equals that of some 100 bytes.
const PREFETCHED_LEN: usize = 512;

thread_local! {
    /// The bytes, and how many of them are unused.
    static PREFETCHED: RefCell<([u8; PREFETCHED_LEN], usize)> =
        const { RefCell::new(([0; PREFETCHED_LEN], 0)) };
}

/// A deterministic generator: the same seed gives the same bytes. For simulations and tests.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<ChaCha12Rng>);

impl SeededEntropy {
    /// A generator with this seed.
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
    fn prefetched_bytes_are_never_repeated() {
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

//! The swap-or-not shuffle: `compute_shuffled_index` of the Ethereum consensus specification (phase 0), with
//! its 90 rounds and SHA-256, whose published test vectors it passes.
//!
//! Each round is its own inverse: it mirrors the places around a pivot and lets one bit for each pair say
//! whether the two change places. So the way back is the same rounds from the last to the first, one position
//! can be computed without the others, and for all of them together a round is one walk over the list in
//! which 256 pairs share a hash.

use crate::platform::signing::sha256;

/// Name of the algorithm wherever a draw is published.
pub const ALGORITHM: &str = "swap-or-not-90-rounds-sha256";

/// `SHUFFLE_ROUND_COUNT`.
const ROUNDS: u8 = 90;

/// A shuffle of `count` entries. Indices and places begin at 0.
#[derive(Clone, Copy, Debug)]
pub struct Shuffle {
    seed: [u8; 32],
    count: u32,
}

impl Shuffle {
    /// A permutation of `count` indexes under `seed`.
    #[must_use]
    pub fn new(seed: [u8; 32], count: u32) -> Self {
        Self { seed, count }
    }

    /// Where what stands at `index` goes: 90 rounds of two hashes. An index beyond the last stays where it
    /// is.
    #[must_use]
    pub fn position_of(&self, index: u32) -> u32 {
        (0..ROUNDS).fold(index, |at, round| self.moved(at, round))
    }

    /// The index that goes to `place`: the inverse of [`Shuffle::position_of`].
    #[must_use]
    pub fn index_at(&self, place: u32) -> u32 {
        (0..ROUNDS).rev().fold(place, |at, round| self.moved(at, round))
    }

    /// [`Shuffle::position_of`] of every index, in order.
    #[must_use]
    pub fn places(&self) -> Vec<u32> {
        let mut list: Vec<u32> = (0..self.count).collect();
        // What stands in the list moves with the rounds it is given; from the last to the first, each index
        // ends where the inverse sends it, so what stands at an index in the end is its place.
        for round in (0..ROUNDS).rev() {
            self.round_of_all(&mut list, round);
        }
        list
    }

    fn moved(&self, at: u32, round: u8) -> u32 {
        if at >= self.count {
            return at;
        }
        let pivot = self.pivot(round);
        // All below 2^33.
        let flip = (u64::from(pivot) + u64::from(self.count) - u64::from(at)) % u64::from(self.count);
        let flip = u32::try_from(flip).expect("a remainder of 32 bits");
        let higher = at.max(flip);
        if bit(&self.source(round, higher >> 8), higher) {
            flip
        } else {
            at
        }
    }

    /// Below the pivot the places mirror each other around its half, above it around the half of the rest.
    fn round_of_all(&self, list: &mut [u32], round: u8) {
        if self.count < 2 {
            return;
        }
        let (pivot, count) = (self.pivot(round) as usize, list.len());
        let (below, above) = list.split_at_mut(pivot + 1);
        self.mirror(below, 0, round);
        self.mirror(above, pivot + 1, round);
        debug_assert_eq!(below.len() + above.len(), count);
    }

    /// Changes places within `part`, which begins at `offset` in the whole, wherever a pair's bit says so.
    /// The pair's higher place chooses the bit.
    fn mirror(&self, part: &mut [u32], offset: usize, round: u8) {
        let half = part.len() / 2;
        let upper = part.len() - half;
        let (low, high) = part.split_at_mut(upper);
        let (mut block, mut source) = (None, [0; 32]);
        for (ix, (a, b)) in low[..half].iter_mut().rev().zip(high).enumerate() {
            let higher = u32::try_from(offset + upper + ix).expect("as many as 32 bits count");
            if block != Some(higher >> 8) {
                block = Some(higher >> 8);
                source = self.source(round, higher >> 8);
            }
            if bit(&source, higher) {
                std::mem::swap(a, b);
            }
        }
    }

    fn pivot(&self, round: u8) -> u32 {
        let mut message = [0; 33];
        message[..32].copy_from_slice(&self.seed);
        message[32] = round;
        let head = *sha256(&message).first_chunk().expect("32 bytes hold 8");
        u32::try_from(u64::from_le_bytes(head) % u64::from(self.count.max(1)))
            .expect("a remainder of 32 bits")
    }

    /// The bits of 256 places.
    fn source(&self, round: u8, block: u32) -> [u8; 32] {
        let mut message = [0; 37];
        message[..32].copy_from_slice(&self.seed);
        message[32] = round;
        message[33..].copy_from_slice(&block.to_le_bytes());
        sha256(&message)
    }
}

fn bit(source: &[u8; 32], place: u32) -> bool {
    source[(place as usize % 256) / 8] >> (place % 8) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Entropy, SeededEntropy};

    /// The specification's function, line by line.
    fn compute_shuffled_index(mut index: u64, index_count: u64, seed: &[u8; 32]) -> u64 {
        assert!(index < index_count);
        for current_round in 0..90_u8 {
            let pivot_hash = sha256(&[seed.as_slice(), &[current_round]].concat());
            let pivot = u64::from_le_bytes(pivot_hash[0..8].try_into().unwrap()) % index_count;
            let flip = (pivot + index_count - index) % index_count;
            let position = index.max(flip);
            let block = u32::try_from(position / 256).unwrap();
            let source = sha256(&[seed.as_slice(), &[current_round], &block.to_le_bytes()].concat());
            let byte = source[usize::try_from(position % 256 / 8).unwrap()];
            let bit = (byte >> (position % 8)) % 2;
            index = if bit == 1 { flip } else { index };
        }
        index
    }

    fn seed(of: u64) -> [u8; 32] {
        let mut seed = [0; 32];
        SeededEntropy::new(of).fill(&mut seed);
        seed
    }

    /// The vectors are YAML of one shape: `seed: '0x...'`, `count: n`, `mapping: [...]` over several lines.
    fn vector(text: &str) -> ([u8; 32], u32, Vec<u32>) {
        let field = |name: &str| text.split_once(&format!("{name}: ")).unwrap().1;
        let seed = field("seed").split('\'').nth(1).unwrap().trim_start_matches("0x");
        let seed: super::super::Digest = seed.parse().unwrap();
        let count = field("count").lines().next().unwrap().trim().parse().unwrap();
        let mapping = field("mapping")
            .trim()
            .trim_start_matches('[')
            .split(']')
            .next()
            .unwrap();
        (
            seed.0,
            count,
            mapping.split(',').map(|n| n.trim().parse().unwrap()).collect(),
        )
    }

    #[test]
    fn it_passes_the_specifications_vectors() {
        for text in [
            include_str!("vectors/shuffle_33.yaml"),
            include_str!("vectors/shuffle_100.yaml"),
        ] {
            let (seed, count, mapping) = vector(text);
            assert_eq!(mapping.len(), count as usize);
            let shuffle = Shuffle::new(seed, count);
            assert_eq!(
                (0..count)
                    .map(|index| shuffle.position_of(index))
                    .collect::<Vec<_>>(),
                mapping
            );
            assert_eq!(shuffle.places(), mapping);
        }
    }

    #[test]
    fn single_and_whole_shuffle_match_the_specification() {
        for count in [0, 1, 2, 3, 255, 256, 257, 511, 512, 513, 1_000, 5_003] {
            let seed = seed(u64::from(count));
            let shuffle = Shuffle::new(seed, count);
            let places = shuffle.places();
            for index in (0..count).step_by(if count > 600 { 17 } else { 1 }) {
                let place = places[index as usize];
                assert_eq!(
                    u64::from(place),
                    compute_shuffled_index(index.into(), count.into(), &seed),
                    "{index} of {count}"
                );
                assert_eq!(
                    (shuffle.position_of(index), shuffle.index_at(place)),
                    (place, index),
                    "{index} of {count}"
                );
            }
            let mut all = places;
            all.sort_unstable();
            assert!(all.into_iter().eq(0..count), "every place once");
            assert_eq!(
                (shuffle.position_of(count), shuffle.index_at(count + 1)),
                (count, count + 1),
                "who is not in it stays"
            );
        }
    }

    /// Over many draws each of 12 gets each position equally often: chi-square with 11 degrees of freedom for
    /// each of them, whose 0.9999 quantile is 37.4. The seeds are fixed, so this holds always or never.
    #[test]
    fn all_positions_are_equally_likely() {
        const OF: u32 = 12;
        const DRAWS: u32 = 6_000;
        let mut counts = [[0_u32; OF as usize]; OF as usize];
        for draw in 0..DRAWS {
            for (index, place) in Shuffle::new(seed(1_000_000 + u64::from(draw)), OF)
                .places()
                .into_iter()
                .enumerate()
            {
                counts[index][place as usize] += 1;
            }
        }
        let expected = f64::from(DRAWS / OF);
        for (index, row) in counts.iter().enumerate() {
            let chi: f64 = row
                .iter()
                .map(|&n| (f64::from(n) - expected).powi(2) / expected)
                .sum();
            assert!(chi < 37.4, "index {index}: {chi} of {row:?}");
        }
    }
}

//! Maps arrival numbers to queue numbers and back. Both start at 1.

use crate::platform::signing::Sha256;
use crate::waiting_room::draw::{digest::Digest, shuffle::Shuffle};

/// The order of a queue. Entries outside a draw keep the order of arrival: all of a first-come sale, and
/// those that joined after a draw was closed.
#[derive(Clone, Debug, Default)]
pub struct DrawNumbering {
    /// By arrival number: the queue number.
    queue_numbers: Vec<u32>,
    /// By queue number: the arrival number.
    arrivals: Vec<u32>,
}

impl DrawNumbering {
    /// The draw's: the queue number of the arrival with number `a` is 1 + the place that the swap-or-not
    /// shuffle of `entries` under the draw seed gives to index `a - 1`.
    #[must_use]
    pub fn drawn(draw_seed: &Digest, entries: u32) -> Self {
        let mut queue_numbers = Shuffle::new(draw_seed.0, entries).places();
        let mut arrivals = vec![0; queue_numbers.len()];
        for (arrival, place) in (1..).zip(&mut queue_numbers) {
            arrivals[*place as usize] = arrival;
            *place += 1;
        }
        Self {
            queue_numbers,
            arrivals,
        }
    }

    /// How many are in the draw.
    #[must_use]
    pub fn entries(&self) -> u32 {
        u32::try_from(self.queue_numbers.len()).expect("numbers are 32 bits")
    }

    /// The 1-based queue number of a 1-based arrival number.
    #[must_use]
    pub fn queue_number(&self, arrival: u32) -> u32 {
        at(&self.queue_numbers, arrival)
    }

    /// The arrival number of a queue number: the inverse of [`Self::queue_number`].
    #[must_use]
    pub fn arrival(&self, queue_number: u32) -> u32 {
        at(&self.arrivals, queue_number)
    }

    /// The queue numbers of the draw in order of arrival.
    #[must_use]
    pub fn queue_numbers(&self) -> &[u32] {
        &self.queue_numbers
    }

    /// One hash for the whole order: SHA-256 of all queue numbers in order of arrival, 4 bytes each, big
    /// endian.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest_of(&self.queue_numbers)
    }
}

fn at(numbers: &[u32], number: u32) -> u32 {
    let drawn = number.checked_sub(1).and_then(|ix| numbers.get(ix as usize));
    drawn.copied().unwrap_or(number)
}

fn digest_of(queue_numbers: &[u32]) -> Digest {
    let mut hasher = Sha256::default();
    let mut bytes = Vec::with_capacity(16_384);
    for part in queue_numbers.chunks(4_096) {
        bytes.clear();
        bytes.extend(part.iter().flat_map(|number| number.to_be_bytes()));
        hasher.update(&bytes);
    }
    Digest(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_keeps_arrival_order() {
        let order = DrawNumbering::default();
        assert!(
            (0..100)
                .all(|arrival| order.queue_number(arrival) == arrival && order.arrival(arrival) == arrival)
        );
    }

    #[test]
    fn later_joins_follow_the_shuffled_entries() {
        let order = DrawNumbering::drawn(&Digest([9; 32]), 300);
        let mut seen: Vec<u32> = (1..=300).map(|arrival| order.queue_number(arrival)).collect();
        assert!((1..=300).all(|arrival| order.arrival(order.queue_number(arrival)) == arrival));
        assert_ne!(seen, (1..=300).collect::<Vec<_>>());
        seen.sort_unstable();
        assert_eq!(seen, (1..=300).collect::<Vec<_>>());
        assert_eq!(
            (
                order.queue_number(301),
                order.arrival(4_000),
                order.queue_number(0)
            ),
            (301, 4_000, 0)
        );
        assert_ne!(
            order.digest(),
            DrawNumbering::drawn(&Digest([8; 32]), 300).digest()
        );
    }
}

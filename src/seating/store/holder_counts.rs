//! How many seats each fan has, and the keyed hash by which fans are found.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
};

use crate::kernel::Subject;

use crate::seating::store::index::Index;

/// Fans without a seat who are remembered, because they are likely to try again.
const IDLE_KEPT: usize = 1 << 12;

pub(crate) type FanIx = u32;

/// Every fan who has a seat held, being paid or booked, and some who had.
pub(crate) struct Fans {
    slots: Vec<Fan>,
    vacant: Vec<FanIx>,
    index: Index,
    /// Fans who had no seat when they came in here, each once.
    idle: VecDeque<FanIx>,
}

struct Fan {
    subject: Subject,
    hash: u64,
    seats: u32,
    idle: bool,
}

/// Hashes subjects: two multiplications for a usual one. Keyed, so that nobody can choose names that collide; what it
/// gives never leaves the process.
pub(crate) struct Naming {
    keys: [u64; 2],
}

impl Naming {
    pub(crate) fn new() -> Self {
        Self {
            keys: [0, 1].map(|it: u8| RandomState::new().hash_one(it)),
        }
    }

    #[inline]
    pub(crate) fn hash(&self, subject: &Subject) -> u64 {
        let name = subject.as_str().as_bytes();
        let (pairs, rest) = name.as_chunks::<16>();
        let mut hash = self.keys[0] ^ name.len() as u64;
        for pair in pairs {
            hash = self.fold(hash, u128::from_le_bytes(*pair));
        }
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        self.fold(hash, u128::from_le_bytes(last))
    }

    #[expect(clippy::cast_possible_truncation, reason = "halves are what is wanted")]
    fn fold(&self, hash: u64, pair: u128) -> u64 {
        let product = u128::from(hash ^ pair as u64) * u128::from(self.keys[1] ^ (pair >> 64) as u64);
        (product as u64) ^ (product >> 64) as u64 ^ hash.rotate_left(29)
    }
}

impl Fans {
    pub(crate) fn with_room_for(fans: usize) -> Self {
        let idle = VecDeque::with_capacity(IDLE_KEPT + 1);
        Self {
            slots: Vec::with_capacity(fans),
            vacant: Vec::new(),
            index: Index::with_room_for(fans),
            idle,
        }
    }

    #[inline]
    pub(crate) fn find(&self, subject: &Subject, hash: u64) -> Option<FanIx> {
        self.index.find(tag(hash), |fan| {
            let fan = &self.slots[fan as usize];
            fan.hash == hash && fan.subject == *subject
        })
    }

    pub(crate) fn find_or_add(&mut self, subject: &Subject, hash: u64) -> FanIx {
        self.find(subject, hash)
            .unwrap_or_else(|| self.add(subject, hash))
    }

    /// A fan who is not known.
    #[cold]
    pub(crate) fn add(&mut self, subject: &Subject, hash: u64) -> FanIx {
        let fan = Fan {
            subject: subject.clone(),
            hash,
            seats: 0,
            idle: false,
        };
        let slot = if let Some(slot) = self.vacant.pop() {
            self.slots[slot as usize] = fan;
            slot
        } else {
            self.slots.push(fan);
            u32::try_from(self.slots.len() - 1).expect("fewer fans than seats and idle ones")
        };
        self.index.insert(tag(hash), slot);
        slot
    }

    pub(crate) fn subject(&self, fan: FanIx) -> &Subject {
        &self.slots[fan as usize].subject
    }

    #[inline]
    pub(crate) fn seats(&self, fan: FanIx) -> u32 {
        self.slots[fan as usize].seats
    }

    #[inline]
    pub(crate) fn has_more(&mut self, fan: FanIx, seats: usize) {
        let it = &mut self.slots[fan as usize];
        it.seats = it.seats.saturating_add(count(seats));
    }

    #[inline]
    pub(crate) fn has_less(&mut self, fan: FanIx, seats: usize) {
        let it = &mut self.slots[fan as usize];
        it.seats = it.seats.saturating_sub(count(seats));
        if it.seats == 0 && !it.idle {
            it.idle = true;
            self.idle.push_back(fan);
            if self.idle.len() > IDLE_KEPT {
                self.forget_one();
            }
        }
    }

    /// Or sees that she has seats again.
    fn forget_one(&mut self) {
        let Some(slot) = self.idle.pop_front() else { return };
        let fan = &mut self.slots[slot as usize];
        fan.idle = false;
        if fan.seats == 0 {
            self.index.remove(tag(fan.hash), slot);
            self.vacant.push(slot);
        }
    }
}

pub(crate) fn count(seats: usize) -> u32 {
    u32::try_from(seats).unwrap_or(u32::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "32 bits find, all 64 are compared"
)]
fn tag(hash: u64) -> u32 {
    hash as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(n: usize) -> Subject {
        Subject::customer(&n.to_string()).unwrap()
    }

    #[test]
    fn fans_with_seats_are_remembered_and_few_others() {
        let (naming, mut fans) = (Naming::new(), Fans::with_room_for(4));
        let keeper = fans.add(&named(0), naming.hash(&named(0)));
        fans.has_more(keeper, 1);
        fans.has_less(keeper, 1);
        fans.has_more(keeper, 3);
        for n in 1..3 * IDLE_KEPT {
            let fan = fans.find_or_add(&named(n), naming.hash(&named(n)));
            fans.has_more(fan, 2);
            fans.has_less(fan, 2);
        }
        assert_eq!(fans.find(&named(0), naming.hash(&named(0))), Some(keeper));
        assert_eq!((fans.seats(keeper), fans.subject(keeper)), (3, &named(0)));
        assert_eq!(fans.find(&named(1), naming.hash(&named(1))), None, "forgotten");
        assert!(
            fans.slots.len() <= IDLE_KEPT + 2,
            "their slots are used again: {}",
            fans.slots.len()
        );
    }

    #[test]
    fn names_of_any_length_differ_by_each_of_their_bytes() {
        let naming = Naming::new();
        let long = "x".repeat(Subject::LENGTH_MAX - "customer:".len());
        let mut hashes: Vec<u64> = (1..=long.len())
            .map(|n| naming.hash(&Subject::customer(&long[..n]).unwrap()))
            .collect();
        for at in 0..long.len() {
            let other: String = long
                .char_indices()
                .map(|(i, c)| if i == at { 'y' } else { c })
                .collect();
            hashes.push(naming.hash(&Subject::customer(&other).unwrap()));
        }
        let all = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), all);
        assert_ne!(Naming::new().hash(&named(1)), naming.hash(&named(1)), "keyed");
    }
}

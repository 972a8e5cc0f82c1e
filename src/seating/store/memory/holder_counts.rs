//! How many seats each subject has, and the keyed hash by which subjects are found.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
};

use hashbrown::HashTable;

use crate::{
    kernel::Subject,
    seating::store::memory::holds::{HoldIx, NONE},
};

/// Subjects without a seat that stay known, because they are likely to try again.
const IDLE_MAX: usize = 1 << 12;

/// Index of a subject in [`HolderCounts`]; stable while the subject has a seat.
pub(super) type HolderIx = u32;

/// Every subject that has a seat held, being paid or booked, and some that had one.
pub(super) struct HolderCounts {
    slots: Vec<Holder>,
    vacant: Vec<HolderIx>,
    /// Slots by the subjects' hashes.
    index: HashTable<HolderIx>,
    /// Subjects that had no seat when they were added here, each once. They may have seats again.
    idle: VecDeque<HolderIx>,
}

struct Holder {
    subject: Subject,
    hash: u64,
    seats: u32,
    /// The first of the subject's holds.
    first_hold: HoldIx,
    /// Whether the subject is in [`HolderCounts::idle`].
    idle: bool,
}

/// Hashes subjects: two multiplications for one of usual length.
///
/// Keyed at random, so that clients cannot choose subjects that collide. The hashes never leave the process.
pub(super) struct SubjectHasher {
    keys: [u64; 2],
}

/// A subject with its hash, so that hashing happens outside the lock.
#[derive(Clone, Copy)]
pub(super) struct HashedSubject<'a> {
    pub(super) subject: &'a Subject,
    pub(super) hash: u64,
}

impl SubjectHasher {
    pub(super) fn new() -> Self {
        Self {
            keys: [0, 1].map(|key: u8| RandomState::new().hash_one(key)),
        }
    }

    #[inline]
    pub(super) fn hash<'a>(&self, subject: &'a Subject) -> HashedSubject<'a> {
        let name = subject.as_str().as_bytes();
        let (chunks, rest) = name.as_chunks::<16>();
        let mut hash = self.keys[0] ^ name.len() as u64;
        for chunk in chunks {
            hash = self.fold(hash, u128::from_le_bytes(*chunk));
        }
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        let hash = self.fold(hash, u128::from_le_bytes(last));
        HashedSubject { subject, hash }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
    fn fold(&self, hash: u64, chunk: u128) -> u64 {
        let product = u128::from(hash ^ chunk as u64) * u128::from(self.keys[1] ^ (chunk >> 64) as u64);
        (product as u64) ^ (product >> 64) as u64 ^ hash.rotate_left(29)
    }
}

impl HolderCounts {
    pub(super) fn with_capacity(holders: usize) -> Self {
        Self {
            slots: Vec::with_capacity(holders),
            vacant: Vec::new(),
            index: HashTable::with_capacity(holders),
            idle: VecDeque::with_capacity(IDLE_MAX + 1),
        }
    }

    #[inline]
    pub(super) fn find(&self, subject: HashedSubject<'_>) -> Option<HolderIx> {
        self.index
            .find(subject.hash, |ix| {
                let holder = &self.slots[*ix as usize];
                holder.hash == subject.hash && holder.subject == *subject.subject
            })
            .copied()
    }

    pub(super) fn find_or_add(&mut self, subject: HashedSubject<'_>) -> HolderIx {
        self.find(subject).unwrap_or_else(|| self.add(subject))
    }

    /// Adds a subject that is not known yet.
    #[cold]
    pub(super) fn add(&mut self, subject: HashedSubject<'_>) -> HolderIx {
        let holder = Holder {
            subject: subject.subject.clone(),
            hash: subject.hash,
            seats: 0,
            first_hold: NONE,
            idle: false,
        };
        let ix = if let Some(ix) = self.vacant.pop() {
            self.slots[ix as usize] = holder;
            ix
        } else {
            self.slots.push(holder);
            u32::try_from(self.slots.len() - 1).expect("fewer holders than seats and idle slots")
        };
        let slots = &self.slots;
        self.index
            .insert_unique(subject.hash, ix, |ix| slots[*ix as usize].hash);
        ix
    }

    pub(super) fn subject(&self, holder: HolderIx) -> &Subject {
        &self.slots[holder as usize].subject
    }

    /// Where the list of the subject's holds begins.
    #[inline]
    pub(super) fn first_hold(&self, holder: HolderIx) -> HoldIx {
        self.slots[holder as usize].first_hold
    }

    /// As [`HolderCounts::first_hold`], to be changed.
    #[inline]
    pub(super) fn first_hold_mut(&mut self, holder: HolderIx) -> &mut HoldIx {
        &mut self.slots[holder as usize].first_hold
    }

    /// Seats that the subject has now.
    #[inline]
    pub(super) fn seats(&self, holder: HolderIx) -> u32 {
        self.slots[holder as usize].seats
    }

    #[inline]
    pub(super) fn add_seats(&mut self, holder: HolderIx, seats: usize) {
        let holder = &mut self.slots[holder as usize];
        holder.seats = holder.seats.saturating_add(saturating_u32(seats));
    }

    #[inline]
    pub(super) fn remove_seats(&mut self, ix: HolderIx, seats: usize) {
        let holder = &mut self.slots[ix as usize];
        holder.seats = holder.seats.saturating_sub(saturating_u32(seats));
        if holder.seats == 0 && !holder.idle {
            holder.idle = true;
            self.idle.push_back(ix);
            if self.idle.len() > IDLE_MAX {
                self.evict_oldest_idle();
            }
        }
    }

    /// Discards the subject that has been idle longest, or only unlists it when it has seats again.
    fn evict_oldest_idle(&mut self) {
        let Some(ix) = self.idle.pop_front() else { return };
        let holder = &mut self.slots[ix as usize];
        holder.idle = false;
        if holder.seats == 0 {
            if let Ok(entry) = self.index.find_entry(holder.hash, |found| *found == ix) {
                entry.remove();
            }
            self.vacant.push(ix);
        }
    }
}

pub(super) fn saturating_u32(seats: usize) -> u32 {
    u32::try_from(seats).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn customer(n: usize) -> Subject {
        Subject::customer(&n.to_string()).unwrap()
    }

    #[test]
    fn subjects_with_seats_stay_known_and_few_idle_ones_do() {
        let (hasher, mut counts) = (SubjectHasher::new(), HolderCounts::with_capacity(4));
        let first = customer(0);
        let keeper = counts.add(hasher.hash(&first));
        counts.add_seats(keeper, 1);
        counts.remove_seats(keeper, 1);
        counts.add_seats(keeper, 3);
        for n in 1..3 * IDLE_MAX {
            let holder = counts.find_or_add(hasher.hash(&customer(n)));
            counts.add_seats(holder, 2);
            counts.remove_seats(holder, 2);
        }
        assert_eq!(counts.find(hasher.hash(&first)), Some(keeper));
        assert_eq!((counts.seats(keeper), counts.subject(keeper)), (3, &first));
        assert_eq!(counts.find(hasher.hash(&customer(1))), None, "evicted");
        assert!(
            counts.slots.len() <= IDLE_MAX + 2,
            "evicted slots are reused: {}",
            counts.slots.len()
        );
    }

    proptest! {
        /// Few different hashes, so that lookups and removals must tell colliding subjects apart.
        #[test]
        fn colliding_subjects_are_told_apart(
            steps in prop::collection::vec((0..40_usize, any::<bool>()), 1..300),
        ) {
            let (mut counts, mut expected) = (HolderCounts::with_capacity(1), BTreeMap::new());
            let subjects: Vec<Subject> = (0..40).map(customer).collect();
            let hashed = |n: usize| HashedSubject {
                subject: &subjects[n],
                hash: ((n % 7) as u64).wrapping_sub(3).wrapping_mul(1 + (n % 2) as u64),
            };
            for (n, more) in steps {
                let holder = counts.find_or_add(hashed(n));
                let seats: &mut u32 = expected.entry(n).or_default();
                if more {
                    counts.add_seats(holder, 1);
                    *seats += 1;
                } else {
                    counts.remove_seats(holder, 1);
                    *seats = seats.saturating_sub(1);
                }
                // Evicts every idle subject, so that removals from the table are exercised as well.
                while !counts.idle.is_empty() {
                    counts.evict_oldest_idle();
                }
                for n in 0..40 {
                    let found = counts.find(hashed(n)).map_or(0, |holder| counts.seats(holder));
                    prop_assert_eq!(found, expected.get(&n).copied().unwrap_or(0));
                }
            }
        }
    }

    #[test]
    fn hash_depends_on_every_byte_and_on_the_key() {
        let hasher = SubjectHasher::new();
        let hash_of = |hasher: &SubjectHasher, subject: &Subject| hasher.hash(subject).hash;
        let long = "x".repeat(Subject::LENGTH_MAX - "customer:".len());
        let mut hashes: Vec<u64> = (1..=long.len())
            .map(|n| hash_of(&hasher, &Subject::customer(&long[..n]).unwrap()))
            .collect();
        for at in 0..long.len() {
            let other: String = long
                .char_indices()
                .map(|(i, c)| if i == at { 'y' } else { c })
                .collect();
            hashes.push(hash_of(&hasher, &Subject::customer(&other).unwrap()));
        }
        let all = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), all);
        assert_ne!(
            hash_of(&SubjectHasher::new(), &customer(1)),
            hash_of(&hasher, &customer(1)),
            "keyed"
        );
    }
}

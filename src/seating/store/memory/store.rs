//! [`MemoryStore`]: the seat table behind one lock.
//!
//! Nothing waits while the lock is held, and little is allocated: subjects are hashed, times read and lists
//! made before. Reading the clock costs about as much as everything under the lock, and both a hold and its
//! release need it, because a hold is over at its deadline whether or not it was expired.
//! `benches/seat_lock.rs` measures the rest against the bare minimum.

use std::{hint::spin_loop, sync::Arc};

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};

use crate::kernel::{Clock, HoldId, Subject, Timestamp};

use crate::seating::{
    hold::RestoredClaim,
    seat::{SeatIx, SeatStates},
    store::{
        memory::{holder_counts::SubjectHasher, seat_table::SeatTable},
        port::{
            BookReply, ChangeReply, ExtendReply, HoldRecord, HoldReply, IdempotencyKey, SeatChange,
            SeatStore, StoreHold,
        },
    },
    types::{HoldTerms, StoreError},
};

/// How often a caller tries to take the lock before it sleeps until the lock is free.
const LOCK_ATTEMPTS: u32 = 8;
/// Spin-loop hints between two attempts, about a microsecond.
const SPINS_PER_ATTEMPT: u32 = 64;

/// The seats of one performance in this process.
///
/// All holds are lost with the process; what is paid or being paid is restored from the ledger at start.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    hasher: SubjectHasher,
    table: Mutex<SeatTable>,
}

impl MemoryStore {
    /// A store of `seats` free seats.
    #[must_use]
    pub fn new(seats: usize, terms: HoldTerms, clock: Arc<dyn Clock>) -> Self {
        // Versions must keep growing over a restart. They start at the time in microseconds, which is ahead
        // of any earlier version as long as the store makes less than a million changes a second.
        let version = u64::try_from(clock.now().as_millis())
            .unwrap_or(0)
            .saturating_mul(1_000);
        Self {
            clock,
            hasher: SubjectHasher::new(),
            table: Mutex::new(SeatTable::new(seats, terms, version)),
        }
    }

    /// [`SeatStore::hold`] without the future: it waits for nothing but the lock.
    pub fn hold_now(&self, request: &StoreHold) -> HoldReply {
        let subject = self.hasher.hash(&request.subject);
        let now = self.clock.now();
        self.table().hold(request, subject, now)
    }

    /// [`SeatStore::release`] without the future: it waits for nothing but the lock.
    pub fn release_now(&self, id: HoldId, subject: &Subject) -> bool {
        let now = self.clock.now();
        // Two statements, so that the lock is released before the memory of the seats is freed.
        let ended = self.table().release(id, subject, now);
        ended.is_some()
    }

    /// Takes the lock, spinning first.
    ///
    /// The work under the lock is shorter than handing it to another core and back. A caller that finds it
    /// taken backs off for several such times, so that the owner's cache lines stay where they are.
    fn table(&self) -> MutexGuard<'_, SeatTable> {
        for _ in 0..LOCK_ATTEMPTS {
            if let Some(table) = self.table.try_lock() {
                return table;
            }
            for _ in 0..SPINS_PER_ATTEMPT {
                spin_loop();
            }
        }
        self.table.lock()
    }
}

#[async_trait]
impl SeatStore for MemoryStore {
    async fn hold(&self, request: &StoreHold) -> Result<HoldReply, StoreError> {
        Ok(self.hold_now(request))
    }

    async fn find_completed(&self, key: &IdempotencyKey) -> Result<Option<HoldReply>, StoreError> {
        let now = self.clock.now();
        Ok(self.table().find_completed(key, now))
    }

    async fn find(&self, id: HoldId, subject: &Subject) -> Result<Option<HoldRecord>, StoreError> {
        let now = self.clock.now();
        Ok(self.table().find(id, subject, now))
    }

    async fn holds_of(&self, subject: &Subject) -> Result<Vec<HoldRecord>, StoreError> {
        let subject = self.hasher.hash(subject);
        let now = self.clock.now();
        Ok(self.table().holds_of(subject, now))
    }

    async fn swap(
        &self,
        id: HoldId,
        subject: &Subject,
        seats: &Arc<[SeatIx]>,
    ) -> Result<ChangeReply, StoreError> {
        let now = self.clock.now();
        Ok(self.table().swap(id, subject, seats, now))
    }

    async fn extend(&self, id: HoldId, subject: &Subject) -> Result<ExtendReply, StoreError> {
        let now = self.clock.now();
        Ok(self.table().extend(id, subject, now))
    }

    async fn release(&self, id: HoldId, subject: &Subject) -> Result<bool, StoreError> {
        Ok(self.release_now(id, subject))
    }

    async fn begin_checkout(
        &self,
        id: HoldId,
        subject: &Subject,
        until: Timestamp,
    ) -> Result<Option<HoldRecord>, StoreError> {
        let now = self.clock.now();
        Ok(self.table().begin_checkout(id, subject, until, now))
    }

    async fn return_to_hold(&self, id: HoldId, until: Timestamp) -> Result<(), StoreError> {
        self.table().return_to_hold(id, until);
        Ok(())
    }

    async fn book(&self, id: HoldId, subject: &Subject, seats: &[SeatIx]) -> Result<BookReply, StoreError> {
        let subject = self.hasher.hash(subject);
        Ok(self.table().book(id, subject, seats))
    }

    async fn free(&self, id: HoldId, seats: &[SeatIx]) -> Result<(), StoreError> {
        self.table().free(id, seats);
        Ok(())
    }

    async fn restore(&self, claims: &[RestoredClaim]) -> Result<Vec<SeatIx>, StoreError> {
        let mut table = self.table();
        Ok(claims
            .iter()
            .flat_map(|claim| table.restore(claim, self.hasher.hash(&claim.subject)))
            .collect())
    }

    async fn set_blocked(&self, seats: &[SeatIx], blocked: bool) -> Result<(), StoreError> {
        self.table().set_blocked(seats, blocked);
        Ok(())
    }

    async fn expire_holds(&self, max: usize) -> Result<usize, StoreError> {
        let now = self.clock.now();
        Ok(self.table().expire_holds(now, max))
    }

    fn changes_since(&self, after: u64, into: &mut Vec<SeatChange>) -> bool {
        self.table().changes_since(after, into)
    }

    async fn load(&self) -> Result<(u64, SeatStates), StoreError> {
        Ok(self.table().load())
    }
}

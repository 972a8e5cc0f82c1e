//! The engine in this process: one lock a performance.
//!
//! Nearly half of what a hold and its release take are two readings of the clock: a hold is over at its deadline, swept or
//! not, so both must know the time. A sixth is the lock and the seats' bits. The rest is the fan's limit, the id, the
//! deadline and the list of changes; `benches/seat_lock.rs` holds it below what the other two take together.

use std::{hint::spin_loop, sync::Arc};

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};

use crate::kernel::{Clock, HoldId, Subject, Timestamp};

use crate::seating::{
    hold::RestoredClaim,
    seat::{SeatIx, SeatStates},
    store::{
        BookReply, ChangeReply, ExtendReply, HoldRecord, HoldReply, StoreHold, IdempotencyKey, SeatChange,
        SeatStore, StoreError, HoldTerms,
        holder_counts::Naming,
        seat_table::{Named, Register},
    },
};

/// What is held here is lost with the process; what is paid or being paid is given back by the ledger at start.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    naming: Naming,
    register: Mutex<Register>,
}

/// So often somebody looks whether the lock is free before she sleeps until it is, and in between she waits for a microsecond.
const LOOKS: u32 = 8;
const LOOKS_AWAY: u32 = 64;

impl MemoryStore {
    #[must_use]
    pub fn new(seats: usize, terms: HoldTerms, clock: Arc<dyn Clock>) -> Self {
        // Versions go on growing over a restart: they start at microseconds, and no engine makes a million changes a second for long.
        let version = u64::try_from(clock.now().as_millis())
            .unwrap_or(0)
            .saturating_mul(1_000);
        Self {
            clock,
            naming: Naming::new(),
            register: Mutex::new(Register::new(seats, terms, version)),
        }
    }

    /// [`SeatStore::hold`], which here waits for nothing but the lock.
    pub fn hold_now(&self, request: &StoreHold) -> HoldReply {
        let (who, now) = (self.named(&request.subject), self.clock.now());
        self.register().hold(request, who, now)
    }

    /// [`SeatStore::release`], likewise.
    pub fn release_now(&self, id: HoldId, who: &Subject) -> bool {
        let now = self.clock.now();
        let ended = self.register().release(id, who, now);
        ended.is_some()
    }

    /// What is done under the lock takes less time than handing it to another core and back. Whoever finds it taken looks away
    /// for as long as several such, so that the other goes on with what is in its core's own cache.
    fn register(&self) -> MutexGuard<'_, Register> {
        for _ in 0..LOOKS {
            if let Some(register) = self.register.try_lock() {
                return register;
            }
            for _ in 0..LOOKS_AWAY {
                spin_loop();
            }
        }
        self.register.lock()
    }

    fn named<'a>(&self, subject: &'a Subject) -> Named<'a> {
        Named {
            subject,
            hash: self.naming.hash(subject),
        }
    }
}

// Under the lock nothing waits, and little is allocated: names are hashed, times read and lists made before it.
#[async_trait]
impl SeatStore for MemoryStore {
    async fn hold(&self, request: &StoreHold) -> Result<HoldReply, StoreError> {
        Ok(self.hold_now(request))
    }

    async fn find_completed(&self, operation: &IdempotencyKey) -> Result<Option<HoldReply>, StoreError> {
        let now = self.clock.now();
        Ok(self.register().recall(operation, now))
    }

    async fn find(&self, id: HoldId, who: &Subject) -> Result<Option<HoldRecord>, StoreError> {
        let now = self.clock.now();
        Ok(self.register().find(id, who, now))
    }

    async fn swap(
        &self,
        id: HoldId,
        who: &Subject,
        seats: &Arc<[SeatIx]>,
    ) -> Result<ChangeReply, StoreError> {
        let now = self.clock.now();
        Ok(self.register().swap(id, who, seats, now))
    }

    async fn extend(&self, id: HoldId, who: &Subject) -> Result<ExtendReply, StoreError> {
        let now = self.clock.now();
        Ok(self.register().extend(id, who, now))
    }

    async fn release(&self, id: HoldId, who: &Subject) -> Result<bool, StoreError> {
        Ok(self.release_now(id, who))
    }

    async fn begin_checkout(
        &self,
        id: HoldId,
        who: &Subject,
        until: Timestamp,
    ) -> Result<Option<HoldRecord>, StoreError> {
        let now = self.clock.now();
        Ok(self.register().begin_checkout(id, who, until, now))
    }

    async fn return_to_hold(&self, id: HoldId, until: Timestamp) -> Result<(), StoreError> {
        self.register().return_to_hold(id, until);
        Ok(())
    }

    async fn book(&self, id: HoldId, who: &Subject, seats: &[SeatIx]) -> Result<BookReply, StoreError> {
        let who = self.named(who);
        Ok(self.register().book(id, who, seats))
    }

    async fn free(&self, id: HoldId, seats: &[SeatIx]) -> Result<(), StoreError> {
        self.register().free(id, seats);
        Ok(())
    }

    async fn restore(&self, claims: &[RestoredClaim]) -> Result<Vec<SeatIx>, StoreError> {
        let mut register = self.register();
        Ok(claims
            .iter()
            .flat_map(|claim| register.restore(claim, self.naming.hash(&claim.subject)))
            .collect())
    }

    async fn set_blocked(&self, seats: &[SeatIx], blocked: bool) -> Result<(), StoreError> {
        self.register().set_blocked(seats, blocked);
        Ok(())
    }

    async fn expire_holds(&self, max: usize) -> Result<usize, StoreError> {
        let now = self.clock.now();
        Ok(self.register().sweep(now, max))
    }

    fn changes_since(&self, after: u64, into: &mut Vec<SeatChange>) -> bool {
        self.register().changes(after, into)
    }

    async fn load(&self) -> Result<(u64, SeatStates), StoreError> {
        Ok(self.register().states())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        thread,
    };

    use futures_util::FutureExt;

    use super::*;
    use crate::seating::SeatState;
    use crate::seating::store::{
        conformance::{self, Bench, TERMS, fan, hold_id, request},
        reference_model,
    };

    fn bench() -> Bench<MemoryStore> {
        let clock = conformance::clock();
        Bench {
            store: MemoryStore::new(100, TERMS, Arc::clone(&clock) as Arc<dyn Clock>),
            clock,
        }
    }

    #[tokio::test]
    async fn the_memory_engine_keeps_the_contract() {
        conformance::run(async || bench()).await;
    }

    #[test]
    fn the_memory_engine_does_what_a_naive_one_does() {
        reference_model::run(300, &tokio::runtime::Runtime::new().unwrap(), async || bench());
    }

    /// Each thread notes in a table of its own kind whose seat is whose; two names on one seat would be seen there.
    #[test]
    fn threads_that_fight_for_seats_never_share_one() {
        let (Bench { store, .. }, seats) = (bench(), 24);
        let owners: Vec<AtomicU32> = (0..seats).map(|_| AtomicU32::new(0)).collect();
        let (fought, start) = (AtomicU32::new(0), std::sync::Barrier::new(4));
        thread::scope(|scope| {
            for me in 1..=4_u8 {
                let (store, owners, fought, start) = (&store, &owners, &fought, &start);
                scope.spawn(move || {
                    // A thread that has run to its end before the next one is made meets nobody.
                    start.wait();
                    let mut random = u32::from(me);
                    for round in 0..4_000 {
                        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        let first = random >> 8;
                        let wish: Vec<u32> = (0..=first % 4).map(|i| (first / 4 + i * 5) % seats).collect();
                        let id = u32::from(me) << 24 | round;
                        match store
                            .hold(&request(id, me, &wish))
                            .now_or_never()
                            .unwrap()
                            .unwrap()
                        {
                            HoldReply::Held { .. } => {
                                for seat in &wish {
                                    let before = owners[*seat as usize].swap(u32::from(me), Ordering::SeqCst);
                                    assert_eq!(before, 0, "seat {seat} had an owner");
                                }
                                for seat in &wish {
                                    owners[*seat as usize].store(0, Ordering::SeqCst);
                                }
                                assert!(
                                    store
                                        .release(hold_id(id), &fan(me))
                                        .now_or_never()
                                        .unwrap()
                                        .unwrap()
                                );
                            }
                            HoldReply::Taken(taken) => {
                                assert!(!taken.is_empty() && taken.iter().all(|it| wish.contains(&it.0)));
                                fought.fetch_add(1, Ordering::Relaxed);
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                });
            }
        });
        let (_, states) = store.load().now_or_never().unwrap().unwrap();
        assert!(
            (0..seats).all(|seat| states.get(SeatIx(seat)) == SeatState::Free),
            "all or none: nothing is left behind"
        );
        assert!(fought.load(Ordering::Relaxed) > 0, "they met");
    }
}

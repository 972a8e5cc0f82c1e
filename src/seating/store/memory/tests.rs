//! The conformance suite and the reference model on the embedded store, and a test with competing threads.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use futures_util::FutureExt;

use crate::kernel::Clock;

use crate::seating::{
    seat::{SeatIx, SeatState},
    store::{
        conformance,
        fixture::{Fixture, TERMS, clock, customer, hold_id, request},
        memory::store::MemoryStore,
        model_check,
        port::{HoldReply, SeatStore},
    },
};

fn fixture() -> Fixture<MemoryStore> {
    let clock = clock();
    Fixture {
        store: MemoryStore::new(100, TERMS, Arc::clone(&clock) as Arc<dyn Clock>),
        clock,
    }
}

#[tokio::test]
async fn memory_store_conforms_to_the_port() {
    conformance::run(async || fixture()).await;
}

#[test]
fn memory_store_agrees_with_the_reference_model() {
    model_check::run(300, &tokio::runtime::Runtime::new().unwrap(), async || fixture());
}

/// Each thread records in a table outside the store who owns which seat: two owners of one seat would be seen
/// there.
#[test]
fn competing_threads_never_share_a_seat() {
    const SEATS: u32 = 24;
    let Fixture { store, .. } = fixture();
    let owners: Vec<AtomicU32> = (0..SEATS).map(|_| AtomicU32::new(0)).collect();
    let conflicts = AtomicU32::new(0);
    // Without it a thread could finish before the next one is spawned, and nothing would compete.
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for me in 1..=4_u8 {
            let (store, owners, conflicts, start) = (&store, &owners, &conflicts, &start);
            scope.spawn(move || {
                start.wait();
                compete(store, owners, conflicts, me);
            });
        }
    });
    let (_, states) = store.load().now_or_never().unwrap().unwrap();
    assert!(
        (0..SEATS).all(|seat| states.get(SeatIx(seat)) == SeatState::Free),
        "all or none: nothing is left behind"
    );
    assert!(conflicts.load(Ordering::Relaxed) > 0, "the threads competed");
}

/// Holds and releases random seats, and checks after each hold that no other thread owns them.
fn compete(store: &MemoryStore, owners: &[AtomicU32], conflicts: &AtomicU32, me: u8) {
    let seats = u32::try_from(owners.len()).unwrap();
    let mut random = u32::from(me);
    for round in 0..4_000 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let first = random >> 8;
        let wanted: Vec<u32> = (0..=first % 4).map(|i| (first / 4 + i * 5) % seats).collect();
        let id = u32::from(me) << 24 | round;
        let reply = store.hold(&request(id, me, &wanted)).now_or_never();
        match reply.unwrap().unwrap() {
            HoldReply::Held { .. } => {
                for seat in &wanted {
                    let before = owners[*seat as usize].swap(u32::from(me), Ordering::SeqCst);
                    assert_eq!(before, 0, "seat {seat} had an owner");
                }
                for seat in &wanted {
                    owners[*seat as usize].store(0, Ordering::SeqCst);
                }
                let released = store.release(hold_id(id), &customer(me)).now_or_never();
                assert!(released.unwrap().unwrap());
            }
            HoldReply::Taken(taken) => {
                assert!(!taken.is_empty() && taken.iter().all(|seat| wanted.contains(&seat.0)));
                conflicts.fetch_add(1, Ordering::Relaxed);
            }
            other => panic!("{other:?}"),
        }
    }
}

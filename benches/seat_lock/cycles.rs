//! The timed cycles of the memory store and of the baseline, shared by `seat_lock` and the load tests'
//! baseline table.

#![expect(clippy::cast_precision_loss, reason = "rates need no 53rd bit")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::{
    hint::black_box,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use stagedoor::{
    kernel::{Clock, Entropy, HoldId, OsEntropy, SeededEntropy, Subject, SystemClock, Timestamp, VisitId},
    seating::{HoldReply, HoldTerms, MemoryStore, SeatIx, SeatStore, StoreHold},
};

pub(super) const VENUE_SIZES: [u32; 3] = [500, 15_000, 66_000];
pub(super) const TERMS: HoldTerms = HoldTerms {
    hold_ttl: Duration::from_mins(7),
    extensions_max: 1,
    seats_per_customer_max: 4,
};
pub(super) const ROUND: u64 = 50_000;
const REQUESTS: u32 = 64;

/// The bare minimum that keeps a hold's promise: a lock, a bitmap and the time.
pub(super) struct Baseline {
    taken: Mutex<Vec<u64>>,
    clock: Arc<dyn Clock>,
}

impl Baseline {
    pub(super) fn new(seats: u32) -> Self {
        Self {
            taken: Mutex::new(vec![0; seats.div_ceil(64) as usize]),
            clock: Arc::new(SystemClock::new()),
        }
    }

    pub(super) fn hold(&self, seats: &[SeatIx]) -> Option<Timestamp> {
        let now = self.clock.now();
        self.try_set(seats).then(|| now.plus(TERMS.hold_ttl))
    }

    pub(super) fn release(&self, seats: &[SeatIx], deadline: Timestamp) -> bool {
        let live = self.clock.now() < deadline;
        if live {
            self.clear(seats);
        }
        live
    }

    pub(super) fn try_set(&self, seats: &[SeatIx]) -> bool {
        let mut taken = self.taken.lock();
        if seats
            .iter()
            .any(|seat| taken[seat.index() / 64] >> (seat.index() % 64) & 1 == 1)
        {
            return false;
        }
        for seat in seats {
            taken[seat.index() / 64] |= 1 << (seat.index() % 64);
        }
        true
    }

    pub(super) fn clear(&self, seats: &[SeatIx]) {
        let mut taken = self.taken.lock();
        for seat in seats {
            taken[seat.index() / 64] &= !(1 << (seat.index() % 64));
        }
    }
}

/// Hold requests for one part of the seats, used one after the other.
pub(super) struct Requests {
    pub(super) list: Vec<StoreHold>,
    next: usize,
}

impl Requests {
    pub(super) fn of_all(seats_total: u32, group: u32) -> Self {
        Self::of_part(seats_total, group, 0, 1)
    }

    /// Requests of different parts never name the same seat.
    pub(super) fn of_part(seats_total: u32, group: u32, part: u32, parts: u32) -> Self {
        let entropy = SeededEntropy::new(u64::from(part));
        let stride = (seats_total / REQUESTS).max(group);
        let request = |i: u32| StoreHold {
            id: HoldId::random(&entropy),
            subject: Subject::customer(&format!("{}", entropy.below(1 << 40))).expect("a short key"),
            visit: VisitId::random(&entropy),
            seats: (0..group)
                .map(|s| SeatIx(((i * stride + s) / parts * parts + part + s * parts) % seats_total))
                .collect(),
            idempotency_key: None,
        };
        let is_distinct = |request: &StoreHold| {
            let seats = &request.seats;
            (1..seats.len()).all(|i| !seats[..i].contains(&seats[i]))
        };
        Self {
            list: (0..REQUESTS).map(request).filter(is_distinct).collect(),
            next: 0,
        }
    }

    pub(super) fn next(&mut self) -> &StoreHold {
        self.next = (self.next + 1) % self.list.len();
        &self.list[self.next]
    }
}

pub(super) fn memory_store(seats_total: u32) -> MemoryStore {
    MemoryStore::new(seats_total as usize, TERMS, Arc::new(SystemClock::new()))
}

pub(super) fn try_hold(store: &MemoryStore, request: &StoreHold) -> bool {
    matches!(store.hold_now(request), HoldReply::Held { .. })
}

pub(super) fn store_cycle(store: &MemoryStore, request: &StoreHold) {
    assert!(try_hold(store, request));
    assert!(store.release_now(request.id, &request.subject));
}

pub(super) fn boxed_cycle(store: &MemoryStore, request: &StoreHold) {
    assert!(matches!(
        store.hold(request).now_or_never(),
        Some(Ok(HoldReply::Held { .. }))
    ));
    assert!(matches!(
        store.release(request.id, &request.subject).now_or_never(),
        Some(Ok(true))
    ));
}

pub(super) fn baseline_cycle(baseline: &Baseline, request: &StoreHold) {
    let deadline = baseline.hold(&request.seats).expect("the seats are free");
    assert!(baseline.release(&request.seats, black_box(deadline)));
}

/// A store and a baseline in which every seat of every request is held.
pub(super) fn all_taken(seats_total: u32, group: u32) -> (MemoryStore, Baseline) {
    let (store, baseline) = (memory_store(seats_total), Baseline::new(seats_total));
    for request in Requests::of_all(seats_total, group).list {
        let subject = Subject::customer(&format!("owner-{}", request.id)).expect("a short key");
        baseline.hold(&request.seats).expect("the seats are free");
        let request = StoreHold {
            id: HoldId::random(&OsEntropy),
            subject,
            ..request
        };
        assert!(try_hold(&store, &request));
    }
    (store, baseline)
}

/// Calls of `work` a second.
pub(super) fn rate(requests: &mut Requests, mut work: impl FnMut(&StoreHold)) -> f64 {
    let start = Instant::now();
    for _ in 0..ROUND {
        work(requests.next());
    }
    ROUND as f64 / start.elapsed().as_secs_f64()
}

/// Cycles a second of two threads together, each with its own part of the seats.
pub(super) fn rate_of_two(seats_total: u32, group: u32, cycle: impl Fn(&StoreHold) + Sync) -> f64 {
    let (start, nanos) = (Barrier::new(2), AtomicU64::new(0));
    thread::scope(|scope| {
        for part in 0..2 {
            let (start, nanos, cycle) = (&start, &nanos, &cycle);
            scope.spawn(move || {
                let mut requests = Requests::of_part(seats_total, group, part, 2);
                start.wait();
                let began = Instant::now();
                (0..ROUND).for_each(|_| cycle(requests.next()));
                nanos.fetch_max(
                    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX),
                    Ordering::Relaxed,
                );
            });
        }
    });
    (2 * ROUND) as f64 / (nanos.load(Ordering::Relaxed) as f64 / 1e9)
}

/// Hold attempts a second. Releases are not counted.
pub(super) fn rate_of_holding(store: &MemoryStore, requests: &Requests, held: bool) -> f64 {
    let (mut spent, mut rounds) = (Duration::ZERO, 0);
    while rounds < ROUND {
        let start = Instant::now();
        for request in &requests.list {
            assert_eq!(try_hold(store, request), held);
        }
        spent += start.elapsed();
        rounds += requests.list.len() as u64;
        for request in &requests.list {
            assert_eq!(store.release_now(request.id, &request.subject), held);
        }
    }
    rounds as f64 / spent.as_secs_f64()
}

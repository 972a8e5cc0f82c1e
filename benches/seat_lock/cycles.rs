//! The cycles that are timed, the engine's and the floor's: what `seat_lock` and the load tests' table of ratios share.

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
    seating::{HoldReply, StoreHold, MemoryStore, SeatIx, SeatStore, HoldTerms},
};

pub(super) const HOUSES: [u32; 3] = [500, 15_000, 66_000];
pub(super) const TERMS: HoldTerms = HoldTerms {
    hold_ttl: Duration::from_mins(7),
    extensions_max: 1,
    seats_per_customer_max: 4,
};
pub(super) const ROUND: u64 = 50_000;
const WISHES: u32 = 64;

pub(super) struct Floor {
    taken: Mutex<Vec<u64>>,
    clock: Arc<dyn Clock>,
}

impl Floor {
    pub(super) fn new(seats: u32) -> Self {
        Self {
            taken: Mutex::new(vec![0; seats.div_ceil(64) as usize]),
            clock: Arc::new(SystemClock::new()),
        }
    }

    pub(super) fn hold(&self, seats: &[SeatIx]) -> Option<Timestamp> {
        let now = self.clock.now();
        self.take(seats).then(|| now.plus(TERMS.hold_ttl))
    }

    pub(super) fn release(&self, seats: &[SeatIx], deadline: Timestamp) -> bool {
        let live = self.clock.now() < deadline;
        if live {
            self.give_back(seats);
        }
        live
    }

    pub(super) fn take(&self, seats: &[SeatIx]) -> bool {
        let mut taken = self.taken.lock();
        if seats
            .iter()
            .any(|it| taken[it.index() / 64] >> (it.index() % 64) & 1 == 1)
        {
            return false;
        }
        for it in seats {
            taken[it.index() / 64] |= 1 << (it.index() % 64);
        }
        true
    }

    pub(super) fn give_back(&self, seats: &[SeatIx]) {
        let mut taken = self.taken.lock();
        for it in seats {
            taken[it.index() / 64] &= !(1 << (it.index() % 64));
        }
    }
}

/// Fans of one part of the house, one after the other, each with her own wish.
pub(super) struct Fans {
    pub(super) requests: Vec<StoreHold>,
    next: usize,
}

impl Fans {
    pub(super) fn of_all(house: u32, group: u32) -> Self {
        Self::of_part(house, group, 0, 1)
    }

    /// Fans of different parts never want the same seat.
    pub(super) fn of_part(house: u32, group: u32, part: u32, parts: u32) -> Self {
        let entropy = SeededEntropy::new(u64::from(part));
        let stride = (house / WISHES).max(group);
        let request = |i: u32| StoreHold {
            id: HoldId::random(&entropy),
            subject: Subject::customer(&format!("{}", entropy.below(1 << 40))).expect("a short key"),
            visit: VisitId::random(&entropy),
            seats: (0..group)
                .map(|s| SeatIx(((i * stride + s) / parts * parts + part + s * parts) % house))
                .collect(),
            operation: None,
        };
        let distinct = |it: &StoreHold| (1..it.seats.len()).all(|i| !it.seats[..i].contains(&it.seats[i]));
        Self {
            requests: (0..WISHES).map(request).filter(distinct).collect(),
            next: 0,
        }
    }

    pub(super) fn next(&mut self) -> &StoreHold {
        self.next = (self.next + 1) % self.requests.len();
        &self.requests[self.next]
    }
}

pub(super) fn engine(house: u32) -> MemoryStore {
    MemoryStore::new(house as usize, TERMS, Arc::new(SystemClock::new()))
}

pub(super) fn engine_holds(store: &MemoryStore, request: &StoreHold) -> bool {
    matches!(store.hold_now(request), HoldReply::Held { .. })
}

pub(super) fn engine_cycle(store: &MemoryStore, request: &StoreHold) {
    assert!(engine_holds(store, request));
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

pub(super) fn floor_cycle(floor: &Floor, request: &StoreHold) {
    let deadline = floor.hold(&request.seats).expect("the seats are free");
    assert!(floor.release(&request.seats, black_box(deadline)));
}

/// Every seat that the fans of all parts may want is somebody's.
pub(super) fn all_taken(house: u32, group: u32) -> (MemoryStore, Floor) {
    let (store, floor) = (engine(house), Floor::new(house));
    for request in Fans::of_all(house, group).requests {
        let subject = Subject::customer(&format!("owner-{}", request.id)).expect("a short key");
        floor.hold(&request.seats).expect("the seats are free");
        let request = StoreHold {
            id: HoldId::random(&OsEntropy),
            subject,
            ..request
        };
        assert!(engine_holds(&store, &request));
    }
    (store, floor)
}

/// Rounds a second of `work`.
pub(super) fn rate(fans: &mut Fans, mut work: impl FnMut(&StoreHold)) -> f64 {
    let start = Instant::now();
    for _ in 0..ROUND {
        work(fans.next());
    }
    ROUND as f64 / start.elapsed().as_secs_f64()
}

/// Cycles a second of two threads together.
pub(super) fn rate_of_two(house: u32, group: u32, cycle: impl Fn(&StoreHold) + Sync) -> f64 {
    let (start, nanos) = (Barrier::new(2), AtomicU64::new(0));
    thread::scope(|scope| {
        for part in 0..2 {
            let (start, nanos, cycle) = (&start, &nanos, &cycle);
            scope.spawn(move || {
                let mut fans = Fans::of_part(house, group, part, 2);
                start.wait();
                let began = Instant::now();
                (0..ROUND).for_each(|_| cycle(fans.next()));
                nanos.fetch_max(
                    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX),
                    Ordering::Relaxed,
                );
            });
        }
    });
    (2 * ROUND) as f64 / (nanos.load(Ordering::Relaxed) as f64 / 1e9)
}

/// Holds, or tries to, a second; releases are not counted.
pub(super) fn rate_of_holding(store: &MemoryStore, fans: &Fans, held: bool) -> f64 {
    let (mut spent, mut rounds) = (Duration::ZERO, 0);
    while rounds < ROUND {
        let start = Instant::now();
        for request in &fans.requests {
            assert_eq!(engine_holds(store, request), held);
        }
        spent += start.elapsed();
        rounds += fans.requests.len() as u64;
        for request in &fans.requests {
            assert_eq!(store.release_now(request.id, &request.subject), held);
        }
    }
    rounds as f64 / spent.as_secs_f64()
}

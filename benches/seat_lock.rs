//! What holding seats costs in the memory engine, beside the floor: a lock and a bitmap that do the bare minimum.
//!
//! Each figure is a whole cycle or a refusal. `floor` takes the lock, looks at the seats' bits and sets them, and for the
//! release takes it again and clears them: no owner, no deadline, no limit. `engine` does everything a hold is. After the
//! criterion figures a table of ratios is printed from interleaved pairs of one run.

#![expect(clippy::cast_precision_loss, reason = "rates need no 53rd bit")]

use std::{
    hint::black_box,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, criterion_group};
use futures_util::FutureExt;
use parking_lot::Mutex;
use stagedoor::{
    kernel::{HoldId, Subject, SystemClock, VisitId},
    seating::{HoldReply, HoldRequest, MemoryStore, SeatIx, SeatStore, Terms},
};
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HOUSES: [u32; 3] = [500, 15_000, 66_000];
const TERMS: Terms = Terms { hold: Duration::from_mins(7), extensions_max: 1, seats_per_fan: 255 };
const PAIRS: usize = 15;
const ROUND: u64 = 50_000;

struct Floor(Mutex<Vec<u64>>);

impl Floor {
    fn new(seats: u32) -> Self {
        Self(Mutex::new(vec![0; seats.div_ceil(64) as usize]))
    }

    fn hold(&self, seats: &[SeatIx]) -> bool {
        let mut taken = self.0.lock();
        if seats.iter().any(|it| taken[it.at() / 64] >> (it.at() % 64) & 1 == 1) {
            return false;
        }
        for it in seats {
            taken[it.at() / 64] |= 1 << (it.at() % 64);
        }
        true
    }

    fn release(&self, seats: &[SeatIx]) {
        let mut taken = self.0.lock();
        for it in seats {
            taken[it.at() / 64] &= !(1 << (it.at() % 64));
        }
    }
}

/// One fan who holds and releases seats of her part of the house, over and over.
struct Holder {
    subject: Subject,
    visit: VisitId,
    number: u64,
    salt: u64,
    seats: Vec<Arc<[SeatIx]>>,
}

impl Holder {
    /// `part` of `parts`: holders of different parts never want the same seat.
    fn new(house: u32, group: u32, part: u32, parts: u32) -> Self {
        let stride = (house / 64).max(group);
        let of_part = |i: u32| (0..group).map(|s| SeatIx(((i * stride + s) / parts * parts + part + s * parts) % house)).collect();
        let mut seats: Vec<Arc<[SeatIx]>> = (0..64).map(of_part).collect();
        seats.retain(|it: &Arc<[SeatIx]>| (1..it.len()).all(|i| !it[..i].contains(&it[i])));
        let subject = Subject::customer(&format!("bench-{part}")).expect("a short key");
        Self { subject, visit: VisitId::from_uuid(Uuid::nil()), number: 0, salt: u64::from(part) << 56, seats }
    }

    fn request(&mut self) -> HoldRequest {
        self.number += 1;
        let at = usize::try_from(self.number).unwrap_or(0) % self.seats.len();
        // Ids are drawn before the engine is asked; here they only have to be as scattered as random ones.
        let id = (self.salt | self.number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let id = HoldId::from_uuid(Uuid::from_u64_pair(id, !id));
        HoldRequest { id, subject: self.subject.clone(), visit: self.visit, seats: Arc::clone(&self.seats[at]), operation: None }
    }

    fn seats(&mut self) -> Arc<[SeatIx]> {
        self.number += 1;
        Arc::clone(&self.seats[usize::try_from(self.number).unwrap_or(0) % self.seats.len()])
    }
}

fn engine(house: u32) -> MemoryStore {
    MemoryStore::new(house as usize, TERMS, Arc::new(SystemClock::new()))
}

fn engine_holds(store: &MemoryStore, request: &HoldRequest) -> bool {
    matches!(store.hold(request).now_or_never(), Some(Ok(HoldReply::Held { .. })))
}

fn engine_cycle(store: &MemoryStore, holder: &mut Holder) {
    let request = holder.request();
    assert!(engine_holds(store, &request));
    assert!(matches!(store.release(request.id, &request.subject).now_or_never(), Some(Ok(true))));
}

fn floor_cycle(floor: &Floor, holder: &mut Holder) {
    let seats = holder.seats();
    assert!(floor.hold(&seats));
    floor.release(&seats);
}

fn figures(c: &mut Criterion) {
    for house in HOUSES {
        for group in [1, 4] {
            let mut bench = c.benchmark_group(format!("{group} of {house} seats"));
            let (store, floor) = (engine(house), Floor::new(house));
            let mut holder = Holder::new(house, group, 0, 1);
            bench.bench_function(BenchmarkId::new("free", "floor"), |b| b.iter(|| floor_cycle(&floor, &mut holder)));
            bench.bench_function(BenchmarkId::new("free", "engine"), |b| b.iter(|| engine_cycle(&store, &mut holder)));
            let (store, floor) = all_taken(house, group);
            bench.bench_function(BenchmarkId::new("taken", "floor"), |b| b.iter(|| assert!(!floor.hold(&holder.seats()))));
            bench.bench_function(BenchmarkId::new("taken", "engine"), |b| {
                b.iter(|| {
                    let request = holder.request();
                    assert!(!engine_holds(&store, &request));
                });
            });
        }
    }
}

/// Every seat that the holder of the only part may want is somebody's.
fn all_taken(house: u32, group: u32) -> (MemoryStore, Floor) {
    let (store, floor) = (engine(house), Floor::new(house));
    for (n, seats) in Holder::new(house, group, 0, 1).seats.iter().enumerate() {
        let owner = Subject::customer(&format!("owner-{n}")).expect("a short key");
        let id = HoldId::from_uuid(Uuid::from_u128(n as u128 + 1));
        let request = HoldRequest { id, subject: owner, visit: VisitId::from_uuid(Uuid::nil()), seats: Arc::clone(seats), operation: None };
        black_box(engine_holds(&store, &request));
        floor.hold(seats);
    }
    (store, floor)
}

/// Rounds a second of `work`, by this machine's clock: the one thing a benchmark may ask it for.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn rate(rounds: u64, mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..rounds {
        work();
    }
    rounds as f64 / start.elapsed().as_secs_f64()
}

/// Cycles a second of two threads together.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn rate_of_two(house: u32, group: u32, cycle: impl Fn(&mut Holder) + Sync) -> f64 {
    let (start, nanos) = (Barrier::new(2), AtomicU64::new(0));
    thread::scope(|scope| {
        for part in 0..2 {
            let (start, nanos, cycle) = (&start, &nanos, &cycle);
            scope.spawn(move || {
                let mut holder = Holder::new(house, group, part, 2);
                start.wait();
                let began = Instant::now();
                (0..ROUND).for_each(|_| cycle(&mut holder));
                nanos.fetch_max(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            });
        }
    });
    (2 * ROUND) as f64 / (nanos.load(Ordering::Relaxed) as f64 / 1e9)
}

fn ratio(name: &str, must: f64, mut pair: impl FnMut() -> (f64, f64)) {
    let mut ratios: Vec<f64> = (0..PAIRS).map(|_| pair()).map(|(figure, floor)| figure / floor).collect();
    ratios.sort_by(f64::total_cmp);
    let (low, median, high) = (ratios[PAIRS / 5], ratios[PAIRS / 2], ratios[PAIRS - 1 - PAIRS / 5]);
    println!("{name:<58} {median:>6.2}  ({low:.2} to {high:.2})  must reach {must}");
}

fn ratios() {
    println!("\nRatios: median of {PAIRS} interleaved pairs of {ROUND} rounds, in brackets the middle three fifths");
    for house in HOUSES {
        for group in [1, 4] {
            let (store, floor) = (engine(house), Floor::new(house));
            let (mut a, mut b) = (Holder::new(house, group, 0, 1), Holder::new(house, group, 0, 1));
            let cycle = || {
                let engine = rate(ROUND, || engine_cycle(&store, &mut a));
                (engine, rate(ROUND, || floor_cycle(&floor, &mut b)))
            };
            ratio(&format!("hold and release {group} of {house}: engine / floor"), 0.5, cycle);
            let mut a = Holder::new(house, group, 0, 2);
            let contended = || {
                let two = rate_of_two(house, group, |holder| engine_cycle(&store, holder));
                (two, rate(ROUND, || engine_cycle(&store, &mut a)))
            };
            ratio(&format!("hold and release {group} of {house}: two threads / one"), 0.6, contended);
            let mut a = Holder::new(house, group, 0, 2);
            let contended = || {
                let two = rate_of_two(house, group, |holder| floor_cycle(&floor, holder));
                (two, rate(ROUND, || floor_cycle(&floor, &mut a)))
            };
            ratio(&format!("  the floor's own: two threads / one, {group} of {house}"), 0.0, contended);
            let (taken, _) = all_taken(house, group);
            let (mut a, mut b) = (Holder::new(house, group, 0, 1), Holder::new(house, group, 0, 1));
            let rejection = || {
                let refused = rate(ROUND, || assert!(!engine_holds(&taken, &a.request())));
                (refused, hold_rate(house, group, &mut b))
            };
            ratio(&format!("refusing / holding {group} of {house}"), 1.0, rejection);
        }
    }
}

/// Holds a second, their releases not counted.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn hold_rate(house: u32, group: u32, holder: &mut Holder) -> f64 {
    let (store, mut spent, mut rounds) = (engine(house), Duration::ZERO, 0_u64);
    let wishes = Holder::new(house, group, 0, 1).seats.len() as u64;
    while rounds < ROUND {
        let batch: Vec<HoldRequest> = (0..wishes.min(255 / u64::from(group))).map(|_| holder.request()).collect();
        let start = Instant::now();
        for request in &batch {
            black_box(engine_holds(&store, request));
        }
        spent += start.elapsed();
        rounds += batch.len() as u64;
        for request in &batch {
            black_box(store.release(request.id, &request.subject).now_or_never());
        }
    }
    rounds as f64 / spent.as_secs_f64()
}

criterion_group!(benches, figures);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    ratios();
}

//! What holding seats costs in the memory engine, beside the floor: the bare minimum that keeps a hold's promise.
//!
//! The floor is a lock, a bitmap and the time. To hold, it reads the clock, takes the lock, looks at all the seats' bits
//! and sets all of them or none, and gives the deadline out. To release, it is handed the deadline, reads the clock (a
//! hold is over at its deadline, so that the time must be known), takes the lock and clears the bits. It knows no owner,
//! no id, no limit, ends nothing by itself and tells nobody what has changed. Two rows go below what is possible: the
//! floor whose release asks for no time, and the floor without a clock at all.
//!
//! The engine is [`MemoryStore`] with all that a hold is, called without the boxed future of [`SeatStore`]; a row of its
//! own says what that adds. Requests, with their random ids, are made before the clock starts, for both: the floor has
//! none. Sixty-four fans take turns. After criterion's figures comes a table of ratios from interleaved pairs of one
//! run, then what a whole hold by way of [`Performance`] takes in the largest house.

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

use criterion::{BenchmarkId, Criterion, criterion_group};
use futures_util::FutureExt;
use parking_lot::Mutex;
use stagedoor::{
    kernel::{Clock, Currency, Entropy, HoldId, Money, OsEntropy, SeededEntropy, Subject, SystemClock, Timestamp, VisitId},
    platform::lifecycle::Lifecycle,
    seating::{
        Config, Deps, Engine, HoldOutcome, HoldReply, HoldRequest, MemoryStore, Performance, Plan, SeatIx, SeatStore, Seating, Terms,
        VenueKind, Wish, generate,
    },
};
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HOUSES: [u32; 3] = [500, 15_000, 66_000];
const TERMS: Terms = Terms { hold: Duration::from_mins(7), extensions_max: 1, seats_per_fan: 4 };
const WISHES: u32 = 64;
const PAIRS: usize = 15;
const ROUND: u64 = 50_000;
/// Whole holds are timed one by one.
const WHOLE_HOLDS: u32 = 2_000;

struct Floor {
    taken: Mutex<Vec<u64>>,
    clock: Arc<dyn Clock>,
}

impl Floor {
    fn new(seats: u32) -> Self {
        Self { taken: Mutex::new(vec![0; seats.div_ceil(64) as usize]), clock: Arc::new(SystemClock::new()) }
    }

    fn hold(&self, seats: &[SeatIx]) -> Option<Timestamp> {
        let now = self.clock.now();
        self.take(seats).then(|| now.plus(TERMS.hold))
    }

    fn release(&self, seats: &[SeatIx], deadline: Timestamp) -> bool {
        let live = self.clock.now() < deadline;
        if live {
            self.give_back(seats);
        }
        live
    }

    fn take(&self, seats: &[SeatIx]) -> bool {
        let mut taken = self.taken.lock();
        if seats.iter().any(|it| taken[it.at() / 64] >> (it.at() % 64) & 1 == 1) {
            return false;
        }
        for it in seats {
            taken[it.at() / 64] |= 1 << (it.at() % 64);
        }
        true
    }

    fn give_back(&self, seats: &[SeatIx]) {
        let mut taken = self.taken.lock();
        for it in seats {
            taken[it.at() / 64] &= !(1 << (it.at() % 64));
        }
    }
}

/// Fans of one part of the house, one after the other, each with her own wish.
struct Fans {
    requests: Vec<HoldRequest>,
    next: usize,
}

impl Fans {
    fn of_all(house: u32, group: u32) -> Self {
        Self::of_part(house, group, 0, 1)
    }

    /// Fans of different parts never want the same seat.
    fn of_part(house: u32, group: u32, part: u32, parts: u32) -> Self {
        let entropy = SeededEntropy::new(u64::from(part));
        let stride = (house / WISHES).max(group);
        let request = |i: u32| HoldRequest {
            id: HoldId::random(&entropy),
            subject: Subject::customer(&format!("{}", entropy.below(1 << 40))).expect("a short key"),
            visit: VisitId::random(&entropy),
            seats: (0..group).map(|s| SeatIx(((i * stride + s) / parts * parts + part + s * parts) % house)).collect(),
            operation: None,
        };
        let distinct = |it: &HoldRequest| (1..it.seats.len()).all(|i| !it.seats[..i].contains(&it.seats[i]));
        Self { requests: (0..WISHES).map(request).filter(distinct).collect(), next: 0 }
    }

    fn next(&mut self) -> &HoldRequest {
        self.next = (self.next + 1) % self.requests.len();
        &self.requests[self.next]
    }
}

fn engine(house: u32) -> MemoryStore {
    MemoryStore::new(house as usize, TERMS, Arc::new(SystemClock::new()))
}

fn engine_holds(store: &MemoryStore, request: &HoldRequest) -> bool {
    matches!(store.hold_now(request), HoldReply::Held { .. })
}

fn engine_cycle(store: &MemoryStore, request: &HoldRequest) {
    assert!(engine_holds(store, request));
    assert!(store.release_now(request.id, &request.subject));
}

fn boxed_cycle(store: &MemoryStore, request: &HoldRequest) {
    assert!(matches!(store.hold(request).now_or_never(), Some(Ok(HoldReply::Held { .. }))));
    assert!(matches!(store.release(request.id, &request.subject).now_or_never(), Some(Ok(true))));
}

fn floor_cycle(floor: &Floor, request: &HoldRequest) {
    let deadline = floor.hold(&request.seats).expect("the seats are free");
    assert!(floor.release(&request.seats, black_box(deadline)));
}

fn figures(c: &mut Criterion) {
    for house in HOUSES {
        for group in [1, 4] {
            let mut bench = c.benchmark_group(format!("{group} of {house} seats"));
            let (store, floor) = (engine(house), Floor::new(house));
            let mut fans = Fans::of_all(house, group);
            bench.bench_function(BenchmarkId::new("free", "floor"), |b| b.iter(|| floor_cycle(&floor, fans.next())));
            bench.bench_function(BenchmarkId::new("free", "engine"), |b| b.iter(|| engine_cycle(&store, fans.next())));
            let (store, floor) = all_taken(house, group);
            bench.bench_function(BenchmarkId::new("taken", "floor"), |b| b.iter(|| assert_eq!(floor.hold(&fans.next().seats), None)));
            bench.bench_function(BenchmarkId::new("taken", "engine"), |b| b.iter(|| assert!(!engine_holds(&store, fans.next()))));
        }
    }
}

/// Every seat that the fans of all parts may want is somebody's.
fn all_taken(house: u32, group: u32) -> (MemoryStore, Floor) {
    let (store, floor) = (engine(house), Floor::new(house));
    for request in Fans::of_all(house, group).requests {
        let subject = Subject::customer(&format!("owner-{}", request.id)).expect("a short key");
        floor.hold(&request.seats).expect("the seats are free");
        let request = HoldRequest { id: HoldId::random(&OsEntropy), subject, ..request };
        assert!(engine_holds(&store, &request));
    }
    (store, floor)
}

/// Rounds a second of `work`.
fn rate(fans: &mut Fans, mut work: impl FnMut(&HoldRequest)) -> f64 {
    let start = Instant::now();
    for _ in 0..ROUND {
        work(fans.next());
    }
    ROUND as f64 / start.elapsed().as_secs_f64()
}

/// Cycles a second of two threads together.
fn rate_of_two(house: u32, group: u32, cycle: impl Fn(&HoldRequest) + Sync) -> f64 {
    let (start, nanos) = (Barrier::new(2), AtomicU64::new(0));
    thread::scope(|scope| {
        for part in 0..2 {
            let (start, nanos, cycle) = (&start, &nanos, &cycle);
            scope.spawn(move || {
                let mut fans = Fans::of_part(house, group, part, 2);
                start.wait();
                let began = Instant::now();
                (0..ROUND).for_each(|_| cycle(fans.next()));
                nanos.fetch_max(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            });
        }
    });
    (2 * ROUND) as f64 / (nanos.load(Ordering::Relaxed) as f64 / 1e9)
}

/// Holds, or tries to, a second; releases are not counted.
fn rate_of_holding(store: &MemoryStore, fans: &Fans, held: bool) -> f64 {
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

fn ratio(name: &str, must: Option<f64>, mut pair: impl FnMut() -> (f64, f64)) {
    let mut ratios: Vec<f64> = (0..PAIRS).map(|_| pair()).map(|(figure, floor)| figure / floor).collect();
    ratios.sort_by(f64::total_cmp);
    let (low, median, high) = (ratios[PAIRS / 5], ratios[PAIRS / 2], ratios[PAIRS - 1 - PAIRS / 5]);
    let must = must.map_or_else(String::new, |it| format!("  must reach {it:.1}"));
    println!("{name:<54} {median:>6.2}  ({low:.2} to {high:.2}){must}");
}

fn ratios() {
    println!("\nRatios: median of {PAIRS} interleaved pairs of {ROUND} rounds, in brackets the middle three fifths");
    for house in HOUSES {
        for group in [1, 4] {
            println!("{group} of {house} seats");
            let (store, floor, taken) = (engine(house), Floor::new(house), all_taken(house, group).0);
            let mut fans = Fans::of_all(house, group);
            ratio("  hold and release: engine / floor", Some(0.5), || {
                (rate(&mut fans, |it| engine_cycle(&store, it)), rate(&mut fans, |it| floor_cycle(&floor, it)))
            });
            ratio("    by boxed futures / floor", None, || {
                (rate(&mut fans, |it| boxed_cycle(&store, it)), rate(&mut fans, |it| floor_cycle(&floor, it)))
            });
            ratio("    engine / floor that releases without the time", None, || {
                let half = |it: &HoldRequest| {
                    black_box(floor.hold(&it.seats).expect("the seats are free"));
                    floor.give_back(&it.seats);
                };
                (rate(&mut fans, |it| engine_cycle(&store, it)), rate(&mut fans, half))
            });
            ratio("    engine / floor without a clock", None, || {
                let timeless = |it: &HoldRequest| {
                    assert!(floor.take(&it.seats));
                    floor.give_back(&it.seats);
                };
                (rate(&mut fans, |it| engine_cycle(&store, it)), rate(&mut fans, timeless))
            });
            let mut part = Fans::of_part(house, group, 0, 2);
            ratio("  hold and release: two threads / one", Some(0.6), || {
                (rate_of_two(house, group, |it| engine_cycle(&store, it)), rate(&mut part, |it| engine_cycle(&store, it)))
            });
            ratio("    the floor's own", None, || {
                (rate_of_two(house, group, |it| floor_cycle(&floor, it)), rate(&mut part, |it| floor_cycle(&floor, it)))
            });
            ratio("  refusing / holding", Some(1.0), || (rate_of_holding(&taken, &fans, false), rate_of_holding(&store, &fans, true)));
        }
    }
}

/// Times of one verb, one by one.
fn times(name: &str, mut once: impl FnMut(u32) -> Duration) {
    let mut times: Vec<Duration> = (0..WHOLE_HOLDS).map(&mut once).collect();
    times.sort_unstable();
    let micros = |at: usize| times[at].as_secs_f64() * 1e6;
    let (median, late) = (micros(times.len() / 2), micros(times.len() * 99 / 100));
    println!("{name:<54} {median:>8.1} us, 99 of 100 below {late:.1} us");
}

/// What a hold takes by way of its performance: the wish checked, seats sought, an id drawn, the copy that everybody
/// sees brought up to date, prices summed. All within the one millisecond that seeking may take.
fn whole_holds() {
    let house = HOUSES[2];
    println!("\nWhole holds in a stadium of {house} seats: median of {WHOLE_HOLDS}");
    let life = Lifecycle::new();
    for (filling, keep_every) in [("empty", 1), ("19 of 20 seats gone", 20)] {
        let performance = performance(house, &life);
        let is_gone = |it: &SeatIx| !(it.0.wrapping_mul(0x9e37_79b9) >> 16).is_multiple_of(keep_every);
        let (gone, left): (Vec<SeatIx>, Vec<SeatIx>) = performance.plan().seats().partition(is_gone);
        if !gone.is_empty() {
            at_once(performance.set_blocked(&gone, true)).expect("seats of the plan");
        }
        for quantity in [1, 2, 4] {
            let best = Wish::BestAvailable { quantity, zone: None, section: None, accessible: 0 };
            times(&format!("  {filling}: best available, {quantity}"), |n| hold_once(&performance, n, best.clone()));
        }
        times(&format!("  {filling}: a chosen seat"), |n| {
            let chosen = left[n as usize * 29 % left.len()];
            hold_once(&performance, n, Wish::Seats(vec![chosen]))
        });
    }
    let performance = performance(house, &life);
    let taken: Vec<SeatIx> = performance.plan().seats().filter(|it| it.0 % 8 < 4).collect();
    at_once(performance.set_blocked(&taken, true)).expect("seats of the plan");
    times("  half gone: 4 refused, with alternatives", |n| {
        let first = taken[n as usize * 17 % (taken.len() / 4) * 4];
        let (who, wish) = (fan(n), Wish::Seats((0..4).map(|i| SeatIx(first.0 + i)).collect()));
        let start = Instant::now();
        let outcome = at_once(performance.hold(&who, VisitId::from_uuid(Uuid::nil()), wish, None));
        let spent = start.elapsed();
        assert!(matches!(outcome, Ok(HoldOutcome::Taken { taken, .. }) if taken.len() == 4));
        spent
    });
    life.stop();
}

fn hold_once(performance: &Performance, n: u32, wish: Wish) -> Duration {
    let who = fan(n);
    let start = Instant::now();
    let outcome = at_once(performance.hold(&who, VisitId::from_uuid(Uuid::nil()), wish, None));
    let spent = start.elapsed();
    let Ok(HoldOutcome::Held(hold)) = outcome else { panic!("{outcome:?}") };
    at_once(performance.release(hold.id, &who)).expect("the engine answers");
    spent
}

fn performance(seats: u32, life: &Lifecycle) -> Arc<Performance> {
    let plan = Arc::new(Plan::parse(&generate(VenueKind::Stadium, seats)).expect("a generated plan"));
    let config = Config {
        sale: "bench".parse().expect("a sale's id"),
        performance: "bench-1".parse().expect("a performance's id"),
        prices: plan.zones().iter().map(|zone| (zone.clone(), Money::new(132_000, Currency::KRW))).collect(),
        hold: TERMS.hold,
        extensions_max: TERMS.extensions_max,
        seats_per_fan: TERMS.seats_per_fan,
        watchers_max: 1,
    };
    let deps = Deps { engine: Engine::Memory, clock: Arc::new(SystemClock::new()), entropy: Arc::new(OsEntropy), life: life.clone() };
    let seating = at_once(Seating::open(vec![(config.clone(), plan)], deps)).expect("one performance");
    seating.performance(&config.sale, &config.performance).expect("just opened")
}

fn fan(n: u32) -> Subject {
    Subject::customer(&n.to_string()).expect("a number is a key")
}

/// The embedded engine waits for nothing but its lock.
fn at_once<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("the memory engine answers at once")
}

criterion_group!(benches, figures);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    ratios();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    whole_holds();
}

//! What holding seats costs in the memory engine, and in the one on Redis (`on_redis`), beside the floor: the bare minimum that keeps a hold's promise.
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

#[path = "seat_lock/cycles.rs"]
mod cycles;
#[path = "seat_lock/on_redis.rs"]
mod on_redis;

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, criterion_group};
use futures_util::FutureExt;
use stagedoor::{
    kernel::{Currency, Money, OsEntropy, Subject, SystemClock, VisitId},
    platform::shutdown::Lifecycle,
    seating::{
        Config, Deps, StoreBackend, HoldOutcome, StoreHold, Performance, Plan, SeatIx, Seating, VenueKind, HoldSpec,
        generate,
    },
};
use uuid::Uuid;

use self::cycles::{
    Fans, Floor, HOUSES, ROUND, TERMS, all_taken, boxed_cycle, engine, engine_cycle, engine_holds,
    floor_cycle, rate, rate_of_holding, rate_of_two,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PAIRS: usize = 15;
/// Whole holds are timed one by one.
const WHOLE_HOLDS: u32 = 2_000;

fn figures(c: &mut Criterion) {
    for house in HOUSES {
        for group in [1, 4] {
            let mut bench = c.benchmark_group(format!("{group} of {house} seats"));
            let (store, floor) = (engine(house), Floor::new(house));
            let mut fans = Fans::of_all(house, group);
            bench.bench_function(BenchmarkId::new("free", "floor"), |b| {
                b.iter(|| floor_cycle(&floor, fans.next()))
            });
            bench.bench_function(BenchmarkId::new("free", "engine"), |b| {
                b.iter(|| engine_cycle(&store, fans.next()))
            });
            let (store, floor) = all_taken(house, group);
            bench.bench_function(BenchmarkId::new("taken", "floor"), |b| {
                b.iter(|| assert_eq!(floor.hold(&fans.next().seats), None))
            });
            bench.bench_function(BenchmarkId::new("taken", "engine"), |b| {
                b.iter(|| assert!(!engine_holds(&store, fans.next())))
            });
        }
    }
}

fn ratio(name: &str, must: Option<f64>, mut pair: impl FnMut() -> (f64, f64)) {
    let mut ratios: Vec<f64> = (0..PAIRS)
        .map(|_| pair())
        .map(|(figure, floor)| figure / floor)
        .collect();
    ratios.sort_by(f64::total_cmp);
    let (low, median, high) = (
        ratios[PAIRS / 5],
        ratios[PAIRS / 2],
        ratios[PAIRS - 1 - PAIRS / 5],
    );
    let must = must.map_or_else(String::new, |it| format!("  must reach {it:.1}"));
    println!("{name:<54} {median:>6.2}  ({low:.2} to {high:.2}){must}");
}

fn ratios() {
    println!(
        "\nRatios: median of {PAIRS} interleaved pairs of {ROUND} rounds, in brackets the middle three fifths"
    );
    for house in HOUSES {
        for group in [1, 4] {
            println!("{group} of {house} seats");
            let (store, floor, taken) = (engine(house), Floor::new(house), all_taken(house, group).0);
            let mut fans = Fans::of_all(house, group);
            ratio("  hold and release: engine / floor", Some(0.5), || {
                (
                    rate(&mut fans, |it| engine_cycle(&store, it)),
                    rate(&mut fans, |it| floor_cycle(&floor, it)),
                )
            });
            ratio("    by boxed futures / floor", None, || {
                (
                    rate(&mut fans, |it| boxed_cycle(&store, it)),
                    rate(&mut fans, |it| floor_cycle(&floor, it)),
                )
            });
            ratio("    engine / floor that releases without the time", None, || {
                let half = |it: &StoreHold| {
                    black_box(floor.hold(&it.seats).expect("the seats are free"));
                    floor.give_back(&it.seats);
                };
                (
                    rate(&mut fans, |it| engine_cycle(&store, it)),
                    rate(&mut fans, half),
                )
            });
            ratio("    engine / floor without a clock", None, || {
                let timeless = |it: &StoreHold| {
                    assert!(floor.take(&it.seats));
                    floor.give_back(&it.seats);
                };
                (
                    rate(&mut fans, |it| engine_cycle(&store, it)),
                    rate(&mut fans, timeless),
                )
            });
            let mut part = Fans::of_part(house, group, 0, 2);
            ratio("  hold and release: two threads / one", Some(0.6), || {
                (
                    rate_of_two(house, group, |it| engine_cycle(&store, it)),
                    rate(&mut part, |it| engine_cycle(&store, it)),
                )
            });
            ratio("    the floor's own", None, || {
                (
                    rate_of_two(house, group, |it| floor_cycle(&floor, it)),
                    rate(&mut part, |it| floor_cycle(&floor, it)),
                )
            });
            ratio("  refusing / holding", Some(1.0), || {
                (
                    rate_of_holding(&taken, &fans, false),
                    rate_of_holding(&store, &fans, true),
                )
            });
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
            let best = HoldSpec::BestAvailable {
                quantity,
                zone: None,
                section: None,
                accessible: 0,
            };
            times(&format!("  {filling}: best available, {quantity}"), |n| {
                hold_once(&performance, n, best.clone())
            });
        }
        times(&format!("  {filling}: a chosen seat"), |n| {
            let chosen = left[n as usize * 29 % left.len()];
            hold_once(&performance, n, HoldSpec::Seats(vec![chosen]))
        });
    }
    let performance = performance(house, &life);
    let taken: Vec<SeatIx> = performance.plan().seats().filter(|it| it.0 % 8 < 4).collect();
    at_once(performance.set_blocked(&taken, true)).expect("seats of the plan");
    times("  half gone: 4 refused, with alternatives", |n| {
        let first = taken[n as usize * 17 % (taken.len() / 4) * 4];
        let (who, wish) = (fan(n), HoldSpec::Seats((0..4).map(|i| SeatIx(first.0 + i)).collect()));
        let start = Instant::now();
        let outcome = at_once(performance.hold(&who, VisitId::from_uuid(Uuid::nil()), wish, None));
        let spent = start.elapsed();
        assert!(matches!(outcome, Ok(HoldOutcome::Taken { taken, .. }) if taken.len() == 4));
        spent
    });
    life.stop();
}

fn hold_once(performance: &Performance, n: u32, wish: HoldSpec) -> Duration {
    let who = fan(n);
    let start = Instant::now();
    let outcome = at_once(performance.hold(&who, VisitId::from_uuid(Uuid::nil()), wish, None));
    let spent = start.elapsed();
    let Ok(HoldOutcome::Held(hold)) = outcome else {
        panic!("{outcome:?}")
    };
    at_once(performance.release(hold.id, &who)).expect("the engine answers");
    spent
}

fn performance(seats: u32, life: &Lifecycle) -> Arc<Performance> {
    let plan = Arc::new(Plan::parse(&generate(VenueKind::Stadium, seats)).expect("a generated plan"));
    let config = Config {
        sale: "bench".parse().expect("a sale's id"),
        performance: "bench-1".parse().expect("a performance's id"),
        prices: plan
            .zones()
            .iter()
            .map(|zone| (zone.clone(), Money::new(132_000, Currency::KRW)))
            .collect(),
        hold_ttl: TERMS.hold_ttl,
        extensions_max: TERMS.extensions_max,
        seats_per_customer_max: TERMS.seats_per_customer_max,
        seat_streams_max: 1,
    };
    let deps = Deps {
        engine: StoreBackend::Memory,
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(OsEntropy),
        life: life.clone(),
    };
    let seating = at_once(Seating::open(vec![(config.clone(), plan)], deps)).expect("one performance");
    seating
        .performance(&config.sale, &config.performance)
        .expect("just opened")
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
    // `cargo bench --bench seat_lock -- redis` runs that part alone.
    let redis_only = std::env::args().any(|it| it == "redis");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if !redis_only {
        benches();
        Criterion::default().configure_from_args().final_summary();
        ratios();
        let _inside = runtime.enter();
        whole_holds();
    }
    runtime.block_on(on_redis::figures());
}

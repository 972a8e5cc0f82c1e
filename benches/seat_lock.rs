//! The cost of holding seats in the memory store, and in the one on Redis (`on_redis`), compared with a
//! baseline.
//!
//! The baseline is the bare minimum that keeps a hold's promise: a lock, a bitmap and the time. To hold, it
//! reads the clock, takes the lock, checks the bits of all seats, sets all or none, and returns the deadline.
//! To release, it gets the deadline, reads the clock (a hold is over at its deadline), takes the lock and
//! clears the bits. It has no owner, id or limit, expires nothing and publishes no changes. Two rows go below
//! what is possible: the baseline that releases without the time, and the baseline without a clock at all.
//!
//! The store is [`MemoryStore`] with all that a hold is, called without the boxed future of [`SeatStore`]; a
//! row of its own says what that adds. Requests with their random ids are made before the clock starts.
//! Sixty-four requests take turns. After criterion's figures comes a table of ratios from interleaved pairs
//! of one run, then the time of a whole hold through [`Performance`] in the largest venue.

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
    kernel::{Currency, Money, OsEntropy, Subject, SystemClock, Timestamp, VisitId},
    platform::shutdown::Lifecycle,
    seating::{
        Config, Deps, HoldOutcome, HoldSpec, Performance, Plan, SeatIx, Seating, StoreBackend, StoreHold,
        VenueKind, generate,
    },
};
use uuid::Uuid;

use self::cycles::{
    Baseline, ROUND, Requests, TERMS, VENUE_SIZES, all_taken, baseline_cycle, boxed_cycle, memory_store,
    rate, rate_of_holding, rate_of_two, store_cycle, try_hold,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PAIRS: usize = 15;
/// Whole holds are timed one by one.
const WHOLE_HOLDS: u32 = 2_000;

fn figures(c: &mut Criterion) {
    for seats_total in VENUE_SIZES {
        for group in [1, 4] {
            let mut bench = c.benchmark_group(format!("{group} of {seats_total} seats"));
            let (store, baseline) = (memory_store(seats_total), Baseline::new(seats_total));
            let mut requests = Requests::of_all(seats_total, group);
            bench.bench_function(BenchmarkId::new("free", "baseline"), |b| {
                b.iter(|| baseline_cycle(&baseline, requests.next()));
            });
            bench.bench_function(BenchmarkId::new("free", "store"), |b| {
                b.iter(|| store_cycle(&store, requests.next()));
            });
            let (store, baseline) = all_taken(seats_total, group);
            bench.bench_function(BenchmarkId::new("taken", "baseline"), |b| {
                b.iter(|| assert_eq!(baseline.hold(&requests.next().seats), None));
            });
            bench.bench_function(BenchmarkId::new("taken", "store"), |b| {
                b.iter(|| assert!(!try_hold(&store, requests.next())));
            });
        }
    }
}

fn ratio(name: &str, target: Option<f64>, mut pair: impl FnMut() -> (f64, f64)) {
    let mut ratios: Vec<f64> = (0..PAIRS)
        .map(|_| pair())
        .map(|(figure, baseline)| figure / baseline)
        .collect();
    ratios.sort_by(f64::total_cmp);
    let (low, median, high) = (
        ratios[PAIRS / 5],
        ratios[PAIRS / 2],
        ratios[PAIRS - 1 - PAIRS / 5],
    );
    let target = target.map_or_else(String::new, |target| format!("  target {target:.1}"));
    println!("{name:<54} {median:>6.2}  ({low:.2} to {high:.2}){target}");
}

fn ratios() {
    println!(
        "\nRatios: median of {PAIRS} interleaved pairs of {ROUND} rounds, in brackets the middle three fifths"
    );
    for seats_total in VENUE_SIZES {
        for group in [1, 4] {
            println!("{group} of {seats_total} seats");
            let (store, baseline, taken) = (
                memory_store(seats_total),
                Baseline::new(seats_total),
                all_taken(seats_total, group).0,
            );
            let mut requests = Requests::of_all(seats_total, group);
            ratio("  hold and release: store / baseline", Some(0.5), || {
                (
                    rate(&mut requests, |request| store_cycle(&store, request)),
                    rate(&mut requests, |request| baseline_cycle(&baseline, request)),
                )
            });
            ratio("    by boxed futures / baseline", None, || {
                (
                    rate(&mut requests, |request| boxed_cycle(&store, request)),
                    rate(&mut requests, |request| baseline_cycle(&baseline, request)),
                )
            });
            ratio(
                "    store / baseline that releases without the time",
                None,
                || {
                    let half = |request: &StoreHold| {
                        black_box(baseline.hold(&request.seats).expect("the seats are free"));
                        baseline.clear(&request.seats);
                    };
                    (
                        rate(&mut requests, |request| store_cycle(&store, request)),
                        rate(&mut requests, half),
                    )
                },
            );
            ratio("    store / baseline without a clock", None, || {
                let timeless = |request: &StoreHold| {
                    assert!(baseline.try_set(&request.seats));
                    baseline.clear(&request.seats);
                };
                (
                    rate(&mut requests, |request| store_cycle(&store, request)),
                    rate(&mut requests, timeless),
                )
            });
            let mut part = Requests::of_part(seats_total, group, 0, 2);
            ratio("  hold and release: two threads / one", Some(0.6), || {
                (
                    rate_of_two(seats_total, group, |request| store_cycle(&store, request)),
                    rate(&mut part, |request| store_cycle(&store, request)),
                )
            });
            ratio("    the baseline's own", None, || {
                (
                    rate_of_two(seats_total, group, |request| baseline_cycle(&baseline, request)),
                    rate(&mut part, |request| baseline_cycle(&baseline, request)),
                )
            });
            ratio("  refusing / holding", Some(1.0), || {
                (
                    rate_of_holding(&taken, &requests, false),
                    rate_of_holding(&store, &requests, true),
                )
            });
        }
    }
}

/// Times single calls, and prints median and 99th percentile.
fn times(name: &str, mut once: impl FnMut(u32) -> Duration) {
    let mut times: Vec<Duration> = (0..WHOLE_HOLDS).map(&mut once).collect();
    times.sort_unstable();
    let micros = |at: usize| times[at].as_secs_f64() * 1e6;
    let (median, late) = (micros(times.len() / 2), micros(times.len() * 99 / 100));
    println!("{name:<54} {median:>8.1} us, 99 of 100 below {late:.1} us");
}

/// The time of a hold through its performance: validation, allocation, id, replica update and prices. The
/// target for the allocation alone is one millisecond.
fn whole_holds() {
    let seats_total = VENUE_SIZES[2];
    println!("\nWhole holds in a stadium of {seats_total} seats: median of {WHOLE_HOLDS}");
    let lifecycle = Lifecycle::new();
    for (filling, keep_every) in [("empty", 1), ("19 of 20 seats blocked", 20)] {
        let performance = performance(seats_total, &lifecycle);
        let is_blocked = |seat: &SeatIx| !(seat.0.wrapping_mul(0x9e37_79b9) >> 16).is_multiple_of(keep_every);
        let (blocked, left): (Vec<SeatIx>, Vec<SeatIx>) = performance.plan().seats().partition(is_blocked);
        if !blocked.is_empty() {
            at_once(performance.set_blocked(&blocked, true)).expect("seats of the plan");
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
    let performance = performance(seats_total, &lifecycle);
    let taken: Vec<SeatIx> = performance.plan().seats().filter(|seat| seat.0 % 8 < 4).collect();
    at_once(performance.set_blocked(&taken, true)).expect("seats of the plan");
    times("  half blocked: 4 refused, with alternatives", |n| {
        let first = taken[n as usize * 17 % (taken.len() / 4) * 4];
        let (subject, spec) = (
            customer(n),
            HoldSpec::Seats((0..4).map(|i| SeatIx(first.0 + i)).collect()),
        );
        let start = Instant::now();
        let outcome = at_once(performance.hold(&subject, VisitId::from_uuid(Uuid::nil()), spec, None));
        let spent = start.elapsed();
        assert!(matches!(outcome, Ok(HoldOutcome::Taken { taken, .. }) if taken.len() == 4));
        spent
    });
    lifecycle.stop();
}

fn hold_once(performance: &Performance, n: u32, spec: HoldSpec) -> Duration {
    let subject = customer(n);
    let start = Instant::now();
    let outcome = at_once(performance.hold(&subject, VisitId::from_uuid(Uuid::nil()), spec, None));
    let spent = start.elapsed();
    let Ok(HoldOutcome::Held(hold)) = outcome else {
        panic!("{outcome:?}")
    };
    at_once(performance.release(hold.id, &subject)).expect("the store answers");
    spent
}

fn performance(seats: u32, lifecycle: &Lifecycle) -> Arc<Performance> {
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
        doors_open_at: Timestamp::from_millis(i64::MAX),
    };
    let deps = Deps {
        store: StoreBackend::Memory,
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(OsEntropy),
        lifecycle: lifecycle.clone(),
    };
    let seating = at_once(Seating::open(vec![(config.clone(), plan)], deps)).expect("one performance");
    seating
        .performance(&config.sale, &config.performance)
        .expect("just opened")
}

fn customer(n: u32) -> Subject {
    Subject::customer(&n.to_string()).expect("a number is a key")
}

/// The result of a call on the memory store, which waits for nothing but its lock.
fn at_once<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("the memory store answers at once")
}

criterion_group!(benches, figures);

fn main() {
    // `cargo bench --bench seat_lock -- redis` runs only the part on Redis.
    let redis_only = std::env::args().any(|argument| argument == "redis");
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

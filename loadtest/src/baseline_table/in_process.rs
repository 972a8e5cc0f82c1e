//! Seats without HTTP: the embedded store over a lock and a bitmap, with the cycles of `cargo bench --bench
//! seat_lock`.

#[expect(dead_code, reason = "the bench times more of them")]
#[path = "../../../benches/seat_lock/cycles.rs"]
mod cycles;

use self::cycles::{
    Baseline, ROUND, Requests, VENUE_SIZES, all_taken, baseline_cycle, memory_store, rate, rate_of_holding,
    rate_of_two, store_cycle,
};
use super::{
    paired::{PAIRS, Pairs, Round},
    table::Row,
};
use crate::environment::Backend;

const GROUP: u32 = 4;

/// The rows, for each size of plan.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let backend = Backend::Embedded.name();
    for seats in VENUE_SIZES {
        let store = memory_store(seats);
        let bitmap = Baseline::new(seats);
        let taken = all_taken(seats, GROUP).0;
        let mut requests = Requests::of_all(seats, GROUP);
        let mut part = Requests::of_part(seats, GROUP, 0, 2);
        let figure = |what: &str| format!("{what}, {seats} seats");

        let cycles = pairs(|| {
            let ours = rate(&mut requests, |request| store_cycle(&store, request));
            (
                ours,
                rate(&mut requests, |request| baseline_cycle(&bitmap, request)),
            )
        });
        let baseline = format!("a mutex and a bitmap that keep deadlines; {ROUND} cycles");
        let name = figure("hold and release of 4, store alone");
        rows.push(Row::of_pairs(name, backend, &cycles, Some(0.5), &baseline));

        let two_threads = pairs(|| {
            let two = rate_of_two(seats, GROUP, |request| store_cycle(&store, request));
            (two, rate(&mut part, |request| store_cycle(&store, request)))
        });
        let name = figure("contended by 2 threads");
        rows.push(Row::of_pairs(
            name,
            backend,
            &two_threads,
            Some(0.6),
            "one thread",
        ));

        let rejected = pairs(|| {
            (
                rate_of_holding(&taken, &requests, false),
                rate_of_holding(&store, &requests, true),
            )
        });
        let name = figure("rejecting 4 taken seats");
        rows.push(Row::of_pairs(
            name,
            backend,
            &rejected,
            Some(1.0),
            "holding 4 free ones",
        ));
    }
    rows
}

fn pairs(mut measure: impl FnMut() -> (f64, f64)) -> Pairs {
    let round = |rate: f64| Round {
        done: rate,
        seconds: 1.0,
        cpu_s: 0.0,
    };
    let pair = |(ours, baseline)| (round(ours), round(baseline));
    Pairs((0..PAIRS).map(|_| pair(measure())).collect())
}

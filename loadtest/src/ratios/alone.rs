//! Seats in process: the memory engine over a lock and a bitmap, by the same cycles as `cargo bench --bench seat_lock`.

#[expect(dead_code, reason = "the bench times more of them")]
#[path = "../../../benches/seat_lock/cycles.rs"]
mod cycles;

use self::cycles::{
    Fans, Floor, HOUSES, ROUND, all_taken, engine, engine_cycle, floor_cycle, rate, rate_of_holding,
    rate_of_two,
};
use super::{
    Row,
    sides::{PAIRS, Pairs, Round},
};

const GROUP: u32 = 4;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for house in HOUSES {
        let (store, floor, taken) = (engine(house), Floor::new(house), all_taken(house, GROUP).0);
        let mut fans = Fans::of_all(house, GROUP);
        let mut part = Fans::of_part(house, GROUP, 0, 2);
        let named = |what: &str| format!("{what}, {house} seats");
        let cycles = pairs(|| {
            (
                rate(&mut fans, |it| engine_cycle(&store, it)),
                rate(&mut fans, |it| floor_cycle(&floor, it)),
            )
        });
        let lock = format!("a mutex and a bitmap that keep deadlines; {ROUND} cycles");
        rows.push(Row::of_pairs(
            named("hold and release of 4, engine alone"),
            "memory",
            &cycles,
            Some(0.5),
            &lock,
        ));
        let two = pairs(|| {
            (
                rate_of_two(house, GROUP, |it| engine_cycle(&store, it)),
                rate(&mut part, |it| engine_cycle(&store, it)),
            )
        });
        rows.push(Row::of_pairs(
            named("contended by 2 threads"),
            "memory",
            &two,
            Some(0.6),
            "one thread",
        ));
        let refused = pairs(|| {
            (
                rate_of_holding(&taken, &fans, false),
                rate_of_holding(&store, &fans, true),
            )
        });
        rows.push(Row::of_pairs(
            named("rejecting 4 taken seats"),
            "memory",
            &refused,
            Some(1.0),
            "holding 4 free ones",
        ));
    }
    rows
}

fn pairs(mut pair: impl FnMut() -> (f64, f64)) -> Pairs {
    let round = |rate: f64| Round {
        done: rate,
        seconds: 1.0,
        cpu_s: 0.0,
    };
    Pairs(
        (0..PAIRS)
            .map(|_| pair())
            .map(|(ours, floor)| (round(ours), round(floor)))
            .collect(),
    )
}

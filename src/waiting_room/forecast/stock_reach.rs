//! Stock reach: how far back in the queue there will be a seat, whichever the zone. Pure.
//!
//! The visitors before a position take as many seats as visits book on average, as measured; held seats are
//! taken but for the share that is usually released. What is not known adds up as a variance, and is taken as
//! normal. Beyond the distance where one chance in five is left no wait is published: with fewer seats than
//! visitors there may be no call to wait for.

use crate::waiting_room::{
    forecast::{
        seats_per_visit::StockForecast,
        wait_table::round_to_u32,
        zone_availability::{AvailabilityDistances, CHANCES},
    },
    status::people_ahead::{self, PeopleAhead},
};

/// Seats are booked in ones to fours: variance over mean of what visits book.
const CLUMPING: f64 = 2.0;
/// Relative standard deviation of how many come when called, and of what they book.
const DRIFT: f64 = 0.1;
/// With a lower chance of a seat, in percent, no wait is published.
pub(crate) const CHANCE_MIN_PERCENT: u32 = 20;
/// A published distance stays while a new one differs by less than this share, or by so many numbers, so that
/// no visitor reads another word in every second.
const STEADY_SHARE: f64 = 0.05;
const STEADY_NUMBERS: u32 = 3;

/// Behind how many numbers the chance of a seat has fallen to 80, 50 and 20 in a hundred, for a queue with
/// `length` numbers of which `entering` is how many visitors are on their way in and `share` how many of
/// those who are called come, 0 to 1.
pub(crate) fn stock_reach(
    stock: &StockForecast,
    entering: f64,
    share: f64,
    line: &PeopleAhead,
    length: u32,
) -> AvailabilityDistances {
    let booked_each = stock.per_entry * (1.0 - stock.returned_share);
    let relative = stock.deviation / stock.per_entry;
    let returned = stock.held * stock.returned_share;
    let mut reach: AvailabilityDistances = [None; 3];
    let (mut nearer, mut spare_nearer) = (0_u32, [0.0; 3]);
    for distance in std::iter::once(0).chain(people_ahead::distances(length)) {
        let people = f64::from(u32::try_from(line.within(distance.into()).count).unwrap_or(u32::MAX));
        let taken = (entering + people * share) * booked_each;
        let variance = CLUMPING * (taken + returned) + (DRIFT.hypot(relative) * taken).powi(2);
        // The visitor at this distance needs one seat.
        let left = stock.free + returned - taken - 0.5;
        let spare = CHANCES.map(|chance| left - chance * variance.sqrt());
        for ((fallen, now), before) in reach.iter_mut().zip(spare).zip(spare_nearer) {
            if fallen.is_none() && now < 0.0 {
                // On the straight line between two of the distances.
                let along = f64::max(before / (before - now), 0.0);
                *fallen = Some(nearer + round_to_u32(along * f64::from(distance - nearer)));
            }
        }
        (nearer, spare_nearer) = (distance, spare);
    }
    reach
}

/// `next` with those distances of `before` that have hardly moved. Each is counted from the number that was
/// called last when it was made; `length` numbers are behind the one called last now.
pub(crate) fn steadied(
    next: AvailabilityDistances,
    before: AvailabilityDistances,
    called_since: u32,
    length: u32,
) -> AvailabilityDistances {
    std::array::from_fn(|at| {
        let until = |distance: Option<u32>| distance.map_or(length, |distance| distance.min(length));
        let kept = before[at].map(|distance| distance.saturating_sub(called_since));
        let slack = STEADY_NUMBERS.max(round_to_u32(f64::from(until(next[at])) * STEADY_SHARE));
        if until(kept).abs_diff(until(next[at])) <= slack {
            kept
        } else {
            next[at]
        }
    })
}

/// Behind how many numbers hardly a seat is left; `None` when that is behind every waiting position, or when
/// nothing is known of the stock.
pub(crate) const fn reach_end(reach: Option<AvailabilityDistances>) -> Option<u32> {
    match reach {
        Some([_, _, end]) => end,
        None => None,
    }
}

/// The published chance of a seat in percent, to the next ten, for a visitor behind `distance` numbers: 90
/// stands for 80 or more, and 10 for less than 20.
pub(crate) fn chance_percent(reach: AvailabilityDistances, distance: u32) -> u32 {
    let [likely, even, unlikely] = reach;
    let within = |until: Option<u32>| until.is_none_or(|until| distance <= until);
    // Between two distances the chance falls in proportion; past the queue's end it is not known how.
    let between = |near: Option<u32>, far: Option<u32>, upper: u32| match (near, far) {
        (Some(near), Some(far)) if far > near => upper - 30 * (distance - near) / (far - near),
        _ => upper - 10,
    };
    match () {
        () if within(likely) => 90,
        () if within(even) => between(likely, even, 80).div_ceil(10) * 10,
        () if within(unlikely) => between(even, unlikely, 50).div_ceil(10) * 10,
        () => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chance_falls_from_ninety_to_ten() {
        let reach = [Some(100), Some(200), Some(300)];
        let told = [0, 100, 101, 150, 200, 250, 300, 301].map(|distance| chance_percent(reach, distance));
        assert_eq!(told, [90, 90, 80, 70, 50, 40, 20, 10]);
        assert_eq!(chance_percent([None; 3], 1_000_000), 90);
        assert_eq!(chance_percent([Some(0), None, None], 5), 70);
        assert_eq!(chance_percent([Some(0), Some(2), None], 5), 40);
        assert_eq!(chance_percent([Some(0); 3], 1), 10);
    }

    fn stock(free: f64, held: f64) -> StockForecast {
        StockForecast {
            free,
            held,
            per_entry: 2.0,
            deviation: 0.1,
            returned_share: 0.25,
        }
    }

    fn reach(free: f64, held: f64, length: u32) -> AvailabilityDistances {
        stock_reach(
            &stock(free, held),
            0.0,
            1.0,
            &PeopleAhead::of([(length, length)]),
            length,
        )
    }

    #[test]
    fn with_seats_for_all_it_reaches_to_the_end() {
        assert_eq!(reach(10_000.0, 0.0, 1_000), [None; 3]);
    }

    #[test]
    fn the_even_chance_is_where_the_expected_bookings_use_up_the_seats() {
        // 300 free seats and 25 of 100 held ones, and each visitor books one and a half.
        let [likely, even, unlikely] = reach(300.0, 100.0, 5_000).map(Option::unwrap);
        assert!((212..=218).contains(&even), "{even}");
        let range = format!("{likely} to {unlikely}");
        assert!(
            likely < even - 10 && even + 10 < unlikely && unlikely < 260,
            "{range}"
        );
    }

    #[test]
    fn behind_the_last_seat_no_visitor_is_reached() {
        assert_eq!(reach(0.0, 0.0, 100), [Some(0); 3]);
    }

    #[test]
    fn a_small_change_keeps_what_was_published() {
        let before = [Some(100), Some(200), Some(300)];
        // Ten were called meanwhile; the distances shrink with them.
        let next = [Some(92), Some(185), Some(240)];
        assert_eq!(
            steadied(next, before, 10, 1_000),
            [Some(90), Some(190), Some(240)]
        );
        assert_eq!(
            steadied([Some(985); 3], [None; 3], 0, 1_000),
            [None; 3],
            "the end of the queue"
        );
        assert_eq!(steadied([Some(100); 3], [None; 3], 0, 1_000), [Some(100); 3]);
    }
}

//! Seats per visit: how many seats visits hold and book, so that the forecast knows when so few are left that
//! hardly any visitor is called. Pure.
//!
//! A visitor holds seats; when the visit ends some of them are booked and the others are released. Held seats
//! per visitor and booked seats per ended visit are both observed; the difference is what comes back. Near
//! the end visitors take what is left, which says nothing about what they would have taken: then the earlier
//! estimate stays.

use crate::waiting_room::types::ZoneStock;

/// Prior of the seats that a visit books, and how many visits outweigh it.
const PRIOR_BOOKED: f64 = 1.4;
const PRIOR_VISITS: f64 = 15.0;
/// Prior share of held seats that are released.
const PRIOR_BACK: f64 = 0.15;
/// Bounds of that share.
const BACK: std::ops::RangeInclusive<f64> = 0.02..=0.9;
/// Measurements fade so that about so many visits are remembered, and held seats over so many seconds.
const MEMORY_VISITS: f64 = 400.0;
const BASKETS_S: f64 = 15.0;
/// Few seats are left when fewer are free than this share of what all active visitors would hold.
const FEW: f64 = 0.1;
/// Seats are taken in ones to fours: variance over mean of what visits take.
const CLUMPING: f64 = 1.5;
/// Relative deviation of what the next visits take, however many were counted.
const DRIFT: f64 = 0.05;

/// Seats of all zones together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeatCounts {
    /// Free seats that any visitor can have.
    pub free: u32,
    /// Free seats for visitors with a wheelchair.
    pub free_for_wheelchairs: u32,
    /// Held seats.
    pub held: u32,
    /// Booked seats.
    pub booked: u32,
}

impl SeatCounts {
    /// Sums over all zones; `None` before the first report.
    pub(crate) fn of(zones: &[ZoneStock]) -> Option<Self> {
        let sum = |of: fn(&ZoneStock) -> u32| zones.iter().map(of).fold(0, u32::saturating_add);
        (!zones.is_empty()).then(|| Self {
            free: sum(|it| it.free),
            free_for_wheelchairs: sum(|it| it.free_for_wheelchairs),
            held: sum(|it| it.held),
            booked: sum(|it| it.booked),
        })
    }

    /// The counts by which visitors are called: also for the seats for visitors with a wheelchair.
    pub(crate) fn to_call_for(self) -> Self {
        Self {
            free: self.free.saturating_add(self.free_for_wheelchairs),
            free_for_wheelchairs: 0,
            ..self
        }
    }

    /// Whether no seat is left but those for visitors with a wheelchair.
    pub(crate) fn has_only_wheelchair_spaces(self) -> bool {
        self.free == 0 && self.held == 0 && self.free_for_wheelchairs > 0
    }
}

/// Forecast of the stock: seats now, and what visits do to them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StockForecast {
    /// Free seats.
    pub free: f64,
    /// Held seats.
    pub held: f64,
    /// Seats that one entry takes, and the standard deviation of that estimate.
    pub per_entry: f64,
    /// Standard deviation of `per_entry`.
    pub deviation: f64,
    /// Share of held seats that are free again when the visit ends, 0 to 1.
    pub returned_share: f64,
}

/// Model of one sale's seats per visit.
#[derive(Debug)]
pub(crate) struct SeatsPerVisitModel {
    before: Option<(u32, u64)>,
    ended: f64,
    booked: f64,
    held_per_visit: f64,
}

impl Default for SeatsPerVisitModel {
    fn default() -> Self {
        Self {
            before: None,
            ended: 0.0,
            booked: 0.0,
            held_per_visit: PRIOR_BOOKED / (1.0 - PRIOR_BACK),
        }
    }
}

impl SeatsPerVisitModel {
    /// Learns from one second with `active` visits and `ended_total` ended ones.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub(crate) fn observe(&mut self, seats: SeatCounts, active: u32, ended_total: u64) {
        let Some((booked, ended)) = self.before.replace((seats.booked, ended_total)) else {
            return;
        };
        if seats.free == 0 || f64::from(seats.free) < FEW * self.held_per_visit * f64::from(active) {
            return;
        }
        self.ended += ended_total.saturating_sub(ended) as f64;
        self.booked = (self.booked + f64::from(seats.booked) - f64::from(booked)).max(0.0);
        if active > 0 {
            self.held_per_visit +=
                (f64::from(seats.held) / f64::from(active) - self.held_per_visit) / BASKETS_S;
        }
        if self.ended > MEMORY_VISITS {
            let keep = MEMORY_VISITS / self.ended;
            self.ended *= keep;
            self.booked *= keep;
        }
    }

    /// The forecast while `active` visitors hold what is held.
    pub(crate) fn forecast(&self, seats: SeatCounts, active: u32) -> StockForecast {
        let visits = self.ended + PRIOR_VISITS;
        let booked = (self.booked + PRIOR_BOOKED * PRIOR_VISITS) / visits;
        let per_entry = self.held_per_visit.max(booked).max(0.01);
        let counted = per_entry * (visits + f64::from(active));
        let relative = (DRIFT * DRIFT + CLUMPING / counted.max(1.0)).sqrt();
        StockForecast {
            free: seats.free.into(),
            held: seats.held.into(),
            per_entry,
            deviation: per_entry * relative,
            returned_share: (1.0 - booked / per_entry).clamp(*BACK.start(), *BACK.end()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Entropy, SeededEntropy};

    /// Two enter each second, take two to four seats and stay for a minute or two; of ten holds `paid` are
    /// paid for.
    fn sold(seconds: u32, seats: u32, paid: f64) -> (SeatsPerVisitModel, SeatCounts, u32) {
        let (entropy, mut model) = (SeededEntropy::new(9), SeatsPerVisitModel::default());
        let mut now = SeatCounts {
            free: seats,
            free_for_wheelchairs: 0,
            held: 0,
            booked: 0,
        };
        let (mut inside, mut ended): (Vec<(u32, u32)>, u64) = (Vec::new(), 0);
        for second in 0..seconds {
            for _ in 0..2 {
                let wanted = (2 + u32::try_from(entropy.below(3)).unwrap()).min(now.free);
                now.free -= wanted;
                now.held += wanted;
                inside.push((second + 60 + u32::try_from(entropy.below(60)).unwrap(), wanted));
            }
            for (_, had) in inside.extract_if(.., |(until, _)| *until <= second) {
                ended += 1;
                now.held -= had;
                *(if entropy.unit() < paid {
                    &mut now.booked
                } else {
                    &mut now.free
                }) += had;
            }
            model.observe(now, u32::try_from(inside.len()).unwrap(), ended);
        }
        (model, now, u32::try_from(inside.len()).unwrap())
    }

    #[test]
    fn it_learns_what_visits_take_and_release() {
        for paid in [0.95, 0.8, 0.5] {
            let (model, seats, active) = sold(500, 100_000, paid);
            let stock = model.forecast(seats, active);
            assert!((2.85..3.15).contains(&stock.per_entry), "{stock:?}");
            assert!(
                (stock.returned_share - (1.0 - paid)).abs() < 0.06,
                "{paid}: {stock:?}"
            );
            assert!(stock.deviation < 0.2 * stock.per_entry, "{stock:?}");
        }
    }

    #[test]
    fn visits_at_low_stock_teach_nothing() {
        let (model, seats, active) = sold(2_000, 3_000, 0.8);
        assert!(seats.free < 20, "{seats:?}");
        let stock = model.forecast(seats, active);
        assert!((2.7..3.2).contains(&stock.per_entry), "{stock:?}");
    }

    #[test]
    fn it_is_uncertain_before_anything_is_seen() {
        let seats = SeatCounts::of(&[]);
        assert_eq!(seats, None);
        let stock = SeatsPerVisitModel::default().forecast(
            SeatCounts {
                free: 10,
                free_for_wheelchairs: 0,
                held: 0,
                booked: 0,
            },
            0,
        );
        assert!(
            (1.0..2.5).contains(&stock.per_entry) && stock.deviation > 0.2 * stock.per_entry,
            "{stock:?}"
        );
    }
}

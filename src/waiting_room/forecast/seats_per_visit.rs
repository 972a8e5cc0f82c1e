//! How many seats visits take, so that it can be said when so few are left that hardly anybody is called. Pure.
//!
//! A visitor has seats in her basket; when her visit is over some of them are booked and the others are free again.
//! Baskets are seen (seats in them over visitors), and so is what is booked (over visits that are over); what is lost
//! between the two is what comes back. Near the end visitors take what is left, which says nothing about what they would
//! have taken: then what was known before stays.

use crate::waiting_room::types::ZoneStock;

/// Before anything is measured a visit is taken to book so many seats, and so many visits outweigh it.
const PRIOR_BOOKED: f64 = 1.4;
const PRIOR_VISITS: f64 = 15.0;
/// And of what is in baskets this share is taken to come back.
const PRIOR_BACK: f64 = 0.15;
/// Whatever is measured, it is within these bounds.
const BACK: std::ops::RangeInclusive<f64> = 0.02..=0.9;
/// Measurements fade so that so many visits are remembered, and baskets of so many seconds.
const MEMORY_VISITS: f64 = 400.0;
const BASKETS_S: f64 = 15.0;
/// Fewer free seats than this share of what all visitors would have in their baskets are few.
const FEW: f64 = 0.1;
/// Seats are taken in ones to fours: the variance of what visits take, over its mean.
const CLUMPING: f64 = 1.5;
/// However many were counted, what the next ones take is known no better than this.
const DRIFT: f64 = 0.05;

/// Seats of all zones together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seats {
    pub free: u32,
    pub held: u32,
    pub booked: u32,
}

impl Seats {
    /// `None` before the box office has said anything.
    pub(crate) fn of(zones: &[ZoneStock]) -> Option<Self> {
        let sum = |of: fn(&ZoneStock) -> u32| zones.iter().map(of).fold(0, u32::saturating_add);
        (!zones.is_empty()).then(|| Self {
            free: sum(|it| it.free),
            held: sum(|it| it.held),
            booked: sum(|it| it.booked),
        })
    }
}

/// The stock as it is, and what visits do to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StockNow {
    pub free: f64,
    pub held: f64,
    /// Seats that one entry takes, and the standard deviation of what is known of that.
    pub per_entry: f64,
    pub deviation: f64,
    /// Of the seats in a basket, the share that is free again when the visit is over.
    pub back: f64,
}

#[derive(Debug)]
pub(crate) struct Takings {
    before: Option<(u32, u64)>,
    ended: f64,
    booked: f64,
    in_basket: f64,
}

impl Default for Takings {
    fn default() -> Self {
        Self {
            before: None,
            ended: 0.0,
            booked: 0.0,
            in_basket: PRIOR_BOOKED / (1.0 - PRIOR_BACK),
        }
    }
}

impl Takings {
    /// A second has passed; `active` are inside and so many visits are over.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub(crate) fn second(&mut self, seats: Seats, active: u32, ended_total: u64) {
        let Some((booked, ended)) = self.before.replace((seats.booked, ended_total)) else {
            return;
        };
        if seats.free == 0 || f64::from(seats.free) < FEW * self.in_basket * f64::from(active) {
            return;
        }
        self.ended += ended_total.saturating_sub(ended) as f64;
        self.booked = (self.booked + f64::from(seats.booked) - f64::from(booked)).max(0.0);
        if active > 0 {
            self.in_basket += (f64::from(seats.held) / f64::from(active) - self.in_basket) / BASKETS_S;
        }
        if self.ended > MEMORY_VISITS {
            let keep = MEMORY_VISITS / self.ended;
            self.ended *= keep;
            self.booked *= keep;
        }
    }

    /// `active` visitors have what is held.
    pub(crate) fn look(&self, seats: Seats, active: u32) -> StockNow {
        let visits = self.ended + PRIOR_VISITS;
        let booked = (self.booked + PRIOR_BOOKED * PRIOR_VISITS) / visits;
        let per_entry = self.in_basket.max(booked).max(0.01);
        let counted = per_entry * (visits + f64::from(active));
        let relative = (DRIFT * DRIFT + CLUMPING / counted.max(1.0)).sqrt();
        StockNow {
            free: seats.free.into(),
            held: seats.held.into(),
            per_entry,
            deviation: per_entry * relative,
            back: (1.0 - booked / per_entry).clamp(*BACK.start(), *BACK.end()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Entropy, SeededEntropy};

    /// Two enter each second, take two to four seats and stay for a minute or two; of ten baskets `paid` are paid for.
    fn sold(seconds: u32, seats: u32, paid: f64) -> (Takings, Seats, u32) {
        let (dice, mut takings) = (SeededEntropy::new(9), Takings::default());
        let mut now = Seats {
            free: seats,
            held: 0,
            booked: 0,
        };
        let (mut inside, mut ended): (Vec<(u32, u32)>, u64) = (Vec::new(), 0);
        for second in 0..seconds {
            for _ in 0..2 {
                let wanted = (2 + u32::try_from(dice.below(3)).unwrap()).min(now.free);
                now.free -= wanted;
                now.held += wanted;
                inside.push((second + 60 + u32::try_from(dice.below(60)).unwrap(), wanted));
            }
            for (_, had) in inside.extract_if(.., |(until, _)| *until <= second) {
                ended += 1;
                now.held -= had;
                *(if dice.unit() < paid {
                    &mut now.booked
                } else {
                    &mut now.free
                }) += had;
            }
            takings.second(now, u32::try_from(inside.len()).unwrap(), ended);
        }
        (takings, now, u32::try_from(inside.len()).unwrap())
    }

    #[test]
    fn what_visits_take_and_what_comes_back_is_learnt() {
        for paid in [0.95, 0.8, 0.5] {
            let (takings, seats, active) = sold(500, 100_000, paid);
            let stock = takings.look(seats, active);
            assert!((2.85..3.15).contains(&stock.per_entry), "{stock:?}");
            assert!((stock.back - (1.0 - paid)).abs() < 0.06, "{paid}: {stock:?}");
            assert!(stock.deviation < 0.2 * stock.per_entry, "{stock:?}");
        }
    }

    #[test]
    fn who_takes_what_is_left_says_nothing_about_what_she_would_have_taken() {
        let (takings, seats, active) = sold(2_000, 3_000, 0.8);
        assert!(seats.free < 20, "{seats:?}");
        let stock = takings.look(seats, active);
        assert!((2.7..3.2).contains(&stock.per_entry), "{stock:?}");
    }

    #[test]
    fn before_anything_is_seen_it_is_uncertain() {
        let seats = Seats::of(&[]);
        assert_eq!(seats, None);
        let stock = Takings::default().look(
            Seats {
                free: 10,
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

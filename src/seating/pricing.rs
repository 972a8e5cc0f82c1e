//! Face prices by price zone.

use crate::{
    kernel::Money,
    seating::{
        plan::Plan,
        seat::SeatIx,
        types::{Config, OpenError},
    },
};

/// Largest price of one seat in minor units: so large a plan's sum cannot overflow.
const PRICE_MAX: i64 = 1_000_000_000_000;

/// The prices of a plan's zones, all in one currency and small enough that no sum overflows.
pub(super) struct PriceList {
    /// By zone index; `None` only for a zone without seats.
    by_zone: Vec<Option<Money>>,
}

impl PriceList {
    /// Matches the configured prices with the plan's zones.
    pub(super) fn new(config: &Config, plan: &Plan) -> Result<Self, OpenError> {
        let performance = &config.performance;
        let mut by_zone = Vec::new();
        let mut currency = None;
        for (zone, name) in (0..).zip(plan.zones()) {
            let price = config.prices.get(name).copied();
            match price {
                None if plan.runs_of(Some(zone)).is_empty() => {}
                None => {
                    return Err(OpenError::MissingPrice {
                        performance: performance.clone(),
                        zone: name.clone(),
                    });
                }
                Some(price) if !(0..=PRICE_MAX).contains(&price.amount) => {
                    return Err(OpenError::InvalidPrice {
                        performance: performance.clone(),
                        zone: name.clone(),
                    });
                }
                Some(price) if *currency.get_or_insert(price.currency) != price.currency => {
                    return Err(OpenError::MixedCurrencies {
                        performance: performance.clone(),
                    });
                }
                Some(_) => {}
            }
            by_zone.push(price);
        }
        Ok(Self { by_zone })
    }

    /// Sum of the face prices of at least one seat of the plan.
    pub(super) fn total(&self, plan: &Plan, seats: &[SeatIx]) -> Money {
        let prices = seats
            .iter()
            .filter_map(|seat| self.by_zone[plan.zone_index_of(*seat) as usize]);
        let total = prices.reduce(|sum, price| sum.checked_add(price).unwrap_or(sum));
        total.expect("a hold has a seat, and every zone with a seat has a price")
    }
}

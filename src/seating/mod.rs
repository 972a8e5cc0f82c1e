//! Which seats there are, and whose they are now.

use std::{collections::BTreeMap, time::Duration};

use crate::kernel::{Money, PerformanceId, SaleId};

mod generate;
mod plan;
mod plan_document;
mod plan_errors;
mod plan_pretix;
mod plan_rows;
mod seat;

pub use generate::{VenueKind, generate};
pub use plan::{Attribute, Plan, PlanError, PlanErrors, SeatLabel};
pub use seat::{SeatIx, SeatState, SeatStates};

/// What a promoter decides about the seats of one performance.
#[derive(Clone, Debug)]
pub struct Config {
    pub sale: SaleId,
    pub performance: PerformanceId,
    /// Face price by price zone (the plan's category name).
    pub prices: BTreeMap<String, Money>,
    /// How long a hold lasts unless it is extended or paid.
    pub hold: Duration,
    /// How often a holder may extend.
    pub extensions_max: u8,
    /// Seats that one fan may hold or own of this performance.
    pub seats_per_fan: u8,
    /// Watchers of the seat event stream at most.
    pub watchers_max: usize,
}

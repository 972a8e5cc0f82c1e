//! Configuration, dependencies and errors that all parts of seating share.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    kernel::{Clock, Entropy, Money, PerformanceId, SaleId, Timestamp},
    platform::{redis::Redis, shutdown::Lifecycle},
};

/// What a promoter decides about the seats of one performance.
#[derive(Clone, Debug)]
pub struct Config {
    /// The sale that the performance belongs to.
    pub sale: SaleId,
    /// Unique within the sale.
    pub performance: PerformanceId,
    /// From when on no seat is given to anybody.
    pub doors_open_at: Timestamp,
    /// Face price by price zone (the plan's category name). All prices share one currency.
    pub prices: BTreeMap<String, Money>,
    /// How long a hold lasts unless it is extended or paid.
    pub hold_ttl: Duration,
    /// How often a customer may extend one hold.
    pub extensions_max: u8,
    /// Seats of this performance that one customer may hold or own.
    pub seats_per_customer_max: u8,
    /// Concurrent subscribers of the seat event stream.
    pub seat_streams_max: usize,
}

/// Where the state of the seats is kept.
#[derive(Clone)]
pub enum StoreBackend {
    /// In this process, which must then be the only one.
    Memory,
    /// On a Redis server that any number of nodes share.
    Redis(Redis),
}

/// What seating needs from outside.
pub struct Deps {
    /// Where the state of the seats is kept.
    pub store: StoreBackend,
    /// The time by which the memory store expires holds. The Redis store uses the server's clock.
    pub clock: Arc<dyn Clock>,
    /// Source of hold ids and retry jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Runs and stops the background tasks.
    pub lifecycle: Lifecycle,
}

/// The rules of a performance that its store enforces.
#[derive(Clone, Copy, Debug)]
pub struct HoldTerms {
    /// How long a hold lasts unless it is extended or paid.
    pub hold_ttl: Duration,
    /// How often a customer may extend one hold.
    pub extensions_max: u8,
    /// Seats that one customer may hold or own.
    pub seats_per_customer_max: u8,
}

/// Why seating cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Two configurations name the same performance of the same sale.
    #[error("performance {performance} of sale {sale} is configured twice")]
    DuplicatePerformance {
        /// The sale of the performance.
        sale: SaleId,
        /// The performance that is configured twice.
        performance: PerformanceId,
    },
    /// A price zone with seats has no price.
    #[error("performance {performance}: price zone {zone:?} of the plan has no price")]
    MissingPrice {
        /// The performance whose price is missing.
        performance: PerformanceId,
        /// The plan's category name.
        zone: String,
    },
    /// A price is negative, or so large that a sum could overflow.
    #[error("performance {performance}: the price of zone {zone:?} is negative or too large")]
    InvalidPrice {
        /// The performance whose price is invalid.
        performance: PerformanceId,
        /// The plan's category name.
        zone: String,
    },
    /// Prices of one performance are in different currencies.
    #[error("performance {performance} has prices in more than one currency")]
    MixedCurrencies {
        /// The performance with mixed currencies.
        performance: PerformanceId,
    },
    /// The store did not answer while a performance was opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a call to the seat store has no result. Every call can be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No usable reply came: the call may or may not have taken effect.
    #[error("the seat store did not answer")]
    NoAnswer,
    /// The store cannot be reached, or too many calls wait for it. The call may have taken effect.
    #[error("the seat store is unavailable")]
    Unavailable,
    /// The store has lost its dataset, which is being rebuilt. The call had no effect.
    #[error("the seats are being restored from the ledger")]
    Recovering,
}

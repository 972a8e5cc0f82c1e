//! Errors of checkout's facade.

use std::time::Duration;

use crate::{
    checkout::{ledger::port::LedgerError, seats::port::SeatsError},
    platform::sql,
};

/// Why checkout could not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The ledger cannot be opened.
    #[error(transparent)]
    Ledger(#[from] sql::OpenError),
    /// The seats or the unfinished orders cannot be restored from the ledger.
    #[error("cannot restore seats and orders from the ledger: {0}")]
    Recover(#[from] LedgerError),
    /// A changed plan lacks seats that are sold or being bought.
    #[error(
        "the seating plan lacks seats that are sold or being bought: {}; restore them in the plan, or cancel \
        their orders with the plan of before",
        .0.join(", ")
    )]
    SeatsNotInPlan(Vec<String>),
}

/// Why a call could not be served.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CheckoutError {
    /// The sale is not configured.
    #[error("there is no such sale")]
    UnknownSale,
    /// Too many orders are in progress. Nothing was started; try again later.
    #[error("too many orders are in progress")]
    Busy {
        /// Shortest time after which another try makes sense.
        retry_after: Duration,
    },
    /// The seat store failed. Nothing was started; try again later.
    #[error(transparent)]
    Seats(#[from] SeatsError),
    /// The ledger failed. Repeat the request with the same idempotency key to learn whether an order was
    /// opened.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

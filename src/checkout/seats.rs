//! What checkout needs of the seats. The engine behind it may forget everything it knows: the ledger does not.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::kernel::{HoldId, Money, PerformanceId, SaleId, Subject, Timestamp, VisitId};

/// One performance of one sale.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Show {
    pub sale: SaleId,
    pub performance: PerformanceId,
}

/// A seat as it is sold: its place in the house and its price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatInfo {
    pub guid: String,
    pub zone: String,
    pub section: String,
    pub row: String,
    pub number: String,
    pub price: Money,
}

/// What somebody holds.
#[derive(Clone, Debug)]
pub struct Basket {
    pub show: Show,
    pub seats: Vec<SeatInfo>,
    pub total: Money,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BeginOutcome {
    /// The hold is being paid for; these seats (ids of the plan) are in it.
    Begun {
        seats: Vec<String>,
    },
    Gone,
}

/// A claim of the ledger that the engine must know before it answers anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedSeats {
    pub show: Show,
    pub hold: HoldId,
    pub buyer: Subject,
    pub visit: VisitId,
    pub seats: Vec<String>,
    pub booked: bool,
    /// Until when a claim that is not booked is kept at least.
    pub until: Timestamp,
}

/// The engine did not answer; ask again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the seats' engine is not available: {0}")]
pub struct SeatsError(pub String);

/// The seats' engine. All calls are idempotent.
#[async_trait]
pub trait Seats: Send + Sync + 'static {
    /// What is in a hold, if it is hers.
    async fn basket(&self, hold: HoldId, who: &Subject) -> Option<Basket>;

    /// held -> paying, kept until then at least. `Begun` also when it is paying already.
    async fn begin_checkout(&self, show: &Show, hold: HoldId, who: &Subject, until: Timestamp) -> Result<BeginOutcome, SeatsError>;

    /// paying -> held, until then. Nothing happens when the hold is unknown.
    async fn return_to_hold(&self, show: &Show, hold: HoldId, until: Timestamp);

    /// The seats are sold; works also when the hold is unknown.
    async fn book(&self, show: &Show, hold: HoldId, seats: &[String], who: &Subject) -> Result<(), SeatsError>;

    /// The seats that this hold has, or that were booked through it, become free.
    async fn free(&self, show: &Show, hold: HoldId, seats: &[String]) -> Result<(), SeatsError>;

    /// Takes over what the ledger knows.
    async fn restore(&self, claims: Vec<ClaimedSeats>) -> Result<(), SeatsError>;

    /// Up to three blocks as good as these seats that are free now.
    async fn alternatives(&self, show: &Show, seats: &[String]) -> Vec<Vec<String>>;
}

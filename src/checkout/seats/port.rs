//! The seat port: what checkout needs of the seats.
//!
//! The seat store behind it may lose its data at any time. The ledger does not, so it decides who owns a
//! seat.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::checkout::{
    ledger::port::LedgerError,
    types::{ClaimedSeats, HeldSeats, PerformanceKey},
};
use crate::{
    kernel::{HoldId, Subject, Timestamp},
    seating::{DatasetStatus, RebuildOutcome},
};

/// Outcome of moving a hold into payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BeginOutcome {
    /// The hold is in payment.
    Begun {
        /// Its seats, by their ids in the plan.
        seats: Vec<String>,
    },
    /// The hold has expired or was released.
    Gone,
}

/// The seat store did not answer; the call may be repeated.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the seat store is not available: {0}")]
pub struct SeatsError(pub String);

/// Why a seat store could not be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The seat store failed.
    #[error(transparent)]
    Seats(#[from] SeatsError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The seats of all performances. All calls are idempotent.
#[async_trait]
pub trait Seats: Send + Sync + 'static {
    /// Seats of these claims that the plan of their performance lacks, as `sale/performance/seat`. Claims of
    /// a performance that is not configured are left alone.
    fn not_in_plan(&self, claims: &[ClaimedSeats]) -> Vec<String>;

    /// The content of a hold. `None` if there is no such hold or it belongs to another buyer.
    async fn held_seats(&self, hold: HoldId, buyer: &Subject) -> Result<Option<HeldSeats>, SeatsError>;

    /// Moves a hold into payment and keeps it at least until `until`. `Begun` also when it is in payment
    /// already.
    async fn begin_checkout(
        &self,
        performance_key: &PerformanceKey,
        hold: HoldId,
        buyer: &Subject,
        until: Timestamp,
    ) -> Result<BeginOutcome, SeatsError>;

    /// Moves a hold from payment back to a plain hold that ends at `until`. Does nothing for an unknown hold.
    async fn return_to_hold(
        &self,
        performance_key: &PerformanceKey,
        hold: HoldId,
        until: Timestamp,
    ) -> Result<(), SeatsError>;

    /// Marks the seats as sold, also when the hold is unknown.
    async fn book(
        &self,
        performance_key: &PerformanceKey,
        hold: HoldId,
        seats: &[String],
        buyer: &Subject,
    ) -> Result<(), SeatsError>;

    /// Frees those of the seats that this hold has, or that were booked through it.
    async fn release(
        &self,
        performance_key: &PerformanceKey,
        hold: HoldId,
        seats: &[String],
    ) -> Result<(), SeatsError>;

    /// Applies the claims of the ledger.
    async fn restore(&self, claims: Vec<ClaimedSeats>) -> Result<(), SeatsError>;

    /// Up to three groups of free seats, each as good as the given seats.
    async fn alternatives(
        &self,
        performance_key: &PerformanceKey,
        seats: &[String],
        buyer: &Subject,
    ) -> Vec<Vec<String>>;

    /// The seat stores that can lose their data while the process runs, one per performance.
    fn volatile_stores(&self) -> Vec<Arc<dyn VolatileSeatStore>>;
}

/// Claims of the ledger, fetched only once the store is empty.
pub type ClaimsFuture<'a> = BoxFuture<'a, Result<Vec<ClaimedSeats>, LedgerError>>;

/// The seat store of one performance, which can lose its data. It serves calls only while an epoch is active.
#[async_trait]
pub trait VolatileSeatStore: Send + Sync + 'static {
    /// The performance whose seats it keeps.
    fn performance_key(&self) -> &PerformanceKey;

    /// The epoch in which calls are served now; `None` while none are.
    fn active_epoch(&self) -> Option<u64>;

    /// Serves calls in this epoch from now on, as long as this server answers.
    fn activate(&self, epoch: u64, identity: &str);

    /// Serves no calls until the next activation.
    fn deactivate(&self);

    /// Changes when [`VolatileSeatStore::dataset_status`] may have changed.
    fn dataset_changes(&self) -> watch::Receiver<u64>;

    /// Which server answers, and for which epoch its data are complete. `None` while no server answers.
    async fn dataset_status(&self) -> Result<Option<DatasetStatus>, SeatsError>;

    /// Marks the active dataset as complete on the server to which it has moved.
    async fn accept_migration(&self, identity: &str) -> Result<(), SeatsError>;

    /// Empties the store and fills it with these claims, unless another node is doing so.
    async fn rebuild(
        &self,
        epoch: u64,
        identity: &str,
        claims: ClaimsFuture<'_>,
    ) -> Result<RebuildOutcome, RecoveryError>;

    /// Applies claims that were made during the rebuild.
    async fn restore(&self, claims: Vec<ClaimedSeats>) -> Result<(), SeatsError>;

    /// Seats that the store has as booked.
    async fn booked_seats(&self) -> Result<Vec<String>, SeatsError>;

    /// Marks the seats as sold through this hold.
    async fn book(&self, hold: HoldId, seats: &[String], buyer: &Subject) -> Result<(), SeatsError>;

    /// Frees booked seats that the ledger does not know as sold.
    async fn free_unknown_bookings(&self, seats: &[String]) -> Result<(), SeatsError>;
}

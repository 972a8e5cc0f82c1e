//! Engines that may lose their memory: what their keeper (`engine_memory`) must be able to ask and do.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::checkout::{
    ledger::LedgerError,
    seats::{ClaimedSeats, SeatsError, PerformanceKey, as_restored, guids, indexes},
};
use crate::{
    kernel::{HoldId, Subject},
    seating::{DatasetStatus, Performance, RebuildOutcome, RedisStore, StoreError},
};

/// Why a memory was not filled.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error(transparent)]
    Seats(#[from] SeatsError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Claims that are asked for when the memory is empty and not before.
pub type Claims<'a> = BoxFuture<'a, Result<Vec<ClaimedSeats>, LedgerError>>;

/// One show's engine, if it may lose its memory. Calls are answered only under an epoch that was vouched for.
#[async_trait]
pub trait VolatileSeatStore: Send + Sync + 'static {
    fn performance_key(&self) -> &PerformanceKey;

    /// The epoch under which calls are answered now.
    fn trusted(&self) -> Option<u64>;

    fn vouch(&self, epoch: u64, identity: &str);

    fn distrust(&self);

    /// Changes when there may be something new to learn from [`ForgetfulSeats::memory`].
    fn changes(&self) -> watch::Receiver<u64>;

    /// What the engine says of its memory; `None` while nobody answers.
    async fn memory(&self) -> Result<Option<DatasetStatus>, SeatsError>;

    /// The memory moved, whole, to the server that is trusted now.
    async fn settle(&self, identity: &str) -> Result<(), SeatsError>;

    /// Empties the memory and fills it with these claims, unless somebody else is at it.
    async fn rebuild(&self, epoch: u64, identity: &str, claims: Claims<'_>) -> Result<RebuildOutcome, RecoveryError>;

    /// Claims made while the memory was filled.
    async fn restore(&self, claims: Vec<ClaimedSeats>) -> Result<(), SeatsError>;

    /// Seats that the engine thinks are booked.
    async fn booked(&self) -> Result<Vec<String>, SeatsError>;

    /// They are, through this hold.
    async fn book(&self, hold: HoldId, seats: &[String], who: &Subject) -> Result<(), SeatsError>;

    /// They are not, whatever the engine thinks.
    async fn free_strays(&self, seats: &[String]) -> Result<(), SeatsError>;
}

/// A performance whose engine is on a server.
pub(crate) struct VolatilePerformance {
    performance_key: PerformanceKey,
    performance: Arc<Performance>,
    store: RedisStore,
}

impl VolatilePerformance {
    pub(crate) fn of(performance: Arc<Performance>) -> Option<Self> {
        let store = performance.volatile_store()?.clone();
        let config = performance.config();
        let performance_key = PerformanceKey {
            sale: config.sale.clone(),
            performance: config.performance.clone(),
        };
        Some(Self {
            performance_key,
            performance,
            store,
        })
    }
}

#[async_trait]
impl VolatileSeatStore for VolatilePerformance {
    fn performance_key(&self) -> &PerformanceKey {
        &self.performance_key
    }

    fn trusted(&self) -> Option<u64> {
        self.store.active_epoch()
    }

    fn vouch(&self, epoch: u64, identity: &str) {
        self.store.activate(epoch, identity);
    }

    fn distrust(&self) {
        self.store.deactivate();
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.store.dataset_changes()
    }

    async fn memory(&self) -> Result<Option<DatasetStatus>, SeatsError> {
        Ok(self.store.dataset_status().await?)
    }

    async fn settle(&self, identity: &str) -> Result<(), SeatsError> {
        Ok(self.store.accept_migration(identity).await?)
    }

    async fn rebuild(&self, epoch: u64, identity: &str, claims: Claims<'_>) -> Result<RebuildOutcome, RecoveryError> {
        let claims = async { Ok::<_, RecoveryError>(as_restored(&self.performance, claims.await?)) };
        self.store.rebuild(epoch, identity, claims).await
    }

    async fn restore(&self, claims: Vec<ClaimedSeats>) -> Result<(), SeatsError> {
        crate::checkout::seats::ledger_prevails(
            &self.performance_key,
            self.performance
                .restore(as_restored(&self.performance, claims))
                .await,
        )
    }

    async fn booked(&self) -> Result<Vec<String>, SeatsError> {
        Ok(guids(&self.performance, &self.performance.booked_seats().await?))
    }

    async fn book(&self, hold: HoldId, seats: &[String], who: &Subject) -> Result<(), SeatsError> {
        crate::checkout::seats::ledger_prevails(
            &self.performance_key,
            self.performance
                .book(hold, &indexes(&self.performance, seats), who)
                .await,
        )
    }

    async fn free_strays(&self, seats: &[String]) -> Result<(), SeatsError> {
        Ok(self.store.free_unknown_bookings(&indexes(&self.performance, seats)).await?)
    }
}

impl From<StoreError> for SeatsError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

impl From<StoreError> for RecoveryError {
    fn from(error: StoreError) -> Self {
        Self::Seats(error.into())
    }
}

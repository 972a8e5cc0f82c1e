//! A performance whose seat store is on a server that can lose its data.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::checkout::{
    seats::{
        port::{ClaimsFuture, RecoveryError, SeatsError, VolatileSeatStore},
        seat_mapping::{as_restored, guids, indexes, key_of, ledger_prevails},
    },
    types::{ClaimedSeats, PerformanceKey},
};
use crate::{
    kernel::{HoldId, Subject},
    seating::{DatasetStatus, Performance, RebuildOutcome, RedisStore, StoreError},
};

/// A performance whose seat store is on Redis.
pub(crate) struct VolatilePerformance {
    performance_key: PerformanceKey,
    performance: Arc<Performance>,
    store: RedisStore,
}

impl VolatilePerformance {
    /// `None` for a performance whose seat store is in this process.
    pub(crate) fn new(performance: Arc<Performance>) -> Option<Self> {
        let store = performance.volatile_store()?.clone();
        Some(Self {
            performance_key: key_of(&performance),
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

    fn active_epoch(&self) -> Option<u64> {
        self.store.active_epoch()
    }

    fn activate(&self, epoch: u64, identity: &str) {
        self.store.activate(epoch, identity);
    }

    fn deactivate(&self) {
        self.store.deactivate();
    }

    fn dataset_changes(&self) -> watch::Receiver<u64> {
        self.store.dataset_changes()
    }

    async fn dataset_status(&self) -> Result<Option<DatasetStatus>, SeatsError> {
        Ok(self.store.dataset_status().await?)
    }

    async fn accept_migration(&self, identity: &str) -> Result<(), SeatsError> {
        Ok(self.store.accept_migration(identity).await?)
    }

    async fn rebuild(
        &self,
        epoch: u64,
        identity: &str,
        claims: ClaimsFuture<'_>,
    ) -> Result<RebuildOutcome, RecoveryError> {
        let claims = async { Ok::<_, RecoveryError>(as_restored(&self.performance, claims.await?)) };
        self.store.rebuild(epoch, identity, claims).await
    }

    async fn restore(&self, claims: Vec<ClaimedSeats>) -> Result<(), SeatsError> {
        let claims = as_restored(&self.performance, claims);
        ledger_prevails(&self.performance_key, self.performance.restore(claims).await)
    }

    async fn booked_seats(&self) -> Result<Vec<String>, SeatsError> {
        Ok(guids(&self.performance, &self.performance.booked_seats().await?))
    }

    async fn book(&self, hold: HoldId, seats: &[String], buyer: &Subject) -> Result<(), SeatsError> {
        let seats = indexes(&self.performance, seats);
        ledger_prevails(
            &self.performance_key,
            self.performance.book(hold, &seats, buyer).await,
        )
    }

    async fn free_unknown_bookings(&self, seats: &[String]) -> Result<(), SeatsError> {
        let seats = indexes(&self.performance, seats);
        Ok(self.store.free_unknown_bookings(&seats).await?)
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

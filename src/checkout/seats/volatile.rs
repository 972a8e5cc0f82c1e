//! Engines that may lose their memory: what their keeper (`engine_memory`) must be able to ask and do.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::checkout::{
    ledger::LedgerError,
    seats::{ClaimedSeats, SeatsError, Show, as_restored, guids, indexes},
};
use crate::{
    kernel::{HoldId, Subject},
    seating::{Memory, Performance, Rebuilt, RedisStore, StoreError},
};

/// Why a memory was not filled.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    #[error(transparent)]
    Seats(#[from] SeatsError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Claims that are asked for when the memory is empty and not before.
pub type Claims<'a> = BoxFuture<'a, Result<Vec<ClaimedSeats>, LedgerError>>;

/// One show's engine, if it may lose its memory. Calls are answered only under an epoch that was vouched for.
#[async_trait]
pub trait ForgetfulSeats: Send + Sync + 'static {
    fn show(&self) -> &Show;

    /// The epoch under which calls are answered now.
    fn trusted(&self) -> Option<u64>;

    fn vouch(&self, epoch: u64, identity: &str);

    fn distrust(&self);

    /// Changes when there may be something new to learn from [`ForgetfulSeats::memory`].
    fn changes(&self) -> watch::Receiver<u64>;

    /// What the engine says of its memory; `None` while nobody answers.
    async fn memory(&self) -> Result<Option<Memory>, SeatsError>;

    /// The memory moved, whole, to the server that is trusted now.
    async fn settle(&self, identity: &str) -> Result<(), SeatsError>;

    /// Empties the memory and fills it with these claims, unless somebody else is at it.
    async fn rebuild(&self, epoch: u64, identity: &str, claims: Claims<'_>) -> Result<Rebuilt, KeepError>;

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
pub(crate) struct ForgetfulShow {
    show: Show,
    performance: Arc<Performance>,
    store: RedisStore,
}

impl ForgetfulShow {
    pub(crate) fn of(performance: Arc<Performance>) -> Option<Self> {
        let store = performance.volatile_store()?.clone();
        let config = performance.config();
        let show = Show {
            sale: config.sale.clone(),
            performance: config.performance.clone(),
        };
        Some(Self {
            show,
            performance,
            store,
        })
    }
}

#[async_trait]
impl ForgetfulSeats for ForgetfulShow {
    fn show(&self) -> &Show {
        &self.show
    }

    fn trusted(&self) -> Option<u64> {
        self.store.trusted()
    }

    fn vouch(&self, epoch: u64, identity: &str) {
        self.store.vouch(epoch, identity);
    }

    fn distrust(&self) {
        self.store.distrust();
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.store.memory_changes()
    }

    async fn memory(&self) -> Result<Option<Memory>, SeatsError> {
        Ok(self.store.memory().await?)
    }

    async fn settle(&self, identity: &str) -> Result<(), SeatsError> {
        Ok(self.store.settle(identity).await?)
    }

    async fn rebuild(&self, epoch: u64, identity: &str, claims: Claims<'_>) -> Result<Rebuilt, KeepError> {
        let claims = async { Ok::<_, KeepError>(as_restored(&self.performance, claims.await?)) };
        self.store.rebuild(epoch, identity, claims).await
    }

    async fn restore(&self, claims: Vec<ClaimedSeats>) -> Result<(), SeatsError> {
        crate::checkout::seats::ledger_prevails(
            &self.show,
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
            &self.show,
            self.performance
                .book(hold, &indexes(&self.performance, seats), who)
                .await,
        )
    }

    async fn free_strays(&self, seats: &[String]) -> Result<(), SeatsError> {
        Ok(self.store.free_strays(&indexes(&self.performance, seats)).await?)
    }
}

impl From<StoreError> for SeatsError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

impl From<StoreError> for KeepError {
    fn from(error: StoreError) -> Self {
        Self::Seats(error.into())
    }
}

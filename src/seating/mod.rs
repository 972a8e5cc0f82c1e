//! Which seats there are, and whose they are now.
//!
//! A [`Plan`] is a venue's seats, immutable. A [`Performance`] is one evening on a plan: its [`SeatStore`] decides, all or
//! none, who has which seat; its availability shows everybody. [`Seating`] holds all performances of all sales.
//!
//! What always holds: a seat has at most one live holder; a hold has all its seats or does not exist; a hold ends at its
//! deadline unless a checkout has it; a fan has no more seats than her limit, whatever she sends at once.

use std::{collections::BTreeMap, collections::HashMap, sync::Arc, time::Duration};

use crate::{
    kernel::{Clock, Entropy, HoldId, Money, PerformanceId, SaleId, Subject},
    platform::{redis::Redis, shutdown::Lifecycle},
};

pub(crate) mod allocation;
mod availability;
mod expiry;
mod hold;
mod performance;
pub(crate) mod plan;
mod seat;
mod store;
#[cfg(test)]
mod tests;

pub use self::plan::generate::{VenueKind, generate};
pub use availability::{EncodedSnapshot, SeatSubscription, ZoneStock};
pub use hold::{
    BeginOutcome, ChangeOutcome, ExtendOutcome, Hold, HoldOutcome, HoldState, ReleaseOutcome, RestoredClaim,
    SeatingError, HoldSpec,
};
pub use performance::Performance;
pub use plan::{Attribute, Plan, PlanError, PlanErrors, SeatLabel};
pub use seat::{SeatIx, SeatState, SeatStates};
pub use store::{
    BookReply, ChangeReply, ExtendReply, HoldRecord, HoldReply, StoreHold, DatasetStatus, MemoryStore, IdempotencyKey,
    RebuildOutcome, RedisStore, SeatChange, SeatStore, StoreError, HoldTerms,
};

/// What a promoter decides about the seats of one performance.
#[derive(Clone, Debug)]
pub struct Config {
    pub sale: SaleId,
    pub performance: PerformanceId,
    /// Face price by price zone (the plan's category name).
    pub prices: BTreeMap<String, Money>,
    /// How long a hold lasts unless it is extended or paid.
    pub hold_ttl: Duration,
    /// How often a holder may extend.
    pub extensions_max: u8,
    /// Seats that one fan may hold or own of this performance.
    pub seats_per_customer_max: u8,
    /// Watchers of the seat event stream at most.
    pub seat_streams_max: usize,
}

/// Where it is kept who has which seat.
#[derive(Clone)]
pub enum StoreBackend {
    /// In this process, which is then the only one.
    Memory,
    /// On a Redis that any number of nodes share.
    Redis(Redis),
}

pub struct Deps {
    pub engine: StoreBackend,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub life: Lifecycle,
}

/// Why a box office cannot open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("performance {performance} of sale {sale} is configured twice")]
    DuplicatePerformance {
        sale: SaleId,
        performance: PerformanceId,
    },
    #[error("performance {performance}: price zone {zone:?} of the plan has no price")]
    MissingPrice {
        performance: PerformanceId,
        zone: String,
    },
    #[error("performance {performance}: the price of zone {zone:?} is negative or absurd")]
    InvalidPrice {
        performance: PerformanceId,
        zone: String,
    },
    #[error("performance {performance} has prices in more than one currency")]
    MixedCurrencies { performance: PerformanceId },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All performances of all sales.
pub struct Seating {
    /// In the order of the configuration.
    performances: Vec<Arc<Performance>>,
    by_id: HashMap<(SaleId, PerformanceId), Arc<Performance>>,
}

impl Seating {
    /// Opens every performance with all seats free; what the ledger knows is given back by [`Performance::restore`].
    ///
    /// # Errors
    /// When a performance is named twice, or a price zone of its plan has no usable price.
    pub async fn open(performances: Vec<(Config, Arc<Plan>)>, deps: Deps) -> Result<Arc<Self>, OpenError> {
        let mut seating = Self {
            performances: Vec::new(),
            by_id: HashMap::new(),
        };
        for (config, plan) in performances {
            let performance = Arc::new(Performance::open(config, plan, &deps).await?);
            let config = performance.config();
            let key = (config.sale.clone(), config.performance.clone());
            if seating
                .by_id
                .insert(key.clone(), Arc::clone(&performance))
                .is_some()
            {
                return Err(OpenError::DuplicatePerformance {
                    sale: key.0,
                    performance: key.1,
                });
            }
            seating.performances.push(performance);
        }
        expiry::start(&seating.performances, &deps.life);
        Ok(Arc::new(seating))
    }

    pub fn performance(&self, sale: &SaleId, id: &PerformanceId) -> Option<Arc<Performance>> {
        self.by_id.get(&(sale.clone(), id.clone())).cloned()
    }

    /// In the order of the configuration.
    pub fn performances(&self, sale: &SaleId) -> Vec<Arc<Performance>> {
        self.performances
            .iter()
            .filter(|it| it.config().sale == *sale)
            .cloned()
            .collect()
    }

    /// Of all sales.
    pub fn all(&self) -> &[Arc<Performance>] {
        &self.performances
    }

    /// The hold if it is `who`'s own and lives; another's does not exist.
    ///
    /// # Errors
    /// When an engine cannot say: it may be there.
    pub async fn find_hold(
        &self,
        id: HoldId,
        who: &Subject,
    ) -> Result<Option<(Arc<Performance>, Hold)>, SeatingError> {
        let mut away = None;
        for performance in &self.performances {
            match performance.find_hold(id, who).await {
                Ok(None) => {}
                Ok(Some(hold)) => return Ok(Some((Arc::clone(performance), hold))),
                Err(error) => away = Some(error),
            }
        }
        away.map_or(Ok(None), Err)
    }

    /// Ends the hold if it is `who`'s own, lives and is not in payment.
    ///
    /// # Errors
    /// When an engine cannot say: it may be there.
    pub async fn release(&self, id: HoldId, who: &Subject) -> Result<ReleaseOutcome, SeatingError> {
        let mut away = None;
        for performance in &self.performances {
            match performance.release(id, who).await {
                Ok(ReleaseOutcome::Gone) => {}
                Ok(released) => return Ok(released),
                Err(error) => away = Some(error),
            }
        }
        away.map_or(Ok(ReleaseOutcome::Gone), Err)
    }
}

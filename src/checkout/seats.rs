//! What checkout needs of the seats. The engine behind it may forget everything it knows: the ledger does not.

pub(crate) mod recovery;
pub mod volatile;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::checkout::seats::volatile::{VolatileSeatStore, VolatilePerformance};
use crate::{
    kernel::{HoldId, Money, PerformanceId, SaleId, Subject, Timestamp, VisitId},
    seating::{self, Performance, RestoredClaim, SeatIx, Seating, SeatingError},
};

/// One performance of one sale.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PerformanceKey {
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
pub struct HeldSeats {
    pub performance_key: PerformanceKey,
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
    pub performance_key: PerformanceKey,
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
    async fn held_seats(&self, hold: HoldId, who: &Subject) -> Result<Option<HeldSeats>, SeatsError>;

    /// held -> paying, kept until then at least. `Begun` also when it is paying already.
    async fn begin_checkout(
        &self,
        performance_key: &PerformanceKey,
        hold: HoldId,
        who: &Subject,
        until: Timestamp,
    ) -> Result<BeginOutcome, SeatsError>;

    /// paying -> held, until then. Nothing happens when the hold is unknown.
    async fn return_to_hold(&self, performance_key: &PerformanceKey, hold: HoldId, until: Timestamp) -> Result<(), SeatsError>;

    /// The seats are sold; works also when the hold is unknown.
    async fn book(
        &self,
        performance_key: &PerformanceKey,
        hold: HoldId,
        seats: &[String],
        who: &Subject,
    ) -> Result<(), SeatsError>;

    /// The seats that this hold has, or that were booked through it, become free.
    async fn free(&self, performance_key: &PerformanceKey, hold: HoldId, seats: &[String]) -> Result<(), SeatsError>;

    /// Takes over what the ledger knows.
    async fn restore(&self, claims: Vec<ClaimedSeats>) -> Result<(), SeatsError>;

    /// Up to three blocks as good as these seats that are free now.
    async fn alternatives(&self, performance_key: &PerformanceKey, seats: &[String], who: &Subject) -> Vec<Vec<String>>;

    /// Those engines that may lose their memory while the house is open, one a show.
    fn forgetful(&self) -> Vec<Arc<dyn VolatileSeatStore>>;
}

/// The house's own seats, whose ids here are the plan's `seat_guid`s.
#[async_trait]
impl Seats for Seating {
    async fn held_seats(&self, hold: HoldId, who: &Subject) -> Result<Option<HeldSeats>, SeatsError> {
        let Some((performance, hold)) = self.find_hold(hold, who).await? else {
            return Ok(None);
        };
        let (config, plan) = (performance.config(), performance.plan());
        let info = |seat: SeatIx| {
            let (label, zone) = (plan.label(seat), plan.zone_of(seat));
            Some(SeatInfo {
                guid: plan.guid(seat).to_owned(),
                zone: zone.to_owned(),
                section: label.section.to_owned(),
                row: label.row.to_owned(),
                number: label.number.to_owned(),
                price: *config.prices.get(zone)?,
            })
        };
        let performance_key = PerformanceKey {
            sale: config.sale.clone(),
            performance: config.performance.clone(),
        };
        let seats: Option<Vec<SeatInfo>> = hold.seats.iter().map(|it| info(*it)).collect();
        Ok(seats.map(|seats| HeldSeats {
            performance_key,
            seats,
            total: hold.total,
        }))
    }

    async fn begin_checkout(
        &self,
        performance_key: &PerformanceKey,
        hold: HoldId,
        who: &Subject,
        until: Timestamp,
    ) -> Result<BeginOutcome, SeatsError> {
        let Some(performance) = performance_of(self, performance_key) else {
            return Ok(BeginOutcome::Gone);
        };
        Ok(match performance.begin_checkout(hold, who, until).await? {
            seating::BeginOutcome::Begun(hold) => BeginOutcome::Begun {
                seats: guids(&performance, &hold.seats),
            },
            seating::BeginOutcome::Gone => BeginOutcome::Gone,
        })
    }

    async fn return_to_hold(&self, performance_key: &PerformanceKey, hold: HoldId, until: Timestamp) -> Result<(), SeatsError> {
        let Some(performance) = performance_of(self, performance_key) else {
            return Ok(());
        };
        Ok(performance.return_to_hold(hold, until).await?)
    }

    async fn book(
        &self,
        performance_key: &PerformanceKey,
        hold: HoldId,
        seats: &[String],
        who: &Subject,
    ) -> Result<(), SeatsError> {
        let Some(performance) = performance_of(self, performance_key) else {
            return Ok(());
        };
        ledger_prevails(
            performance_key,
            performance.book(hold, &indexes(&performance, seats), who).await,
        )
    }

    async fn free(&self, performance_key: &PerformanceKey, hold: HoldId, seats: &[String]) -> Result<(), SeatsError> {
        let Some(performance) = performance_of(self, performance_key) else {
            return Ok(());
        };
        Ok(performance.free(hold, &indexes(&performance, seats)).await?)
    }

    async fn restore(&self, claims: Vec<ClaimedSeats>) -> Result<(), SeatsError> {
        let mut by_show: HashMap<PerformanceKey, Vec<ClaimedSeats>> = HashMap::new();
        for claim in claims {
            by_show.entry(claim.performance_key.clone()).or_default().push(claim);
        }
        for (performance_key, claims) in by_show {
            let Some(performance) = performance_of(self, &performance_key) else {
                continue;
            };
            ledger_prevails(
                &performance_key,
                performance.restore(as_restored(&performance, claims)).await,
            )?;
        }
        Ok(())
    }

    async fn alternatives(&self, performance_key: &PerformanceKey, seats: &[String], who: &Subject) -> Vec<Vec<String>> {
        let Some(performance) = performance_of(self, performance_key) else {
            return Vec::new();
        };
        performance
            .alternatives(&indexes(&performance, seats), who)
            .iter()
            .map(|it| guids(&performance, it))
            .collect()
    }

    fn forgetful(&self) -> Vec<Arc<dyn VolatileSeatStore>> {
        self.all_performances()
            .iter()
            .filter_map(|it| VolatilePerformance::of(Arc::clone(it)))
            .map(|it| Arc::new(it) as _)
            .collect()
    }
}

impl From<SeatingError> for SeatsError {
    fn from(error: SeatingError) -> Self {
        Self(error.to_string())
    }
}

/// None for a performance that is configured no longer: there is nothing to show, and the ledger keeps what was sold.
fn performance_of(seating: &Seating, performance_key: &PerformanceKey) -> Option<Arc<Performance>> {
    let found = seating.performance(&performance_key.sale, &performance_key.performance);
    if found.is_none() {
        tracing::warn!(sale = %performance_key.sale, performance = %performance_key.performance, "the ledger knows a performance that is not configured");
    }
    found
}

pub(super) fn as_restored(performance: &Performance, claims: Vec<ClaimedSeats>) -> Vec<RestoredClaim> {
    let claims = claims.into_iter().map(|it| RestoredClaim {
        hold: it.hold,
        subject: it.buyer,
        visit: it.visit,
        seats: indexes(performance, &it.seats),
        booked: it.booked,
        until: it.until,
    });
    claims.collect()
}

pub(super) fn indexes(performance: &Performance, guids: &[String]) -> Vec<SeatIx> {
    let index = |guid: &String| {
        let index = performance.plan().index_of(guid);
        if index.is_none() {
            tracing::error!(guid, "the ledger knows a seat that the plan does not have");
        }
        index
    };
    guids.iter().filter_map(index).collect()
}

pub(super) fn guids(performance: &Performance, seats: &[SeatIx]) -> Vec<String> {
    seats
        .iter()
        .map(|it| performance.plan().guid(*it).to_owned())
        .collect()
}

/// Where the engine thinks otherwise, the ledger is right, and waiting for the engine to agree would keep a buyer's
/// money for nothing. The drift is loud, and gone after a restart.
pub(super) fn ledger_prevails(performance_key: &PerformanceKey, outcome: Result<(), SeatingError>) -> Result<(), SeatsError> {
    match outcome {
        Err(SeatingError::Conflict(seats)) => {
            tracing::error!(performance = %performance_key.performance, seats = seats.len(), "the seats and the ledger disagree");
            Ok(())
        }
        other => Ok(other?),
    }
}

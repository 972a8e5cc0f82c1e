//! What checkout needs of the seats. The engine behind it may forget everything it knows: the ledger does not.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    kernel::{HoldId, Money, PerformanceId, SaleId, Subject, Timestamp, VisitId},
    seating::{self, Performance, RestoredClaim, SeatIx, Seating, SeatingError},
};

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

    /// Up to three blocks as good as these seats that are free now, others for each fan.
    async fn alternatives(&self, show: &Show, seats: &[String], who: &Subject) -> Vec<Vec<String>>;
}

#[async_trait]
impl Seats for Seating {
    async fn basket(&self, hold: HoldId, who: &Subject) -> Option<Basket> {
        let (performance, hold) = self.find_hold(hold, who).await?;
        let (config, plan) = (performance.config(), performance.plan());
        let seats: Option<Vec<SeatInfo>> = hold
            .seats
            .iter()
            .map(|&seat| {
                let label = plan.label(seat);
                Some(SeatInfo {
                    guid: plan.guid(seat).to_owned(),
                    zone: plan.zone_of(seat).to_owned(),
                    section: label.section.to_owned(),
                    row: label.row.to_owned(),
                    number: label.number.to_owned(),
                    price: *config.prices.get(plan.zone_of(seat))?,
                })
            })
            .collect();
        let show = Show { sale: config.sale.clone(), performance: config.performance.clone() };
        Some(Basket { show, seats: seats?, total: hold.total })
    }

    async fn begin_checkout(&self, show: &Show, hold: HoldId, who: &Subject, until: Timestamp) -> Result<BeginOutcome, SeatsError> {
        let performance = on_stage(self, show)?;
        match performance.begin_checkout(hold, who, until).await? {
            seating::BeginOutcome::Begun(hold) => Ok(BeginOutcome::Begun { seats: names(&performance, &hold.seats) }),
            seating::BeginOutcome::Gone => Ok(BeginOutcome::Gone),
        }
    }

    async fn return_to_hold(&self, show: &Show, hold: HoldId, until: Timestamp) {
        if let Ok(performance) = on_stage(self, show) {
            performance.return_to_hold(hold, until).await;
        }
    }

    async fn book(&self, show: &Show, hold: HoldId, seats: &[String], who: &Subject) -> Result<(), SeatsError> {
        let performance = on_stage(self, show)?;
        Ok(performance.book(hold, &indices(&performance, seats)?, who).await?)
    }

    async fn free(&self, show: &Show, hold: HoldId, seats: &[String]) -> Result<(), SeatsError> {
        let performance = on_stage(self, show)?;
        Ok(performance.free(hold, &indices(&performance, seats)?).await?)
    }

    async fn restore(&self, claims: Vec<ClaimedSeats>) -> Result<(), SeatsError> {
        let mut by_show: BTreeMap<Show, Vec<ClaimedSeats>> = BTreeMap::new();
        for claim in claims {
            by_show.entry(claim.show.clone()).or_default().push(claim);
        }
        for (show, claims) in by_show {
            let Ok(performance) = on_stage(self, &show) else {
                tracing::warn!(sale = %show.sale, performance = %show.performance, claims = claims.len(), "the ledger has seats of a performance that is not served here");
                continue;
            };
            let claims: Result<Vec<RestoredClaim>, SeatsError> = claims
                .into_iter()
                .map(|claim| {
                    let seats = indices(&performance, &claim.seats)?;
                    let ClaimedSeats { hold, buyer: subject, visit, booked, until, .. } = claim;
                    Ok(RestoredClaim { hold, subject, visit, seats, booked, until })
                })
                .collect();
            performance.restore(claims?).await?;
        }
        Ok(())
    }

    async fn alternatives(&self, show: &Show, seats: &[String], who: &Subject) -> Vec<Vec<String>> {
        let Ok(performance) = on_stage(self, show) else { return Vec::new() };
        let Ok(wish) = indices(&performance, seats) else { return Vec::new() };
        performance.alternatives(&wish, who).iter().map(|block| names(&performance, block)).collect()
    }
}

impl From<SeatingError> for SeatsError {
    fn from(e: SeatingError) -> Self {
        Self(e.to_string())
    }
}

fn on_stage(seating: &Seating, show: &Show) -> Result<Arc<Performance>, SeatsError> {
    seating
        .performance(&show.sale, &show.performance)
        .ok_or_else(|| SeatsError(format!("{} {} is not served here", show.sale, show.performance)))
}

fn indices(performance: &Performance, seats: &[String]) -> Result<Vec<SeatIx>, SeatsError> {
    let index =
        |guid: &String| performance.plan().index_of(guid).ok_or_else(|| SeatsError(format!("the plan has no seat {guid:?} any more")));
    seats.iter().map(index).collect()
}

fn names(performance: &Performance, seats: &[SeatIx]) -> Vec<String> {
    seats.iter().map(|&seat| performance.plan().guid(seat).to_owned()).collect()
}

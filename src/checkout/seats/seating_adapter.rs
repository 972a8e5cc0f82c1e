//! The seat port on the seating context. Seat ids here are the plan's `seat_guid`s.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;

use crate::checkout::{
    seats::{
        port::{BeginOutcome, Seats, SeatsError, VolatileSeatStore},
        seat_mapping::{as_restored, guids, indexes, key_of, ledger_prevails},
        volatile::VolatilePerformance,
    },
    types::{ClaimedSeats, HeldSeats, PerformanceKey, SeatInfo},
};
use crate::{
    kernel::{HoldId, Subject, Timestamp},
    seating::{self, Performance, SeatIx, Seating},
};

#[async_trait]
impl Seats for Seating {
    fn not_in_plan(&self, claims: &[ClaimedSeats]) -> Vec<String> {
        let mut unknown = Vec::new();
        for claim in claims {
            let ClaimedSeats {
                performance_key: key,
                seats,
                ..
            } = claim;
            if let Some(performance) = self.performance(&key.sale, &key.performance) {
                let lacks = |seat: &&String| performance.plan().index_of(seat).is_none();
                let named = |seat: &String| format!("{}/{}/{seat}", key.sale, key.performance);
                unknown.extend(seats.iter().filter(lacks).map(named));
            }
        }
        unknown.sort_unstable();
        unknown
    }

    async fn held_seats(&self, hold: HoldId, buyer: &Subject) -> Result<Option<HeldSeats>, SeatsError> {
        let Some((performance, hold)) = self.find_hold(hold, buyer).await? else {
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
        let performance_key = key_of(&performance);
        let seats: Option<Vec<SeatInfo>> = hold.seats.iter().map(|seat| info(*seat)).collect();
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
        buyer: &Subject,
        until: Timestamp,
    ) -> Result<BeginOutcome, SeatsError> {
        let Some(performance) = performance_of(self, performance_key) else {
            return Ok(BeginOutcome::Gone);
        };
        Ok(match performance.begin_checkout(hold, buyer, until).await? {
            seating::BeginOutcome::Begun(hold) => BeginOutcome::Begun {
                seats: guids(&performance, &hold.seats),
            },
            seating::BeginOutcome::Gone => BeginOutcome::Gone,
        })
    }

    async fn return_to_hold(
        &self,
        performance_key: &PerformanceKey,
        hold: HoldId,
        until: Timestamp,
    ) -> Result<(), SeatsError> {
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
        buyer: &Subject,
    ) -> Result<(), SeatsError> {
        let Some(performance) = performance_of(self, performance_key) else {
            return Ok(());
        };
        ledger_prevails(
            performance_key,
            performance.book(hold, &indexes(&performance, seats), buyer).await,
        )
    }

    async fn release(
        &self,
        performance_key: &PerformanceKey,
        hold: HoldId,
        seats: &[String],
    ) -> Result<(), SeatsError> {
        let Some(performance) = performance_of(self, performance_key) else {
            return Ok(());
        };
        Ok(performance.free(hold, &indexes(&performance, seats)).await?)
    }

    async fn restore(&self, claims: Vec<ClaimedSeats>) -> Result<(), SeatsError> {
        let mut by_performance: HashMap<PerformanceKey, Vec<ClaimedSeats>> = HashMap::new();
        for claim in claims {
            by_performance
                .entry(claim.performance_key.clone())
                .or_default()
                .push(claim);
        }
        for (performance_key, claims) in by_performance {
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

    async fn alternatives(
        &self,
        performance_key: &PerformanceKey,
        seats: &[String],
        buyer: &Subject,
    ) -> Vec<Vec<String>> {
        let Some(performance) = performance_of(self, performance_key) else {
            return Vec::new();
        };
        performance
            .alternatives(&indexes(&performance, seats), buyer)
            .iter()
            .map(|seats| guids(&performance, seats))
            .collect()
    }

    fn volatile_stores(&self) -> Vec<Arc<dyn VolatileSeatStore>> {
        self.all_performances()
            .iter()
            .filter_map(|performance| VolatilePerformance::new(Arc::clone(performance)))
            .map(|store| Arc::new(store) as _)
            .collect()
    }
}

/// `None` for a performance that is no longer configured: nothing is displayed, and the ledger keeps what was
/// sold.
fn performance_of(seating: &Seating, performance_key: &PerformanceKey) -> Option<Arc<Performance>> {
    let found = seating.performance(&performance_key.sale, &performance_key.performance);
    if found.is_none() {
        tracing::warn!(
            sale = %performance_key.sale,
            performance = %performance_key.performance,
            "the ledger has claims of a performance that is not configured; leaving its seats alone"
        );
    }
    found
}

//! A fake seat store.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::crash_point::CrashPoint;
use crate::{
    checkout::{
        ledger::conformance::fixtures::held_seats,
        seats::port::{BeginOutcome, Seats, SeatsError, VolatileSeatStore},
        types::{ClaimedSeats, HeldSeats, PerformanceKey},
    },
    kernel::{HoldId, OsEntropy, Subject, Timestamp},
};

/// A seat store that knows holds and loses its data on demand.
#[derive(Default)]
pub(crate) struct FakeSeats {
    known: Mutex<SeatData>,
}

#[derive(Default)]
struct SeatData {
    holds: HashMap<HoldId, (Subject, Vec<String>, bool)>,
    owner: BTreeMap<String, (HoldId, bool)>,
    deadlines: HashMap<HoldId, Timestamp>,
}

impl FakeSeats {
    /// Holds all the seats or none.
    pub(crate) fn hold(&self, buyer: &Subject, seats: &[&str]) -> Option<HoldId> {
        let mut known = self.known.lock();
        if seats.iter().any(|seat| known.owner.contains_key(*seat)) {
            return None;
        }
        let id = HoldId::random(&OsEntropy);
        known
            .owner
            .extend(seats.iter().map(|seat| ((*seat).to_owned(), (id, false))));
        known.holds.insert(
            id,
            (
                buyer.clone(),
                seats.iter().map(|seat| (*seat).to_owned()).collect(),
                false,
            ),
        );
        Some(id)
    }

    pub(crate) fn is_paying(&self, hold: HoldId) -> Option<bool> {
        self.known.lock().holds.get(&hold).map(|held| held.2)
    }

    /// The deadline that a payment has set.
    pub(crate) fn deadline(&self, hold: HoldId) -> Option<Timestamp> {
        self.known.lock().deadlines.get(&hold).copied()
    }

    /// The store loses who has which seat; buyers still have their holds.
    pub(crate) fn lose_data(&self) {
        self.known.lock().owner.clear();
    }

    pub(crate) fn booked(&self) -> Vec<String> {
        self.known
            .lock()
            .owner
            .iter()
            .filter(|(_, (_, booked))| *booked)
            .map(|(seat, _)| seat.clone())
            .collect()
    }
}

pub(super) struct CrashingSeats(pub(super) Arc<FakeSeats>, pub(super) Arc<CrashPoint>);

#[async_trait]
impl Seats for CrashingSeats {
    fn not_in_plan(&self, _: &[ClaimedSeats]) -> Vec<String> {
        Vec::new()
    }

    async fn held_seats(&self, hold: HoldId, buyer: &Subject) -> Result<Option<HeldSeats>, SeatsError> {
        let known = self.0.known.lock();
        let of_buyer = known.holds.get(&hold).filter(|(holder, ..)| holder == buyer);
        Ok(of_buyer.map(|(_, seats, _)| held_seats(&seats.iter().map(String::as_str).collect::<Vec<_>>())))
    }

    async fn begin_checkout(
        &self,
        _: &PerformanceKey,
        hold: HoldId,
        _: &Subject,
        until: Timestamp,
    ) -> Result<BeginOutcome, SeatsError> {
        let call = async {
            let mut known = self.0.known.lock();
            known.deadlines.insert(hold, until);
            let Some((_, seats, paying)) = known.holds.get_mut(&hold) else {
                return Ok(BeginOutcome::Gone);
            };
            *paying = true;
            Ok(BeginOutcome::Begun { seats: seats.clone() })
        };
        self.1.guard(call).await
    }

    async fn return_to_hold(
        &self,
        _: &PerformanceKey,
        hold: HoldId,
        until: Timestamp,
    ) -> Result<(), SeatsError> {
        let call = async {
            let mut known = self.0.known.lock();
            known.deadlines.insert(hold, until);
            if let Some((_, _, paying)) = known.holds.get_mut(&hold) {
                *paying = false;
            }
        };
        self.1.guard(call).await;
        Ok(())
    }

    async fn book(
        &self,
        _: &PerformanceKey,
        hold: HoldId,
        seats: &[String],
        _: &Subject,
    ) -> Result<(), SeatsError> {
        let call = async {
            let mut known = self.0.known.lock();
            known.holds.remove(&hold);
            known
                .owner
                .extend(seats.iter().map(|seat| (seat.clone(), (hold, true))));
        };
        self.1.guard(call).await;
        Ok(())
    }

    async fn release(&self, _: &PerformanceKey, hold: HoldId, seats: &[String]) -> Result<(), SeatsError> {
        let call = async {
            let mut known = self.0.known.lock();
            known.holds.remove(&hold);
            known
                .owner
                .retain(|seat, (owner, _)| *owner != hold || !seats.contains(seat));
        };
        self.1.guard(call).await;
        Ok(())
    }

    async fn restore(&self, claims: Vec<ClaimedSeats>) -> Result<(), SeatsError> {
        let mut known = self.0.known.lock();
        for claim in claims {
            known.owner.extend(
                claim
                    .seats
                    .iter()
                    .map(|seat| (seat.clone(), (claim.hold, claim.booked))),
            );
            if !claim.booked {
                known.holds.insert(claim.hold, (claim.buyer, claim.seats, true));
            }
        }
        Ok(())
    }

    async fn alternatives(&self, _: &PerformanceKey, _: &[String], _: &Subject) -> Vec<Vec<String>> {
        vec![vec!["Z-1".into()]]
    }

    fn volatile_stores(&self) -> Vec<Arc<dyn VolatileSeatStore>> {
        Vec::new()
    }
}

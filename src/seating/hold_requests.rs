//! Holding seats: named seats, or the best available ones with retries after lost races.

use crate::kernel::{HoldId, Subject, VisitId};

use crate::seating::{
    allocation::{best_available::best_available, query::BestAvailableQuery},
    hold::{HoldOutcome, HoldSpec, HoldState, SeatingError},
    performance::{EXPIRY_BATCH, Performance},
    request_hash::{idempotency_key, spread_seed},
    seat::SeatIx,
    store::{HoldRecord, HoldReply, IdempotencyKey, StoreHold},
};

/// How often one best-available request picks other seats after it lost the first ones to another customer.
const ATTEMPTS_MAX: u32 = 6;

impl Performance {
    /// Holds all requested seats or none.
    ///
    /// With an `idempotency_key`, sending the same request again within ten minutes returns the same hold.
    ///
    /// # Errors
    /// When the request does not fit this plan, the key came with a different request before, or the doors
    /// are open.
    pub async fn hold(
        &self,
        subject: &Subject,
        visit: VisitId,
        spec: HoldSpec,
        key: Option<&str>,
    ) -> Result<HoldOutcome, SeatingError> {
        self.refuse_after_doors()?;
        let key = key.map(|key| idempotency_key(subject, key, &spec));
        match spec {
            HoldSpec::Seats(seats) => self.hold_seats(subject, visit, seats, key).await,
            HoldSpec::BestAvailable {
                quantity,
                zone,
                section,
                accessible,
            } => {
                let query = self.best_available_query(subject, quantity, zone, section, accessible)?;
                self.hold_best(subject, visit, query, key).await
            }
        }
    }

    async fn hold_seats(
        &self,
        subject: &Subject,
        visit: VisitId,
        seats: Vec<SeatIx>,
        key: Option<IdempotencyKey>,
    ) -> Result<HoldOutcome, SeatingError> {
        self.validate_seats(&seats)?;
        let request = self.new_store_hold(subject, visit, seats, key);
        let reply = self.store.hold(&request).await?;
        self.apply_store_changes().await?;
        self.hold_outcome(request, reply).await
    }

    async fn hold_best(
        &self,
        subject: &Subject,
        visit: VisitId,
        mut query: BestAvailableQuery,
        key: Option<IdempotencyKey>,
    ) -> Result<HoldOutcome, SeatingError> {
        if let Some(key) = &key
            && let Some(reply) = self.store.find_completed(key).await?
        {
            let request = self.new_store_hold(subject, visit, Vec::new(), None);
            return self.hold_outcome(request, reply).await;
        }
        if query.quantity > usize::from(self.config.seats_per_customer_max) {
            return Ok(HoldOutcome::LimitReached {
                limit: self.config.seats_per_customer_max,
            });
        }
        loop {
            self.apply_store_changes().await?;
            let Some(seats) = best_available(&self.plan, &self.availability.states(), &query) else {
                // Matching seats may be in holds that have expired but are not ended yet.
                if self.store.expire_holds(EXPIRY_BATCH).await? > 0 {
                    continue;
                }
                return Ok(HoldOutcome::NoMatchingSeats);
            };
            let request = self.new_store_hold(subject, visit, seats, key);
            let reply = self.store.hold(&request).await?;
            query.lost_races += 1;
            if !matches!(reply, HoldReply::Taken(_)) || query.lost_races == ATTEMPTS_MAX {
                self.apply_store_changes().await?;
                return self.hold_outcome(request, reply).await;
            }
        }
    }

    fn best_available_query(
        &self,
        subject: &Subject,
        quantity: u8,
        zone: Option<String>,
        section: Option<String>,
        accessible: u8,
    ) -> Result<BestAvailableQuery, SeatingError> {
        if quantity == 0 {
            return Err(SeatingError::NoSeats);
        }
        if accessible > quantity {
            return Err(SeatingError::TooManyAccessible);
        }
        let zone = zone
            .map(|name| self.plan.zone_index(&name).ok_or(SeatingError::UnknownZone(name)))
            .transpose()?;
        let section = section
            .map(|name| {
                self.plan
                    .section_index(&name)
                    .ok_or(SeatingError::UnknownSection(name))
            })
            .transpose()?;
        Ok(BestAvailableQuery {
            quantity: quantity.into(),
            accessible: accessible.into(),
            zone,
            section,
            spread_seed: spread_seed(subject),
            lost_races: 0,
        })
    }

    fn new_store_hold(
        &self,
        subject: &Subject,
        visit: VisitId,
        seats: Vec<SeatIx>,
        key: Option<IdempotencyKey>,
    ) -> StoreHold {
        StoreHold {
            id: HoldId::random(&*self.entropy),
            subject: subject.clone(),
            visit,
            seats: seats.into(),
            idempotency_key: key,
        }
    }

    async fn hold_outcome(&self, request: StoreHold, reply: HoldReply) -> Result<HoldOutcome, SeatingError> {
        Ok(match reply {
            HoldReply::Held {
                expires_at,
                extensions_left,
            } => HoldOutcome::Held(self.to_hold(HoldRecord {
                id: request.id,
                subject: request.subject,
                visit: request.visit,
                seats: request.seats,
                expires_at,
                extensions_left,
                state: HoldState::Held,
            })),
            HoldReply::Replayed(record) => {
                let live = self.store.find(record.id, &record.subject).await?;
                live.map_or(HoldOutcome::Gone, |record| {
                    HoldOutcome::Held(self.to_hold(record))
                })
            }
            HoldReply::IdempotencyKeyReused => return Err(SeatingError::IdempotencyKeyReused),
            HoldReply::Taken(taken) => {
                let alternatives = self.alternatives(&request.seats, &request.subject);
                HoldOutcome::Taken { taken, alternatives }
            }
            HoldReply::LimitReached => HoldOutcome::LimitReached {
                limit: self.config.seats_per_customer_max,
            },
        })
    }
}

//! [`Performance`]: what customers, the checkout and seat map subscribers may do with one performance.

use std::sync::Arc;

use crate::kernel::{Clock, Entropy, HoldId, Subject, Timestamp};
use crate::platform::shutdown::TaskPanicked;

use crate::seating::{
    allocation::{best_available::alternatives, windows::is_reserved_seat},
    availability::{Availability, EncodedSnapshot, SeatSubscription, ZoneStock},
    hold::{BeginOutcome, ChangeOutcome, ExtendOutcome, Hold, ReleaseOutcome, RestoredClaim, SeatingError},
    plan::{Attribute, Plan},
    pricing::PriceList,
    request_hash::spread_seed,
    seat::{SeatIx, SeatState, SeatStates},
    store::{BookReply, ChangeReply, ExtendReply, HoldRecord, MemoryStore, RedisStore, SeatStore},
    types::{Config, Deps, HoldTerms, OpenError, StoreBackend, StoreError},
};

/// Holds that one call to the store may expire.
pub(super) const EXPIRY_BATCH: usize = 512;

/// One performance of a sale.
pub struct Performance {
    pub(super) config: Config,
    pub(super) plan: Arc<Plan>,
    pub(super) store: Box<dyn SeatStore>,
    /// The same store, if its dataset can be lost while this process runs.
    volatile_store: Option<RedisStore>,
    pub(super) availability: Arc<Availability>,
    pub(super) entropy: Arc<dyn Entropy>,
    clock: Arc<dyn Clock>,
    prices: PriceList,
}

impl Performance {
    pub(super) async fn open(config: Config, plan: Arc<Plan>, deps: &Deps) -> Result<Self, OpenError> {
        let prices = PriceList::new(&config, &plan)?;
        let terms = HoldTerms {
            hold_ttl: config.hold_ttl,
            extensions_max: config.extensions_max,
            seats_per_customer_max: config.seats_per_customer_max,
        };
        let seats = plan.seat_count();
        let volatile_store = match &deps.store {
            StoreBackend::Memory => None,
            StoreBackend::Redis(redis) => Some(RedisStore::start(
                redis.clone(),
                (&config.sale, &config.performance),
                (seats, terms),
                Arc::clone(&deps.entropy),
                &deps.lifecycle,
            )),
        };
        let store: Box<dyn SeatStore> = match &volatile_store {
            Some(store) => Box::new(store.clone()),
            None => Box::new(MemoryStore::new(seats, terms, Arc::clone(&deps.clock))),
        };
        // Until the dataset of a shared store is activated, its states cannot be trusted: show no free seat.
        let (version, states) = if volatile_store.is_some() {
            (0, SeatStates::blocked(seats))
        } else {
            store.load().await?
        };
        let availability = Availability::new(
            Arc::clone(&plan),
            version,
            states,
            config.seat_streams_max,
            deps.lifecycle.clone(),
        );
        Ok(Self {
            config,
            plan,
            store,
            volatile_store,
            availability: Arc::new(availability),
            entropy: Arc::clone(&deps.entropy),
            clock: Arc::clone(&deps.clock),
            prices,
        })
    }

    /// The configuration that this performance was opened with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The seating plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Replaces the seats of a hold, all or none. Seats that stay in the hold are never free in between.
    ///
    /// # Errors
    /// When the seats do not fit this plan, or the store did not answer.
    pub async fn swap(
        &self,
        id: HoldId,
        subject: &Subject,
        seats: Vec<SeatIx>,
    ) -> Result<ChangeOutcome, SeatingError> {
        self.refuse_after_doors()?;
        self.validate_seats(&seats)?;
        let seats: Arc<[SeatIx]> = seats.into();
        let reply = self.store.swap(id, subject, &seats).await?;
        self.apply_store_changes().await?;
        Ok(match reply {
            ChangeReply::Changed(record) => ChangeOutcome::Changed(self.to_hold(record)),
            ChangeReply::Taken(taken) => ChangeOutcome::Taken {
                alternatives: self.alternatives(&seats, subject),
                taken,
            },
            ChangeReply::LimitReached => ChangeOutcome::LimitReached {
                limit: self.config.seats_per_customer_max,
            },
            ChangeReply::Gone => ChangeOutcome::Gone,
        })
    }

    /// Fails once the doors are open.
    pub(super) fn refuse_after_doors(&self) -> Result<(), SeatingError> {
        if self.clock.now() >= self.config.doors_open_at {
            Err(SeatingError::DoorsOpen)
        } else {
            Ok(())
        }
    }

    /// Moves a hold's deadline as far as a new hold's would be.
    ///
    /// # Errors
    /// When the store did not answer, or the doors are open.
    pub async fn extend(&self, id: HoldId, subject: &Subject) -> Result<ExtendOutcome, SeatingError> {
        self.refuse_after_doors()?;
        Ok(match self.store.extend(id, subject).await? {
            ExtendReply::Extended(record) => ExtendOutcome::Extended(self.to_hold(record)),
            ExtendReply::NoMoreExtensions => ExtendOutcome::NoMoreExtensions,
            ExtendReply::Gone => ExtendOutcome::Gone,
        })
    }

    /// Ends a hold; its seats become free.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn release(&self, id: HoldId, subject: &Subject) -> Result<ReleaseOutcome, SeatingError> {
        let released = self.store.release(id, subject).await?;
        self.apply_store_changes().await?;
        Ok(if released {
            ReleaseOutcome::Released
        } else {
            ReleaseOutcome::Gone
        })
    }

    /// The live hold with this id. `None` also when another subject owns it.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn find_hold(&self, id: HoldId, subject: &Subject) -> Result<Option<Hold>, SeatingError> {
        let record = self.store.find(id, subject).await?;
        Ok(record.map(|record| self.to_hold(record)))
    }

    /// The subject's live holds, the one that ends first in front.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn holds_of(&self, subject: &Subject) -> Result<Vec<Hold>, SeatingError> {
        let records = self.store.holds_of(subject).await?;
        let mut holds: Vec<Hold> = records.into_iter().map(|record| self.to_hold(record)).collect();
        holds.sort_by_key(|hold| (hold.expires_at, hold.id));
        Ok(holds)
    }

    /// Gives a hold to the checkout: from now on it lasts until the checkout ends it. `until` is the deadline
    /// to show.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn begin_checkout(
        &self,
        id: HoldId,
        subject: &Subject,
        until: Timestamp,
    ) -> Result<BeginOutcome, SeatingError> {
        let begun = self.store.begin_checkout(id, subject, until).await?;
        Ok(begun.map_or(BeginOutcome::Gone, |record| {
            BeginOutcome::Begun(self.to_hold(record))
        }))
    }

    /// Gives a hold back to its customer until `until`, after a failed payment. Idempotent.
    ///
    /// # Errors
    /// When the store did not answer: until it has, the seats stay blocked for everyone else.
    pub async fn return_to_hold(&self, id: HoldId, until: Timestamp) -> Result<(), SeatingError> {
        Ok(self.store.return_to_hold(id, until).await?)
    }

    /// Records a booking that the ledger has made. Idempotent; the hold need not exist.
    ///
    /// # Errors
    /// [`SeatingError::Conflict`] when a seat is booked through another hold; then nothing is changed.
    pub async fn book(&self, id: HoldId, seats: &[SeatIx], subject: &Subject) -> Result<(), SeatingError> {
        self.validate_seats(seats)?;
        let reply = self.store.book(id, subject, seats).await?;
        self.apply_store_changes().await?;
        match reply {
            BookReply::Booked => Ok(()),
            BookReply::Taken(taken) => Err(SeatingError::Conflict(taken)),
        }
    }

    /// Undoes [`Performance::begin_checkout`] and [`Performance::book`] for these seats. Idempotent.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn free(&self, id: HoldId, seats: &[SeatIx]) -> Result<(), SeatingError> {
        self.store.free(id, seats).await?;
        Ok(self.apply_store_changes().await?)
    }

    /// Applies the claims that the ledger knows. Call this before requests are served.
    ///
    /// # Errors
    /// [`SeatingError::Conflict`] with the seats that two claims name; all other claims are applied.
    pub async fn restore(&self, claims: Vec<RestoredClaim>) -> Result<(), SeatingError> {
        for claim in &claims {
            self.validate_seats(&claim.seats)?;
        }
        let taken = self.store.restore(&claims).await?;
        self.apply_store_changes().await?;
        if taken.is_empty() {
            Ok(())
        } else {
            Err(SeatingError::Conflict(taken))
        }
    }

    /// Blocks free seats, or frees blocked ones. Seats in another state stay as they are.
    ///
    /// # Errors
    /// When the seats do not fit this plan, or the store did not answer.
    pub async fn set_blocked(&self, seats: &[SeatIx], blocked: bool) -> Result<(), SeatingError> {
        self.validate_seats(seats)?;
        self.store.set_blocked(seats, blocked).await?;
        Ok(self.apply_store_changes().await?)
    }

    /// The store, if its dataset can be lost while this process runs. Its owner must then activate and
    /// rebuild it.
    pub fn volatile_store(&self) -> Option<&RedisStore> {
        self.volatile_store.as_ref()
    }

    /// The seats that the store itself has as booked now, to compare with the ledger.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn booked_seats(&self) -> Result<Vec<SeatIx>, SeatingError> {
        let (_, states) = self.store.load().await?;
        Ok(self
            .plan
            .seats()
            .filter(|seat| states.get(*seat) == SeatState::Booked)
            .collect())
    }

    /// `{"version", "seats": {guid: state}}` of all seats or of one section. `None` when there is no such
    /// section.
    ///
    /// # Errors
    /// The process has stopped.
    pub async fn snapshot_json(
        &self,
        section: Option<&str>,
    ) -> Result<Option<EncodedSnapshot>, TaskPanicked> {
        self.availability.snapshot_json(section).await
    }

    /// All states in binary: the version (`u64`, little-endian), the number of seats (`u32`, little-endian),
    /// then two bits a seat: seat `i` in byte `i / 4` at bits `2 * (i % 4)`, 0 free, 1 held, 2 booked, 3
    /// blocked.
    pub fn snapshot_packed(&self) -> EncodedSnapshot {
        self.availability.snapshot_packed()
    }

    /// Subscribes to changes after version `after`, or from now on. `None` when the subscriber limit is
    /// reached.
    pub fn subscribe(&self, after: Option<u64>) -> Option<SeatSubscription> {
        self.availability.subscribe(after)
    }

    /// Seats by price zone and state, as this node knows them.
    pub fn stock(&self) -> Vec<ZoneStock> {
        self.availability.stock()
    }

    /// Up to three groups of free seats as good as the requested ones. The choice differs between subjects,
    /// so that customers who lost the same seats do not all try the same ones next.
    pub fn alternatives(&self, requested: &[SeatIx], subject: &Subject) -> Vec<Vec<SeatIx>> {
        alternatives(
            &self.plan,
            &self.availability.states(),
            requested,
            spread_seed(subject),
        )
    }

    /// Ends all holds that are past their deadline.
    pub(super) async fn expire_holds(&self) -> Result<(), StoreError> {
        while self.store.expire_holds(EXPIRY_BATCH).await? == EXPIRY_BATCH {}
        Ok(())
    }

    /// Sends what has changed to the subscribers.
    pub(super) async fn publish_changes(&self) -> Result<(), StoreError> {
        self.apply_store_changes().await?;
        self.availability.publish();
        Ok(())
    }

    pub(super) async fn apply_store_changes(&self) -> Result<(), StoreError> {
        self.availability.catch_up(&*self.store).await
    }

    /// Checks that there is at least one seat, and that each is in the plan and named once.
    pub(super) fn validate_seats(&self, seats: &[SeatIx]) -> Result<(), SeatingError> {
        if seats.is_empty() {
            return Err(SeatingError::NoSeats);
        }
        if let Some(unknown) = seats.iter().find(|seat| seat.index() >= self.plan.seat_count()) {
            return Err(SeatingError::UnknownSeat(*unknown));
        }
        let mut sorted = seats.to_vec();
        sorted.sort_unstable();
        match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(SeatingError::DuplicateSeat(pair[0])),
            None => Ok(()),
        }
    }

    /// The seats of a choice by hand that are kept for wheelchair users and their companions, unless
    /// `accessible` of the customers are: then each may have one wheelchair space.
    #[must_use]
    pub fn kept_for_wheelchairs(&self, seats: &[SeatIx], accessible: u8) -> Vec<SeatIx> {
        let of_attribute = |attribute| move |seat: &SeatIx| self.plan.has_attribute(*seat, attribute);
        let is_space = of_attribute(Attribute::Accessible);
        if accessible > 0 {
            return seats
                .iter()
                .copied()
                .filter(is_space)
                .skip(accessible.into())
                .collect();
        }
        let is_companion = of_attribute(Attribute::Companion);
        if !seats.iter().any(|seat| is_space(seat) || is_companion(seat)) {
            // Nearly every choice. Looking at the states copies those of all seats.
            return Vec::new();
        }
        let states = self.availability.states();
        let is_kept = |seat: &SeatIx| is_reserved_seat(&self.plan, &states, *seat);
        seats.iter().copied().filter(is_kept).collect()
    }

    pub(super) fn to_hold(&self, record: HoldRecord) -> Hold {
        Hold {
            id: record.id,
            subject: record.subject,
            visit: record.visit,
            total: self.prices.total(&self.plan, &record.seats),
            seats: record.seats.to_vec(),
            expires_at: record.expires_at,
            extensions_left: record.extensions_left,
            state: record.state,
        }
    }
}

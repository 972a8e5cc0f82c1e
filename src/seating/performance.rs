//! One evening: what fans, the checkout and the watchers may ask of it.

use std::sync::Arc;

use aws_lc_rs::digest;

use crate::kernel::{Entropy, HoldId, Money, Subject, Timestamp, VisitId};

use crate::seating::{
    Config, Deps, StoreBackend, OpenError,
    allocation::best_available::{Ask, alternatives, best_available},
    availability::{Availability, EncodedSnapshot, SeatSubscription, ZoneStock},
    hold::{
        BeginOutcome, ChangeOutcome, ExtendOutcome, Hold, HoldOutcome, ReleaseOutcome, RestoredClaim,
        SeatingError, HoldSpec,
    },
    plan::Plan,
    seat::{SeatIx, SeatState, SeatStates},
    store::{
        BookReply, ChangeReply, ExtendReply, HoldRecord, HoldReply, StoreHold, MemoryStore, IdempotencyKey,
        RedisStore, SeatStore, StoreError, HoldTerms,
    },
};

/// How often one request goes for the next best seats when others were faster.
const ATTEMPTS_MAX: u32 = 6;
const EXPIRY_BATCH: usize = 512;
const PRICE_MAX: i64 = 1_000_000_000_000;

/// One performance of a sale.
pub struct Performance {
    config: Config,
    plan: Arc<Plan>,
    store: Box<dyn SeatStore>,
    /// The same store, if somebody must vouch for its memory.
    forgetful: Option<RedisStore>,
    availability: Arc<Availability>,
    entropy: Arc<dyn Entropy>,
    /// By zone; a zone without a seat may have none.
    prices: Vec<Option<Money>>,
}

impl Performance {
    pub(super) async fn open(config: Config, plan: Arc<Plan>, deps: &Deps) -> Result<Self, OpenError> {
        let prices = prices(&config, &plan)?;
        let terms = HoldTerms {
            hold_ttl: config.hold_ttl,
            extensions_max: config.extensions_max,
            seats_per_customer_max: config.seats_per_customer_max,
        };
        let seats = plan.seat_count();
        let forgetful = match &deps.engine {
            StoreBackend::Memory => None,
            StoreBackend::Redis(redis) => {
                let name = (&config.sale, &config.performance);
                Some(RedisStore::start(
                    redis.clone(),
                    name,
                    (seats, terms),
                    Arc::clone(&deps.entropy),
                    &deps.life,
                ))
            }
        };
        let store: Box<dyn SeatStore> = match &forgetful {
            Some(store) => Box::new(store.clone()),
            None => Box::new(MemoryStore::new(seats, terms, Arc::clone(&deps.clock))),
        };
        // Until somebody has vouched for what an engine elsewhere knows, nobody is shown a seat to be had.
        let (version, states) = if forgetful.is_some() {
            (0, SeatStates::blocked(seats))
        } else {
            store.load().await?
        };
        let availability = Availability::new(
            Arc::clone(&plan),
            version,
            states,
            config.seat_streams_max,
            deps.life.clone(),
        );
        Ok(Self {
            config,
            plan,
            store,
            forgetful,
            availability: Arc::new(availability),
            entropy: Arc::clone(&deps.entropy),
            prices,
        })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Holds what is wished, all of it or nothing. With an `operation`, sending the same again gives the same hold.
    ///
    /// # Errors
    /// When the wish makes no sense for this plan, or the operation id came with another wish before.
    pub async fn hold(
        &self,
        who: &Subject,
        visit: VisitId,
        wish: HoldSpec,
        operation: Option<&str>,
    ) -> Result<HoldOutcome, SeatingError> {
        let operation = operation.map(|id| idempotency_key(who, id, &wish));
        match wish {
            HoldSpec::Seats(seats) => self.hold_seats(who, visit, seats, operation).await,
            HoldSpec::BestAvailable {
                quantity,
                zone,
                section,
                accessible,
            } => {
                let ask = self.best_available_query(who, quantity, zone, section, accessible)?;
                self.hold_best(who, visit, ask, operation).await
            }
        }
    }

    /// Gives the hold these seats instead, all of them or none; seats it keeps are never anybody else's in between.
    pub async fn swap(
        &self,
        id: HoldId,
        who: &Subject,
        seats: Vec<SeatIx>,
    ) -> Result<ChangeOutcome, SeatingError> {
        self.validate_seats(&seats)?;
        let seats: Arc<[SeatIx]> = seats.into();
        let reply = self.store.swap(id, who, &seats).await?;
        self.apply_store_changes().await?;
        Ok(match reply {
            ChangeReply::Changed(record) => ChangeOutcome::Changed(self.to_hold(record)),
            ChangeReply::Taken(taken) => ChangeOutcome::Taken {
                alternatives: self.alternatives(&seats, who),
                taken,
            },
            ChangeReply::LimitReached => ChangeOutcome::LimitReached {
                limit: self.config.seats_per_customer_max,
            },
            ChangeReply::Gone => ChangeOutcome::Gone,
        })
    }

    pub async fn extend(&self, id: HoldId, who: &Subject) -> Result<ExtendOutcome, SeatingError> {
        Ok(match self.store.extend(id, who).await? {
            ExtendReply::Extended(record) => ExtendOutcome::Extended(self.to_hold(record)),
            ExtendReply::NoMoreExtensions => ExtendOutcome::NoMoreExtensions,
            ExtendReply::Gone => ExtendOutcome::Gone,
        })
    }

    pub async fn release(&self, id: HoldId, who: &Subject) -> Result<ReleaseOutcome, SeatingError> {
        let released = self.store.release(id, who).await?;
        self.apply_store_changes().await?;
        Ok(if released {
            ReleaseOutcome::Released
        } else {
            ReleaseOutcome::Gone
        })
    }

    /// The hold if it is `who`'s own and lives.
    pub async fn find_hold(&self, id: HoldId, who: &Subject) -> Result<Option<Hold>, SeatingError> {
        Ok(self.store.find(id, who).await?.map(|record| self.to_hold(record)))
    }

    /// From now on the hold lasts until the checkout ends it; `until` is what is shown as its deadline.
    pub async fn begin_checkout(
        &self,
        id: HoldId,
        who: &Subject,
        until: Timestamp,
    ) -> Result<BeginOutcome, SeatingError> {
        let begun = self.store.begin_checkout(id, who, until).await?;
        Ok(begun.map_or(BeginOutcome::Gone, |record| {
            BeginOutcome::Begun(self.to_hold(record))
        }))
    }

    /// The payment came to nothing: the fan has her hold back until `until`. Idempotent.
    ///
    /// # Errors
    /// When the engine does not answer: until it has, nobody can have the seats.
    pub async fn return_to_hold(&self, id: HoldId, until: Timestamp) -> Result<(), SeatingError> {
        Ok(self.store.return_to_hold(id, until).await?)
    }

    /// Follows the ledger, which has booked the seats. Idempotent; the hold need not be known.
    ///
    /// # Errors
    /// [`SeatingError::Conflict`] when a seat is booked through another hold; then nothing is changed.
    pub async fn book(&self, id: HoldId, seats: &[SeatIx], who: &Subject) -> Result<(), SeatingError> {
        self.validate_seats(seats)?;
        let reply = self.store.book(id, who, seats).await?;
        self.apply_store_changes().await?;
        match reply {
            BookReply::Booked => Ok(()),
            BookReply::Taken(taken) => Err(SeatingError::Conflict(taken)),
        }
    }

    /// Undoes [`Performance::begin_checkout`] and [`Performance::book`] for these seats. Idempotent.
    pub async fn free(&self, id: HoldId, seats: &[SeatIx]) -> Result<(), SeatingError> {
        self.store.free(id, seats).await?;
        Ok(self.apply_store_changes().await?)
    }

    /// Gives the seats what the ledger knows, before anything is served.
    ///
    /// # Errors
    /// [`SeatingError::Conflict`] with the seats that two claims have; all other claims are in place.
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

    /// Keeps free seats back, or gives kept-back ones free. Seats in another state stay as they are.
    pub async fn set_blocked(&self, seats: &[SeatIx], blocked: bool) -> Result<(), SeatingError> {
        self.validate_seats(seats)?;
        self.store.set_blocked(seats, blocked).await?;
        Ok(self.apply_store_changes().await?)
    }

    /// The engine, if its memory may be lost and somebody must vouch for it.
    pub fn volatile_store(&self) -> Option<&RedisStore> {
        self.forgetful.as_ref()
    }

    /// What the engine itself thinks is booked now.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn booked_seats(&self) -> Result<Vec<SeatIx>, SeatingError> {
        let (_, states) = self.store.load().await?;
        Ok(self
            .plan
            .seats()
            .filter(|it| states.get(*it) == SeatState::Booked)
            .collect())
    }

    /// `{"version", "seats": {guid: state}}` of the house or of one section; `None` when there is no such section.
    pub fn snapshot_json(&self, section: Option<&str>) -> Option<EncodedSnapshot> {
        self.availability.snapshot_json(section)
    }

    /// A header of the version (`u64`, little-endian) and the number of seats (`u32`, little-endian), then two bits a
    /// seat: seat `i` in byte `i / 4` at bits `2 * (i % 4)`, 0 free, 1 held, 2 booked, 3 blocked.
    pub fn snapshot_packed(&self) -> EncodedSnapshot {
        self.availability.snapshot_packed()
    }

    /// What changes after version `after`, or from now on. `None` when as many watch as may.
    pub fn subscribe(&self, after: Option<u64>) -> Option<SeatSubscription> {
        self.availability.watch(after)
    }

    pub fn stock(&self) -> Vec<ZoneStock> {
        self.availability.stock()
    }

    /// Ends what has run out.
    pub(super) async fn expire_holds(&self) -> Result<(), StoreError> {
        while self.store.expire_holds(EXPIRY_BATCH).await? == EXPIRY_BATCH {}
        Ok(())
    }

    /// Shows what has changed.
    pub(super) async fn publish_changes(&self) -> Result<(), StoreError> {
        self.apply_store_changes().await?;
        self.availability.publish();
        Ok(())
    }

    async fn apply_store_changes(&self) -> Result<(), StoreError> {
        self.availability.catch_up(&*self.store).await
    }

    async fn hold_seats(
        &self,
        who: &Subject,
        visit: VisitId,
        seats: Vec<SeatIx>,
        operation: Option<IdempotencyKey>,
    ) -> Result<HoldOutcome, SeatingError> {
        self.validate_seats(&seats)?;
        let request = self.new_store_hold(who, visit, seats, operation);
        let reply = self.store.hold(&request).await?;
        self.apply_store_changes().await?;
        self.hold_outcome(request, reply)
    }

    async fn hold_best(
        &self,
        who: &Subject,
        visit: VisitId,
        mut ask: Ask,
        operation: Option<IdempotencyKey>,
    ) -> Result<HoldOutcome, SeatingError> {
        if let Some(operation) = &operation
            && let Some(reply) = self.store.find_completed(operation).await?
        {
            return self.hold_outcome(self.new_store_hold(who, visit, Vec::new(), None), reply);
        }
        if ask.quantity > usize::from(self.config.seats_per_customer_max) {
            return Ok(HoldOutcome::LimitReached {
                limit: self.config.seats_per_customer_max,
            });
        }
        loop {
            self.apply_store_changes().await?;
            let Some(seats) = best_available(&self.plan, &self.availability.states(), &ask) else {
                // Perhaps what is wanted has run out just now.
                if self.store.expire_holds(EXPIRY_BATCH).await? > 0 {
                    continue;
                }
                return Ok(HoldOutcome::NoMatchingSeats);
            };
            let request = self.new_store_hold(who, visit, seats, operation);
            let reply = self.store.hold(&request).await?;
            ask.beaten += 1;
            if !matches!(reply, HoldReply::Taken(_)) || ask.beaten == ATTEMPTS_MAX {
                self.apply_store_changes().await?;
                return self.hold_outcome(request, reply);
            }
        }
    }

    fn best_available_query(
        &self,
        who: &Subject,
        quantity: u8,
        zone: Option<String>,
        section: Option<String>,
        accessible: u8,
    ) -> Result<Ask, SeatingError> {
        if quantity == 0 {
            return Err(SeatingError::NoSeats);
        }
        if accessible > quantity {
            return Err(SeatingError::TooManyAccessible);
        }
        let zone = zone
            .map(|it| self.plan.zone_index(&it).ok_or(SeatingError::UnknownZone(it)))
            .transpose()?;
        let section = section
            .map(|it| {
                self.plan
                    .section_index(&it)
                    .ok_or(SeatingError::UnknownSection(it))
            })
            .transpose()?;
        Ok(Ask {
            quantity: quantity.into(),
            accessible: accessible.into(),
            zone,
            section,
            spread: spread_seed(who),
            beaten: 0,
        })
    }

    /// Seats of this plan, each once, at least one.
    fn validate_seats(&self, seats: &[SeatIx]) -> Result<(), SeatingError> {
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

    fn new_store_hold(
        &self,
        who: &Subject,
        visit: VisitId,
        seats: Vec<SeatIx>,
        operation: Option<IdempotencyKey>,
    ) -> StoreHold {
        StoreHold {
            id: HoldId::random(&*self.entropy),
            subject: who.clone(),
            visit,
            seats: seats.into(),
            operation,
        }
    }

    fn hold_outcome(&self, request: StoreHold, reply: HoldReply) -> Result<HoldOutcome, SeatingError> {
        Ok(match reply {
            HoldReply::Held {
                expires_at,
                extensions_left,
            } => {
                let StoreHold {
                    id,
                    subject,
                    visit,
                    seats,
                    ..
                } = request;
                let state = super::HoldState::Held;
                HoldOutcome::Held(self.to_hold(HoldRecord {
                    id,
                    subject,
                    visit,
                    seats,
                    expires_at,
                    extensions_left,
                    state,
                }))
            }
            HoldReply::Replayed(record) => HoldOutcome::Held(self.to_hold(record)),
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

    /// Up to three blocks of free seats that are as good as the wished ones; they differ between fans.
    pub fn alternatives(&self, wish: &[SeatIx], who: &Subject) -> Vec<Vec<SeatIx>> {
        alternatives(&self.plan, &self.availability.states(), wish, spread_seed(who))
    }

    fn to_hold(&self, record: HoldRecord) -> Hold {
        let HoldRecord {
            id,
            subject,
            visit,
            seats,
            expires_at,
            extensions_left,
            state,
        } = record;
        let prices = seats
            .iter()
            .filter_map(|seat| self.prices[self.plan.zone_index_of(*seat) as usize]);
        let total = prices.reduce(|sum, price| sum.checked_add(price).unwrap_or(sum));
        let total = total.expect("a hold has a seat, and every zone with a seat has a price");
        Hold {
            id,
            subject,
            visit,
            seats: seats.to_vec(),
            expires_at,
            total,
            extensions_left,
            state,
        }
    }
}

/// One currency, and no price that could overflow a sum.
fn prices(config: &Config, plan: &Plan) -> Result<Vec<Option<Money>>, OpenError> {
    let performance = &config.performance;
    let (mut prices, mut currency) = (Vec::new(), None);
    for (zone, name) in (0..).zip(plan.zones()) {
        let price = config.prices.get(name).copied();
        match price {
            None if plan.runs_of(Some(zone)).is_empty() => {}
            None => {
                return Err(OpenError::MissingPrice {
                    performance: performance.clone(),
                    zone: name.clone(),
                });
            }
            Some(price) if !(0..=PRICE_MAX).contains(&price.amount) => {
                return Err(OpenError::InvalidPrice {
                    performance: performance.clone(),
                    zone: name.clone(),
                });
            }
            Some(price) if *currency.get_or_insert(price.currency) != price.currency => {
                return Err(OpenError::MixedCurrencies {
                    performance: performance.clone(),
                });
            }
            Some(_) => {}
        }
        prices.push(price);
    }
    Ok(prices)
}

fn idempotency_key(who: &Subject, id: &str, wish: &HoldSpec) -> IdempotencyKey {
    let mut wished = Vec::new();
    match wish {
        HoldSpec::Seats(seats) => {
            let mut sorted = seats.clone();
            sorted.sort_unstable();
            wished.push(b's');
            wished.extend(sorted.iter().flat_map(|seat| seat.0.to_le_bytes()));
        }
        HoldSpec::BestAvailable {
            quantity,
            zone,
            section,
            accessible,
        } => {
            wished.extend([b'b', *quantity, *accessible]);
            for name in [zone, section] {
                wished.push(u8::from(name.is_some()));
                wished.extend(name.iter().flat_map(|it| it.bytes().chain([0])));
            }
        }
    }
    let key = [who.as_str().as_bytes(), &[0], id.as_bytes()].concat();
    IdempotencyKey {
        key: fingerprint(&key),
        request_hash: fingerprint(&wished),
    }
}

fn spread_seed(who: &Subject) -> u64 {
    fingerprint(who.as_str().as_bytes())
        .first_chunk()
        .map_or(0, |first| u64::from_le_bytes(*first))
}

fn fingerprint(bytes: &[u8]) -> [u8; 16] {
    let digest = digest::digest(&digest::SHA256, bytes);
    std::array::from_fn(|i| digest.as_ref()[i])
}

//! [`RedisStore`]: the seat store port on Redis.

use std::sync::Arc;

use async_trait::async_trait;
use redis::Value;

use crate::{
    kernel::{Clock, Entropy, HoldId, PerformanceId, SaleId, Subject, Timestamp},
    platform::{
        redis::{FencedConnection, Redis},
        shutdown::Lifecycle,
    },
    seating::{
        hold::RestoredClaim,
        seat::{SeatIx, SeatStates},
        store::{
            port::{
                BookReply, ChangeReply, ExtendReply, HoldRecord, HoldReply, IdempotencyKey, SeatChange,
                SeatStore, StoreHold,
            },
            redis::{
                change_feed::ChangeFeed,
                core::{BookAttempt, IDEMPOTENT_KEYS, KEYS, StoreCore, flag, with_seats},
                feed_reader,
                hold_batchers::{EXPIRED_PER_HOLD, EXPIRY_BATCH, HoldBatchers},
                record,
                reply::unreadable,
                scripts::SCRIPTS,
            },
        },
        types::{HoldTerms, StoreError},
    },
};

/// Seats blocked or freed by one script.
const BLOCK_BATCH: usize = 1_000;
/// Bytes of claims restored by one script: longer ones would keep all other calls waiting.
const RESTORE_BATCH_BYTES: usize = 8 << 10;

/// One performance's seats on Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisStore {
    pub(super) core: Arc<StoreCore>,
    batchers: HoldBatchers,
}

impl RedisStore {
    /// Starts the tasks that keep the connection and follow the changes.
    ///
    /// Every call fails until the dataset is activated ([`RedisStore::activate`]).
    #[must_use]
    pub fn start(
        redis: Redis,
        (sale, performance): (&SaleId, &PerformanceId),
        (seats, terms): (usize, HoldTerms),
        entropy: Arc<dyn Entropy>,
        lifecycle: &Lifecycle,
    ) -> Self {
        let hash_tag = format!("{sale}:{performance}");
        Self::start_with(redis, hash_tag, (seats, terms), None, entropy, lifecycle)
    }

    pub(super) fn start_with(
        redis: Redis,
        hash_tag: String,
        (seat_count, terms): (usize, HoldTerms),
        test_clock: Option<Arc<dyn Clock>>,
        entropy: Arc<dyn Entropy>,
        lifecycle: &Lifecycle,
    ) -> Self {
        let connection =
            FencedConnection::start(redis.clone(), hash_tag.clone(), Arc::clone(&entropy), lifecycle);
        let core = Arc::new(StoreCore {
            redis,
            keys: KEYS.map(|name| connection.key(name)),
            connection,
            hash_tag,
            seat_count,
            terms,
            feed: ChangeFeed::default(),
            entropy,
            test_clock,
        });
        feed_reader::start(&core, lifecycle);
        let batchers = HoldBatchers::start(&core, lifecycle);
        Self { core, batchers }
    }

    /// The reply to a request that no script need be asked about, if it is one.
    async fn hold_without_script(&self, request: &StoreHold) -> Result<Option<HoldReply>, StoreError> {
        if request.seats.len() > usize::from(self.core.terms.seats_per_customer_max) {
            let completed = match &request.idempotency_key {
                Some(key) => self.find_completed(key).await?,
                None => None,
            };
            return Ok(Some(completed.unwrap_or(HoldReply::LimitReached)));
        }
        if request.seats.iter().all(|seat| self.core.has_seat(*seat)) {
            return Ok(None);
        }
        let (_, states) = self.core.load().await?;
        let taken = request
            .seats
            .iter()
            .copied()
            .filter(|seat| !states.is_free(*seat))
            .collect();
        Ok(Some(HoldReply::Taken(taken)))
    }
}

#[async_trait]
impl SeatStore for RedisStore {
    async fn hold(&self, request: &StoreHold) -> Result<HoldReply, StoreError> {
        if let Some(reply) = self.hold_without_script(request).await? {
            return Ok(reply);
        }
        // A full queue and a process that stops are the same to the caller: the store is unavailable.
        let held = self
            .batchers
            .holds
            .submit(request.clone())
            .await
            .map_err(|_| StoreError::Unavailable)??;
        self.core.feed.wait_for(held.version).await;
        Ok(held.reply)
    }

    async fn find_completed(&self, key: &IdempotencyKey) -> Result<Option<HoldReply>, StoreError> {
        let call = self
            .core
            .call_with_keys(IDEMPOTENT_KEYS)
            .arg(self.core.time_arg())
            .arg(&key.key_hash[..])
            .arg(&key.request_hash[..]);
        let reply = self.core.reply(&SCRIPTS.find_completed, call).await?;
        Ok(match reply.status() {
            b"replayed" => Some(HoldReply::Replayed(reply.replayed()?)),
            b"reused" => Some(HoldReply::IdempotencyKeyReused),
            b"unknown" => None,
            _ => return Err(unreadable()),
        })
    }

    async fn find(&self, id: HoldId, subject: &Subject) -> Result<Option<HoldRecord>, StoreError> {
        let call = self.core.owned_hold_call(id, subject);
        optional_record(id, &self.core.run(&SCRIPTS.find, call).await?)
    }

    async fn holds_of(&self, subject: &Subject) -> Result<Vec<HoldRecord>, StoreError> {
        let call = self
            .core
            .hold_call()
            .arg(self.core.time_arg())
            .arg(subject.as_str());
        let reply = self.core.reply(&SCRIPTS.holds_of, call).await?;
        reply.holds()
    }

    async fn swap(
        &self,
        id: HoldId,
        subject: &Subject,
        seats: &Arc<[SeatIx]>,
    ) -> Result<ChangeReply, StoreError> {
        if let Some(reply) = self.core.try_swap(id, subject, seats, false).await? {
            return Ok(reply);
        }
        self.core.expire_batch(EXPIRED_PER_HOLD).await?;
        self.core
            .try_swap(id, subject, seats, true)
            .await?
            .ok_or_else(unreadable)
    }

    async fn extend(&self, id: HoldId, subject: &Subject) -> Result<ExtendReply, StoreError> {
        // The script gets the number of extensions that this call has seen: run twice, it extends only once.
        let Some(seen) = self.find(id, subject).await? else {
            return Ok(ExtendReply::Gone);
        };
        let ttl_ms = u64::try_from(self.core.terms.hold_ttl.as_millis()).unwrap_or(u64::MAX);
        let call = self
            .core
            .owned_hold_call(id, subject)
            .arg(ttl_ms)
            .arg(seen.extensions_left);
        let reply = self.core.reply(&SCRIPTS.extend, call).await?;
        Ok(match reply.status() {
            b"extended" => ExtendReply::Extended(reply.record(id, 1)?),
            b"no_more" => ExtendReply::NoMoreExtensions,
            b"gone" => ExtendReply::Gone,
            _ => return Err(unreadable()),
        })
    }

    async fn release(&self, id: HoldId, subject: &Subject) -> Result<bool, StoreError> {
        let released = self
            .batchers
            .releases
            .submit((id, subject.clone()))
            .await
            .map_err(|_| StoreError::Unavailable)??;
        self.core.feed.wait_for(released.version).await;
        Ok(released.reply)
    }

    async fn begin_checkout(
        &self,
        id: HoldId,
        subject: &Subject,
        until: Timestamp,
    ) -> Result<Option<HoldRecord>, StoreError> {
        let call = self.core.owned_hold_call(id, subject).arg(until.as_millis());
        optional_record(id, &self.core.run(&SCRIPTS.begin_checkout, call).await?)
    }

    async fn return_to_hold(&self, id: HoldId, until: Timestamp) -> Result<(), StoreError> {
        let call = self
            .core
            .hold_call()
            .arg(&id.as_uuid().as_bytes()[..])
            .arg(until.as_millis());
        self.core.run(&SCRIPTS.return_to_hold, call).await.map(|_| ())
    }

    async fn book(&self, id: HoldId, subject: &Subject, seats: &[SeatIx]) -> Result<BookReply, StoreError> {
        let mut blocking = Vec::new();
        // Holds can change owners while they are searched for. On the last attempt, seats whose hold cannot
        // be found are booked all the same: the ledger decides.
        for force in [false, false, true] {
            match self.core.try_book(id, subject, seats, &blocking, force).await? {
                BookAttempt::Done(reply) => return Ok(reply),
                BookAttempt::Blocked(seats) => blocking = self.core.find_holds_of(&seats).await?,
            }
        }
        Err(unreadable())
    }

    async fn free(&self, id: HoldId, seats: &[SeatIx]) -> Result<(), StoreError> {
        let call = self.core.hold_call().arg(&id.as_uuid().as_bytes()[..]);
        let reply = self.core.reply(&SCRIPTS.free, with_seats(call, seats)).await?;
        self.core.apply_changes(&reply, 1).await
    }

    async fn restore(&self, claims: &[RestoredClaim]) -> Result<Vec<SeatIx>, StoreError> {
        let mut taken = Vec::new();
        for batch in restore_batches(claims) {
            let call = self.core.hold_call().arg(batch);
            let reply = self.core.reply(&SCRIPTS.restore, call).await?;
            taken.extend(reply.seat_list(0)?);
            self.core.apply_changes(&reply, 1).await?;
        }
        Ok(taken)
    }

    async fn set_blocked(&self, seats: &[SeatIx], blocked: bool) -> Result<(), StoreError> {
        let known: Vec<SeatIx> = seats
            .iter()
            .copied()
            .filter(|seat| self.core.has_seat(*seat))
            .collect();
        for batch in known.chunks(BLOCK_BATCH) {
            let call = self.core.hold_call().arg(flag(blocked));
            let reply = self
                .core
                .reply(&SCRIPTS.set_blocked, with_seats(call, batch))
                .await?;
            self.core.apply_changes(&reply, 1).await?;
        }
        Ok(())
    }

    async fn expire_holds(&self, max: usize) -> Result<usize, StoreError> {
        let mut expired = 0;
        while expired < max {
            let batch = EXPIRY_BATCH.min(max - expired);
            let ended = self.core.expire_batch(batch).await?;
            expired += ended;
            if ended < batch {
                break;
            }
        }
        Ok(expired)
    }

    fn changes_since(&self, after: u64, into: &mut Vec<SeatChange>) -> bool {
        self.core.feed.since(after, into)
    }

    async fn load(&self) -> Result<(u64, SeatStates), StoreError> {
        let (version, states) = self.core.load().await?;
        self.core.feed.observe_version(version);
        Ok((version, states))
    }
}

/// The claims encoded for `restore.lua`, in batches that one script can apply without keeping other calls
/// waiting.
pub(super) fn restore_batches(claims: &[RestoredClaim]) -> Vec<Vec<u8>> {
    let mut batches = vec![Vec::new()];
    for claim in claims {
        if batches
            .last()
            .is_none_or(|batch| batch.len() > RESTORE_BATCH_BYTES)
        {
            batches.push(Vec::new());
        }
        if let Some(batch) = batches.last_mut() {
            record::write_claim(claim, batch);
        }
    }
    batches.retain(|batch| !batch.is_empty());
    batches
}

fn optional_record(id: HoldId, value: &Value) -> Result<Option<HoldRecord>, StoreError> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => record::parse_hold(id, bytes).map(Some).ok_or_else(unreadable),
        _ => Err(unreadable()),
    }
}

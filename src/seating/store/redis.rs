//! The engine on Redis: any number of nodes share one performance, each verb one script.
//!
//! All keys of a performance carry its tag, so that they live on one server of a cluster. Scripts go by the server's own
//! clock. A script may be run twice, because an answer may be lost: each knows by the hold's or operation's id what it
//! has done. Redis may lose all this at any moment; the keeper ([`rebuild`]) then fills it anew from the ledger under a
//! new epoch, and until then every verb answers [`StoreError::Rebuilding`].
//!
//! | key | holds |
//! |---|---|
//! | `{sale:performance}:seats` | two bits a seat, as [`SeatStates::to_bytes`] |
//! | `{sale:performance}:holds` | hash: hold -> its record (`shared.lua`), also of holds being paid and booked |
//! | `{sale:performance}:deadlines` | sorted set: hold -> when it runs out; only holds that can |
//! | `{sale:performance}:fans` | hash: subject -> seats held, being paid and booked |
//! | `{sale:performance}:changes` | stream: what has changed of late; `epoch-number` is the version |
//! | `{sale:performance}:operations`, `:operations_before` | hashes: operations done in this while and the one before (`operations.lua`) |
//! | `{sale:performance}:ready` | the epoch whose data are complete; missing while they are not |
//! | `{sale:performance}:home` | the server that was vouched for: on another these data are a copy that may lack something |
//! | `{sale:performance}:rebuilding` | epoch and token of whoever is filling it; goes by itself when she dies |

mod holds;
mod rebuild;
mod record;
mod scripts;
#[cfg(test)]
mod tests;
mod view;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use redis::Value;

use crate::{
    kernel::{Clock, Entropy, HoldId, PerformanceId, SaleId, Subject, Timestamp},
    platform::{
        redis::{Call, CallError, FencedConnection, Redis, Script},
        shutdown::Lifecycle,
    },
};

pub use self::rebuild::{DatasetStatus, RebuildOutcome};
use self::{holds::Pens, record::Answer, scripts::SCRIPTS, view::View};
use super::{
    super::{
        hold::RestoredClaim,
        seat::{SeatIx, SeatStates},
    },
    BookReply, ChangeReply, ExtendReply, HoldRecord, HoldReply, StoreHold, IdempotencyKey, SeatChange,
    SeatStore, StoreError, HoldTerms,
};

/// Of the table above, in the order in which every script gets them.
const KEYS: [&str; 10] = [
    "seats",
    "holds",
    "deadlines",
    "fans",
    "changes",
    "operations",
    "operations_before",
    "ready",
    "home",
    "rebuilding",
];
/// What scripts on holds are given; those on operations get the next two, those that rebuild all.
const KEYS_OF_HOLDS: usize = 5;
const KEYS_OF_OPERATIONS: usize = 7;
/// Holds ended by one script: longer ones would keep everybody waiting.
const SWEPT_BY_A_SCRIPT: usize = 128;
/// Holds that a refused one ends before it is tried again.
const SWEPT_BY_A_HOLD: usize = 16;
/// Seats blocked by one script.
const BLOCKED_BY_A_SCRIPT: usize = 1_000;
/// Bytes of claims put back by one script.
const RESTORED_BY_A_SCRIPT: usize = 8 << 10;
/// Holds looked through in one go for those that stand in a booking's way.
const SCANNED_AT_ONCE: usize = 256;

/// One performance's engine on Redis, as this node sees it. Cheap to clone.
#[derive(Clone)]
pub struct RedisStore(Arc<Engine>, Pens);

struct Engine {
    redis: Redis,
    line: Arc<FencedConnection>,
    tag: String,
    keys: [String; 10],
    seats: usize,
    terms: HoldTerms,
    view: View,
    entropy: Arc<dyn Entropy>,
    /// Instead of the server's, in tests.
    clock: Option<Arc<dyn Clock>>,
}

impl RedisStore {
    /// Starts to keep up a connection and to follow what changes. Nothing is answered before somebody vouches for the
    /// server's memory.
    #[must_use]
    pub fn start(
        redis: Redis,
        (sale, performance): (&SaleId, &PerformanceId),
        (seats, terms): (usize, HoldTerms),
        entropy: Arc<dyn Entropy>,
        life: &Lifecycle,
    ) -> Self {
        Self::start_with(
            redis,
            format!("{sale}:{performance}"),
            (seats, terms),
            None,
            entropy,
            life,
        )
    }

    fn start_with(
        redis: Redis,
        tag: String,
        (seats, terms): (usize, HoldTerms),
        clock: Option<Arc<dyn Clock>>,
        entropy: Arc<dyn Entropy>,
        life: &Lifecycle,
    ) -> Self {
        let line = FencedConnection::start(redis.clone(), tag.clone(), Arc::clone(&entropy), life);
        let keys = KEYS.map(|name| line.key(name));
        let engine = Arc::new(Engine {
            redis,
            line,
            tag,
            keys,
            seats,
            terms,
            view: View::default(),
            entropy,
            clock,
        });
        view::follow(&engine, life);
        let pens = Pens::start(&engine, life);
        Self(engine, pens)
    }
}

impl Engine {
    fn on_holds(&self) -> Call {
        self.on(KEYS_OF_HOLDS)
    }

    fn on(&self, keys: usize) -> Call {
        self.keys[..keys].iter().fold(Call::new(), Call::key)
    }

    /// The time for a script: empty, which is the server's own, but in tests.
    fn time(&self) -> String {
        self.clock
            .as_ref()
            .map_or_else(String::new, |clock| clock.now().as_millis().to_string())
    }

    async fn call(&self, script: &Script, call: Call) -> Result<Value, StoreError> {
        Ok(self.line.call(script, call).await?)
    }

    async fn answer(&self, script: &Script, call: Call) -> Result<Answer, StoreError> {
        Answer::new(self.call(script, call).await?)
    }

    /// The answer's version and changes stand at `at`.
    async fn show(&self, answer: &Answer, at: usize) -> Result<(), StoreError> {
        let version = self.view.take_own(answer.bytes(at)?, answer.bytes(at + 1)?)?;
        self.view.until(version).await;
        Ok(())
    }

    async fn load_now(&self) -> Result<(u64, SeatStates), StoreError> {
        let answer = self.answer(&SCRIPTS.load, self.on_holds()).await?;
        let version = record::version(answer.bytes(1)?).ok_or_else(record::unreadable)?;
        let states = record::states(self.seats, answer.bytes(0)?).ok_or_else(record::unreadable)?;
        Ok((version, states))
    }

    fn is_of_the_house(&self, seat: SeatIx) -> bool {
        seat.index() < self.seats
    }

    /// Holds that have one of the seats.
    async fn holders_of(&self, seats: &[SeatIx]) -> Result<Vec<Vec<u8>>, StoreError> {
        let (mut found, mut cursor) = (Vec::new(), 0_u64);
        loop {
            let mut cmd = redis::cmd("HSCAN");
            cmd.arg(&self.keys[1])
                .arg(cursor)
                .arg("COUNT")
                .arg(SCANNED_AT_ONCE);
            let page = self.line.query(&cmd).await?;
            let (next, holds): (u64, HashMap<Vec<u8>, Vec<u8>>) =
                redis::from_redis_value(page).map_err(|_| record::unreadable())?;
            for (id, record) in holds {
                let hold = record::read(HoldId::from_uuid(uuid::Uuid::nil()), &record);
                if hold.is_some_and(|it| it.seats.iter().any(|seat| seats.contains(seat))) {
                    found.push(id);
                }
            }
            cursor = next;
            if cursor == 0 {
                return Ok(found);
            }
        }
    }

    async fn try_book(
        &self,
        id: HoldId,
        who: &Subject,
        seats: &[SeatIx],
        rivals: &[Vec<u8>],
        last_try: bool,
    ) -> Result<Result<BookReply, Vec<SeatIx>>, StoreError> {
        let call = self
            .on_holds()
            .arg(&id.as_uuid().as_bytes()[..])
            .arg(who.as_str())
            .arg(if last_try { "1" } else { "" });
        let call = call.arg(rivals.len());
        let call = rivals.iter().fold(call, |call, rival| call.arg(&rival[..]));
        let answer = self.answer(&SCRIPTS.book, with_seats(call, seats)).await?;
        match answer.word() {
            b"booked" => {
                self.show(&answer, 1).await?;
                Ok(Ok(BookReply::Booked))
            }
            b"taken" => Ok(Ok(BookReply::Taken(answer.seats(1)?))),
            b"in_the_way" => Ok(Err(answer.seats(1)?)),
            _ => Err(record::unreadable()),
        }
    }

    async fn try_swap(
        &self,
        id: HoldId,
        who: &Subject,
        seats: &[SeatIx],
        last_try: bool,
    ) -> Result<Option<ChangeReply>, StoreError> {
        let call = self
            .on_her_hold(id, who)
            .arg(self.terms.seats_per_customer_max)
            .arg(if last_try { "1" } else { "" });
        let answer = self.answer(&SCRIPTS.swap, with_seats(call, seats)).await?;
        Ok(Some(match answer.word() {
            b"changed" => {
                self.show(&answer, 2).await?;
                ChangeReply::Changed(answer.record(id, 1)?)
            }
            b"taken" => ChangeReply::Taken(answer.seats(1)?),
            b"limit" => ChangeReply::LimitReached,
            b"gone" => ChangeReply::Gone,
            b"overdue" => return Ok(None),
            _ => return Err(record::unreadable()),
        }))
    }

    /// With the arguments that scripts on a fan's own hold begin with.
    fn on_her_hold(&self, id: HoldId, who: &Subject) -> Call {
        self.on_holds()
            .arg(self.time())
            .arg(&id.as_uuid().as_bytes()[..])
            .arg(who.as_str())
    }

    async fn sweep_some(&self, max: usize) -> Result<usize, StoreError> {
        let answer = self
            .answer(&SCRIPTS.sweep, self.on_holds().arg(self.time()).arg(max))
            .await?;
        self.show(&answer, 1).await?;
        usize::try_from(answer.number(0)?).map_err(|_| record::unreadable())
    }
}

#[async_trait]
impl SeatStore for RedisStore {
    async fn hold(&self, request: &StoreHold) -> Result<HoldReply, StoreError> {
        if request.seats.len() > usize::from(self.0.terms.seats_per_customer_max) {
            let done = match &request.operation {
                Some(operation) => self.find_completed(operation).await?,
                None => None,
            };
            return Ok(done.unwrap_or(HoldReply::LimitReached));
        }
        if !request.seats.iter().all(|it| self.0.is_of_the_house(*it)) {
            let (_, states) = self.0.load_now().await?;
            return Ok(HoldReply::Taken(
                request
                    .seats
                    .iter()
                    .copied()
                    .filter(|it| !states.is_free(*it))
                    .collect(),
            ));
        }
        // Too many wait, or the house is closing.
        let held = self
            .1
            .holds
            .submit(request.clone())
            .await
            .map_err(|_| StoreError::Unavailable)??;
        self.0.view.until(held.version).await;
        Ok(held.reply)
    }

    async fn find_completed(&self, operation: &IdempotencyKey) -> Result<Option<HoldReply>, StoreError> {
        let call = self
            .0
            .on(KEYS_OF_OPERATIONS)
            .arg(self.0.time())
            .arg(&operation.key[..])
            .arg(&operation.request_hash[..]);
        let answer = self.0.answer(&SCRIPTS.recall, call).await?;
        Ok(match answer.word() {
            b"again" => Some(again(&answer)?),
            b"reused" => Some(HoldReply::IdempotencyKeyReused),
            b"unknown" => None,
            _ => return Err(record::unreadable()),
        })
    }

    async fn find(&self, id: HoldId, who: &Subject) -> Result<Option<HoldRecord>, StoreError> {
        let found = self.0.call(&SCRIPTS.find, self.0.on_her_hold(id, who)).await?;
        one_record(id, &found)
    }

    async fn swap(
        &self,
        id: HoldId,
        who: &Subject,
        seats: &Arc<[SeatIx]>,
    ) -> Result<ChangeReply, StoreError> {
        if let Some(reply) = self.0.try_swap(id, who, seats, false).await? {
            return Ok(reply);
        }
        self.0.sweep_some(SWEPT_BY_A_HOLD).await?;
        self.0
            .try_swap(id, who, seats, true)
            .await?
            .ok_or_else(record::unreadable)
    }

    async fn extend(&self, id: HoldId, who: &Subject) -> Result<ExtendReply, StoreError> {
        // How many extensions are left is told to the script: run twice, it extends once.
        let Some(seen) = self.find(id, who).await? else {
            return Ok(ExtendReply::Gone);
        };
        let hold_ms = u64::try_from(self.0.terms.hold_ttl.as_millis()).unwrap_or(u64::MAX);
        let answer = self
            .0
            .answer(
                &SCRIPTS.extend,
                self.0.on_her_hold(id, who).arg(hold_ms).arg(seen.extensions_left),
            )
            .await?;
        Ok(match answer.word() {
            b"extended" => ExtendReply::Extended(answer.record(id, 1)?),
            b"no_more" => ExtendReply::NoMoreExtensions,
            b"gone" => ExtendReply::Gone,
            _ => return Err(record::unreadable()),
        })
    }

    async fn release(&self, id: HoldId, who: &Subject) -> Result<bool, StoreError> {
        let released = self
            .1
            .releases
            .submit((id, who.clone()))
            .await
            .map_err(|_| StoreError::Unavailable)??;
        self.0.view.until(released.version).await;
        Ok(released.reply)
    }

    async fn begin_checkout(
        &self,
        id: HoldId,
        who: &Subject,
        until: Timestamp,
    ) -> Result<Option<HoldRecord>, StoreError> {
        let call = self.0.on_her_hold(id, who).arg(until.as_millis());
        let begun = self.0.call(&SCRIPTS.begin_checkout, call).await?;
        one_record(id, &begun)
    }

    async fn return_to_hold(&self, id: HoldId, until: Timestamp) -> Result<(), StoreError> {
        let call = self
            .0
            .on_holds()
            .arg(&id.as_uuid().as_bytes()[..])
            .arg(until.as_millis());
        self.0.call(&SCRIPTS.return_to_hold, call).await.map(|_| ())
    }

    async fn book(&self, id: HoldId, who: &Subject, seats: &[SeatIx]) -> Result<BookReply, StoreError> {
        let mut rivals = Vec::new();
        // Holds change hands while they are looked for; what nobody can be found to hold is then booked all the same.
        for last_try in [false, false, true] {
            match self.0.try_book(id, who, seats, &rivals, last_try).await? {
                Ok(reply) => return Ok(reply),
                Err(in_the_way) => rivals = self.0.holders_of(&in_the_way).await?,
            }
        }
        Err(record::unreadable())
    }

    async fn free(&self, id: HoldId, seats: &[SeatIx]) -> Result<(), StoreError> {
        let call = self.0.on_holds().arg(&id.as_uuid().as_bytes()[..]);
        let answer = self.0.answer(&SCRIPTS.free, with_seats(call, seats)).await?;
        self.0.show(&answer, 1).await
    }

    async fn restore(&self, claims: &[RestoredClaim]) -> Result<Vec<SeatIx>, StoreError> {
        let mut taken = Vec::new();
        for packed in packed(claims) {
            let answer = self
                .0
                .answer(&SCRIPTS.restore, self.0.on_holds().arg(packed))
                .await?;
            taken.extend(answer.list(0)?);
            self.0.show(&answer, 1).await?;
        }
        Ok(taken)
    }

    async fn set_blocked(&self, seats: &[SeatIx], blocked: bool) -> Result<(), StoreError> {
        let known: Vec<SeatIx> = seats
            .iter()
            .copied()
            .filter(|it| self.0.is_of_the_house(*it))
            .collect();
        for some in known.chunks(BLOCKED_BY_A_SCRIPT) {
            let call = self.0.on_holds().arg(if blocked { "1" } else { "" });
            let answer = self.0.answer(&SCRIPTS.block, with_seats(call, some)).await?;
            self.0.show(&answer, 1).await?;
        }
        Ok(())
    }

    async fn expire_holds(&self, max: usize) -> Result<usize, StoreError> {
        let mut swept = 0;
        while swept < max {
            let some = SWEPT_BY_A_SCRIPT.min(max - swept);
            let ended = self.0.sweep_some(some).await?;
            swept += ended;
            if ended < some {
                break;
            }
        }
        Ok(swept)
    }

    fn changes_since(&self, after: u64, into: &mut Vec<SeatChange>) -> bool {
        self.0.view.since(after, into)
    }

    async fn load(&self) -> Result<(u64, SeatStates), StoreError> {
        let (version, states) = self.0.load_now().await?;
        self.0.view.hear(version);
        Ok((version, states))
    }
}

impl From<CallError> for StoreError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unavailable => Self::Unavailable,
            CallError::Recovering => Self::Recovering,
            CallError::Rejected(_) => Self::NoAnswer,
        }
    }
}

fn with_seats(call: Call, seats: &[SeatIx]) -> Call {
    seats.iter().fold(call, |call, seat| call.arg(seat.0))
}

fn again(answer: &Answer) -> Result<HoldReply, StoreError> {
    let id = uuid::Uuid::from_slice(answer.bytes(1)?).map_err(|_| record::unreadable())?;
    Ok(HoldReply::Replayed(answer.record(HoldId::from_uuid(id), 2)?))
}

fn one_record(id: HoldId, value: &Value) -> Result<Option<HoldRecord>, StoreError> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(record) => record::read(id, record).map(Some).ok_or_else(record::unreadable),
        _ => Err(record::unreadable()),
    }
}

/// Claims in parts that one script can put back without keeping everybody waiting.
fn packed(claims: &[RestoredClaim]) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    for claim in claims {
        if parts.last().is_none_or(|it| it.len() > RESTORED_BY_A_SCRIPT) {
            parts.push(Vec::new());
        }
        if let Some(part) = parts.last_mut() {
            record::claim(claim, part);
        }
    }
    parts.retain(|it| !it.is_empty());
    parts
}

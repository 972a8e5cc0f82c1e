//! What all Redis calls of one performance share: connection, keys, terms and the change feed.

use std::{collections::HashMap, sync::Arc};

use redis::Value;

use crate::{
    kernel::{Clock, Entropy, HoldId, Subject},
    platform::redis::{Call, CallError, FencedConnection, Redis, Script},
    seating::{
        seat::{SeatIx, SeatStates},
        store::{
            port::{BookReply, ChangeReply},
            redis::{
                change_feed::ChangeFeed,
                record,
                reply::{ScriptReply, unreadable},
                scripts::SCRIPTS,
            },
        },
        types::{HoldTerms, StoreError},
    },
};

/// The keys of the table in `redis/mod.rs`, in the order in which every script gets them.
pub(super) const KEYS: [&str; 10] = [
    "seats",
    "holds",
    "deadlines",
    "holders",
    "changes",
    "completed",
    "completed_before",
    "ready",
    "dataset_id",
    "rebuild",
];
/// Number of keys that scripts on holds get.
pub(super) const HOLD_KEYS: usize = 5;
/// Number of keys that scripts with idempotency keys get.
pub(super) const IDEMPOTENT_KEYS: usize = 7;
/// Index of the first key that says which dataset this is.
pub(super) const DATASET_KEYS_FROM: usize = 7;
/// Holds that one step of HSCAN returns, about.
const SCAN_COUNT: usize = 256;

/// One performance on Redis, as this node sees it.
pub(super) struct StoreCore {
    pub(super) redis: Redis,
    pub(super) connection: Arc<FencedConnection>,
    /// Without braces.
    pub(super) hash_tag: String,
    pub(super) keys: [String; 10],
    pub(super) seat_count: usize,
    pub(super) terms: HoldTerms,
    pub(super) feed: ChangeFeed,
    pub(super) entropy: Arc<dyn Entropy>,
    /// Replaces the server's clock in tests.
    pub(super) test_clock: Option<Arc<dyn Clock>>,
}

/// What came of one attempt to book.
pub(super) enum BookAttempt {
    Done(BookReply),
    /// These seats are in holds that the call did not name.
    Blocked(Vec<SeatIx>),
}

impl StoreCore {
    /// A call with the keys that scripts on holds get.
    pub(super) fn hold_call(&self) -> Call {
        self.call_with_keys(HOLD_KEYS)
    }

    /// A call with the first `count` keys.
    pub(super) fn call_with_keys(&self, count: usize) -> Call {
        self.keys[..count].iter().fold(Call::new(), Call::key)
    }

    /// A call with the arguments that scripts on a subject's own hold begin with.
    pub(super) fn owned_hold_call(&self, id: HoldId, subject: &Subject) -> Call {
        self.hold_call()
            .arg(self.time_arg())
            .arg(&id.as_uuid().as_bytes()[..])
            .arg(subject.as_str())
    }

    /// The time argument of a script: empty for the server's own clock, which is used except in tests.
    pub(super) fn time_arg(&self) -> String {
        self.test_clock
            .as_ref()
            .map_or_else(String::new, |clock| clock.now().as_millis().to_string())
    }

    pub(super) async fn run(&self, script: &Script, call: Call) -> Result<Value, StoreError> {
        Ok(self.connection.call(script, call).await?)
    }

    pub(super) async fn reply(&self, script: &Script, call: Call) -> Result<ScriptReply, StoreError> {
        ScriptReply::new(self.run(script, call).await?)
    }

    /// Applies the version and changes that stand at `at` of the reply, and waits until this node shows them.
    pub(super) async fn apply_changes(&self, reply: &ScriptReply, at: usize) -> Result<(), StoreError> {
        let version = self.feed.apply_own(reply.bytes(at)?, reply.bytes(at + 1)?)?;
        self.feed.wait_for(version).await;
        Ok(())
    }

    /// All states as the server has them now. Does not touch the change feed.
    pub(super) async fn load(&self) -> Result<(u64, SeatStates), StoreError> {
        let reply = self.reply(&SCRIPTS.load, self.hold_call()).await?;
        let version = record::parse_version(reply.bytes(1)?).ok_or_else(unreadable)?;
        let states = record::parse_states(self.seat_count, reply.bytes(0)?).ok_or_else(unreadable)?;
        Ok((version, states))
    }

    pub(super) fn has_seat(&self, seat: SeatIx) -> bool {
        seat.index() < self.seat_count
    }

    /// Ids of the holds that have one of the seats. Scans all holds, so it is only for what happens rarely.
    pub(super) async fn find_holds_of(&self, seats: &[SeatIx]) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut found = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let mut cmd = redis::cmd("HSCAN");
            cmd.arg(&self.keys[1]).arg(cursor).arg("COUNT").arg(SCAN_COUNT);
            let page = self.connection.query(&cmd).await?;
            let (next, holds): (u64, HashMap<Vec<u8>, Vec<u8>>) =
                redis::from_redis_value(page).map_err(|_| unreadable())?;
            for (id, record) in holds {
                let hold = record::parse_hold(HoldId::from_uuid(uuid::Uuid::nil()), &record);
                if hold.is_some_and(|hold| hold.seats.iter().any(|seat| seats.contains(seat))) {
                    found.push(id);
                }
            }
            cursor = next;
            if cursor == 0 {
                return Ok(found);
            }
        }
    }

    /// Books once, ending the holds in `blocking`. With `force`, seats in holds that were not found are
    /// booked too.
    pub(super) async fn try_book(
        &self,
        id: HoldId,
        subject: &Subject,
        seats: &[SeatIx],
        blocking: &[Vec<u8>],
        force: bool,
    ) -> Result<BookAttempt, StoreError> {
        let call = self
            .hold_call()
            .arg(&id.as_uuid().as_bytes()[..])
            .arg(subject.as_str())
            .arg(flag(force))
            .arg(blocking.len());
        let call = blocking.iter().fold(call, |call, hold| call.arg(&hold[..]));
        let reply = self.reply(&SCRIPTS.book, with_seats(call, seats)).await?;
        match reply.status() {
            b"booked" => {
                self.apply_changes(&reply, 1).await?;
                Ok(BookAttempt::Done(BookReply::Booked))
            }
            b"taken" => Ok(BookAttempt::Done(BookReply::Taken(reply.seats(1)?))),
            b"blocked" => Ok(BookAttempt::Blocked(reply.seats(1)?)),
            _ => Err(unreadable()),
        }
    }

    /// Swaps once. `None` when it is refused while expired holds may be in the way, unless this is the last
    /// attempt.
    pub(super) async fn try_swap(
        &self,
        id: HoldId,
        subject: &Subject,
        seats: &[SeatIx],
        is_last: bool,
    ) -> Result<Option<ChangeReply>, StoreError> {
        let call = self
            .owned_hold_call(id, subject)
            .arg(self.terms.seats_per_customer_max)
            .arg(flag(is_last));
        let reply = self.reply(&SCRIPTS.swap, with_seats(call, seats)).await?;
        Ok(Some(match reply.status() {
            b"changed" => {
                self.apply_changes(&reply, 2).await?;
                ChangeReply::Changed(reply.record(id, 1)?)
            }
            b"taken" => ChangeReply::Taken(reply.seats(1)?),
            b"limit" => ChangeReply::LimitReached,
            b"gone" => ChangeReply::Gone,
            b"overdue" => return Ok(None),
            _ => return Err(unreadable()),
        }))
    }

    /// Ends at most `max` expired holds in one script; returns how many.
    pub(super) async fn expire_batch(&self, max: usize) -> Result<usize, StoreError> {
        let call = self.hold_call().arg(self.time_arg()).arg(max);
        let reply = self.reply(&SCRIPTS.expire, call).await?;
        self.apply_changes(&reply, 1).await?;
        usize::try_from(reply.number(0)?).map_err(|_| unreadable())
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

/// A yes-or-no argument: empty is no.
pub(super) fn flag(set: bool) -> &'static str {
    if set { "1" } else { "" }
}

pub(super) fn with_seats(call: Call, seats: &[SeatIx]) -> Call {
    seats.iter().fold(call, |call, seat| call.arg(seat.0))
}

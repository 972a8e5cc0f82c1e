//! Batches holds and releases: while one script is under way, later requests gather for the next one.
//!
//! One script serves all requests of a batch, because most of a hold's cost is fixed per script and per
//! command. More scripts at once, or smaller ones, gain nothing: fewer requests share one, and Redis runs
//! more of them.

use std::sync::Arc;

use redis::Value;

use crate::{
    kernel::{HoldId, Subject, Timestamp},
    platform::{group_commit::GroupCommit, redis::Call, shutdown::Lifecycle},
    seating::{
        store::{
            port::{HoldReply, StoreHold},
            redis::{
                core::{HOLD_KEYS, IDEMPOTENT_KEYS, StoreCore, flag},
                record,
                reply::{ScriptReply, unreadable},
                scripts::SCRIPTS,
                seat_words::{is_free_in, seat_words},
            },
        },
        types::StoreError,
    },
};

/// Requests that wait; more means that the store is overloaded.
const QUEUE_MAX: usize = 4_096;
/// Holds or releases of one script: a fraction of a millisecond's work for the server.
const BATCH_MAX: usize = 64;
/// Seats of one script: Lua cannot pass more arguments to one command.
const SEATS_MAX: usize = 1_500;
/// Holds that one script may expire: longer ones would keep all other calls waiting.
pub(super) const EXPIRY_BATCH: usize = 128;
/// Holds that each refused request expires before it is tried again.
pub(super) const EXPIRED_PER_HOLD: usize = 16;

/// The queues of one performance on this node.
#[derive(Clone)]
pub(super) struct HoldBatchers {
    pub(super) holds: GroupCommit<StoreHold, Result<Versioned<HoldReply>, StoreError>>,
    /// Replies whether there was such a hold to end.
    pub(super) releases: GroupCommit<(HoldId, Subject), Result<Versioned<bool>, StoreError>>,
}

/// A reply, and the version from which on the change is visible. `None` when nothing has changed.
pub(super) struct Versioned<T> {
    pub(super) reply: T,
    pub(super) version: Option<u64>,
}

impl HoldBatchers {
    pub(super) fn start(core: &Arc<StoreCore>, lifecycle: &Lifecycle) -> Self {
        let holding = Arc::clone(core);
        let releasing = Arc::clone(core);
        Self {
            holds: GroupCommit::start(
                lifecycle,
                QUEUE_MAX,
                BATCH_MAX,
                move |requests: Vec<StoreHold>| {
                    let core = Arc::clone(&holding);
                    async move { hold_all(&core, requests).await }
                },
            ),
            releases: GroupCommit::start(
                lifecycle,
                QUEUE_MAX,
                BATCH_MAX,
                move |requests: Vec<(HoldId, Subject)>| {
                    let core = Arc::clone(&releasing);
                    async move { release_all(&core, &requests).await }
                },
            ),
        }
    }
}

async fn release_all(
    core: &StoreCore,
    requests: &[(HoldId, Subject)],
) -> Vec<Result<Versioned<bool>, StoreError>> {
    match release_batch(core, requests).await {
        Ok(replies) => replies.into_iter().map(Ok).collect(),
        Err(error) => requests.iter().map(|_| Err(error)).collect(),
    }
}

async fn release_batch(
    core: &StoreCore,
    requests: &[(HoldId, Subject)],
) -> Result<Vec<Versioned<bool>>, StoreError> {
    let call = core.hold_call().arg(core.time_arg());
    let call = requests.iter().fold(call, |call, (id, subject)| {
        call.arg(&id.as_uuid().as_bytes()[..]).arg(subject.as_str())
    });
    let reply = core.reply(&SCRIPTS.release, call).await?;
    let version = core.feed.apply_own(reply.bytes(0)?, reply.bytes(1)?)?;
    let replies: Vec<_> = reply
        .parts(2)
        .map(|part| {
            let is_released = part == Value::Int(1);
            Versioned {
                reply: is_released,
                version: version.filter(|_| is_released),
            }
        })
        .collect();
    if replies.len() == requests.len() {
        Ok(replies)
    } else {
        Err(unreadable())
    }
}

/// Splits the batch where it has more seats than one script can take.
async fn hold_all(
    core: &StoreCore,
    mut requests: Vec<StoreHold>,
) -> Vec<Result<Versioned<HoldReply>, StoreError>> {
    let mut replies = Vec::with_capacity(requests.len());
    while !requests.is_empty() {
        let mut seats = 0;
        let fitting = requests.iter().take_while(|request| {
            seats += request.seats.len();
            seats <= SEATS_MAX
        });
        // At least one request a round, so that the loop ends.
        let rest = requests.split_off(fitting.count().max(1));
        let batch = std::mem::replace(&mut requests, rest);
        match hold_batch(core, &batch).await {
            Ok(held) => replies.extend(held.into_iter().map(Ok)),
            Err(error) => replies.extend(batch.iter().map(|_| Err(error))),
        }
    }
    replies
}

/// Requests that are refused while expired holds may be in the way are tried once more after these are ended.
async fn hold_batch(
    core: &StoreCore,
    requests: &[StoreHold],
) -> Result<Vec<Versioned<HoldReply>>, StoreError> {
    let all: Vec<&StoreHold> = requests.iter().collect();
    let mut replies = try_hold(core, &all, false).await?;
    let refused: Vec<usize> = (0..replies.len()).filter(|at| replies[*at].is_none()).collect();
    if !refused.is_empty() {
        core.expire_batch((EXPIRED_PER_HOLD * refused.len()).min(EXPIRY_BATCH))
            .await?;
        let again: Vec<&StoreHold> = refused.iter().map(|at| &requests[*at]).collect();
        for (at, reply) in refused.into_iter().zip(try_hold(core, &again, true).await?) {
            replies[at] = reply;
        }
    }
    replies.into_iter().collect::<Option<_>>().ok_or_else(unreadable)
}

/// One script for all requests. `None` for a request that is refused while expired holds may be in the way,
/// unless this is the last attempt.
async fn try_hold(
    core: &StoreCore,
    requests: &[&StoreHold],
    is_last: bool,
) -> Result<Vec<Option<Versioned<HoldReply>>>, StoreError> {
    let reply = core
        .reply(&SCRIPTS.hold, hold_script_call(core, requests, is_last)?)
        .await?;
    let version = core.feed.apply_own(reply.bytes(0)?, reply.bytes(1)?)?;
    let expires_at = Timestamp::from_millis(reply.number(2)?);
    let extensions_left = core.terms.extensions_max;
    let replies: Vec<Option<Versioned<HoldReply>>> = reply
        .parts(3)
        .zip(requests)
        .map(|(part, request)| match part {
            Value::Int(_) => Ok(Some(Versioned {
                reply: HoldReply::Held {
                    expires_at,
                    extensions_left,
                },
                version,
            })),
            other => {
                let reply = refusal(&ScriptReply::new(other)?, request)?;
                Ok(reply.map(|reply| Versioned { reply, version: None }))
            }
        })
        .collect::<Result<_, StoreError>>()?;
    if replies.len() == requests.len() {
        Ok(replies)
    } else {
        Err(unreadable())
    }
}

/// The arguments of `hold.lua`.
fn hold_script_call(core: &StoreCore, requests: &[&StoreHold], is_last: bool) -> Result<Call, StoreError> {
    let is_idempotent = requests.iter().any(|request| request.idempotency_key.is_some());
    let mut call = core
        .call_with_keys(if is_idempotent { IDEMPOTENT_KEYS } else { HOLD_KEYS })
        .arg(core.time_arg())
        .arg(core.terms.seats_per_customer_max)
        .arg(u64::try_from(core.terms.hold_ttl.as_millis()).unwrap_or(u64::MAX))
        .arg(&[core.terms.extensions_max][..])
        .arg(flag(is_last));
    for request in requests {
        let words = seat_words(&request.seats);
        let tail = record::hold_tail(request.visit, &request.seats, &request.subject);
        let mut header = vec![u8::try_from(words.len()).map_err(|_| unreadable())?];
        if let Some(key) = &request.idempotency_key {
            header.extend(key.key_hash.iter().chain(&key.request_hash));
        }
        call = call
            .arg(&request.id.as_uuid().as_bytes()[..])
            .arg(tail)
            .arg(header);
        call = words
            .into_iter()
            .fold(call, |call, (offset, ones)| call.arg(offset).arg(ones));
    }
    Ok(call)
}

/// The reply to a request that was not simply held.
fn refusal(reply: &ScriptReply, request: &StoreHold) -> Result<Option<HoldReply>, StoreError> {
    Ok(Some(match reply.status() {
        b"held" => HoldReply::Held {
            expires_at: Timestamp::from_millis(reply.number(1)?),
            extensions_left: u8::try_from(reply.number(2)?).unwrap_or(u8::MAX),
        },
        b"replayed" => {
            let record = reply.replayed()?;
            if record.id == request.id {
                // A retry of this very call, whose first reply was lost.
                HoldReply::Held {
                    expires_at: record.expires_at,
                    extensions_left: record.extensions_left,
                }
            } else {
                HoldReply::Replayed(record)
            }
        }
        b"reused" => HoldReply::IdempotencyKeyReused,
        b"limit" => HoldReply::LimitReached,
        b"taken" => {
            let found = reply.words(&seat_words(&request.seats), 1)?;
            let taken = request
                .seats
                .iter()
                .copied()
                .filter(|seat| !is_free_in(&found, *seat));
            HoldReply::Taken(taken.collect())
        }
        b"overdue" => return Ok(None),
        _ => return Err(unreadable()),
    }))
}

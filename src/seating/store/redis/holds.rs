//! Holds are asked for together, and given back together: while one script is on its way, those who come next gather for
//! the following one.
//!
//! # Profile of a hold
//! Four seats, 64 connections on two cores that node, client and Redis share, AOF `everysec` (how: README, "Profile it"). A hold
//! costs 22 to 24 µs of the node, the minimal handler 17, and 10 of Redis, the minimal script 12. Of the node's time half is
//! the kernel's: answering the fan is 25 %, reading her request 6 %, writing to Redis 8 %. The handler is 13 % (proofs 2 %,
//! the seats' names 2 %, the answer 2 %), the router 3 %, Redis's replies 3 %.
//! What it took: one script for all who come together; seats read and written by words of sixteen instead of one by one
//! (13 µs of Redis a hold became 9; `BITFIELD` takes three arguments to read a field and four to write it, and each is made
//! for Lua, for the command and for the AOF); records written as they come, without being taken apart. Two scripts under way at
//! once, or smaller ones, won nothing: fewer share one, and Redis has more of them.

use std::sync::Arc;

use redis::Value;

use super::{
    super::{HoldReply, StoreHold, StoreError},
    Engine, KEYS_OF_HOLDS, KEYS_OF_OPERATIONS, SWEPT_BY_A_HOLD, SWEPT_BY_A_SCRIPT, again,
    record::{self, Answer},
    scripts::SCRIPTS,
};
use crate::{
    kernel::{HoldId, Subject, Timestamp},
    platform::{group_commit::GroupCommit, shutdown::Lifecycle},
};

/// Fans who wait; beyond that the engine is overrun.
const QUEUE_MAX: usize = 4_096;
/// Holds or releases of one script: a fraction of a millisecond's work.
const GROUP_MAX: usize = 64;
/// Seats of one script: more could not be passed to one command.
const SEATS_MAX: usize = 1_500;

/// What gathers on this node.
#[derive(Clone)]
pub(super) struct Pens {
    pub(super) holds: GroupCommit<StoreHold, Result<Shown<HoldReply>, StoreError>>,
    /// Whether the hold was hers and is over now.
    pub(super) releases: GroupCommit<(HoldId, Subject), Result<Shown<bool>, StoreError>>,
}

/// A reply, and the version as of which it is to be seen.
pub(super) struct Shown<T> {
    pub(super) reply: T,
    pub(super) version: Option<u64>,
}

impl Pens {
    pub(super) fn start(engine: &Arc<Engine>, life: &Lifecycle) -> Self {
        let (holds, releases) = (Arc::clone(engine), Arc::clone(engine));
        Self {
            holds: GroupCommit::start(life, QUEUE_MAX, GROUP_MAX, move |asked: Vec<StoreHold>| {
                let engine = Arc::clone(&holds);
                async move { engine.hold_all(asked).await }
            }),
            releases: GroupCommit::start(
                life,
                QUEUE_MAX,
                GROUP_MAX,
                move |asked: Vec<(HoldId, Subject)>| {
                    let engine = Arc::clone(&releases);
                    async move { engine.release_all(&asked).await }
                },
            ),
        }
    }
}

impl Engine {
    async fn release_all(&self, asked: &[(HoldId, Subject)]) -> Vec<Result<Shown<bool>, StoreError>> {
        match self.try_to_release(asked).await {
            Ok(replies) => replies.into_iter().map(Ok).collect(),
            Err(error) => asked.iter().map(|_| Err(error)).collect(),
        }
    }

    async fn try_to_release(&self, asked: &[(HoldId, Subject)]) -> Result<Vec<Shown<bool>>, StoreError> {
        let call = self.on_holds().arg(self.time());
        let call = asked.iter().fold(call, |call, (id, who)| {
            call.arg(&id.as_uuid().as_bytes()[..]).arg(who.as_str())
        });
        let answer = self.answer(&SCRIPTS.release, call).await?;
        let version = self.view.take_own(answer.bytes(0)?, answer.bytes(1)?)?;
        let replies = answer.parts(2).map(|part| {
            let reply = part == Value::Int(1);
            Shown {
                reply,
                version: version.filter(|_| reply),
            }
        });
        let replies: Vec<_> = replies.collect();
        if replies.len() == asked.len() {
            Ok(replies)
        } else {
            Err(record::unreadable())
        }
    }

    /// In parts that one script can take.
    async fn hold_all(&self, mut asked: Vec<StoreHold>) -> Vec<Result<Shown<HoldReply>, StoreError>> {
        let mut held = Vec::with_capacity(asked.len());
        while !asked.is_empty() {
            let mut seats = 0;
            let fits = asked.iter().take_while(|it| {
                seats += it.seats.len();
                seats <= SEATS_MAX
            });
            let rest = asked.split_off(fits.count().max(1));
            let some = std::mem::replace(&mut asked, rest);
            match self.hold_some(&some).await {
                Ok(replies) => held.extend(replies.into_iter().map(Ok)),
                Err(error) => held.extend(some.iter().map(|_| Err(error))),
            }
        }
        held
    }

    /// Whoever is refused while holds stand in the way that have run out is tried once more without them.
    async fn hold_some(&self, asked: &[StoreHold]) -> Result<Vec<Shown<HoldReply>>, StoreError> {
        let everybody: Vec<&StoreHold> = asked.iter().collect();
        let mut held = self.try_to_hold(&everybody, false).await?;
        let overdue: Vec<usize> = (0..held.len()).filter(|at| held[*at].is_none()).collect();
        if !overdue.is_empty() {
            self.sweep_some((SWEPT_BY_A_HOLD * overdue.len()).min(SWEPT_BY_A_SCRIPT))
                .await?;
            let refused: Vec<&StoreHold> = overdue.iter().map(|at| &asked[*at]).collect();
            for (at, reply) in overdue.into_iter().zip(self.try_to_hold(&refused, true).await?) {
                held[at] = reply;
            }
        }
        held.into_iter()
            .collect::<Option<_>>()
            .ok_or_else(record::unreadable)
    }

    /// `None` for whoever is refused while something is overdue.
    async fn try_to_hold(
        &self,
        asked: &[&StoreHold],
        last_try: bool,
    ) -> Result<Vec<Option<Shown<HoldReply>>>, StoreError> {
        let has_operations = asked.iter().any(|it| it.operation.is_some());
        let mut call = self
            .on(if has_operations {
                KEYS_OF_OPERATIONS
            } else {
                KEYS_OF_HOLDS
            })
            .arg(self.time())
            .arg(self.terms.seats_per_customer_max)
            .arg(u64::try_from(self.terms.hold_ttl.as_millis()).unwrap_or(u64::MAX))
            .arg(&[self.terms.extensions_max][..])
            .arg(if last_try { "1" } else { "" });
        for request in asked {
            let (words, tail) = (
                record::words(&request.seats),
                record::tail(request.visit, &request.seats, &request.subject),
            );
            let mut operation = vec![u8::try_from(words.len()).map_err(|_| record::unreadable())?];
            operation.extend(
                request
                    .operation
                    .iter()
                    .flat_map(|it| it.key.iter().chain(&it.request_hash)),
            );
            call = call
                .arg(&request.id.as_uuid().as_bytes()[..])
                .arg(tail)
                .arg(operation);
            call = words
                .into_iter()
                .fold(call, |call, (at, ones)| call.arg(at).arg(ones));
        }
        let answer = self.answer(&SCRIPTS.hold, call).await?;
        let version = self.view.take_own(answer.bytes(0)?, answer.bytes(1)?)?;
        let expires_at = Timestamp::from_millis(answer.number(2)?);
        let extensions_left = self.terms.extensions_max;
        let replies: Vec<Option<Shown<HoldReply>>> = answer
            .parts(3)
            .zip(asked)
            .map(|(part, request)| match part {
                Value::Int(_) => Ok(Some(Shown {
                    reply: HoldReply::Held {
                        expires_at,
                        extensions_left,
                    },
                    version,
                })),
                other => {
                    Ok(reply(&Answer::new(other)?, request)?.map(|reply| Shown { reply, version: None }))
                }
            })
            .collect::<Result<_, StoreError>>()?;
        if replies.len() == asked.len() {
            Ok(replies)
        } else {
            Err(record::unreadable())
        }
    }
}

fn reply(answer: &Answer, request: &StoreHold) -> Result<Option<HoldReply>, StoreError> {
    Ok(Some(match answer.word() {
        b"held" => {
            let extensions_left = u8::try_from(answer.number(2)?).unwrap_or(u8::MAX);
            HoldReply::Held {
                expires_at: Timestamp::from_millis(answer.number(1)?),
                extensions_left,
            }
        }
        b"again" => match again(answer)? {
            // This very call, whose first answer was lost.
            HoldReply::Replayed(record) if record.id == request.id => HoldReply::Held {
                expires_at: record.expires_at,
                extensions_left: record.extensions_left,
            },
            other => other,
        },
        b"reused" => HoldReply::IdempotencyKeyReused,
        b"limit" => HoldReply::LimitReached,
        b"taken" => {
            let found = answer.found_in(&record::words(&request.seats), 1)?;
            HoldReply::Taken(
                request
                    .seats
                    .iter()
                    .copied()
                    .filter(|it| !record::is_free_in(&found, *it))
                    .collect(),
            )
        }
        b"overdue" => return Ok(None),
        _ => return Err(record::unreadable()),
    }))
}

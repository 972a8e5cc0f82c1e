//! Joining the queue: a number from the store, made durable in the journal.

use crate::waiting_room::{
    context::{RoomContext, WaitingRoomError},
    journal::{
        record::{Join, Promise},
        request::{self, Answer, Ask},
    },
    store::port::{Found, Numbered},
    types::{Durability, Phase},
};

/// What a subject that joins is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    New(Found),
    /// The subject had joined before.
    Existing(Found),
    /// No number is left.
    Full,
}

/// Gives a subject its number, as durable as the sale's [`Durability`] says when this returns. The sale takes entries in
/// this phase.
///
/// May be dropped at any moment: a request that was handed to the journal's writer is written, and a number that was
/// assigned and not handed over is offered to the same subject again.
///
/// # Errors
/// [`WaitingRoomError`]; joining again is safe.
pub(crate) async fn join(context: &RoomContext, subject: u64) -> Result<Entry, WaitingRoomError> {
    let store = &context.store;
    let is_async = context.config.durability == Durability::Acknowledged;
    if is_async && context.lag.is() {
        return Err(WaitingRoomError::Journal);
    }
    // Read before the store is asked: whatever it decides is then not written under a later epoch.
    let epoch = store.epoch();
    let join = Join {
        subject,
        joined_at: context.clock.now(),
    };
    match assign_number(context, join).await? {
        Numbered::New(found) => {
            let found = write_join(context, join, found, epoch).await?;
            // The journal knows the time of joining best: another node may have been a moment faster.
            let written = if is_async { None } else { store.known(subject) };
            Ok(Entry::New(written.unwrap_or(found)))
        }
        Numbered::Had { found, written: true } => {
            Ok(Entry::Existing(store.known(subject).unwrap_or(found)))
        }
        Numbered::Had {
            found,
            written: false,
        } => {
            // Another node may have written it just now, or died before it could.
            request::follow(&context.writer).await?;
            let found = if store.owner(found.number).is_none() {
                write_join(context, join, found, epoch).await?
            } else {
                found
            };
            Ok(Entry::Existing(store.known(subject).unwrap_or(found)))
        }
        Numbered::Full => Ok(Entry::Full),
    }
}

/// The subject's number, or the next one; never one over which a draw was closed before it was written.
async fn assign_number(context: &RoomContext, join: Join) -> Result<Numbered, WaitingRoomError> {
    let store = &context.store;
    match store.number(join).await? {
        Numbered::Had {
            found,
            written: false,
        } if store.missed_draw(found.number) => {
            store.give_up(join.subject, found.number).await?;
            Ok(store.number(join).await?)
        }
        numbered => Ok(numbered),
    }
}

/// Makes a join durable. Where a draw was closed a moment before, the subject gets another number, behind those of the
/// draw.
async fn write_join(
    context: &RoomContext,
    join: Join,
    found: Found,
    epoch: u64,
) -> Result<Found, WaitingRoomError> {
    let request = |found: Found| {
        Ask::Join(Promise {
            number: found.number,
            join: Join {
                joined_at: found.joined_at,
                ..join
            },
            epoch,
        })
    };
    if context.config.durability == Durability::Acknowledged {
        context.writer.hand_in(request(found))?;
        return Ok(found);
    }
    if context.writer.submit(request(found)).await? == Answer::Written {
        return Ok(found);
    }
    if !context.store.missed_draw(found.number) {
        return Err(WaitingRoomError::Journal);
    }
    match assign_number(context, join).await? {
        Numbered::New(found)
        | Numbered::Had {
            found,
            written: false,
        } => match context.writer.submit(request(found)).await? {
            Answer::Written => Ok(found),
            Answer::Failed => Err(WaitingRoomError::Journal),
        },
        Numbered::Had { found, written: true } => Ok(found),
        Numbered::Full => Err(WaitingRoomError::Busy),
    }
}

/// Whether the sale takes entries in this phase.
pub(crate) fn is_open_for_joins(phase: Phase) -> bool {
    !matches!(phase, Phase::Scheduled | Phase::Closed)
}

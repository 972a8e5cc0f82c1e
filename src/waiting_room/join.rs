//! Joining the queue: a number from the store, made durable in the journal.

use crate::waiting_room::{
    context::{RoomContext, WaitingRoomError},
    journal::{
        record::{Join, PendingJoin},
        request::{self, WriteRequest, WriteResult},
    },
    store::port::{Assigned, KnownEntry},
    types::{Durability, Phase},
};

/// What a subject that joins is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    New(KnownEntry),
    /// The subject had joined before.
    Existing(KnownEntry),
    /// No number is left.
    Full,
}

/// Gives a subject its number, as durable as the sale's [`Durability`] says when this returns. The sale takes
/// entries in this phase.
///
/// May be dropped at any moment: a request that was handed to the journal's writer is written, and a number
/// that was assigned and not handed over is offered to the same subject again.
///
/// # Errors
/// [`WaitingRoomError`]; joining again is safe.
pub(crate) async fn join(context: &RoomContext, subject: u64) -> Result<Entry, WaitingRoomError> {
    let store = &context.store;
    let is_async = context.config.durability == Durability::Async;
    if (is_async && context.lag.is()) || context.lag.is_unavailable() {
        return Err(WaitingRoomError::Journal);
    }
    // Read before the store is asked: whatever it decides is then not written under a later epoch.
    let epoch = store.epoch();
    let join = Join {
        subject,
        joined_at: context.clock.now(),
    };
    match assign_number(context, join).await? {
        Assigned::New(entry) => {
            let entry = write_join(context, join, entry, epoch).await?;
            // The journal knows the time of joining best: another node may have been a moment faster.
            let written = if is_async {
                None
            } else {
                store.find_by_subject(subject)
            };
            Ok(Entry::New(written.unwrap_or(entry)))
        }
        Assigned::Existing {
            entry,
            journaled: true,
        } => Ok(Entry::Existing(store.find_by_subject(subject).unwrap_or(entry))),
        Assigned::Existing {
            entry,
            journaled: false,
        } => {
            let entry = write_join(context, join, entry, epoch).await?;
            Ok(Entry::Existing(store.find_by_subject(subject).unwrap_or(entry)))
        }
        Assigned::Full => Ok(Entry::Full),
    }
}

/// The subject's number, or the next one. Never one that the subject has left, which a shared store may not
/// have been told yet, nor one over which a draw was closed before it was written.
async fn assign_number(context: &RoomContext, join: Join) -> Result<Assigned, WaitingRoomError> {
    let store = &context.store;
    let assigned = store.assign_number(join).await?;
    let Assigned::Existing {
        entry,
        journaled: false,
    } = assigned
    else {
        return Ok(assigned);
    };
    // Another node may have written it just now, or died before it could.
    request::catch_up_with_others(&context.writer).await?;
    if let Some(entry) = store.find_by_subject(join.subject) {
        return Ok(Assigned::Existing {
            entry,
            journaled: true,
        });
    }
    let is_left = store.subject_of(entry.number).is_some();
    if !is_left && !store.is_void_in_draw(entry.number) {
        return Ok(assigned);
    }
    store.abandon_number(join.subject, entry.number).await?;
    Ok(store.assign_number(join).await?)
}

/// Makes a join durable. Where a draw was closed a moment before, the subject gets another number, behind
/// those of the draw.
async fn write_join(
    context: &RoomContext,
    join: Join,
    entry: KnownEntry,
    epoch: u64,
) -> Result<KnownEntry, WaitingRoomError> {
    let request = |entry: KnownEntry| {
        WriteRequest::Join(PendingJoin {
            number: entry.number,
            join: Join {
                joined_at: entry.joined_at,
                ..join
            },
            epoch,
        })
    };
    if context.config.durability == Durability::Async {
        context.writer.enqueue(request(entry))?;
        return Ok(entry);
    }
    if context.writer.submit(request(entry)).await? == WriteResult::Written {
        return Ok(entry);
    }
    if !context.store.is_void_in_draw(entry.number) {
        return Err(WaitingRoomError::Journal);
    }
    match assign_number(context, join).await? {
        Assigned::New(entry)
        | Assigned::Existing {
            entry,
            journaled: false,
        } => match context.writer.submit(request(entry)).await? {
            WriteResult::Written => Ok(entry),
            WriteResult::Excluded | WriteResult::Failed => Err(WaitingRoomError::Journal),
        },
        Assigned::Existing {
            entry,
            journaled: true,
        } => Ok(entry),
        Assigned::Full => Err(WaitingRoomError::Busy),
    }
}

/// Whether the sale takes entries in this phase.
pub(crate) fn is_open_for_joins(phase: Phase) -> bool {
    !matches!(phase, Phase::Scheduled | Phase::Closed)
}

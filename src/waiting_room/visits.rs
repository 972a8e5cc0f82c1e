//! Visits: admission through a reserved slot, passes, and the end.

use std::time::Duration;

use crate::{
    kernel::{Timestamp, VisitId},
    waiting_room::{
        admission::reserve_slot::RETRY_AFTER,
        context::{RoomContext, WaitingRoomError},
        journal::{record::Event, request::WriteRequest},
        position,
        store::port::{NumberState, PassGrant, Reservation, SlotRequest},
        tokens::{
            pass::{self, Pass},
            queue_token::QueueToken,
        },
        types::{BoxOfficeLoad, Phase, RenewOutcome},
    },
};

/// What became of a visitor's request to enter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Admitted {
        pass: String,
        expires_at: Timestamp,
    },
    NotCalledYet,
    /// Called, but no slot is free at this moment.
    NoSlot {
        retry_after: Duration,
    },
    /// The sale is closed.
    Closed,
    /// The visitor has left, or the visit is over.
    Ended,
}

/// What one look at the store said.
enum Attempt {
    Decided(Admission),
    /// Another request of the same visitor is being journaled.
    BeingAdmitted,
}

/// How long an admission that another request of the same visitor has begun is waited for: a double click
/// gives two passes of one visit, also at two nodes.
const BEING_ADMITTED_MAX: Duration = Duration::from_secs(1);
const BEING_ADMITTED_POLL: Duration = Duration::from_millis(10);

/// Admits the token's holder if it is their turn, unless those `inside` are served late; a visit that goes on
/// gets a fresh pass.
///
/// # Errors
/// [`WaitingRoomError`]; asking again is safe.
pub(crate) async fn admit(
    context: &RoomContext,
    token: &QueueToken,
    load: BoxOfficeLoad,
) -> Result<Admission, WaitingRoomError> {
    if context.phase() == Phase::Closed {
        return Ok(Admission::Closed);
    }
    let give_up_at = context.clock.monotonic() + BEING_ADMITTED_MAX;
    loop {
        match try_admit(context, token, load).await {
            // Another request of this visitor is being journaled, or was: the next look finds its visit, or
            // that the visitor has left.
            Ok(Attempt::BeingAdmitted) | Err(WaitingRoomError::Overtaken)
                if context.clock.monotonic() < give_up_at =>
            {
                tokio::time::sleep(BEING_ADMITTED_POLL).await;
                context.catch_up().await?;
            }
            Ok(Attempt::BeingAdmitted) => {
                return Ok(Admission::NoSlot {
                    retry_after: *RETRY_AFTER.start(),
                });
            }
            Ok(Attempt::Decided(admission)) => return Ok(admission),
            Err(error) => return Err(error),
        }
    }
}

async fn try_admit(
    context: &RoomContext,
    token: &QueueToken,
    load: BoxOfficeLoad,
) -> Result<Attempt, WaitingRoomError> {
    let decided = |admission| Ok(Attempt::Decided(admission));
    let Some(number) = position::number_of(context, token) else {
        return decided(Admission::Ended);
    };
    let at = context.moment();
    // Read before the slot is reserved: the reservation is then not written under a later epoch.
    let epoch = context.store.epoch();
    let ask = SlotRequest {
        number,
        visit: VisitId::random(context.entropy.as_ref()),
        load,
    };
    let visit = match context.store.reserve_slot(&ask, at).await? {
        Reservation::Reserved { at } => {
            let event = Event::Admitted {
                number,
                subject: token.subject_hash,
                visit: ask.visit,
            };
            context.submit(WriteRequest::Entry { event, at, epoch }).await?;
            if context.store.entry_state(number, context.moment()) == NumberState::Left {
                // The visitor left at another node before this was written.
                end(context, ask.visit).await?;
                return decided(Admission::Ended);
            }
            ask.visit
        }
        Reservation::AlreadyAdmitted { visit } => visit,
        Reservation::BeingAdmitted => return Ok(Attempt::BeingAdmitted),
        Reservation::NotCalledYet => return decided(Admission::NotCalledYet),
        Reservation::NoRoom { retry_after } => return decided(Admission::NoSlot { retry_after }),
        Reservation::Ended => return decided(Admission::Ended),
    };
    let now = context.clock.now();
    decided(match context.store.grant_pass(visit, now).await? {
        Some(grant) => {
            let (pass, expires_at) = seal_pass(context, visit, token.subject_hash, number.into(), grant, now);
            Admission::Admitted { pass, expires_at }
        }
        None => Admission::Ended,
    })
}

/// A fresh pass for a visit that goes on, also after the sale has closed.
///
/// # Errors
/// [`WaitingRoomError::Store`]
pub(crate) async fn renew(context: &RoomContext, pass: &Pass) -> Result<RenewOutcome, WaitingRoomError> {
    let now = context.clock.now();
    Ok(match context.store.grant_pass(pass.visit, now).await? {
        Some(grant) => {
            let (pass, expires_at) =
                seal_pass(context, pass.visit, pass.subject_hash, pass.number, grant, now);
            RenewOutcome::Renewed { pass, expires_at }
        }
        None => RenewOutcome::Ended,
    })
}

/// Ends a visit and releases its slot. Ending twice is ending once.
///
/// # Errors
/// [`WaitingRoomError`]; ending again is safe.
pub(crate) async fn end(context: &RoomContext, visit: VisitId) -> Result<(), WaitingRoomError> {
    let ended = context.store.end_visits(&[visit], context.clock.now()).await?;
    for end in ended {
        match context.write(end.event()).await {
            // It has ended already.
            Ok(()) | Err(WaitingRoomError::Overtaken) => {}
            Err(error) => return Err(error),
        }
    }
    // No node accepts the pass any more when this returns.
    context.store.wait_until_known_everywhere().await;
    Ok(())
}

fn seal_pass(
    context: &RoomContext,
    visit: VisitId,
    subject_hash: u64,
    number: u64,
    grant: PassGrant,
    now: Timestamp,
) -> (String, Timestamp) {
    let expires_at = Timestamp::from_secs(grant.expires_at.as_secs());
    let pass = Pass {
        visit,
        subject_hash,
        number,
        generation: grant.generation,
        issued_at: now,
        expires_at,
    };
    let (config, entropy) = (&context.config, context.entropy.as_ref());
    (
        pass::sign(&pass, &context.keys.pass, &config.sale, &config.issuer, entropy),
        expires_at,
    )
}

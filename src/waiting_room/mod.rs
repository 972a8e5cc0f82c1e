//! Waiting room: who comes in, and when.
//!
//! A visitor joins once and gets a number that never changes, signed into a queue token that the browser
//! keeps. What changes is the same for everybody: the public status. A position is arithmetic on the two. One
//! writer appends every change to the `journal` before the `store` and the answer follow, and the
//! `admission` tick calls the next visitors by a pure policy. Called visitors who find every slot taken
//! wait in the admission lanes.
//!
//! What holds at every moment:
//! - no visitor is admitted while as many visits are active as the limit says;
//! - admissions in any window `w` are at most `rate * w + burst`;
//! - calls follow number order, of waiting claimants the lowest number enters first, and visitors who missed
//!   their call come back through a lane of their own within its share;
//! - one subject has one number, one number one subject;
//! - whatever was answered is in the journal.

pub(crate) mod phase;
pub(crate) mod state;
pub(crate) mod types;

pub(crate) mod tokens;

pub mod draw;

pub(crate) mod journal;

pub(crate) mod store;

pub(crate) mod context;

pub(crate) mod forecast;

pub(crate) mod status;

pub(crate) mod admission;

mod call_notices;
mod commands;
mod join;
pub(crate) mod open;
mod position;
pub(crate) mod room;
mod visits;

#[cfg(test)]
mod tests;

pub use self::{
    context::WaitingRoomError,
    draw::{
        publication::{DrawProgress, PublishedDraw},
        receipts::{DrawLeaves, ReceiptOutcome},
    },
    forecast::scoring::ForecastAccuracy,
    journal::{
        ChainHead, JournalFault, JournalLine, JournalReadError, VerifiedJournal, read_journal, verify_journal,
    },
    open::{Deps, OpenError, open},
    room::WaitingRoom,
    status::snapshot::{EncodedStatus, StatusSubscription},
    store::StoreError,
    tokens::{
        pass::{Pass, PassVerifier, TokenVerifier},
        queue_token::QueueToken,
    },
    types::{
        ACTIVE_VISITS_MAX, ADMISSION_RATE_PER_MINUTE_MAX, AdmissionSettings, BoxOfficeHealth, BoxOfficeLoad,
        BoxOfficeReport, CLOSE_DELAY, CallNoticeOutcome, CalledVisitor, CommandOutcome, CommandRefusal,
        Config, DelayReason, Durability, EnterOutcome, EntryState, ForecastOutcomes, JoinOutcome, Joined,
        JournalLocation, Milestones, NOTICE_CHARS_MAX, OperatorCommand, Phase, Position, RenewOutcome,
        RoomMetrics, StoreBackend, Wait, ZoneStock,
    },
};
pub(crate) use self::{
    forecast::stock_reach::CHANCE_MIN_PERCENT, status::snapshot::QueueStatus,
    tokens::queue_token::is_anonymous as is_anonymous_entry,
};

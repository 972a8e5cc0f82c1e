//! Waiting room: who comes in, and when.
//!
//! A visitor joins once and gets a number that never changes, signed into a queue token that the browser keeps. What
//! changes is the same for everybody: the public status. A position is arithmetic on the two. One writer appends every
//! change to the [`journal`] before the [`store`] and the answer follow, and the [`admission`] tick calls the next
//! visitors by a pure policy. Called visitors who find every slot taken wait in the admission lanes.
//!
//! What holds at every moment:
//! - no visitor is admitted while as many visits are active as the limit says;
//! - admissions in any window `w` are at most `rate * w + burst`;
//! - calls follow number order, of waiting claimants the lowest number enters first, and visitors who missed their call
//!   come back through a lane of their own within its share;
//! - one subject has one number, one number one subject;
//! - whatever was answered is in the journal.

pub(crate) mod types;
pub(crate) mod state;
pub(crate) mod phase;

pub(crate) mod tokens;

pub mod draw;

pub(crate) mod journal;

pub(crate) mod store;

pub(crate) mod context;

pub(crate) mod forecast;

pub(crate) mod status;

pub(crate) mod admission;

mod commands;
mod join;
mod open;
mod position;
mod room;
mod visits;

#[cfg(test)]
mod tests;

pub use self::{
    context::WaitingRoomError,
    draw::{
        publication::{DrawProgress, PublishedDraw},
        receipts::{DrawLeaves, ReceiptOutcome},
    },
    forecast::interval_calibration::KeptWord,
    journal::{CheckedLog, LogError, LogFault, LogHead, LogLine, check_log, read_log},
    open::{Deps, OpenError, open},
    room::WaitingRoom,
    status::snapshot::{BoardWatch, EncodedBoard},
    store::StoreError,
    tokens::{
        pass::{Papers, Pass, PassReader},
        queue_token::QueueToken,
    },
    types::{
        BoxOfficeHealth, BoxOfficeReport, CommandOutcome, Config, DoorState, Durability, Engine, EnterOutcome,
        Figures, Inside, JoinOutcome, Joined, JournalPlace, NOTICE_CHARS_MAX, OperatorCommand, Phase, Place,
        PlaceState, Reason, Refusal, RenewOutcome, Statements, Wait, ZoneStock,
    },
};

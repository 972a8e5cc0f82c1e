//! The journal: every change of a sale's queue, in order.
//!
//! Whatever was answered is in the journal, and the store is a fold of it. One [`writer`] per process appends
//! changes in batches; a hash chain over the records makes later changes to them detectable.
//!
//! Floors, from the ground up: [`record`], [`port`] and [`notices`] · `encoding` and `chain` · the backends
//! `sqlite` and `postgres` · `reader`, `verify`, `show` · [`request`] · [`writer`], with `batch` and
//! `in_doubt`.

mod batch;
pub(crate) mod chain;
#[cfg(test)]
mod chain_conformance;
#[cfg(test)]
mod conformance;
mod encoding;
mod in_doubt;
pub(crate) mod notices;
pub(crate) mod port;
pub(crate) mod postgres;
mod reader;
pub(crate) mod record;
pub(crate) mod request;
mod show;
pub(crate) mod sqlite;
pub(crate) mod verify;
pub(crate) mod writer;

pub use self::{
    reader::JournalReadError,
    show::{JournalLine, read_journal},
    verify::{ChainHead, JournalFault, VerifiedJournal, verify_journal},
};

//! The journal: whatever was answered is in it, and the store is a fold of it.

pub(crate) mod chain;
#[cfg(test)]
mod chain_conformance;
#[cfg(test)]
mod conformance;
mod batch;
mod encoding;
mod in_doubt;
pub(crate) mod port;
pub(crate) mod postgres;
mod reader;
pub(crate) mod record;
pub(crate) mod request;
mod show;
pub(crate) mod sqlite;
pub(crate) mod verify;
pub(crate) mod writer;

pub(crate) use self::{
    chain::{Chain, Link, extend},
    port::{Journal, JournalError},
    postgres::{HEADROOM, Head, OpenError, PgJournal},
    record::{Event, Join, Promise, Record, Stored},
    sqlite::SqliteJournal,
};
pub use self::{
    reader::LogError,
    show::{LogLine, read_log},
    verify::{CheckedLog, LogFault, LogHead, check_log},
};

//! Evidence from a service's databases: journal, ledger, and the sandbox gateway's statement.
//!
//! They are opened read-only. The queries and the journal's encoding are written here a second time on
//! purpose: a reader that shared the service's code would share its mistakes.

mod admission_settings;
mod draw;
mod journal;
mod late_arrivals;
mod ledger;
mod reader;
mod source;
mod statement;
#[cfg(test)]
mod tests;

pub use self::{
    journal::admission_settings,
    late_arrivals::reclassify_late_arrivals,
    reader::{read, read_from},
    source::{DatabaseLocation, Databases, ReadError},
};

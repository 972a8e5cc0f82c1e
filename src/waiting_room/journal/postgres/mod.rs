//! The journal in PostgreSQL.

mod checks;
mod journal;
#[cfg(test)]
mod tests;

pub(crate) use self::journal::{HEADROOM, Head, OpenError, PostgresJournal};

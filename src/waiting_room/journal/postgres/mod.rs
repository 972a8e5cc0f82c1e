//! The journal in PostgreSQL.

mod checks;
pub(crate) mod journal;
mod notices;
#[cfg(test)]
mod tests;

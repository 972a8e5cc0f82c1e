//! The journal in PostgreSQL.

mod checks;
pub(crate) mod journal;
#[cfg(test)]
mod tests;

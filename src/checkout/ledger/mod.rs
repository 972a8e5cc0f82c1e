//! The ledger: the port, and its implementations on SQLite and PostgreSQL.

#[cfg(test)]
pub(super) mod conformance;
pub mod port;
pub mod postgres;
mod saga_start;
pub mod sqlite;

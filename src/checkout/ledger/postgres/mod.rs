//! The ledger of many nodes, on PostgreSQL.
//!
//! Correctness rests on unique rows and on conditional changes of single rows at READ COMMITTED, not on an
//! isolation level. Locks are taken in one order: the order's saga row, its seats by their names, the buyer's
//! quota. So two orders that want the same seats wait for each other, but never deadlock.

mod attempts;
mod inbox;
mod journal;
mod leases;
mod ledger;
mod open_order;
mod outbox;
mod reads;
mod rows;
#[cfg(test)]
mod tests;
mod transaction;

pub use self::ledger::{CONNECTIONS, PostgresLedger};

//! The ledger of a single node: one SQLite file, flushed at each commit.

mod attempts;
mod inbox;
mod journal;
mod leases;
mod ledger;
mod open_order;
mod outbox;
mod reads;
mod rows;
mod seat_store_epoch;
#[cfg(test)]
mod tests;
mod write_group;

pub use self::ledger::SqliteLedger;

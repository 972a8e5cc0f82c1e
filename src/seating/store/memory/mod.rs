//! The embedded seat store: plain data behind one lock a performance.

mod completed_requests;
mod holder_counts;
mod holds;
mod ledger_sync;
mod seat_table;
mod store;
#[cfg(test)]
mod tests;

pub use self::store::MemoryStore;

//! The store: the fast state of one sale's queue, and the one place where an admission slot is reserved.
//!
//! The journal is the authority; the store is a fold of it that answers every request. [`port`] defines what
//! a store does. The memory store serves one process; the Redis store serves any number of nodes, each of
//! which mirrors the journal in a memory store. `conformance` is what both must pass.

#[cfg(test)]
pub(super) mod conformance;
mod entries;
pub(crate) mod memory;
pub(crate) mod port;
pub(crate) mod redis;
pub(crate) mod settings;

pub use self::port::StoreError;

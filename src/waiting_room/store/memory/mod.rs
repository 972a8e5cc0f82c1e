//! The memory store: one sale's queue in this process's memory.
//!
//! One lock guards the state. Every critical section is short (a group of joins is the longest: tens of
//! microseconds) and none waits for I/O, so reading a position costs an uncontended read lock.

mod draw;
mod join_groups;
pub(crate) mod mirror;
mod number_ceiling;
pub(crate) mod state;
pub(crate) mod store;

//! The outbox: events for the shop, and how they get there.
//!
//! An event is written in the transaction that makes it true. The relay sends it after the commit, in order
//! within its stream, until the receiver accepts it or it becomes a dead letter. Shops that cannot be called
//! read the feed instead.

#[cfg(test)]
pub(crate) mod conformance;
pub(crate) mod event;
pub(crate) mod port;
pub(crate) mod receiver;
pub(crate) mod relay;
pub(crate) mod service;
#[cfg(test)]
mod tests;

//! The checks, one file per invariant or pair of invariants.

pub(super) mod admission;
pub(super) mod claims;
pub(super) mod durability;
pub(super) mod numbers;
pub(super) mod payments;
pub(super) mod proofs;
pub(super) mod queue_order;
pub(super) mod seat_store;
pub(super) mod shop_budget;
pub(super) mod termination;
mod timeline;

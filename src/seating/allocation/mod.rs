//! Which seats to offer: pure functions of a plan, the seats' states and a query.

pub(crate) mod best_available;
pub(crate) mod query;
pub(crate) mod reservable;
pub(crate) mod split_groups;
pub(crate) mod windows;

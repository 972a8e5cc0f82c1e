//! TODO-DOC

pub(crate) mod best_available;
pub(crate) mod split_groups;

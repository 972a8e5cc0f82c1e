//! TODO-DOC

pub(crate) mod people_ahead;
pub(crate) mod presence;
pub(crate) mod snapshot;

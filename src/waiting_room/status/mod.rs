//! TODO-DOC

pub(crate) mod people_ahead;
pub(crate) mod presence;
pub(crate) mod reporter;
pub(crate) mod snapshot;

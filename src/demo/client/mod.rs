//! TODO-DOC

pub(crate) mod api;
pub(crate) mod http1;

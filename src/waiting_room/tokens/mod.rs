//! TODO-DOC

pub(crate) mod pass;
pub(crate) mod queue_token;

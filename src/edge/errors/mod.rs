//! TODO-DOC

pub mod problem;
pub(crate) mod unavailable;

//! TODO-DOC

pub mod cookies;
pub(crate) mod extractors;

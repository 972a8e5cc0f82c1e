//! TODO-DOC

pub mod listener;
pub mod operators;

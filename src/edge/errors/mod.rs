//! Error responses: the problem documents of RFC 9457, and those of unavailable dependencies.

pub mod problem;
pub(crate) mod unavailable;

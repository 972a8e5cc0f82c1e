//! Error responses: the problem documents of RFC 9457, those of unavailable dependencies, and the pages that
//! people get instead.

pub mod page;
pub mod problem;
pub(crate) mod unavailable;

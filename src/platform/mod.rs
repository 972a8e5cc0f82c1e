//! Plumbing that knows no word of ticketing.

pub mod drand;
pub mod group_commit;
pub mod http_client;
pub mod keys;
pub mod lifecycle;
pub mod redis;
pub mod sealing;
pub mod signing;
pub mod sql;

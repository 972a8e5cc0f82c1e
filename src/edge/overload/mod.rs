//! TODO-DOC

pub mod health;
pub mod proof_of_work;
pub mod rate_limit;
pub mod shed;

//! TODO-DOC

pub(crate) mod client;
pub mod crowd;
pub mod sandbox_beacon;
pub mod sandbox_gateway;

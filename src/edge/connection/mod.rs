//! TODO-DOC

pub mod acceptor;
pub(crate) mod hijack;
pub(crate) mod sse;
pub(crate) mod timeouts;

//! Connections of a listener: accepting them, their timeouts, and the event streams that take them over.

pub mod acceptor;
pub(crate) mod hijack;
mod refusal;
mod spare_files;
pub(crate) mod sse;
pub mod timeouts;

//! TODO-DOC

pub(crate) mod engine;
pub(crate) mod purchase;
pub(crate) mod recovery;
pub(crate) mod refund;
pub(crate) mod running_orders;

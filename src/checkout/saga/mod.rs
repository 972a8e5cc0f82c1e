//! Sagas of an order: the engine, the tables of steps, and what keeps every order going until it ends.

pub(crate) mod cancellation;
pub(crate) mod engine;
pub(crate) mod late_money;
pub(crate) mod purchase;
pub(crate) mod recovery;
pub(crate) mod refund;
pub(crate) mod retry_policy;
pub(crate) mod runner;
pub(crate) mod running_orders;
pub(crate) mod step_context;

//! Tokens: what a visitor shows. [`queue_token`] proves a queue entry, [`pass`] an admission.

pub(crate) mod pass;
pub(crate) mod queue_token;

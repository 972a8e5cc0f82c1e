//! TODO-DOC

pub(crate) mod backpressure;
pub(crate) mod box_office;
pub(crate) mod controller;
pub(crate) mod lanes;
pub(crate) mod policy;
pub(crate) mod show_rate;

//! Admission: who is called and who enters, and when.
//!
//! [`policy`], [`lanes`], [`backpressure`] and [`show_rate`] are pure rules; the store applies the lanes
//! where a slot is reserved. [`controller`] is the tick that applies the policy, with what the box offices
//! report ([`box_office`]).

pub(crate) mod backpressure;
pub(crate) mod box_office;
pub(crate) mod controller;
pub(crate) mod lanes;
pub(crate) mod policy;
pub(crate) mod show_rate;

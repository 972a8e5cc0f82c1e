//! Admission: who is called and who enters, and when.
//!
//! `call_policy`, `reserve_slot`, [`backpressure`] and [`show_rate`] are pure rules: how many are
//! called, who gets a free slot, how much backpressure takes away, how many of the called come. The store
//! applies `reserve_slot`; [`controller`] is the tick that applies the others, with what the box offices
//! report ([`box_office`]).

pub(crate) mod backpressure;
pub(crate) mod box_office;
pub(crate) mod call_policy;
pub(crate) mod controller;
pub(crate) mod reserve_slot;
pub(crate) mod show_rate;

//! Adapters of real payment gateways.

pub mod sandbox;

//! Adapters of the payment port to payment gateways.

pub mod sandbox;

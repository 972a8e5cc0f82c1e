//! Turns a hold into tickets, or into nothing.

use std::time::Duration;

use crate::kernel::SaleId;

/// What the house decides about checkout.
#[derive(Clone, Debug)]
pub struct Config {
    pub sales: Vec<SaleConfig>,
    /// Issuer of tickets: the public base URL.
    pub issuer: String,
    /// How long a request waits for its saga before it answers "in progress".
    pub answer_within: Duration,
    /// Deadline of one gateway call.
    pub gateway_deadline: Duration,
    /// How long an authorisation may stay unknown before it is voided.
    pub authorise_within: Duration,
}

/// Limits of one sale.
#[derive(Clone, Debug)]
pub struct SaleConfig {
    pub sale: SaleId,
    pub title: String,
    /// Seats that one fan may own over all performances of the sale.
    pub seats_per_fan: u8,
}

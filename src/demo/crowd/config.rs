//! Who comes to a sale, where to, and how fast.

use std::{sync::Arc, time::Duration};

use crate::kernel::SaleId;

/// Makes a fresh hand-off token of the shop for a customer; customers are numbered from 1.
pub type HandoffSigner = Arc<dyn Fn(u32) -> String + Send + Sync>;

/// A crowd.
#[derive(Clone)]
pub struct CrowdConfig {
    /// The base URL of the public listener, such as `http://127.0.0.1:8080`.
    pub base: String,
    /// The sale that the crowd comes to.
    pub sale: SaleId,
    /// How many fans come.
    pub fans: u32,
    /// Decides what each fan does. The same seed gives the same fans.
    pub seed: u64,
    /// Signs the fans in.
    pub handoff: HandoffSigner,
    /// The fans arrive at random moments, evenly distributed over this time.
    pub arrive_within: Duration,
    /// The customer number of the first fan; the others follow.
    pub first_customer: u32,
    /// How fast fans act.
    pub pace: Pace,
}

/// How long fans take to react, to look, to choose and to type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Seconds to tens of seconds.
    Human,
    /// Tenths of seconds: for tests.
    Brisk,
}

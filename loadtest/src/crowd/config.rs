//! Who comes, when and how.

use std::time::Duration;

use stagedoor::shop::HandoffIssuer;

/// How waiting visitors follow the queue status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StatusPolling {
    /// A cache stands in front of the server: the server is asked once a second, whatever the crowd.
    Cached,
    /// Every visitor asks the server, as often as the page does far from the front; one in ten also for their
    /// position.
    Direct,
}

/// A crowd, or one part of it.
#[derive(Clone, Debug)]
pub struct CrowdConfig {
    /// The sale's identifier.
    pub sale: String,
    /// The performance that all want to see.
    pub performance: String,
    /// The shop that hands its customers over, if the sale requires a sign-in.
    pub shop: Option<HandoffIssuer>,
    /// When each visitor arrives, counted from the start.
    pub arrivals: Vec<Duration>,
    /// The number of the first visitor. Parts of one run share a crowd.
    pub first: u32,
    /// The distance to the next visitor's number: how many parts there are.
    pub every: u32,
    /// Decides what each visitor does.
    pub seed: u64,
    /// Multiplies human pauses: 0.1 is ten times as fast as a human.
    pub pace: f64,
    /// The same for the pauses of admitted visitors.
    pub visit_pace: f64,
    /// The share of called visitors who never come.
    pub absent: f64,
    /// The share of visitors with a hold who abandon it.
    pub abandon_hold: f64,
    /// Every visitor wants one seat only.
    pub single_seats: bool,
    /// Every card is accepted at once, so that slow answers come from the server under test.
    pub good_cards: bool,
    /// How waiting visitors follow the status.
    pub polling: StatusPolling,
    /// How many clients follow the status as an event stream.
    pub streams: u32,
    /// How many bots there are.
    pub bots: u32,
    /// The run ends after this time at the latest.
    pub limit: Duration,
}

//! The parts of the server's answers that a fan reads.

use serde::Deserialize;

use crate::{
    kernel::{Money, Timestamp},
    platform::http_client::Answer,
};

#[derive(Deserialize)]
pub(super) struct SignedIn {
    pub(super) token: String,
}

#[derive(Deserialize)]
pub(super) struct Place {
    #[serde(default)]
    pub(super) token: Option<String>,
    pub(super) state: String,
    pub(super) number: Option<u64>,
    #[serde(default)]
    pub(super) poll_after_ms: Option<u64>,
}

/// `type` and the members that matter here; the place's are beside them.
#[derive(Deserialize)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) place: Option<Place>,
    #[serde(default)]
    pub(super) alternatives: Vec<Vec<String>>,
    /// Of a declined payment.
    #[serde(default)]
    pub(super) order: Option<Order>,
}

#[derive(Deserialize)]
pub(super) struct PassGiven {
    pub(super) pass: String,
    pub(super) expires_at: Timestamp,
}

#[derive(Deserialize)]
pub(super) struct Hold {
    pub(super) id: String,
}

#[derive(Deserialize)]
pub(super) struct Order {
    pub(super) id: String,
    pub(super) state: String,
    #[serde(default)]
    pub(super) seats: Vec<String>,
    #[serde(default)]
    pub(super) total: Option<Money>,
}

#[derive(Deserialize)]
pub(super) struct Tickets {
    pub(super) tickets: Vec<serde_json::Value>,
}

/// The last part of a problem's type: `seats-taken` of `/problems/seats-taken`; empty when it is none.
pub(super) fn kind_of(answer: &Answer) -> String {
    let kind = answer.json::<Problem>().map(|p| p.kind).unwrap_or_default();
    kind.rsplit('/').next().unwrap_or_default().to_owned()
}

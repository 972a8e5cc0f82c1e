//! The parts of the server's answers that a fan reads.

use serde::Deserialize;

use crate::{
    kernel::{Money, Timestamp},
    platform::http_client::Response,
};

#[derive(Deserialize)]
pub(crate) struct SignedIn {
    pub(crate) token: String,
}

#[derive(Deserialize)]
pub(crate) struct Place {
    #[serde(default)]
    pub(crate) token: Option<String>,
    pub(crate) state: String,
    pub(crate) number: Option<u64>,
    #[serde(default)]
    pub(crate) poll_after_ms: Option<u64>,
}

/// `type` and the members that matter here; the place's are beside them.
#[derive(Deserialize)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) place: Option<Place>,
    #[serde(default)]
    pub(crate) alternatives: Vec<Vec<String>>,
    /// Of a declined payment.
    #[serde(default)]
    pub(crate) order: Option<Order>,
}

#[derive(Deserialize)]
pub(crate) struct PassGiven {
    pub(crate) pass: String,
    pub(crate) expires_at: Timestamp,
}

#[derive(Deserialize)]
pub(crate) struct Hold {
    pub(crate) id: String,
}

#[derive(Deserialize)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) seats: Vec<String>,
    #[serde(default)]
    pub(crate) total: Option<Money>,
}

#[derive(Deserialize)]
pub(crate) struct Tickets {
    pub(crate) tickets: Vec<serde_json::Value>,
}

/// The last part of a problem's type: `seats-taken` of `/problems/seats-taken`; empty when it is none.
pub(crate) fn kind_of(answer: &Response) -> String {
    let kind = answer.json::<Problem>().map(|p| p.kind).unwrap_or_default();
    kind.rsplit('/').next().unwrap_or_default().to_owned()
}

//! Security schemes of the documents, and the credentials that operations ask for.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// A way in which a request proves who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A customer's session.
    Session,
    /// The token of a queue entry.
    QueueToken,
    /// The admission pass.
    AdmissionPass,
    /// An operator's token.
    Operator,
    /// The token with which the shop reads the feed of events.
    FeedReader,
    /// The MAC of a box office's report.
    BoxOfficeMac,
    /// The payment gateway's signature.
    GatewaySignature,
}

impl Credential {
    /// The names of the security schemes that carry it; any one of them is enough.
    pub(super) const fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::Session => &["session", "session_cookie"],
            Self::QueueToken => &["queue_token", "queue_token_cookie"],
            Self::AdmissionPass => &["admission_pass", "admission_pass_cookie"],
            Self::Operator => &["operator"],
            Self::FeedReader => &["feed_reader"],
            Self::BoxOfficeMac => &["box_office_mac"],
            Self::GatewaySignature => &["gateway_signature"],
        }
    }
}

/// The security schemes that the document's operations name.
pub(super) fn used_schemes(document: &Value) -> Value {
    let operations = document["paths"]
        .as_object()
        .into_iter()
        .flat_map(Map::values)
        .flat_map(|path| path.as_object().into_iter().flat_map(Map::values));
    let used: BTreeSet<&String> = operations
        .filter_map(|operation| operation["security"].as_array())
        .flatten()
        .filter_map(Value::as_object)
        .flat_map(Map::keys)
        .collect();
    let mut schemes = schemes();
    if let Some(schemes) = schemes.as_object_mut() {
        schemes.retain(|name, _| used.contains(name));
    }
    schemes
}

fn schemes() -> Value {
    json!({
        "session": bearer("session token", "The `token` that signing in returned."),
        "session_cookie": api_key(
            "cookie",
            "sd_session",
            "The same token as a cookie. Behind TLS the name of every cookie begins with `__Host-`, or with \
             `__Secure-` where the service has a path of another host.",
        ),
        "queue_token": api_key("header", "Queue-Token", "The `token` that joining the queue returned."),
        "queue_token_cookie":
            api_key("cookie", "sd_queue_{sale}", "The same token as a cookie, one for each sale."),
        "admission_pass": api_key("header", "Admission-Pass", "The `pass` that entering returned."),
        "admission_pass_cookie":
            api_key("cookie", "sd_pass_{sale}", "The same pass as a cookie, one for each sale."),
        "operator": bearer("operator token", "An operator's token, made by `stagedoor operator-token`."),
        "feed_reader": bearer("feed token", "The shop's token of the feed, `shop.events.feed_token`."),
        "box_office_mac": bearer(
            "KEY_ID.MAC",
            "MAC of sale and body under the installation's own keys; only its box offices can make it.",
        ),
        "gateway_signature": api_key(
            "header",
            "Webhook-Signature",
            "Signature of the message under the secret shared with the payment gateway.",
        ),
    })
}

fn api_key(location: &str, name: &str, description: &str) -> Value {
    json!({ "type": "apiKey", "in": location, "name": name, "description": description })
}

fn bearer(format: &str, description: &str) -> Value {
    json!({ "type": "http", "scheme": "bearer", "bearerFormat": format, "description": description })
}

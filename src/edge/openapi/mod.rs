//! The OpenAPI 3.1 document of the public API, built from the table of routes and the handlers' own wire types.
//!
//! [`operation::OperationDoc`] describes one operation. Each file beside it describes the operations of one tag. The
//! admin API is described the same way in [`crate::ops::admin`]. Tests prove that every route has an operation and every
//! operation a route, and that every example is valid against its schema.

mod draw;
pub mod operation;
mod orders;
mod primitives;
mod problems;
mod queue;
mod sales;
mod seats;
mod sign_in;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use serde_json::{Map, Value, json};

use self::operation::{OperationDoc, Schemas};
use crate::edge::routes::ROUTES;

const DESCRIPTION: &str = "\
A virtual waiting room, seat holds and checkout for ticket sales.

Times are RFC 3339 in UTC. Money is in the currency's minor unit. Errors are `application/problem+json` (RFC 9457) with a \
stable `type`. Tokens come in a header or in a cookie; a request that changes something and proves itself by a cookie must \
come from this site (`Origin`).";

static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| serde_json::to_vec(&public_document()).expect("the document is JSON").into());

/// `GET /openapi.json`: the document of the public API.
pub(crate) async fn document() -> Response {
    json_document(&DOCUMENT)
}

/// The response with a document that was encoded before.
pub fn json_document(encoded: &Bytes) -> Response {
    let mut response = Response::new(encoded.clone().into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}

/// The document of the public API.
#[must_use]
pub fn public_document() -> Value {
    let routes = ROUTES.iter().filter_map(|route| Some((&route.method, route.path, route.operation_id?)));
    let tags = [
        ("sign-in", "Who the caller is."),
        ("sales", "What is on sale."),
        ("queue", "Joining a queue, waiting in it, and entering."),
        ("draw", "The random draw of a queue's order, verifiable by anyone."),
        ("seats", "Seating plans, live seat states and holds."),
        ("orders", "Paying for a hold, and what became of it."),
        ("integration", "For other programs: reverse proxies, ticket readers, payment gateways."),
    ];
    build("stagedoor", DESCRIPTION, &tags, routes, operations())
}

/// Every operation of the public API.
fn operations() -> Vec<OperationDoc> {
    [
        sign_in::operations(),
        sales::operations(),
        queue::operations(),
        draw::operations(),
        seats::operations(),
        orders::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Builds a document from a table of routes and the descriptions of its operations.
///
/// # Panics
/// When a route's operation has no description; a test excludes it.
pub fn build<'a>(
    title: &str,
    description: &str,
    tags: &[(&str, &str)],
    routes: impl Iterator<Item = (&'a Method, &'a str, &'a str)>,
    operations: Vec<OperationDoc>,
) -> Value {
    let mut operations: HashMap<_, _> =
        operations.into_iter().map(|operation| (operation.id(), operation)).collect();
    let mut schemas = Schemas::new();
    problems::add_schema(&mut schemas);
    let mut paths = BTreeMap::<&str, Map<String, Value>>::new();
    for (method, path, id) in routes {
        let operation = operations.remove(id).unwrap_or_else(|| panic!("the operation `{id}` is described"));
        let method = method.as_str().to_ascii_lowercase();
        paths.entry(path).or_default().insert(method, operation.build(&mut schemas));
    }
    let tags: Vec<Value> =
        tags.iter().map(|(name, description)| json!({ "name": name, "description": description })).collect();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": env!("CARGO_PKG_VERSION"),
            "description": description,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": { "schemas": schemas },
    });
    document["components"]["securitySchemes"] = used_security_schemes(&document);
    document
}

/// The security schemes that the document's operations name.
fn used_security_schemes(document: &Value) -> Value {
    let operations = document["paths"].as_object().into_iter().flat_map(Map::values).flat_map(|path| {
        path.as_object().into_iter().flat_map(Map::values)
    });
    let used: std::collections::BTreeSet<&String> = operations
        .filter_map(|operation| operation["security"].as_array())
        .flatten()
        .filter_map(Value::as_object)
        .flat_map(Map::keys)
        .collect();
    let mut schemes = security_schemes();
    if let Some(schemes) = schemes.as_object_mut() {
        schemes.retain(|name, _| used.contains(name));
    }
    schemes
}

fn security_schemes() -> Value {
    let api_key = |place: &str, name: &str, description: &str| {
        json!({ "type": "apiKey", "in": place, "name": name, "description": description })
    };
    let bearer = |format: &str, description: &str| {
        json!({ "type": "http", "scheme": "bearer", "bearerFormat": format, "description": description })
    };
    json!({
        "session": bearer("session token", "The `token` that signing in returned."),
        "session_cookie": api_key("cookie", "sd_session",
            "The same token as a cookie. Behind TLS its name, as that of every cookie, begins with `__Host-`."),
        "queue_token": api_key("header", "Queue-Token", "The `token` that joining the queue returned."),
        "queue_token_cookie": api_key("cookie", "sd_queue_{sale}",
            "The same token as a cookie, one for each sale."),
        "admission_pass": api_key("header", "Admission-Pass", "The `pass` that entering returned."),
        "admission_pass_cookie": api_key("cookie", "sd_pass_{sale}",
            "The same pass as a cookie, one for each sale."),
        "operator": bearer("operator token", "An operator's token, made by `stagedoor operator-token`."),
        "box_office_mac": bearer("KEY_ID.MAC",
            "MAC of sale and body under the installation's own keys; only its box offices can make it."),
        "gateway_signature": api_key("header", "Webhook-Signature",
            "Signature of the message under the secret shared with the payment gateway."),
    })
}

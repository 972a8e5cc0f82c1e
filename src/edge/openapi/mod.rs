//! The OpenAPI 3.1 document of the public API, built from the table of routes and the handlers' own wire
//! types.
//!
//! [`operation::OperationDoc`] describes one operation. Each file beside it describes the operations of one
//! tag. The admin API is described the same way in [`crate::ops::admin`]. Tests prove that every route has an
//! operation and every operation a route, and that every example is valid against its schema.

mod draw;
pub(crate) mod event_examples;
pub(crate) mod examples;
pub mod operation;
mod orders;
mod primitives;
mod problems;
mod queue;
mod references;
mod sales;
mod seats;
pub mod security;
mod sign_in;
#[cfg(test)]
pub(crate) mod tests;
mod webhooks;

use std::collections::{BTreeMap, HashMap};

use http::Method;
use serde_json::{Map, Value, json};

use self::{operation::OperationDoc, references::Schemas};
use crate::edge::routes::ROUTES;

const DESCRIPTION: &str = "\
A virtual waiting room, seat holds and checkout for ticket sales.

Times are RFC 3339 in UTC. Money is in the currency's minor unit. Errors are `application/problem+json` \
(RFC 9457) with a stable `type`. Tokens come in a header or in a cookie; a request that changes something \
and proves itself by a cookie must come from this site (`Origin`).";

/// The document of the public API, which is served under `root`.
#[must_use]
pub fn public_document(root: &str) -> Value {
    let routes = ROUTES
        .iter()
        .filter_map(|route| Some((&route.method, route.path, route.operation_id?)));
    let tags = [
        ("sign-in", "Who the caller is."),
        ("sales", "What is on sale."),
        ("queue", "Joining a queue, waiting in it, and entering."),
        (
            "draw",
            "The random draw of a queue's order, verifiable by anyone.",
        ),
        ("seats", "Seating plans, live seat states and holds."),
        ("orders", "Paying for a hold, and what became of it."),
        (
            "integration",
            "For other programs: reverse proxies, ticket readers, payment gateways, the shop's receiver.",
        ),
    ];
    let mut document = build("stagedoor", DESCRIPTION, &tags, routes, operations());
    document["servers"] = json!([{ "url": format!("{root}/") }]);
    webhooks::add(&mut document);
    document
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
    let mut operations: HashMap<_, _> = operations
        .into_iter()
        .map(|operation| (operation.id(), operation))
        .collect();
    let mut schemas = Schemas::new();
    problems::add_schema(&mut schemas);
    let mut paths = BTreeMap::<&str, Map<String, Value>>::new();
    for (method, path, id) in routes {
        let operation = operations
            .remove(id)
            .unwrap_or_else(|| panic!("the operation `{id}` is described"));
        let method = method.as_str().to_ascii_lowercase();
        paths
            .entry(path)
            .or_default()
            .insert(method, operation.build(&mut schemas));
    }
    let tags: Vec<Value> = tags
        .iter()
        .map(|(name, description)| json!({ "name": name, "description": description }))
        .collect();
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
    document["components"]["securitySchemes"] = security::used_schemes(&document);
    document
}

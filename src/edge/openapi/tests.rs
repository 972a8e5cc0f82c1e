//! The documents agree with the tables of routes and with themselves.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{operation::OperationDoc, operations, public_document};
use crate::edge::{errors::problem::ProblemType, routes::ROUTES};

#[test]
fn every_route_has_an_operation_and_every_operation_a_route() {
    agree(
        ROUTES.iter().filter_map(|route| route.operation_id),
        &operations(),
    );
    for route in ROUTES.iter().filter(|route| route.operation_id.is_none()) {
        assert!(
            !route.path.starts_with("/v1/"),
            "{} is an API call without an operation",
            route.path
        );
    }
}

#[test]
fn every_operation_lists_the_statuses_it_can_answer() {
    let document = public_document("");
    for (name, operation) in operations_of(&document) {
        let listed: BTreeSet<&str> = members(&operation["responses"])
            .map(|(status, _)| status.as_str())
            .collect();
        let mut expected = vec!["429", "500", "503"];
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        if parameters.iter().any(|parameter| parameter["in"] == "path") {
            expected.push("404");
        }
        let is_open = |security: &Vec<Value>| security.iter().any(|set| *set == json!({}));
        if operation["security"]
            .as_array()
            .is_some_and(|security| !security.is_empty() && !is_open(security))
        {
            expected.push("401");
        }
        if operation.get("requestBody").is_some() {
            expected.extend(["400", "408", "413"]);
        }
        for status in expected {
            assert!(listed.contains(status), "{name} may answer {status}");
        }
        assert!(
            listed.iter().any(|status| status.starts_with(['2', '3'])),
            "{name} may succeed"
        );
    }
}

#[test]
fn every_problem_is_listed_by_an_operation() {
    let document = public_document("").to_string();
    for kind in ProblemType::ALL {
        // No operation answers these: its path, its method or the request's head is not known yet.
        let before_routing = [
            ProblemType::MethodNotAllowed,
            ProblemType::HeadTooLarge,
            ProblemType::AddressTooLong,
        ];
        if !before_routing.contains(kind) {
            assert!(document.contains(kind.slug()), "{}", kind.slug());
        }
    }
}

#[test]
fn examples_of_the_public_document_are_valid() {
    assert!(check_examples(&public_document("")) > 150);
}

#[test]
fn examples_of_webhooks_are_valid() {
    let document = public_document("");
    let webhooks: Vec<_> = members(&document["webhooks"]).collect();
    assert_eq!(webhooks.len(), 10);
    for (kind, webhook) in webhooks {
        let content = &webhook["post"]["requestBody"]["content"]["application/cloudevents+json"];
        assert_eq!(content["example"]["type"], **kind);
        check(&document, &content["schema"], &content["example"], kind);
    }
}

/// Checks that a table of routes and the descriptions of operations have the same ids, each once.
pub(crate) fn agree<'a>(routes: impl Iterator<Item = &'a str>, operations: &[OperationDoc]) {
    let routed: Vec<&str> = routes.collect();
    let described: Vec<&str> = operations.iter().map(OperationDoc::id).collect();
    let unique = |ids: &[&str]| {
        ids.iter()
            .map(|id| (*id).to_owned())
            .collect::<BTreeSet<String>>()
    };
    assert_eq!(unique(&routed), unique(&described));
    assert_eq!(
        (unique(&routed).len(), unique(&described).len()),
        (routed.len(), described.len())
    );
}

/// Checks every example against its schema, and that every body has both. Gives the number of examples.
pub(crate) fn check_examples(document: &Value) -> usize {
    let mut count = 0;
    for (name, operation) in operations_of(document) {
        let responses = members(&operation["responses"]).map(|(status, response)| {
            // Only a problem says what went wrong; the answer to a balancer's question needs no words.
            let is_readiness = operation["operationId"] == "get_readiness";
            let may_be_empty = is_readiness || ["204", "303", "304"].contains(&status.as_str());
            assert!(
                may_be_empty || response.get("content").is_some(),
                "{name} {status} has a body"
            );
            (status.as_str(), &response["content"])
        });
        let bodies = responses.chain([("request", &operation["requestBody"]["content"])]);
        for (what, content) in bodies.flat_map(|(what, content)| {
            members(content).map(move |(content_type, content)| (format!("{what} {content_type}"), content))
        }) {
            let schema = content
                .get("schema")
                .unwrap_or_else(|| panic!("{name} {what} has a schema"));
            let examples = examples_of(content);
            assert!(
                !what.ends_with("json") || !examples.is_empty() || *schema == json!({}),
                "{name} {what} has an example"
            );
            for example in examples {
                check(document, schema, example, &format!("{name} {what}"));
                count += 1;
            }
        }
    }
    count
}

fn examples_of(content: &Value) -> Vec<&Value> {
    let named = members(&content["examples"]).map(|(_, example)| &example["value"]);
    content.get("example").into_iter().chain(named).collect()
}

/// A member that the schema does not know is an error too: a field that the code writes and the document
/// forgets.
fn check(document: &Value, schema: &Value, example: &Value, what: &str) {
    let mut root = json!({ "allOf": [schema], "components": document["components"] });
    if example.is_object() {
        root["unevaluatedProperties"] = false.into();
    }
    let validator = jsonschema::draft202012::new(&root).unwrap_or_else(|e| panic!("{what}: {e}"));
    let errors: Vec<String> = validator
        .iter_errors(example)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}");
}

fn operations_of(document: &Value) -> Vec<(String, &Value)> {
    let paths = members(&document["paths"]);
    paths
        .flat_map(|(path, operations)| {
            members(operations).map(move |(method, operation)| (format!("{method} {path}"), operation))
        })
        .collect()
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

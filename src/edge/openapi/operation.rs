//! Description of one operation, from which its entry in the OpenAPI document is built.
//!
//! An operation is described beside its examples in one of this folder's files. Schemas come from the wire
//! types themselves ([`ToSchema`]), examples are serialized values of the same types, and problems are
//! [`ProblemType`]s: nothing is written twice, so the description cannot drift from the code without a test
//! noticing.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::{ToSchema, openapi::RefOr, openapi::schema::Schema};

use super::{
    problems,
    references::{Schemas, reference_to},
    security::Credential,
};
use crate::edge::{
    errors::problem::{Problem, ProblemType},
    handlers::NoFields,
};

/// Problems that any operation may answer with.
const ALWAYS: [ProblemType; 3] = [
    ProblemType::TooManyRequests,
    ProblemType::Overloaded,
    ProblemType::Internal,
];

/// Problems of an operation that reads a JSON body.
const OF_JSON_BODY: [ProblemType; 5] = [
    ProblemType::MalformedRequest,
    ProblemType::InvalidField,
    ProblemType::NotJson,
    ProblemType::BodyTooLarge,
    ProblemType::BodyTooSlow,
];

/// One operation: what it takes and every response it can give.
pub struct OperationDoc {
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    description: &'static str,
    parameters: Vec<Value>,
    request_body: Option<Value>,
    security: Vec<Value>,
    responses: BTreeMap<u16, Value>,
    problems: Vec<(ProblemType, Problem)>,
    schemas: Vec<(String, RefOr<Schema>)>,
    /// The response that the next call of a header method extends.
    latest: u16,
}

impl OperationDoc {
    /// Describes the operation `id`, which the table of routes names.
    #[must_use]
    pub fn new(id: &'static str, tag: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            tag,
            summary,
            description: "",
            parameters: Vec::new(),
            request_body: None,
            security: Vec::new(),
            responses: BTreeMap::new(),
            problems: ALWAYS.map(|kind| (kind, Problem::new(kind))).into(),
            schemas: Vec::new(),
            latest: 0,
        }
    }

    /// The operation's id.
    #[must_use]
    pub fn id(&self) -> &'static str {
        self.id
    }

    /// What callers must know beyond the summary.
    #[must_use]
    pub fn describe(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// The statuses it can answer with.
    #[must_use]
    pub fn statuses(&self) -> Vec<u16> {
        let problems = self.problems.iter().map(|(kind, _)| kind.status().as_u16());
        let mut statuses: Vec<u16> = self.responses.keys().copied().chain(problems).collect();
        statuses.sort_unstable();
        statuses.dedup();
        statuses
    }

    /// Drops the problems of the public listener's bounds: the admin listener has none.
    #[must_use]
    pub fn on_admin_listener(mut self) -> Self {
        self.problems.retain(|(kind, _)| !ALWAYS.contains(kind));
        self
    }

    /// A path parameter whose unknown values answer 404.
    #[must_use]
    pub fn path<T: ToSchema>(mut self, name: &str, description: &str, example: &str) -> Self {
        let schema = self.schema::<T>();
        self.parameters.push(json!({
            "name": name, "in": "path", "required": true, "description": description,
            "schema": schema, "example": example,
        }));
        self.problem(ProblemType::NotFound)
    }

    /// The path parameter `sale`.
    #[must_use]
    pub fn in_sale(self) -> Self {
        self.path::<crate::kernel::SaleId>("sale", "Id of the sale.", "summer-tour")
    }

    /// An optional query parameter. A query that cannot be read, or names a key twice, is a problem.
    #[must_use]
    pub fn query<T: ToSchema>(self, name: &str, description: &str) -> Self {
        self.parameter::<T>("query", name, description, false)
            .problem(ProblemType::MalformedRequest)
    }

    /// A request header.
    #[must_use]
    pub fn header<T: ToSchema>(self, name: &str, description: &str, is_required: bool) -> Self {
        self.parameter::<T>("header", name, description, is_required)
    }

    fn parameter<T: ToSchema>(
        mut self,
        place: &str,
        name: &str,
        description: &str,
        is_required: bool,
    ) -> Self {
        let schema = self.schema::<T>();
        self.parameters.push(json!({
            "name": name, "in": place, "required": is_required, "description": description, "schema": schema,
        }));
        self
    }

    /// A JSON request body.
    #[must_use]
    pub fn body<T: ToSchema>(self, examples: &[(&str, Value)]) -> Self {
        self.json_body::<T>(examples, true)
    }

    /// A JSON request body that may be absent.
    #[must_use]
    pub fn optional_body<T: ToSchema>(self, examples: &[(&str, Value)]) -> Self {
        self.json_body::<T>(examples, false)
    }

    fn json_body<T: ToSchema>(mut self, examples: &[(&str, Value)], is_required: bool) -> Self {
        self.set_json_body::<T>(examples, is_required);
        self.problems(&OF_JSON_BODY)
    }

    /// A call that takes no fields: a body may be empty or absent.
    #[must_use]
    pub fn no_fields(self) -> Self {
        self.optional_body::<NoFields>(&[("none", json!({}))])
    }

    /// As [`OperationDoc::no_fields`], for a method whose body has no meaning to other programs.
    #[must_use]
    pub fn no_body(self) -> Self {
        self.problems(&[
            ProblemType::MalformedRequest,
            ProblemType::InvalidField,
            ProblemType::BodyTooLarge,
            ProblemType::BodyTooSlow,
        ])
    }

    /// A JSON request body that the operation reads by itself: its problems are to be listed one by one.
    #[must_use]
    pub fn raw_json_body<T: ToSchema>(mut self, examples: &[(&str, Value)]) -> Self {
        self.set_json_body::<T>(examples, true);
        self
    }

    /// A form as browsers send it.
    #[must_use]
    pub fn form<T: ToSchema>(mut self, examples: &[(&str, Value)]) -> Self {
        self.set_body::<T>("application/x-www-form-urlencoded", examples, true);
        self.problems(&[
            ProblemType::MalformedRequest,
            ProblemType::BodyTooLarge,
            ProblemType::BodyTooSlow,
        ])
    }

    fn set_json_body<T: ToSchema>(&mut self, examples: &[(&str, Value)], is_required: bool) {
        self.set_body::<T>("application/json", examples, is_required);
    }

    fn set_body<T: ToSchema>(&mut self, content_type: &str, examples: &[(&str, Value)], is_required: bool) {
        let content = json!({ "schema": self.schema::<T>(), "examples": named_examples(examples) });
        self.request_body = Some(json!({ "required": is_required, "content": { content_type: content } }));
    }

    /// A request body whose form another party defines.
    #[must_use]
    pub fn raw_body(mut self, content_type: &str, description: &str) -> Self {
        self.request_body = Some(json!({
            "required": true, "description": description, "content": { content_type: { "schema": {} } },
        }));
        self
    }

    /// Says which credentials open the operation: any one of `alternatives`, each a set that is shown
    /// together.
    #[must_use]
    pub fn credentials(mut self, alternatives: &[&[Credential]]) -> Self {
        for set in alternatives {
            // Each credential may be a header or a cookie: the set expands to all combinations.
            let mut combinations = vec![Map::new()];
            for credential in *set {
                combinations = credential
                    .schemes()
                    .iter()
                    .flat_map(|scheme| {
                        combinations
                            .iter()
                            .map(move |combination| with_scheme(combination, scheme))
                    })
                    .collect();
            }
            self.security.extend(combinations.into_iter().map(Value::Object));
        }
        self
    }

    /// A JSON response, with an example of the type that the handler serializes.
    #[must_use]
    pub fn json<T: ToSchema + Serialize>(self, status: u16, description: &str, example: &T) -> Self {
        let example = serde_json::to_value(example).expect("wire types are JSON");
        self.json_value::<T>(status, description, example)
    }

    /// A JSON response whose example is given as it is written, since its type borrows or streams its
    /// content.
    #[must_use]
    pub fn json_value<T: ToSchema>(mut self, status: u16, description: &str, example: Value) -> Self {
        let schema = self.schema::<T>();
        self.add_response(status, description);
        let mut content = json!({ "schema": schema });
        content["example"] = example;
        self.add_content("application/json", content);
        self
    }

    /// Another representation of the latest response.
    #[must_use]
    pub fn or_as(mut self, content_type: &str, schema: &Value) -> Self {
        self.add_content(content_type, json!({ "schema": schema }));
        self
    }

    /// A response that is not JSON.
    #[must_use]
    pub fn content(mut self, status: u16, description: &str, content_type: &str, schema: &Value) -> Self {
        self.add_response(status, description);
        self.or_as(content_type, schema)
    }

    /// A response without a body.
    #[must_use]
    pub fn empty(mut self, status: u16, description: &str) -> Self {
        self.add_response(status, description);
        self
    }

    /// A stream of server-sent events (200). `events` names each event and the schema of its data.
    #[must_use]
    pub fn event_stream(mut self, description: &str, events: &[(&str, Value)], example: &str) -> Self {
        let mut events: Vec<Value> = events
            .iter()
            .map(|(name, data)| {
                json!({
                    "type": "object", "required": ["event", "data"],
                    "properties": { "event": { "const": name }, "id": { "type": "string" }, "data": data },
                })
            })
            .collect();
        self.add_response(200, description);
        // The stream itself is text; the events in it are described as JSON Schema describes encoded content.
        let event = if events.len() == 1 {
            events.remove(0)
        } else {
            json!({ "oneOf": events })
        };
        let schema = json!({
            "type": "string", "contentMediaType": "text/event-stream", "contentSchema": event,
        });
        self.add_content(
            "text/event-stream",
            json!({ "schema": schema, "example": example }),
        );
        self
    }

    /// Registers a schema that only an event stream refers to, and gives a reference to it.
    pub(crate) fn schema<T: ToSchema>(&mut self) -> Value {
        let (reference, schemas) = reference_to::<T>();
        self.schemas.extend(schemas);
        reference
    }

    /// The latest response sets cookies.
    #[must_use]
    pub fn sets_cookie(self, description: &str) -> Self {
        self.response_header("Set-Cookie", description, json!({ "type": "string" }))
    }

    /// The latest response names where its resource is.
    #[must_use]
    pub fn located(self, description: &str) -> Self {
        self.response_header(
            "Location",
            description,
            json!({ "type": "string", "format": "uri-reference" }),
        )
    }

    /// The latest response may be cached and revalidated: `ETag`, `Cache-Control`, and 304 for a matching
    /// `If-None-Match`.
    #[must_use]
    pub fn cacheable(self, cache_control: &str) -> Self {
        let mut operation = self
            .response_header("ETag", "Version of the content.", json!({ "type": "string" }))
            .cache_control(cache_control)
            .header::<String>(
                "If-None-Match",
                "The `ETag` that the caller has; 304 when it is current.",
                false,
            );
        let latest = operation.latest;
        operation.add_response(304, "The caller has the current content.");
        operation = operation
            .response_header("ETag", "Version of the content.", json!({ "type": "string" }))
            .cache_control(cache_control);
        operation.latest = latest;
        operation
    }

    /// The latest response says how long it may be cached.
    #[must_use]
    pub fn cache_control(self, value: &str) -> Self {
        self.response_header(
            "Cache-Control",
            "How long the content may be kept.",
            json!({
                "type": "string", "examples": [value],
            }),
        )
    }

    fn response_header(mut self, name: &str, description: &str, schema: Value) -> Self {
        let mut header = json!({ "description": description });
        header["schema"] = schema;
        self.responses
            .get_mut(&self.latest)
            .expect("a response comes first")["headers"][name] = header;
        self
    }

    fn add_response(&mut self, status: u16, description: &str) {
        self.responses
            .insert(status, json!({ "description": description }));
        self.latest = status;
    }

    fn add_content(&mut self, content_type: &str, content: Value) {
        self.responses
            .get_mut(&self.latest)
            .expect("a response comes first")["content"][content_type] = content;
    }

    /// A problem it can answer with.
    #[must_use]
    pub fn problem(self, kind: ProblemType) -> Self {
        self.problem_like(Problem::new(kind))
    }

    /// Problems it can answer with.
    #[must_use]
    pub fn problems(self, kinds: &[ProblemType]) -> Self {
        kinds
            .iter()
            .fold(self, |operation, kind| operation.problem(*kind))
    }

    /// A problem it can answer with, as this example shows it.
    #[must_use]
    pub fn problem_like(mut self, example: Problem) -> Self {
        self.problems.retain(|(kind, _)| *kind != example.kind());
        self.problems.push((example.kind(), example));
        self
    }

    /// The operation object, its schemas added to `schemas`.
    pub(super) fn build(self, schemas: &mut Schemas) -> Value {
        schemas.extend(self.schemas);
        let mut responses: Map<String, Value> = self
            .responses
            .into_iter()
            .map(|(status, response)| (status.to_string(), response))
            .collect();
        let mut by_status = BTreeMap::<u16, Vec<Problem>>::new();
        for (kind, problem) in self.problems {
            by_status.entry(kind.status().as_u16()).or_default().push(problem);
        }
        for (status, problems) in by_status {
            responses.insert(status.to_string(), problems::response(&problems));
        }
        let mut operation = json!({
            "operationId": self.id, "tags": [self.tag], "summary": self.summary, "responses": responses,
            // An empty list says that the operation is open to anyone.
            "security": self.security,
        });
        if !self.description.is_empty() {
            operation["description"] = self.description.into();
        }
        if !self.parameters.is_empty() {
            operation["parameters"] = self.parameters.into();
        }
        if let Some(body) = self.request_body {
            operation["requestBody"] = body;
        }
        operation
    }
}

fn with_scheme(combination: &Map<String, Value>, scheme: &str) -> Map<String, Value> {
    let mut combination = combination.clone();
    combination.insert(scheme.to_owned(), json!([]));
    combination
}

fn named_examples(examples: &[(&str, Value)]) -> Value {
    let named = |(name, value): &(&str, Value)| ((*name).to_owned(), json!({ "value": value }));
    Value::Object(examples.iter().map(named).collect())
}

//! The requests that the service sends to the shop's receiver: `webhooks` of the document.

use serde_json::{Map, Value, json};

use super::{event_examples, references::reference_to};
use crate::checkout::{CloudEvent, EVENT_TYPES, OrderEvent, SaleEvent, TestEvent, TicketEvent, VisitorEvent};

const DESCRIPTION: &str = "\
Sent to `shop.events.url`, signed as Standard Webhooks. Any 2xx accepts the event. After any other \
answer, or none in time, it is sent again for three days. An `id` may \
arrive more than once. The events of one order arrive in order.";

/// Adds the requests and their schemas to the document.
pub(super) fn add(document: &mut Value) {
    let mut schemas = Map::new();
    let mut refer = |(reference, needed): (Value, Vec<(String, _)>)| {
        for (name, schema) in needed {
            schemas.insert(
                name,
                serde_json::to_value::<utoipa::openapi::RefOr<_>>(schema).expect("a schema is JSON"),
            );
        }
        reference
    };
    let event = refer(reference_to::<CloudEvent>());
    let order = refer(reference_to::<OrderEvent>());
    let ticket = refer(reference_to::<TicketEvent>());
    let sale = refer(reference_to::<SaleEvent>());
    let test = refer(reference_to::<TestEvent>());
    let visitor = refer(reference_to::<VisitorEvent>());
    let mut webhooks = Map::new();
    for ((kind, sentence), example) in EVENT_TYPES.iter().zip(event_examples::all()) {
        let data = match kind.split('.').nth(1) {
            Some("order") => &order,
            Some("ticket") => &ticket,
            Some("sale") => &sale,
            Some("visitor") => &visitor,
            _ => &test,
        };
        let schema = json!({
            "allOf": [event, { "properties": { "type": { "const": kind }, "data": data } }],
        });
        webhooks.insert(
            (*kind).to_owned(),
            json!({ "post": request(kind, sentence, &schema, &example) }),
        );
    }
    document["webhooks"] = webhooks.into();
    if let Some(known) = document["components"]["schemas"].as_object_mut() {
        known.extend(schemas);
    }
}

fn request(kind: &str, sentence: &str, schema: &Value, example: &CloudEvent) -> Value {
    let header = |name: &str, description: &str| {
        json!({
            "name": name, "in": "header", "required": true, "description": description,
            "schema": { "type": "string" },
        })
    };
    json!({
        "operationId": kind.replace('.', "_"),
        "tags": ["integration"],
        "summary": sentence,
        "description": DESCRIPTION,
        "parameters": [
            header("webhook-id", "The event's `id`."),
            header("webhook-timestamp", "When this attempt was made, in seconds since 1970."),
            header("webhook-signature", "`v1,` and the base64 of the HMAC-SHA-256 of id, time and body."),
        ],
        "requestBody": {
            "required": true,
            "content": { "application/cloudevents+json": { "schema": schema, "example": example } },
        },
        "responses": {
            "2XX": { "description": "Accepted." },
        },
        "security": [],
    })
}

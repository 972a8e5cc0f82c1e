//! Problem responses in the document: the schema of RFC 9457 bodies with this service's extension members,
//! and the response object of one status.

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::references::{Schemas, reference_to};
use crate::{
    checkout::OrderView,
    edge::{errors::problem::Problem, overload::proof_of_work::Challenge},
    kernel::Timestamp,
    waiting_room::Position,
};

/// An error response (RFC 9457, `application/problem+json`). `type` is stable; `title` and `detail` are for
/// people and may change. The members after `detail` stand only in the problems that their descriptions name.
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(
    dead_code,
    reason = "it describes the bodies that `Problem` writes; a test holds both against each other"
)]
pub(super) struct ProblemBody {
    /// The stable name of the problem: a relative URI.
    #[schema(example = "/problems/not-found")]
    r#type: String,
    /// The problem in a few words.
    title: String,
    /// The HTTP status, as in the response's head.
    status: u16,
    /// What is wrong in this request, or what to do.
    #[schema(nullable = false)]
    detail: Option<String>,
    /// `invalid-field`, `unknown-seat`: the field that is wrong, as a path such as `payment.token` or
    /// `seats[2]`.
    #[schema(nullable = false)]
    field: Option<String>,
    /// `proof-required`, `too-many-requests`, `payment-declined`: why, as a code.
    #[schema(nullable = false)]
    reason: Option<String>,
    /// `proof-required`: the challenge to solve for the next attempt.
    #[schema(nullable = false)]
    challenge: Option<Challenge>,
    /// `proof-required`, `too-many-requests`: where signing in lifts the limit.
    #[schema(nullable = false)]
    sign_in: Option<String>,
    /// `not-open-yet`: when the queue starts to take entries.
    #[schema(nullable = false)]
    prequeue_starts_at: Option<Timestamp>,
    /// `not-called-yet`, `at-capacity`, `visit-ended`: where the visitor stands.
    #[schema(nullable = false)]
    position: Option<Position>,
    /// `seats-taken`: those of the requested seats that are held or booked by others.
    #[schema(nullable = false)]
    taken: Option<Vec<String>>,
    /// `wheelchair-spaces`: those of the requested seats that are kept for wheelchair users.
    #[schema(nullable = false)]
    reserved: Option<Vec<String>>,
    /// `seats-taken`, `hold-gone`: sets of free seats that come closest to the request.
    #[schema(nullable = false)]
    alternatives: Option<Vec<Vec<String>>>,
    /// `payment-declined`: whether the time for other cards is over, so that the seats are free again.
    #[schema(nullable = false)]
    hold_over: Option<bool>,
    /// `limit-reached`: how many seats one customer may have.
    #[schema(nullable = false)]
    limit: Option<u8>,
    /// `payment-declined`, `not-cancelable`: the order as it is now.
    #[schema(nullable = false)]
    order: Option<OrderView>,
}

/// Adds the schema of problem bodies.
pub(super) fn add_schema(schemas: &mut Schemas) {
    schemas.extend(reference_to::<ProblemBody>().1);
}

/// The response object for the problems of one status.
pub(super) fn response(problems: &[Problem]) -> Value {
    let slugs: Vec<&str> = problems.iter().map(|problem| problem.kind().slug()).collect();
    let titles: Vec<String> = problems
        .iter()
        .map(|problem| format!("{}.", problem.kind().title()))
        .collect();
    let examples: Map<String, Value> = problems
        .iter()
        .map(|problem| {
            let name = problem.kind().slug().trim_start_matches("/problems/").to_owned();
            (name, json!({ "value": problem.body() }))
        })
        .collect();
    let mut headers = json!({
        "Cache-Control": {
            "description": "Never stored.",
            "schema": { "type": "string", "const": "no-store" },
        },
    });
    if problems
        .iter()
        .any(|problem| matches!(problem.kind().status().as_u16(), 429 | 503))
    {
        headers["Retry-After"] = json!({
            "description": "Seconds to wait before the next attempt.",
            "schema": { "type": "integer", "minimum": 1 },
        });
    }
    json!({
        "description": titles.join(" "),
        "headers": headers,
        "content": { "application/problem+json": {
            "schema": { "allOf": [
                { "$ref": "#/components/schemas/Problem" },
                { "type": "object", "properties": { "type": { "enum": slugs } } },
            ] },
            "examples": examples,
        } },
    })
}

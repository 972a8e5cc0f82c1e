//! An operator cancels an order: `POST /v1/admin/sales/{sale}/orders/{order}/cancel`.
//!
//! Once the doors of a performance are open its buyers cannot cancel any more; operators can. The ledger's
//! order journal keeps the operator and the reason.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{FromRequestParts, rejection::BytesRejection},
};
use http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    checkout::OperatorCancellation,
    edge::{
        errors::problem::Problem,
        handlers::{
            HandlerResult,
            orders::{cancel_response, no_such_order},
            parse_object, task_failed,
        },
    },
    kernel::OrderId,
    ops::admin::operators::{OperatorApi, OperatorAuth, path_param, unreadable},
};

const REASON_CHARS_MAX: usize = 200;

/// Why an operator cancels an order.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelRequest {
    /// Kept in the ledger's order journal for operators; buyers never see it. Must not be blank or have
    /// control characters.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$"
    )]
    pub(super) reason: String,
}

impl CancelRequest {
    fn parse(body: &[u8]) -> Result<Self, Problem> {
        let request: Self = parse_object(body)?;
        let is_told = request.reason.chars().any(|c| c != ' ');
        let has_control = request.reason.chars().any(|c| c.is_ascii_control());
        if !is_told || has_control || request.reason.chars().count() > REASON_CHARS_MAX {
            return Err(Problem::invalid_field(
                "reason",
                format!("1 to {REASON_CHARS_MAX} characters, not blank, no control characters"),
            ));
        }
        Ok(request)
    }
}

/// The order that the path names.
pub(super) struct OrderInPath(OrderId);

impl FromRequestParts<OperatorApi> for OrderInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &OperatorApi) -> Result<Self, Problem> {
        path_param(parts, "order")
            .await
            .map(Self)
            .ok_or_else(no_such_order)
    }
}

/// `POST /v1/admin/sales/{sale}/orders/{order}/cancel`: returns money and seats of an order that is paid, or
/// that waits for its buyer at the bank.
pub(super) async fn cancel(
    auth: OperatorAuth,
    OrderInPath(order): OrderInPath,
    body: Result<Bytes, BytesRejection>,
) -> HandlerResult {
    let box_office = auth.box_office()?;
    let CancelRequest { reason } = CancelRequest::parse(&body.map_err(|e| unreadable(&e))?)?;
    let OperatorAuth { operator, sale, .. } = auth;
    let canceled = {
        let checkout = Arc::clone(&box_office.checkout);
        let (sale, operator) = (sale.clone(), operator.clone());
        async move {
            let by = OperatorCancellation { operator, reason };
            checkout.cancel_by_operator(&sale, order, by).await
        }
    };
    let app = &box_office.app;
    let outcome = app.lifecycle.spawn_uncancellable(canceled).await;
    let outcome = outcome
        .map_err(task_failed)?
        .map_err(|e| app.checkout_problem("cancel", &e))?;
    // Without the reason: an operator may have written about a person.
    tracing::info!(%sale, %order, operator, outcome = outcome.name(), "operator's cancellation of an order");
    cancel_response(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::errors::problem::ProblemType;

    fn refused(body: &str) -> (ProblemType, String) {
        let problem = CancelRequest::parse(body.as_bytes()).unwrap_err();
        let body = problem.body();
        let field = body.get("field").and_then(|field| field.as_str());
        (problem.kind(), field.unwrap_or_default().to_owned())
    }

    #[test]
    fn a_cancellation_needs_a_reason_and_nothing_else() {
        let longest = "\u{bcd1}".repeat(REASON_CHARS_MAX);
        for reason in ["the artist is ill", "x", &longest] {
            let body = serde_json::json!({ "reason": reason }).to_string();
            assert_eq!(CancelRequest::parse(body.as_bytes()).unwrap().reason, reason);
        }
        let too_long = format!(r#"{{"reason":"{longest}x"}}"#);
        for (body, field) in [
            ("{}", "reason"),
            (r#"{"reason":null}"#, "reason"),
            (r#"{"reason":7}"#, "reason"),
            (r#"{"reason":""}"#, "reason"),
            (r#"{"reason":"  "}"#, "reason"),
            (r#"{"reason":"a\u0000b"}"#, "reason"),
            (r#"{"reason":"a\nb"}"#, "reason"),
            (too_long.as_str(), "reason"),
            (r#"{"reason":"x","refund":false}"#, "refund"),
        ] {
            let expected = (ProblemType::InvalidField, field.to_owned());
            assert_eq!(refused(body), expected, "{body}");
        }
        for body in ["", "{", "[\"x\"]", r#"{"reason":"x"} {}"#] {
            assert_eq!(refused(body).0, ProblemType::MalformedRequest, "{body}");
        }
    }
}

//! The OpenAPI document of the admin API.

mod events;

use serde_json::{Value, json};

use super::{listener::METRICS_CONTENT_TYPE, orders::CancelRequest, routes::ADMIN_ROUTES};
use crate::{
    checkout::{OrderState, OrderView},
    edge::{
        errors::problem::{Problem, ProblemType},
        openapi::{self, examples, operation::OperationDoc, security::Credential},
    },
    kernel::OrderId,
    ops::reports::ReportAccepted,
    waiting_room::{
        AdmissionSettings, BoxOfficeHealth, BoxOfficeReport, CalledVisitor, Milestones, OperatorCommand,
        Phase, ZoneStock,
    },
};

const DESCRIPTION: &str = "\
Metrics, health, the box office's reports and operators' commands. The public must not reach this listener.

Errors are `application/problem+json` (RFC 9457) with a stable `type`.";

/// The document of the admin API.
#[must_use]
pub fn admin_document() -> Value {
    let routes = ADMIN_ROUTES
        .iter()
        .filter_map(|route| Some((&route.method, route.path, route.operation_id?)));
    let tags = [
        ("process", "The state of this process."),
        ("operators", "Steering a sale's admission, and canceling orders."),
        (
            "events",
            "Events for the shop: the feed, dead letters and replays.",
        ),
        (
            "box office",
            "What box offices report to waiting rooms in other processes.",
        ),
    ];
    openapi::build("stagedoor admin", DESCRIPTION, &tags, routes, operations())
}

/// Every operation of the admin API.
fn operations() -> Vec<OperationDoc> {
    [
        get_metrics(),
        get_liveness(),
        get_readiness(),
        report_box_office(),
        get_admission_settings(),
        execute_command(),
        cancel_order(),
    ]
    .into_iter()
    .chain(events::operations())
    .collect()
}

fn get_metrics() -> OperationDoc {
    OperationDoc::new("get_metrics", "process", "Get all metrics")
        .on_admin_listener()
        .content(
            200,
            "Prometheus's text format.",
            METRICS_CONTENT_TYPE,
            &json!({ "type": "string" }),
        )
        .problem(ProblemType::NotFound)
}

fn get_liveness() -> OperationDoc {
    OperationDoc::new("get_liveness", "process", "Ask whether the process answers")
        .on_admin_listener()
        .empty(204, "It does.")
}

fn get_readiness() -> OperationDoc {
    OperationDoc::new(
        "get_readiness",
        "process",
        "Ask whether the process takes traffic",
    )
    .on_admin_listener()
    .empty(204, "It does.")
    .empty(503, "It recovers, or shuts down.")
}

fn report_box_office() -> OperationDoc {
    let report = BoxOfficeReport {
        source: "node-1".to_owned(),
        sequence: 1_777_633_500_000_000,
        zones: vec![ZoneStock {
            zone: "floor".to_owned(),
            free: 310,
            free_for_wheelchairs: 4,
            held: 44,
            booked: 646,
            blocked: 0,
        }],
        ended: Vec::new(),
        paying: Vec::new(),
        told: vec![18_203],
        health: Some(BoxOfficeHealth {
            latency_ms: Some(12),
            usual_latency_ms: 9,
            failures_per_mille: 0,
        }),
    };
    of_sale(
        "report_box_office",
        "box office",
        "Report the state of a box office",
    )
    .describe("Reports may be repeated and arrive out of order; an older one is ignored.")
    .credentials(&[&[Credential::BoxOfficeMac]])
    .raw_json_body::<BoxOfficeReport>(&[(
        "report",
        serde_json::to_value(report).expect("wire types are JSON"),
    )])
    .json(
        200,
        "Accepted, or ignored because it is older than the last one.",
        &ReportAccepted {
            milestones: Milestones {
                opened_at: Some("2026-05-01T11:00:00Z".parse().expect("a time")),
                ..Milestones::default()
            },
            called: vec![CalledVisitor {
                arrival: 18_204,
                customer: "AQIDBAUGBwgJCgsM".to_owned(),
                called_at: "2026-05-01T11:05:00Z".parse().expect("a time"),
                enter_by: Some("2026-05-01T11:10:00Z".parse().expect("a time")),
            }],
        },
    )
    .problems(&[
        ProblemType::MalformedRequest,
        ProblemType::InvalidField,
        ProblemType::BodyTooLarge,
        ProblemType::BodyTooSlow,
        ProblemType::NotSigned,
        ProblemType::TemporarilyUnavailable,
    ])
}

fn of_sale(id: &'static str, tag: &'static str, summary: &'static str) -> OperationDoc {
    OperationDoc::new(id, tag, summary).on_admin_listener().in_sale()
}

fn for_operators(id: &'static str, summary: &'static str) -> OperationDoc {
    of_sale(id, "operators", summary)
        .credentials(&[&[Credential::Operator]])
        .problems(&[
            ProblemType::SignInRequired,
            ProblemType::WrongCredentials,
            ProblemType::TooManyRequests,
            ProblemType::TemporarilyUnavailable,
        ])
}

fn settings() -> AdmissionSettings {
    AdmissionSettings {
        phase: Phase::OnSale,
        reason: None,
        version: 3,
        paused: false,
        closes_by_command_at: None,
        admission_rate_per_minute: 600,
        admission_rate_effective_per_minute: 600,
        active_visits_max: 1_000,
        active_visits: 962,
        notice: Some("Doors open at 18:00.".to_owned()),
    }
}

fn get_admission_settings() -> OperationDoc {
    for_operators("get_admission_settings", "Get a sale's admission settings").json(
        200,
        "The settings, and what follows from them.",
        &settings(),
    )
}

fn execute_command() -> OperationDoc {
    let command = |command: &OperatorCommand| serde_json::to_value(command).expect("wire types are JSON");
    for_operators("execute_command", "Execute a command")
        .describe(
            "The journal records every command with its operator. Of contradictory commands the last \
            one counts.",
        )
        .raw_json_body::<OperatorCommand>(&[
            (
                "set_admission_rate",
                command(&OperatorCommand::SetAdmissionRate { per_minute: 600 }),
            ),
            (
                "set_active_visits_max",
                command(&OperatorCommand::SetActiveVisitsMax { visits: 1_000 }),
            ),
            ("pause", command(&OperatorCommand::Pause)),
            ("resume", command(&OperatorCommand::Resume)),
            (
                "notice",
                command(&OperatorCommand::Notice {
                    text: Some("Doors open at 18:00.".to_owned()),
                }),
            ),
            (
                "close",
                command(&OperatorCommand::Close {
                    confirm: "summer-tour".parse().expect("a valid id"),
                }),
            ),
            ("withdraw_close", command(&OperatorCommand::WithdrawClose)),
            ("revoke_passes", command(&OperatorCommand::RevokePasses)),
        ])
        .json(200, "The settings after the command.", &settings())
        .problem_like(Problem::new(ProblemType::InvalidField).with("field", &"per_minute"))
        .problems(&[
            ProblemType::MalformedRequest,
            ProblemType::BodyTooLarge,
            ProblemType::Closed,
        ])
}

fn cancel_order() -> OperationDoc {
    let in_state = |state| OrderView {
        state,
        reason: Some("canceled_by_operator".to_owned()),
        ..examples::paid_order()
    };
    let reason = CancelRequest {
        reason: "The matinee was called off.".to_owned(),
    };
    for_operators("cancel_order_by_operator", "Cancel an order")
        .describe(
            "Voids the tickets of a paid order, refunds it and frees its seats, also after the doors of its \
            performance opened. An order that waits for its buyer at the bank is canceled as well: its \
            payment is voided. Repeating the call is safe: nothing is refunded twice. The buyer reads that \
            the organizer canceled the order; operator and reason are kept in the ledger.",
        )
        .path::<OrderId>("order", "Id of the order.", examples::ORDER)
        .raw_json_body::<CancelRequest>(&[(
            "reason",
            serde_json::to_value(reason).expect("wire types are JSON"),
        )])
        .json(
            200,
            "Money and seats are returned.",
            &in_state(OrderState::Canceled),
        )
        .json(
            202,
            "Money and seats are being returned.",
            &in_state(OrderState::Refunding),
        )
        .problem_like(Problem::new(ProblemType::NotCancelable).with("order", &examples::declined_order()))
        .problem_like(Problem::new(ProblemType::InvalidField).with("field", &"reason"))
        .problems(&[
            ProblemType::MalformedRequest,
            ProblemType::BodyTooLarge,
            ProblemType::LedgerUnavailable,
        ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::openapi::tests::{agree, check_examples};

    #[test]
    fn every_admin_route_has_an_operation_and_every_operation_a_route() {
        agree(
            ADMIN_ROUTES.iter().filter_map(|route| route.operation_id),
            &operations(),
        );
    }

    #[test]
    fn examples_of_the_admin_document_are_valid() {
        assert!(check_examples(&admin_document()) > 25);
    }
}

//! The operations about events for the shop.

use crate::{
    edge::{
        errors::problem::{Problem, ProblemType},
        openapi::{event_examples, operation::OperationDoc, security::Credential},
    },
    ops::admin::events::{
        DeadLetterPage, DeadLetterView, EventPage, EventsSentAgain, ReplayRequest, ResendRequest,
    },
};

/// Every operation about events.
pub(super) fn operations() -> [OperationDoc; 6] {
    [
        get_events(),
        replay_events(),
        resend_dead_letters(),
        get_dead_letters(),
        resend_dead_letter(),
        skip_dead_letter(),
    ]
}

fn of_events(id: &'static str, summary: &'static str, credentials: &[&[Credential]]) -> OperationDoc {
    OperationDoc::new(id, "events", summary)
        .on_admin_listener()
        .credentials(credentials)
        .problems(&[
            ProblemType::SignInRequired,
            ProblemType::WrongCredentials,
            ProblemType::TooManyRequests,
            ProblemType::TemporarilyUnavailable,
            ProblemType::LedgerUnavailable,
            ProblemType::NotFound,
        ])
}

fn get_events() -> OperationDoc {
    of_events(
        "get_events",
        "Read the feed",
        &[&[Credential::FeedReader], &[Credential::Operator]],
    )
    .describe(
        "For shops that cannot be called. Begin without `after`, then pass the last `next`. The feed has \
        every event once, whether it was sent or not, and those of one order in order; an event that is \
        committed later is behind every event that was read.",
    )
    .query::<u64>("after", "`next` of the page before; absent: from the beginning.")
    .query::<u32>("limit", "Events of this page: 100 when absent, 500 at most.")
    .json(
        200,
        "One page.",
        &EventPage {
            events: event_examples::all(),
            next: 8,
        },
    )
}

fn replay_events() -> OperationDoc {
    let request = ReplayRequest {
        sale: Some("summer-tour".parse().expect("a valid id")),
        from: "2026-05-01T11:00:00Z".parse().expect("a time"),
        until: "2026-05-01T12:00:00Z".parse().expect("a time"),
    };
    of_events("replay_events", "Send events again", &[&[Credential::Operator]])
        .describe(
            "Sends the events of a time range again with the ids of before, whether they were delivered, \
            skipped or not. Orders that a dead letter stops are left out.",
        )
        .raw_json_body::<ReplayRequest>(&[(
            "an_hour",
            serde_json::to_value(request).expect("wire types are JSON"),
        )])
        .json(200, "They are sent.", &EventsSentAgain { events: 1_204 })
        .problem_like(Problem::new(ProblemType::InvalidField).with("field", &"until"))
        .problems(&[ProblemType::MalformedRequest, ProblemType::BodyTooLarge])
}

fn get_dead_letters() -> OperationDoc {
    let event = event_examples::order_paid();
    let letter = DeadLetterView {
        id: event.id,
        kind: event.kind,
        sale: "summer-tour".parse().expect("a valid id"),
        order: event.subject,
        time: event.time,
        dead_at: "2026-05-04T11:05:13Z".parse().expect("a time"),
        attempts: 441,
        last_error: "answered 500".to_owned(),
        waiting: 3,
    };
    of_events(
        "get_dead_letters",
        "List dead letters",
        &[&[Credential::Operator]],
    )
    .describe("Events that are not sent any more. Each stops the later events of its order.")
    .query::<String>("after", "`next` of the page before; absent: from the beginning.")
    .query::<u32>(
        "limit",
        "Dead letters of this page: 100 when absent, 500 at most.",
    )
    .json(
        200,
        "One page.",
        &DeadLetterPage {
            dead_letters: vec![letter],
            next: None,
        },
    )
}

fn of_dead_letter(id: &'static str, summary: &'static str) -> OperationDoc {
    let event = event_examples::order_paid();
    of_events(id, summary, &[&[Credential::Operator]]).path::<String>("event", "Id of the event.", &event.id)
}

fn resend_dead_letter() -> OperationDoc {
    of_dead_letter("resend_dead_letter", "Send a dead letter again")
        .describe("It is sent at once, and for three more days if it fails again.")
        .empty(204, "It is sent.")
}

fn resend_dead_letters() -> OperationDoc {
    of_events(
        "resend_dead_letters",
        "Send all dead letters again",
        &[&[Credential::Operator]],
    )
    .describe("After a repair of the receiver: all of them, or those of one sale, for three more days.")
    .raw_json_body::<ResendRequest>(&[
        ("all", serde_json::json!({})),
        ("of_a_sale", serde_json::json!({ "sale": "summer-tour" })),
    ])
    .json(200, "They are sent.", &EventsSentAgain { events: 312 })
    .problem_like(Problem::new(ProblemType::InvalidField).with("field", &"sale"))
    .problems(&[ProblemType::MalformedRequest, ProblemType::BodyTooLarge])
}

fn skip_dead_letter() -> OperationDoc {
    of_dead_letter("skip_dead_letter", "Give a dead letter up")
        .describe("The later events of its order are sent. The ledger keeps which operator decided.")
        .empty(204, "It is not sent any more.")
}

//! Operations of the queue: join, wait, enter.

use serde_json::json;

use super::{examples, operation::OperationDoc, security::Credential};
use crate::{
    edge::{
        errors::problem::{Problem, ProblemType},
        handlers::{
            call_notice::CallNoticeResponse,
            join_limits::JoinRequest,
            queue::{HeartbeatResponse, JoinResponse, PassResponse, STATUS_CACHE},
        },
        overload::proof_of_work::Challenge,
    },
    waiting_room::{EntryState, Position, QueueStatus, Wait},
};

const TAG: &str = "queue";

/// A queue token, and the session too where the sale asks for sign-in; there the session alone will do.
const OWNER: &[&[Credential]] = &[
    &[Credential::QueueToken],
    &[Credential::QueueToken, Credential::Session],
    &[Credential::Session],
];
/// An admission pass, and the session too where the sale asks for sign-in.
pub(super) const ADMITTED: &[&[Credential]] = &[
    &[Credential::AdmissionPass],
    &[Credential::AdmissionPass, Credential::Session],
];
const OWNER_PROBLEMS: [ProblemType; 4] = [
    ProblemType::QueueTokenRequired,
    ProblemType::SignInRequired,
    ProblemType::CrossOrigin,
    ProblemType::NotOwner,
];
pub(super) const ADMITTED_PROBLEMS: [ProblemType; 4] = [
    ProblemType::PassRequired,
    ProblemType::SignInRequired,
    ProblemType::CrossOrigin,
    ProblemType::NotOwner,
];
/// Problems of operations that change the waiting room while a part of it is down.
const OUTAGES: [ProblemType; 4] = [
    ProblemType::StoreUnavailable,
    ProblemType::StoreRecovering,
    ProblemType::JournalUnavailable,
    ProblemType::TemporarilyUnavailable,
];

pub(super) fn operations() -> Vec<OperationDoc> {
    vec![
        join_queue(),
        leave_queue(),
        get_join_challenge(),
        get_queue_position(),
        send_heartbeat(),
        get_call_notice(),
        ask_for_call_notice(),
        withdraw_call_notice(),
        get_queue_status(),
        stream_queue_status(),
        enter(),
        renew_pass(),
        end_visit(),
    ]
}

fn join_queue() -> OperationDoc {
    let entry = |state, number| JoinResponse {
        token: "1.AAAABWxhdGVyAAAAAQ.c2ln",
        state,
        number,
        joined_at: examples::at(-1_200),
        heartbeat_sample: 517,
    };
    OperationDoc::new("join_queue", TAG, "Join the queue")
        .describe(
            "Joining twice gives the same entry. A customer is known by the session, an anonymous visitor by \
             the queue token. In a sale without sign-in an anonymous join may cost a proof of work: see \
             `get_join_challenge`.",
        )
        .in_sale()
        .credentials(&[&[], &[Credential::Session], &[Credential::QueueToken]])
        .optional_body::<JoinRequest>(&[
            ("nothing", json!({})),
            ("proof", json!({ "proof": examples::solution() })),
        ])
        .json(201, "A new queue entry.", &entry(EntryState::Prequeue, None))
        .sets_cookie("The queue token.")
        .json(
            200,
            "The visitor is in the queue already.",
            &entry(EntryState::Waiting, Some(1_841)),
        )
        .sets_cookie("The queue token.")
        .problem_like(Problem::new(ProblemType::NotOpenYet).with("prequeue_starts_at", &examples::at(-3_600)))
        .problem_like(
            Problem::new(ProblemType::ProofRequired)
                .with("reason", &"missing")
                .with("challenge", &challenge())
                .with("sign_in", &"/v1/sign-in"),
        )
        .problems(&[
            ProblemType::SignInRequired,
            ProblemType::CrossOrigin,
            ProblemType::Closed,
            ProblemType::QueueFull,
        ])
        .problems(&OUTAGES)
}

fn challenge() -> serde_json::Value {
    let mut challenge = examples::solution();
    challenge["maxnumber"] = 65_536.into();
    challenge.as_object_mut().expect("an object").remove("number");
    challenge
}

fn leave_queue() -> OperationDoc {
    OperationDoc::new("leave_queue", TAG, "Leave the queue")
        .describe("Gives the entry up for good: joining again gives a new one at the end.")
        .in_sale()
        .credentials(OWNER)
        .empty(204, "The entry is gone.")
        .sets_cookie("Removes queue token and admission pass.")
        .problems(&OWNER_PROBLEMS)
        .problems(&OUTAGES)
}

fn get_join_challenge() -> OperationDoc {
    OperationDoc::new("get_join_challenge", TAG, "Get a challenge for an anonymous join")
        .describe(
            "ALTCHA's proof of work. Its difficulty grows with the load and with joins from the same \
            address.",
        )
        .in_sale()
        .json_value::<Challenge>(200, "A challenge whose solution opens one join.", challenge())
        .empty(204, "A join costs nothing now.")
}

fn position(state: EntryState) -> Position {
    Position {
        state,
        number: Some(1_841),
        position: Some(120),
        ahead: Some(119),
        approximate: false,
        wait: Some(Wait {
            p10_s: 150,
            p50_s: 180,
            p90_s: 240,
            expected_at: examples::at(480),
        }),
        seat_chance_percent: Some(70),
        poll_after_ms: 5_000,
        call_ends_at: None,
        heartbeat_sample: 517,
    }
}

fn called() -> Position {
    Position {
        position: None,
        ahead: None,
        wait: None,
        seat_chance_percent: None,
        call_ends_at: Some(examples::at(420)),
        ..position(EntryState::Called)
    }
}

fn get_queue_position() -> OperationDoc {
    OperationDoc::new("get_queue_position", TAG, "Get the caller's own position")
        .in_sale()
        .credentials(&[&[Credential::QueueToken]])
        .json(200, "Where the entry stands.", &position(EntryState::Waiting))
        .problem(ProblemType::QueueTokenRequired)
}

fn send_heartbeat() -> OperationDoc {
    OperationDoc::new("send_heartbeat", TAG, "Say that the page is still open")
        .describe(
            "Only a sample of visitors is asked for heartbeats, from which the share of open pages is \
            estimated.",
        )
        .in_sale()
        .credentials(&[&[Credential::QueueToken]])
        .json(
            200,
            "When to send the next heartbeat.",
            &HeartbeatResponse {
                next_after_ms: Some(30_000),
            },
        )
        .problems(&[ProblemType::QueueTokenRequired, ProblemType::CrossOrigin])
}

fn of_call_notice(id: &'static str, summary: &'static str) -> OperationDoc {
    OperationDoc::new(id, TAG, summary)
        .in_sale()
        .credentials(OWNER)
        .problems(&OWNER_PROBLEMS)
        .problems(&OUTAGES)
        .problems(&[ProblemType::NotFound])
}

fn get_call_notice() -> OperationDoc {
    of_call_notice("get_call_notice", "Read whether the caller is told of their call").json(
        200,
        "The request.",
        &CallNoticeResponse { is_asked: true },
    )
}

fn ask_for_call_notice() -> OperationDoc {
    of_call_notice("ask_for_call_notice", "Ask to be told when called")
        .describe(
            "The shop gets `stagedoor.visitor.called.v1` when the caller is called, and sends a message. For \
            customers who are signed in, where `shop.events.call_notices` is set.",
        )
        .empty(
            204,
            "The request is kept until the caller is called, or the sale closes.",
        )
        .problems(&[ProblemType::NotWaiting])
}

fn withdraw_call_notice() -> OperationDoc {
    of_call_notice("withdraw_call_notice", "No longer ask to be told")
        .empty(204, "There is no request any more.")
}

fn get_queue_status() -> OperationDoc {
    OperationDoc::new("get_queue_status", TAG, "Get the public status of the queue")
        .describe(
            "The same bytes for everyone, encoded once a second. Caches in front of the service may \
            keep them.",
        )
        .in_sale()
        .json_value::<QueueStatus<'_>>(200, "The status.", status())
        .cacheable(STATUS_CACHE)
}

fn status() -> serde_json::Value {
    json!({
        "version": 12,
        "generated_at": examples::at(300),
        "sale": examples::sale(),
        "phase": "on_sale",
        "on_sale_starts_at": examples::at(0),
        "closes_at": examples::at(86_400),
        "now_serving": 1_721,
        "numbers_issued": 25_310,
        "waiting": 21_400,
        "active_visits": 962,
        "admission_rate_per_minute": 600,
        "active_visits_max": 1_000,
        "estimate": [[1, 2, 4, 8], [1_000, 90, 104, 131]],
        "people_ahead": [[1, 1], [16, 14], [23_589, 21_400]],
        "presence": { "near_distance": 1_200, "near_mask": 7, "far_mask": 255, "online": [[1_200, 91]] },
        "zones": [{
            "zone": "floor", "free": 310, "held": 44, "booked": 646, "blocked": 0,
            "available_to_distance": [280, 410, 690],
        }],
        "late_arrival_percent": 20,
        "forecast_accuracy": { "hits": 82, "total": 100 },
        "notice": null,
        "reason": null,
        "journal": {
            "sequence": 25_310,
            "hash": "5f1d7a84db00d2fce00b31a7fc73224d5f1d7a84db00d2fce00b31a7fc73224d",
        },
        "poll_interval_ms": { "min": 1_000, "max": 20_000 },
    })
}

fn stream_queue_status() -> OperationDoc {
    let mut operation = OperationDoc::new(
        "stream_queue_status",
        TAG,
        "Stream the public status of the queue",
    )
    .describe("Server-sent events: one with the current status at once, then one whenever it changes.");
    let status_schema = operation.schema::<QueueStatus<'_>>();
    let example = format!("retry: 3071\n\nid: 12\nevent: status\ndata: {}\n\n", status());
    operation
        .in_sale()
        .event_stream("The stream of events.", &[("status", status_schema)], &example)
}

fn enter() -> OperationDoc {
    OperationDoc::new("enter", TAG, "Enter the sale")
        .describe(
            "Exchanges an entry that was called for an admission pass. Entering again gives a fresh pass.",
        )
        .in_sale()
        .credentials(OWNER)
        .json(200, "The visitor is admitted.", &pass())
        .sets_cookie("The admission pass.")
        .problem_like(
            Problem::new(ProblemType::NotCalledYet).with("position", &position(EntryState::Waiting)),
        )
        .problem_like(Problem::new(ProblemType::AtCapacity).with("position", &called()))
        .problem_like(Problem::new(ProblemType::VisitEnded).with("position", &position(EntryState::Left)))
        .problem(ProblemType::Closed)
        .problems(&OWNER_PROBLEMS)
        .problems(&OUTAGES)
}

fn renew_pass() -> OperationDoc {
    OperationDoc::new("renew_pass", TAG, "Renew the admission pass")
        .in_sale()
        .credentials(ADMITTED)
        .json(200, "A pass that expires later.", &pass())
        .sets_cookie("The admission pass.")
        .problem(ProblemType::VisitEnded)
        .problems(&ADMITTED_PROBLEMS)
        .problems(&OUTAGES)
}

fn end_visit() -> OperationDoc {
    OperationDoc::new("end_visit", TAG, "End the visit")
        .describe("Frees the visit's slot for the next in the queue.")
        .in_sale()
        .credentials(ADMITTED)
        .empty(204, "The visit has ended.")
        .sets_cookie("Removes the admission pass.")
        .problems(&ADMITTED_PROBLEMS)
        .problems(&OUTAGES)
}

fn pass() -> PassResponse<'static> {
    PassResponse {
        pass: "eyJ0eXAiOiJhZG1pc3Npb24rand0In0.eyJzdWIiOiIuLi4ifQ.c2ln",
        expires_at: examples::at(900),
    }
}

//! Operations of seats and holds.

use std::collections::BTreeMap;

use serde_json::json;

use super::{
    examples,
    operation::OperationDoc,
    queue::{ADMITTED, ADMITTED_PROBLEMS},
    security::Credential,
};
use crate::{
    edge::{
        errors::problem::{Problem, ProblemType},
        handlers::{
            hold_request::{HoldRequest, SwapRequest},
            holds::{HoldList, HoldResponse, HoldStateView},
            seats::{
                HASHED_PLAN_CACHE, OCTET_STREAM, SNAPSHOT_CACHE, SeatReset, SeatStateView, SeatStatesResponse,
            },
        },
    },
    kernel::{HoldId, PerformanceId, SaleId},
    seating::SeatingPlan,
};

const TAG: &str = "seats";

/// A customer's session, or the queue token of a sale without sign-in.
pub(super) const OWNER: &[&[Credential]] = &[&[Credential::Session], &[Credential::QueueToken]];
pub(super) const OWNER_PROBLEMS: [ProblemType; 2] = [ProblemType::SignInRequired, ProblemType::CrossOrigin];
const OUTAGES: [ProblemType; 3] = [
    ProblemType::StoreUnavailable,
    ProblemType::StoreRecovering,
    ProblemType::TemporarilyUnavailable,
];

pub(super) fn operations() -> Vec<OperationDoc> {
    vec![
        get_seating_plan(),
        get_seats(),
        stream_seats(),
        hold_seats(),
        list_holds(),
        get_hold(),
        swap_seats(),
        release_hold(),
        extend_hold(),
    ]
}

fn of_performance(operation: OperationDoc) -> OperationDoc {
    operation
        .in_sale()
        .path::<PerformanceId>("performance", "Id of the performance in its sale.", "day-1")
}

fn of_hold(operation: OperationDoc) -> OperationDoc {
    operation
        .path::<HoldId>("hold", "Id of the hold.", examples::HOLD)
        .credentials(OWNER)
        .problems(&OWNER_PROBLEMS)
        .problems(&OUTAGES)
}

fn get_seating_plan() -> OperationDoc {
    let example = json!({
        "name": "Olympic Hall",
        "categories": [{ "name": "floor", "color": "#d04a5a" }],
        "zones": [{
            "name": "101", "position": { "x": 40, "y": 120.5 },
            "rows": [{
                "row_number": "A", "position": { "x": 0, "y": 0 },
                "seats": [{
                    "seat_guid": "101-A-12", "seat_number": "12", "position": { "x": 12, "y": 0 },
                    "category": "floor", "attributes": ["aisle"],
                }],
            }],
        }],
        "size": { "width": 1200, "height": 900 },
    });
    of_performance(OperationDoc::new("get_seating_plan", TAG, "Get the seating plan"))
        .describe(
            "pretix's format. The `plan_url` of a sale names the plan's hash and may be cached for ever.",
        )
        .query::<String>("v", "The plan's hash.")
        .json_value::<SeatingPlan>(200, "The plan.", example)
        .cacheable(HASHED_PLAN_CACHE)
}

fn seat_states(version: u64) -> SeatStatesResponse {
    SeatStatesResponse {
        version,
        seats: BTreeMap::from([
            ("101-A-12".to_owned(), SeatStateView::Held),
            ("101-A-13".to_owned(), SeatStateView::Free),
        ]),
    }
}

fn get_seats() -> OperationDoc {
    of_performance(OperationDoc::new("get_seats", TAG, "Get the state of every seat"))
        .describe(
            "As `application/octet-stream`: eight bytes of version, little-endian, then two bits for each \
             seat in the plan's order.",
        )
        .query::<String>(
            "section",
            "Only the seats of this section. Not for the binary form.",
        )
        .credentials(ADMITTED)
        .json(200, "The seats.", &seat_states(8_812))
        .or_as(OCTET_STREAM, &json!({}))
        .cacheable(SNAPSHOT_CACHE)
        .problems(&ADMITTED_PROBLEMS)
}

fn stream_seats() -> OperationDoc {
    let mut operation = of_performance(OperationDoc::new("stream_seats", TAG, "Stream changes of seats"))
        .describe(
            "Server-sent events. After a `reset` the client fetches the seats again: it was away for \
            too long.",
        );
    let events = [
        ("delta", operation.schema::<SeatStatesResponse>()),
        ("reset", operation.schema::<SeatReset>()),
    ];
    let delta = serde_json::to_string(&seat_states(8_813)).expect("wire types are JSON");
    let example = format!("retry: 3071\n\nid: 8813\nevent: delta\ndata: {delta}\n\n");
    operation
        .query::<u64>("after", "The version that the client has.")
        .header::<String>(
            "Last-Event-ID",
            "The same, as browsers say it when they reconnect.",
            false,
        )
        .credentials(ADMITTED)
        .event_stream("The stream of events.", &events, &example)
        .problems(&ADMITTED_PROBLEMS)
}

fn hold(operation: OperationDoc, status: u16, description: &str) -> OperationDoc {
    let (sale, performance) = (examples::sale(), examples::performance());
    operation.json(status, description, &example_hold(&sale, &performance))
}

fn example_hold<'a>(sale: &'a SaleId, performance: &'a PerformanceId) -> HoldResponse<'a> {
    HoldResponse {
        id: examples::hold_id(),
        sale,
        performance,
        seats: vec!["101-A-12", "101-A-13"],
        expires_at: examples::at(720),
        total: examples::won(264_000),
        extensions_left: 1,
        state: HoldStateView::Held,
    }
}

/// Problems of choosing seats.
fn choosing(operation: OperationDoc) -> OperationDoc {
    let seats_taken = Problem::new(ProblemType::SeatsTaken)
        .with("taken", &["101-A-12"])
        .with("alternatives", &[["101-A-14", "101-A-15"]]);
    operation
        .problem_like(seats_taken)
        .problem_like(Problem::new(ProblemType::WheelchairSpaces).with("reserved", &["101-A-12"]))
        .problem_like(Problem::new(ProblemType::LimitReached).with("limit", &4))
        .problem_like(Problem::new(ProblemType::UnknownSeat).with("field", &"seats[1]"))
        .problem(ProblemType::Closed)
}

fn hold_seats() -> OperationDoc {
    let operation = of_performance(OperationDoc::new("hold_seats", TAG, "Hold seats"))
        .describe(
            "All of the seats or none. With an `Idempotency-Key` a retry gives the same hold. Requests for \
            seats are limited for each visit, and where visitors do not sign in the seats for each address: \
            429 with the `reason` `holds_of_this_visit` or `seats_from_this_address`.",
        )
        .header::<String>("Idempotency-Key", "1 to 255 visible ASCII characters.", false)
        .credentials(ADMITTED)
        .body::<HoldRequest>(&[
            ("seats", json!({ "seats": ["101-A-12", "101-A-13"] })),
            (
                "best_available",
                json!({ "best_available": { "quantity": 2, "zone": "floor" } }),
            ),
        ]);
    choosing(hold(operation, 201, "The seats are held."))
        .problem_like(Problem::new(ProblemType::HoldGone).with("alternatives", &[["101-A-14"]]))
        .problems(&[ProblemType::NoMatchingSeats, ProblemType::IdempotencyKeyReused])
        .problems(&ADMITTED_PROBLEMS)
        .problems(&OUTAGES)
}

fn list_holds() -> OperationDoc {
    let (sale, performance) = (examples::sale(), examples::performance());
    let example = HoldList {
        holds: vec![example_hold(&sale, &performance)],
    };
    OperationDoc::new("list_holds", TAG, "List the caller's holds")
        .describe("Also those that the caller has made in another window or at another device.")
        .query::<SaleId>("sale", "Only holds of this sale.")
        .credentials(OWNER)
        .json(200, "The holds.", &example)
        .problems(&OWNER_PROBLEMS)
        .problems(&OUTAGES)
}

fn get_hold() -> OperationDoc {
    hold(
        of_hold(OperationDoc::new("get_hold", TAG, "Get a hold")),
        200,
        "The hold.",
    )
}

fn swap_seats() -> OperationDoc {
    let operation = of_hold(OperationDoc::new("swap_seats", TAG, "Swap the seats of a hold"))
        .body::<SwapRequest>(&[("seats", json!({ "seats": ["101-B-1", "101-B-2"] }))]);
    choosing(hold(operation, 200, "The hold with its new seats.")).problem(ProblemType::HoldInPayment)
}

fn release_hold() -> OperationDoc {
    of_hold(OperationDoc::new("release_hold", TAG, "Release a hold"))
        .empty(204, "The seats are free again.")
        .no_body()
        .problem(ProblemType::HoldInPayment)
}

fn extend_hold() -> OperationDoc {
    hold(
        of_hold(OperationDoc::new("extend_hold", TAG, "Extend a hold")),
        200,
        "The hold lasts longer.",
    )
    .no_fields()
    .problems(&[
        ProblemType::NoMoreExtensions,
        ProblemType::HoldInPayment,
        ProblemType::Closed,
    ])
}

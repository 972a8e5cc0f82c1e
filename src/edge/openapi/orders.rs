//! Operations of orders, and the payment gateway's.

use serde_json::json;

use super::{
    examples,
    operation::OperationDoc,
    queue::{ADMITTED, ADMITTED_PROBLEMS},
    seats::{OWNER, OWNER_PROBLEMS},
    security::Credential,
};
use crate::{
    checkout::{HistoryEntry, OrderState, OrderView, Ticket},
    edge::{
        errors::problem::{Problem, ProblemType},
        handlers::{
            order_request::OrderRequest,
            orders::{OrderHistory, OrderList, TICKET_CODE_CACHE, TicketList, TicketView},
        },
    },
    kernel::{OrderId, SaleId},
};

const TAG: &str = "orders";
const OUTAGES: [ProblemType; 3] = [
    ProblemType::LedgerUnavailable,
    ProblemType::StoreUnavailable,
    ProblemType::TemporarilyUnavailable,
];

pub(super) fn operations() -> Vec<OperationDoc> {
    vec![
        list_orders(),
        place_order(),
        get_order(),
        get_order_history(),
        list_tickets(),
        get_ticket_code(),
        confirm_order(),
        cancel_order(),
        return_from_payment(),
        receive_webhook(),
    ]
}

fn of_order(operation: OperationDoc) -> OperationDoc {
    operation
        .path::<OrderId>("order", "Id of the order.", examples::ORDER)
        .credentials(OWNER)
        .problems(&OWNER_PROBLEMS)
        .problems(&OUTAGES)
}

fn list_orders() -> OperationDoc {
    OperationDoc::new("list_orders", TAG, "List the caller's orders")
        .query::<SaleId>("sale", "Only orders of this sale.")
        .credentials(OWNER)
        .json(
            200,
            "The orders.",
            &OrderList {
                orders: vec![examples::paid_order()],
            },
        )
        .problems(&OWNER_PROBLEMS)
        .problems(&OUTAGES)
}

/// The responses to an order that was placed or confirmed.
fn placed(operation: OperationDoc) -> OperationDoc {
    let in_progress = OrderView {
        state: OrderState::InProgress,
        ..examples::paid_order()
    };
    operation
        .json(
            201,
            "Paid, or awaiting payment: then `action` says what the buyer does next, until \
            `payment_deadline`.",
            &examples::order_awaiting_payment(),
        )
        .located("The order.")
        .json(
            202,
            "In progress; the order says later what became of it.",
            &in_progress,
        )
        .located("The order.")
        .problem_like(
            Problem::new(ProblemType::PaymentDeclined)
                .with("order", &examples::declined_order())
                .with("reason", &"insufficient_funds")
                .with("hold_over", &false),
        )
        .problem_like(Problem::new(ProblemType::HoldGone).with("alternatives", &[["101-A-14", "101-A-15"]]))
        .problem_like(Problem::new(ProblemType::LimitReached).with("limit", &4))
        .problem(ProblemType::IdempotencyKeyReused)
        .problem(ProblemType::Closed)
        .problems(&OUTAGES)
}

fn place_order() -> OperationDoc {
    let request = json!({ "hold": examples::HOLD, "payment": { "method": "card", "token": "tok_visa" } });
    let operation = OperationDoc::new("place_order", TAG, "Buy the seats of a hold")
        .describe(
            "The `Idempotency-Key` makes a retry safe: the same key gives the same order and never a \
            second charge. While the hold's payment waits at the gateway's page, a request with another key \
            replaces it: that payment is voided first. After the first failed payment another may begin for \
            as long as a buyer may stay at that page; then `hold_over` of the problem is true, the seats are \
            free again, and a payment that waits at the page is not replaced any more.",
        )
        .header::<String>("Idempotency-Key", "1 to 255 visible ASCII characters.", true)
        .credentials(ADMITTED)
        .body::<OrderRequest>(&[
            ("card", request),
            ("free seats", json!({ "hold": examples::HOLD })),
        ]);
    placed(operation)
        .problem(ProblemType::AccountInactive)
        .problems(&ADMITTED_PROBLEMS)
        .problem(ProblemType::StoreRecovering)
}

fn get_order() -> OperationDoc {
    of_order(OperationDoc::new("get_order", TAG, "Get an order")).json(
        200,
        "The order.",
        &examples::paid_order(),
    )
}

fn get_order_history() -> OperationDoc {
    let entry = HistoryEntry {
        at: examples::at(313),
        step: "authorize",
        state: "done",
        text_key: "history.authorized",
    };
    of_order(OperationDoc::new(
        "get_order_history",
        TAG,
        "Get what happened to an order",
    ))
    .json(
        200,
        "Every step of the order's saga.",
        &OrderHistory { history: vec![entry] },
    )
}

fn list_tickets() -> OperationDoc {
    let base = format!("/v1/orders/{}/tickets/dGlja2V0", examples::ORDER);
    let ticket = TicketView {
        ticket: Ticket {
            id: "dGlja2V0".to_owned(),
            seat: "101-A-12".to_owned(),
            section: "101".to_owned(),
            row: "A".to_owned(),
            number: "12".to_owned(),
            performance: examples::performance(),
            code: "eyJ0eXAiOiJ0aWNrZXQrand0In0.e30.c2ln".to_owned(),
        },
        qr_svg_url: format!("{base}.svg"),
        qr_png_url: format!("{base}.png"),
    };
    of_order(OperationDoc::new(
        "list_tickets",
        TAG,
        "List the tickets of an order",
    ))
    .json(
        200,
        "One ticket for each seat; none until the order is paid.",
        &TicketList {
            tickets: vec![ticket],
        },
    )
}

fn get_ticket_code() -> OperationDoc {
    of_order(OperationDoc::new(
        "get_ticket_code",
        TAG,
        "Get a ticket's QR code",
    ))
    .path::<String>(
        "ticket",
        "Id of the ticket with `.svg` or `.png`.",
        "dGlja2V0.svg",
    )
    .content(200, "The QR code.", "image/svg+xml", &json!({ "type": "string" }))
    .or_as("image/png", &json!({}))
    .cache_control(TICKET_CODE_CACHE)
}

fn confirm_order() -> OperationDoc {
    let operation = OperationDoc::new("confirm_order", TAG, "Ask the gateway about an order").describe(
        "For the page that the buyer returns to from the bank: asks now instead of at the next poll.",
    );
    placed(of_order(operation)).no_fields()
}

fn cancel_order() -> OperationDoc {
    let canceled = OrderView {
        state: OrderState::Canceled,
        ..examples::paid_order()
    };
    let refunding = OrderView {
        state: OrderState::Refunding,
        ..examples::paid_order()
    };
    of_order(OperationDoc::new("cancel_order", TAG, "Cancel an order"))
        .describe(
            "Returns all seats of a paid order and refunds it, until the doors of its performance open. An \
            order that awaits payment is canceled as well: its payment is voided, and its seats are free at \
            once.",
        )
        .no_fields()
        .json(200, "Seats and money are returned.", &canceled)
        .json(202, "Seats and money are being returned.", &refunding)
        .problem_like(Problem::new(ProblemType::NotCancelable).with("order", &examples::declined_order()))
        .problem_like(Problem::new(ProblemType::Closed).with("order", &examples::paid_order()))
}

fn return_from_payment() -> OperationDoc {
    OperationDoc::new("return_from_payment", TAG, "Return from the payment page")
        .describe(
            "Where the gateway sends the buyer's browser. It proves nothing; the order's page asks \
            the gateway.",
        )
        .path::<OrderId>("order", "Id of the order.", examples::ORDER)
        .empty(303, "To the order's page.")
        .located("The order's page.")
}

fn receive_webhook() -> OperationDoc {
    OperationDoc::new(
        "receive_webhook",
        "integration",
        "Receive a message of the payment gateway",
    )
    .describe(
        "Standard Webhooks. The message only triggers a look at the payment; its content is not trusted.",
    )
    .path::<String>("gateway", "Name of the gateway in the configuration.", "sandbox")
    .header::<String>("Webhook-Id", "Id of the message.", true)
    .header::<String>("Webhook-Timestamp", "Seconds since 1970.", true)
    .credentials(&[&[Credential::GatewaySignature]])
    .raw_body("application/json", "As the gateway defines it.")
    .empty(
        204,
        "Accepted, or ignored because it is known or of no order here.",
    )
    .problems(&[
        ProblemType::NotSigned,
        ProblemType::MalformedRequest,
        ProblemType::BodyTooLarge,
        ProblemType::BodyTooSlow,
    ])
    .problems(&OUTAGES)
}

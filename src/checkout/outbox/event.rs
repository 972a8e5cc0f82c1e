//! Events as the shop receives them: CloudEvents 1.0 whose `data` has a schema for each type.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use utoipa::ToSchema;

use super::port::{EventId, OutboxEvent, StandaloneEvent};
use crate::{
    checkout::{ledger::port::NewEvent, order::Order, types::SeatInfo},
    kernel::{Money, OrderId, PerformanceId, SaleId, Timestamp},
    platform::signing::{hex, sha256},
};

/// The seats are sold and the tickets are issued; the money is not captured yet.
pub(crate) const ORDER_BOOKED: &str = "stagedoor.order.booked.v1";
/// The money was captured, or there was nothing to pay.
pub(crate) const ORDER_PAID: &str = "stagedoor.order.paid.v1";
/// The buyer or an operator canceled the order; money and seats were returned.
pub(crate) const ORDER_CANCELED: &str = "stagedoor.order.canceled.v1";
/// The service could not deliver the seats, and returned the money.
pub(crate) const ORDER_REFUNDED: &str = "stagedoor.order.refunded.v1";
/// A ticket is no longer valid.
pub(crate) const TICKET_VOIDED: &str = "stagedoor.ticket.voided.v1";
/// Visitors are admitted.
pub(crate) const SALE_OPENED: &str = "stagedoor.sale.opened.v1";
/// Every seat is booked or blocked.
pub(crate) const SALE_SOLD_OUT: &str = "stagedoor.sale.sold_out.v1";
/// No visitor is admitted any more.
pub(crate) const SALE_CLOSED: &str = "stagedoor.sale.closed.v1";
/// Preflight asks whether the receiver answers.
pub(crate) const TEST: &str = "stagedoor.test.v1";

/// A visitor who asked to be told is called.
pub(crate) const VISITOR_CALLED: &str = "stagedoor.visitor.called.v1";

/// Every type of event, with the sentence that describes it.
pub const EVENT_TYPES: [(&str, &str); 10] = [
    (
        ORDER_BOOKED,
        "The seats are sold and the tickets are issued; the money is not captured yet.",
    ),
    (ORDER_PAID, "The money was captured, or there was nothing to pay."),
    (
        ORDER_CANCELED,
        "The buyer or an operator canceled the order; money and seats were returned.",
    ),
    (
        ORDER_REFUNDED,
        "The service could not deliver the seats, and returned the money.",
    ),
    (TICKET_VOIDED, "A ticket is no longer valid."),
    (SALE_OPENED, "Visitors are admitted."),
    (
        SALE_SOLD_OUT,
        "Every seat is booked or blocked, for the first time. Seats may come back.",
    ),
    (
        SALE_CLOSED,
        "No visitor is admitted any more. Orders in progress may still be paid.",
    ),
    (VISITOR_CALLED, "A visitor who asked to be told may enter now."),
    (
        TEST,
        "`stagedoor preflight` asks whether the receiver answers. Nothing happened.",
    ),
];

/// What the receiver must answer with 2xx. An `id` that was seen before is the same event.
#[derive(Debug, Serialize, ToSchema)]
pub struct CloudEvent {
    /// Version of the CloudEvents specification: `1.0`.
    pub specversion: &'static str,
    /// Unique, and the same over all retries: stream, colon, sequence.
    pub id: String,
    /// URL of the sale.
    pub source: String,
    /// Type of the event.
    #[serde(rename = "type")]
    pub kind: String,
    /// Id of the order; absent for events of a sale or a visitor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<OrderId>,
    /// When it happened.
    pub time: Timestamp,
    /// `application/json`.
    pub datacontenttype: &'static str,
    /// Place within the events of the order, or of the sale: ten digits, so that texts compare as numbers
    /// do.
    pub sequence: String,
    /// What happened. Its form follows from the type: [`OrderEvent`], [`TicketEvent`],
    /// [`SaleEvent`], [`VisitorEvent`] or [`TestEvent`].
    #[schema(value_type = Object)]
    pub data: Box<RawValue>,
}

impl CloudEvent {
    /// The event as it goes out. `public_base` is the URL under which the service is reached.
    ///
    /// # Errors
    /// `serde_json`'s error when the stored data are not JSON.
    pub fn new(event: &OutboxEvent, public_base: &str) -> Result<Self, serde_json::Error> {
        let base = public_base.trim_end_matches('/');
        Ok(Self {
            specversion: "1.0",
            id: event.id.to_string(),
            source: format!("{base}/v1/sales/{}", event.sale),
            kind: event.kind.clone(),
            subject: event.order(),
            time: event.at,
            datacontenttype: "application/json",
            sequence: format!("{:010}", event.id.sequence),
            data: RawValue::from_string(event.data.clone())?,
        })
    }
}

impl CloudEvent {
    /// An event about nothing.
    pub(crate) fn test(public_base: &str, now: Timestamp) -> Self {
        Self {
            specversion: "1.0",
            id: format!("preflight-{}:1", now.as_millis()),
            source: public_base.trim_end_matches('/').to_owned(),
            kind: TEST.to_owned(),
            subject: None,
            time: now,
            datacontenttype: "application/json",
            sequence: format!("{:010}", 1),
            data: to_raw_value(&TestEvent {}).expect("our own events are JSON"),
        }
    }
}

/// `data` of the events of an order.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderEvent {
    /// Id of the order.
    pub order: OrderId,
    /// The sale.
    pub sale: SaleId,
    /// The performance.
    pub performance: PerformanceId,
    /// The shop's key of the customer; `null` for a buyer who is not signed in.
    pub customer: Option<String>,
    /// The seats as they were sold.
    pub seats: Vec<SeatInfo>,
    /// Sum of the prices.
    pub total: Money,
    /// Why the order was undone, as a code: `canceled_by_buyer`. Absent while it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `data` of the events of a ticket.
#[derive(Debug, Serialize, ToSchema)]
pub struct TicketEvent {
    /// Id of the ticket: `sub` of its code.
    pub ticket: String,
    /// Id of the order.
    pub order: OrderId,
    /// The sale.
    pub sale: SaleId,
    /// The performance.
    pub performance: PerformanceId,
    /// The seat's id in the seating plan.
    pub seat: String,
}

/// `data` of the events of a visitor.
#[derive(Debug, Serialize, ToSchema)]
pub struct VisitorEvent {
    /// The sale.
    pub sale: SaleId,
    /// The shop's key of the customer.
    pub customer: String,
    /// When the call window ends; `null` when it has ended: then the visitor may still come as a late
    /// arrival.
    pub enter_by: Option<Timestamp>,
}

/// `data` of the events of a sale.
#[derive(Debug, Serialize, ToSchema)]
pub struct SaleEvent {
    /// The sale.
    pub sale: SaleId,
}

impl OrderEvent {
    /// What the order's events tell about it.
    #[must_use]
    pub fn of(order: &Order) -> Self {
        Self {
            order: order.id,
            sale: order.performance_key.sale.clone(),
            performance: order.performance_key.performance.clone(),
            customer: order.buyer.as_str().strip_prefix("customer:").map(str::to_owned),
            seats: order.seats.clone(),
            total: order.total,
            reason: order.reason.as_ref().map(ToString::to_string),
        }
    }
}

/// The event that a visitor was called. `arrival` is the entry's arrival number: an entry is called once.
pub(crate) fn visitor_called(visitor: &VisitorEvent, arrival: u32, called_at: Timestamp) -> StandaloneEvent {
    let entry = format!("call of {arrival} in {}", visitor.sale);
    StandaloneEvent {
        id: EventId {
            // Not the form of an order's id.
            stream: format!("call-{}", hex(&sha256(entry.as_bytes())[..16])),
            sequence: 1,
        },
        event: new_event(VISITOR_CALLED, visitor),
        at: called_at,
    }
}

fn new_event(kind: &'static str, data: &impl Serialize) -> NewEvent {
    NewEvent {
        kind,
        data: serde_json::to_string(data).expect("our own events are JSON"),
    }
}

/// An event about this order.
pub(crate) fn order_event(order: &Order, kind: &'static str) -> NewEvent {
    new_event(kind, &OrderEvent::of(order))
}

/// The event that a ticket of this order was voided.
pub(crate) fn ticket_voided(order: &Order, ticket: String, seat: String) -> NewEvent {
    let data = TicketEvent {
        ticket,
        order: order.id,
        sale: order.performance_key.sale.clone(),
        performance: order.performance_key.performance.clone(),
        seat,
    };
    new_event(TICKET_VOIDED, &data)
}

/// `data` of the test event.
#[derive(Debug, Serialize, ToSchema)]
pub struct TestEvent {}

/// What happens to a sale at most once. The number is the event's sequence in the sale's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SaleMilestone {
    /// Visitors are admitted.
    Opened = 1,
    /// Every seat is booked or blocked.
    SoldOut = 2,
    /// No visitor is admitted any more.
    Closed = 3,
}

impl SaleMilestone {
    /// The event that this sale has reached it.
    pub(crate) fn event(self, sale: &SaleId, at: Timestamp) -> StandaloneEvent {
        let kind = match self {
            Self::Opened => SALE_OPENED,
            Self::SoldOut => SALE_SOLD_OUT,
            Self::Closed => SALE_CLOSED,
        };
        StandaloneEvent {
            id: EventId {
                stream: sale.to_string(),
                sequence: self as i64,
            },
            event: new_event(kind, &SaleEvent { sale: sale.clone() }),
            at,
        }
    }
}

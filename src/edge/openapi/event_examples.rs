//! One event of each type, as the shop receives it.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::examples::{ORDER, at, performance, sale, won};
use crate::checkout::{
    CloudEvent, EVENT_TYPES, OrderEvent, SaleEvent, SeatInfo, TestEvent, TicketEvent, VisitorEvent,
};

/// One event of each type, in the order of [`EVENT_TYPES`].
pub(crate) fn all() -> Vec<CloudEvent> {
    EVENT_TYPES.iter().map(|(kind, _)| example(kind)).collect()
}

/// The event that an order was paid.
pub(crate) fn order_paid() -> CloudEvent {
    example("stagedoor.order.paid.v1")
}

/// It is about no sale.
const TEST: &str = "stagedoor.test.v1";

fn seat(number: &str) -> SeatInfo {
    SeatInfo {
        guid: format!("101-A-{number}"),
        zone: "R".to_owned(),
        section: "101".to_owned(),
        row: "A".to_owned(),
        number: number.to_owned(),
        price: won(132_000),
    }
}

fn raw(data: &impl Serialize) -> Box<RawValue> {
    to_raw_value(data).expect("wire types are JSON")
}

fn data_of(kind: &str) -> Box<RawValue> {
    let order = ORDER.parse().expect("a valid id");
    if kind.contains(".sale.") {
        return raw(&SaleEvent { sale: sale() });
    }
    if kind == TEST {
        return raw(&TestEvent {});
    }
    if kind.contains(".visitor.") {
        return raw(&VisitorEvent {
            sale: sale(),
            customer: "4711".to_owned(),
            enter_by: Some(at(300)),
        });
    }
    if kind.contains(".ticket.") {
        return raw(&TicketEvent {
            ticket: "tkt_9f3c1a".to_owned(),
            order,
            sale: sale(),
            performance: performance(),
            seat: "101-A-12".to_owned(),
        });
    }
    let reason = match kind {
        "stagedoor.order.canceled.v1" => Some("canceled_by_buyer"),
        "stagedoor.order.refunded.v1" => Some("capture_refused:expired"),
        _ => None,
    };
    raw(&OrderEvent {
        order,
        sale: sale(),
        performance: performance(),
        customer: Some("4711".to_owned()),
        seats: vec![seat("12"), seat("13")],
        total: won(264_000),
        reason: reason.map(str::to_owned),
    })
}

fn example(kind: &str) -> CloudEvent {
    let place = EVENT_TYPES.iter().position(|(known, _)| *known == kind);
    let place = place.expect("one of the types");
    let base = "https://tickets.example";
    let (stream, source, sequence) = if kind == TEST {
        ("preflight-1777633513000".to_owned(), base.to_owned(), 1)
    } else if kind.contains(".sale.") {
        (
            sale().to_string(),
            format!("{base}/v1/sales/summer-tour"),
            place - 4,
        )
    } else if kind.contains(".visitor.") {
        (
            "call-1f0e9a6b54d2c78305b1d7e6a9f0c3d2".to_owned(),
            format!("{base}/v1/sales/summer-tour"),
            1,
        )
    } else {
        (
            ORDER.to_owned(),
            format!("{base}/v1/sales/summer-tour"),
            place + 1,
        )
    };
    CloudEvent {
        specversion: "1.0",
        id: format!("{stream}:{sequence}"),
        source,
        kind: kind.to_owned(),
        subject: (stream == ORDER).then(|| ORDER.parse().expect("a valid id")),
        time: at(313),
        datacontenttype: "application/json",
        sequence: format!("{sequence:010}"),
        data: data_of(kind),
    }
}

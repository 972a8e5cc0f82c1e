//! Values that the examples of several operations share.

use serde_json::{Value, json};

use crate::{
    checkout::{OrderState, OrderView, PaymentAction},
    kernel::{Currency, HoldId, Money, OrderId, PerformanceId, SaleId, Timestamp},
};

/// A moment of the example sale, `seconds` after it opened.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_777_633_200 + seconds)
}

pub(super) fn sale() -> SaleId {
    "summer-tour".parse().expect("a valid id")
}

pub(super) fn performance() -> PerformanceId {
    "day-1".parse().expect("a valid id")
}

pub(crate) const ORDER: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
pub(super) const HOLD: &str = "0b9d2f5c-6f0e-4c63-9a53-7a2f7a1c9a10";

pub(super) fn order_id() -> OrderId {
    ORDER.parse().expect("a valid id")
}

pub(super) fn hold_id() -> HoldId {
    HOLD.parse().expect("a valid id")
}

pub(super) fn won(amount: i64) -> Money {
    Money::new(amount, Currency::KRW)
}

pub(crate) fn paid_order() -> OrderView {
    OrderView {
        id: order_id(),
        state: OrderState::Paid,
        sale: sale(),
        performance: performance(),
        seats: vec!["101-A-12".to_owned(), "101-A-13".to_owned()],
        total: won(264_000),
        created_at: at(312),
        reason: None,
        action: None,
        payment_deadline: None,
    }
}

pub(crate) fn declined_order() -> OrderView {
    OrderView {
        state: OrderState::Declined,
        reason: Some("declined:insufficient_funds".to_owned()),
        ..paid_order()
    }
}

pub(super) fn order_awaiting_payment() -> OrderView {
    OrderView {
        state: OrderState::AwaitingPayment,
        action: Some(PaymentAction {
            kind: "redirect",
            url: "https://pay.example/3ds/8f2b".to_owned(),
        }),
        payment_deadline: Some(at(912)),
        ..paid_order()
    }
}

/// A solved challenge, as clients send it back.
pub(super) fn solution() -> Value {
    json!({
        "algorithm": "SHA-256",
        "challenge": "aa4b6a33cc5be4a5b0b9a0a2b4d62b56ba5b4b1d5f0e7d9c2d9f8e7a6b5c4d3e",
        "number": 48_211,
        "salt": "c2FsdA",
        "signature": "bWFj",
    })
}

//! What each card does to a payment: pure rules from one state of the book to the next.

use serde::Deserialize;

use crate::demo::sandbox_gateway::{Gateway, Payment, State};
use crate::{kernel::Money, platform::signing::base64url};

/// Errors that `tok_error` answers before it declines.
const ERRORS_MAX: u32 = 3;

#[derive(Deserialize)]
pub(crate) struct Wish {
    pub(crate) key: String,
    pub(crate) amount: Money,
    pub(crate) token: String,
    #[serde(default)]
    pub(crate) description: String,
    pub(crate) return_url: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Capture,
    Void,
    Refund,
}

/// The first request for a key decides; later ones find what was decided.
pub(crate) fn pay(gateway: &Gateway, wish: Wish, before: Option<Payment>) -> Payment {
    if let Some(known) = before.clone().filter(|it| it.state != State::Failing) {
        return known;
    }
    let now = gateway.config.clock.now();
    let errors = before.map_or(0, |it| it.errors) + u32::from(wish.token == "tok_error");
    let (state, reason) = match wish.token.as_str() {
        "tok_ok" | "tok_slow" | "tok_timeout_after_success" | "tok_capture_fails" | "tok_webhook_storm" => {
            (State::Authorized, None)
        }
        "tok_redirect" => (State::AwaitingBuyer, None),
        "tok_error" if errors <= ERRORS_MAX => (State::Failing, None),
        "tok_error" => (State::Declined, Some("processing_error")),
        "tok_declined" => (State::Declined, Some("card_declined")),
        _ => (State::Declined, Some("unknown_card")),
    };
    let known_card = reason != Some("unknown_card");
    Payment {
        state,
        amount: Some(wish.amount),
        // What is not one of the test cards may be a real one's number, typed into the wrong field.
        card: if known_card { wish.token } else { "unknown".into() },
        reference: (state == State::Authorized).then(|| reference(gateway)),
        reason: reason.map(str::to_owned),
        redirect_url: (state == State::AwaitingBuyer).then(|| {
            format!(
                "{}/v1/payments/{}/page",
                gateway.config.public_url.trim_end_matches('/'),
                wish.key
            )
        }),
        return_url: wish.return_url,
        description: wish.description,
        errors,
        created_at: now,
        updated_at: now,
        key: wish.key,
    }
}

pub(crate) fn settle(
    gateway: &Gateway,
    key: String,
    verb: Verb,
    amount: Option<Money>,
    before: Option<Payment>,
) -> Payment {
    let now = gateway.config.clock.now();
    let mut payment = before.unwrap_or_else(|| Payment {
        key,
        state: State::Failing,
        amount: None,
        card: "none".into(),
        reference: None,
        reason: None,
        redirect_url: None,
        return_url: String::new(),
        description: String::new(),
        errors: 0,
        created_at: now,
        updated_at: now,
    });
    let same_amount = amount == payment.amount;
    let next = match (verb, payment.state) {
        (Verb::Capture, State::Authorized) if same_amount && payment.card != "tok_capture_fails" => {
            State::Captured
        }
        (Verb::Void, State::Authorized | State::AwaitingBuyer | State::Failing) => State::Voided,
        (Verb::Refund, State::Captured) if same_amount => State::Refunded,
        (_, unchanged) => unchanged,
    };
    if next != payment.state {
        payment.state = next;
        payment.updated_at = now;
    }
    payment
}

/// Whether the verb's wish is fulfilled by the payment's state.
pub(crate) fn is_settled(payment: &Payment, verb: Verb) -> bool {
    match verb {
        Verb::Capture => payment.state == State::Captured,
        Verb::Void => matches!(payment.state, State::Voided | State::Declined),
        Verb::Refund => payment.state == State::Refunded,
    }
}

/// The buyer pressed a button on the gateway's page. Nothing changes when the payment waits for her no longer.
pub(crate) fn answer_page(
    gateway: &Gateway,
    key: String,
    approved: bool,
    before: Option<Payment>,
) -> Payment {
    let waiting = before.as_ref().is_some_and(|it| it.state == State::AwaitingBuyer);
    let mut payment = settle(gateway, key, Verb::Refund, None, before);
    if waiting {
        payment.state = if approved {
            State::Authorized
        } else {
            State::Declined
        };
        payment.reference = approved.then(|| reference(gateway));
        payment.reason = (!approved).then(|| "declined_by_buyer".to_owned());
        payment.updated_at = gateway.config.clock.now();
    }
    payment
}

fn reference(gateway: &Gateway) -> String {
    let mut bytes = [0; 9];
    gateway.config.entropy.fill(&mut bytes);
    format!("auth_{}", base64url(&bytes))
}

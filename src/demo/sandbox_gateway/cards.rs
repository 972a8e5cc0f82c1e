//! What each test card does to a payment: pure rules from the stored payment to its next version.

use serde::Deserialize;

use super::{
    config::SandboxConfig,
    store::{Payment, PaymentState},
};
use crate::{kernel::Money, platform::signing::base64url};

/// How many errors `tok_error` answers before it declines.
const ERRORS_MAX: u32 = 3;

/// The body of `POST /v1/payments`.
#[derive(Deserialize)]
pub(super) struct PaymentRequest {
    pub(super) key: String,
    pub(super) amount: Money,
    pub(super) token: String,
    #[serde(default)]
    pub(super) description: String,
    pub(super) return_url: String,
}

/// An operation on an existing payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Capture,
    Void,
    Refund,
}

/// The first request for a key decides; later requests find its outcome.
pub(super) fn pay(config: &SandboxConfig, request: PaymentRequest, before: Option<Payment>) -> Payment {
    if let Some(known) = before.clone().filter(|it| it.state != PaymentState::Failing) {
        return known;
    }
    let now = config.clock.now();
    let errors = before.map_or(0, |it| it.errors) + u32::from(request.token == "tok_error");
    let (state, reason) = match request.token.as_str() {
        "tok_ok" | "tok_slow" | "tok_timeout_after_success" | "tok_capture_fails" | "tok_webhook_storm" => {
            (PaymentState::Authorized, None)
        }
        "tok_redirect" => (PaymentState::AwaitingBuyer, None),
        "tok_error" if errors <= ERRORS_MAX => (PaymentState::Failing, None),
        "tok_error" => (PaymentState::Declined, Some("processing_error")),
        "tok_declined" => (PaymentState::Declined, Some("card_declined")),
        _ => (PaymentState::Declined, Some("unknown_card")),
    };
    let known_card = reason != Some("unknown_card");
    Payment {
        state,
        amount: Some(request.amount),
        // An unknown token may be a real card number typed into the wrong field: it is not stored.
        card: if known_card {
            request.token
        } else {
            "unknown".into()
        },
        reference: (state == PaymentState::Authorized).then(|| reference(config)),
        reason: reason.map(str::to_owned),
        redirect_url: (state == PaymentState::AwaitingBuyer).then(|| {
            format!(
                "{}/v1/payments/{}/page",
                config.public_url.trim_end_matches('/'),
                request.key
            )
        }),
        return_url: request.return_url,
        description: request.description,
        errors,
        created_at: now,
        updated_at: now,
        key: request.key,
    }
}

/// Captures, voids or refunds. An operation that does not fit the state leaves the payment unchanged.
pub(super) fn settle(
    config: &SandboxConfig,
    key: String,
    operation: Operation,
    amount: Option<Money>,
    before: Option<Payment>,
) -> Payment {
    let now = config.clock.now();
    let mut payment = before.unwrap_or_else(|| Payment {
        key,
        state: PaymentState::Failing,
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
    let next = match (operation, payment.state) {
        (Operation::Capture, PaymentState::Authorized)
            if same_amount && payment.card != "tok_capture_fails" =>
        {
            PaymentState::Captured
        }
        (Operation::Void, PaymentState::Authorized | PaymentState::AwaitingBuyer | PaymentState::Failing) => {
            PaymentState::Voided
        }
        (Operation::Refund, PaymentState::Captured) if same_amount => PaymentState::Refunded,
        (_, unchanged) => unchanged,
    };
    if next != payment.state {
        payment.state = next;
        payment.updated_at = now;
    }
    payment
}

/// Whether the payment is in the state that the operation leads to.
pub(super) fn is_settled(payment: &Payment, operation: Operation) -> bool {
    match operation {
        Operation::Capture => payment.state == PaymentState::Captured,
        Operation::Void => matches!(payment.state, PaymentState::Voided | PaymentState::Declined),
        Operation::Refund => payment.state == PaymentState::Refunded,
    }
}

/// The buyer pressed a button on the gateway's page. Nothing changes unless the payment awaits the buyer.
pub(super) fn decide_on_page(
    config: &SandboxConfig,
    key: String,
    approved: bool,
    before: Option<Payment>,
) -> Payment {
    let waiting = before
        .as_ref()
        .is_some_and(|it| it.state == PaymentState::AwaitingBuyer);
    let mut payment = settle(config, key, Operation::Refund, None, before);
    if waiting {
        payment.state = if approved {
            PaymentState::Authorized
        } else {
            PaymentState::Declined
        };
        payment.reference = approved.then(|| reference(config));
        payment.reason = (!approved).then(|| "declined_by_buyer".to_owned());
        payment.updated_at = config.clock.now();
    }
    payment
}

fn reference(config: &SandboxConfig) -> String {
    let mut bytes = [0; 9];
    config.entropy.fill(&mut bytes);
    format!("auth_{}", base64url(&bytes))
}

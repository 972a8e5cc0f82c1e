//! The payment port: what checkout asks of any payment gateway.
//!
//! Every call names its payment by a key that checkout chooses, and is idempotent by that key. A missing
//! answer is [`Unknown`](SettleOutcome::Unknown), a third outcome beside success and refusal: checkout looks
//! the payment up by its key and never assumes an outcome.

use std::fmt;

use async_trait::async_trait;

use crate::kernel::{Money, Timestamp};

/// Token of the buyer's card, made by the gateway's own page. Lives as long as the attempt; never logged nor
/// stored.
#[derive(Clone)]
pub struct CardToken(String);

impl CardToken {
    /// Wraps a token.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self(token)
    }

    /// The token itself, for the gateway only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CardToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CardToken")
    }
}

/// A payment to authorize.
#[derive(Clone, Debug)]
pub struct Charge {
    /// Key of the payment.
    pub key: String,
    /// Amount to reserve.
    pub amount: Money,
    /// The card.
    pub token: CardToken,
    /// What the buyer reads on their statement.
    pub description: String,
    /// Where the gateway sends the buyer after a redirect.
    pub return_url: String,
}

/// Outcome of an authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorizeOutcome {
    /// The money is reserved.
    Authorized {
        /// The gateway's own id of the payment.
        reference: String,
    },
    /// Refused for good: no money will move under this key.
    Declined {
        /// The gateway's code of the reason.
        reason: String,
    },
    /// The buyer has to visit a page of the gateway first.
    Redirect {
        /// Address of the page.
        url: String,
    },
    /// No answer, or one that says nothing about the outcome.
    Unknown,
}

/// State of a payment at the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentState {
    /// The buyer has not yet finished on the gateway's page.
    AwaitingBuyer {
        /// Address of the page.
        url: String,
    },
    /// The money is reserved.
    Authorized {
        /// The gateway's own id of the payment.
        reference: String,
    },
    /// The money was taken.
    Captured,
    /// The payment was refused for good.
    Declined {
        /// The gateway's code of the reason.
        reason: String,
    },
    /// The reservation was canceled; no money can be taken.
    Voided,
    /// The money was taken and returned.
    Refunded,
}

/// Outcome of looking up a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupOutcome {
    /// The gateway has the payment, in this state.
    Found(PaymentState),
    /// The gateway does not have the payment.
    NotFound,
    /// No answer, or one that says nothing about the payment.
    Unknown,
}

/// Outcome of a capture, a void or a refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettleOutcome {
    /// Done, now or by an earlier call.
    Done,
    /// Refused for good in the payment's present state.
    Refused {
        /// The gateway's code of the reason.
        reason: String,
    },
    /// No answer, or one that says nothing about the outcome.
    Unknown,
}

/// A webhook with the gateway's signature. Only a hint: checkout reads the payment back by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// The gateway's id of this message, the same for each delivery.
    pub event: String,
    /// Key of the payment that it is about.
    pub key: String,
}

/// The webhook does not carry the gateway's signature, or is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the webhook is not signed by the gateway, or is too old")]
pub struct InvalidSignature;

/// A payment gateway.
#[async_trait]
pub trait PaymentGateway: Send + Sync + 'static {
    /// The gateway's name in webhook URLs, for instance `sandbox`.
    fn name(&self) -> &str;

    /// Reserves the money.
    async fn authorize(&self, charge: &Charge) -> AuthorizeOutcome;

    /// Looks up a payment.
    async fn lookup(&self, key: &str) -> LookupOutcome;

    /// Takes reserved money. `Done` also when an earlier call has taken it.
    async fn capture(&self, key: &str, amount: Money) -> SettleOutcome;

    /// Cancels a reservation. After `Done` no money can be taken under this key, not even by an authorization
    /// that is still on its way; so an unknown key can be voided too.
    async fn void(&self, key: &str) -> SettleOutcome;

    /// Returns captured money.
    async fn refund(&self, key: &str, amount: Money) -> SettleOutcome;

    /// Checks a webhook's signature over its raw body, and its age.
    ///
    /// # Errors
    /// [`InvalidSignature`]; the body must not be trusted then.
    fn verify_webhook(
        &self,
        headers: &[(String, String)],
        body: &[u8],
        now: Timestamp,
    ) -> Result<Webhook, InvalidSignature>;
}

//! The payment port: what checkout asks of any payment gateway.
//!
//! Every call names its payment by a key that checkout chose, and is idempotent by it: the same call twice is one
//! effect. An answer that did not come is [`Unknown`](Settled::Unknown), a third state beside yes and no: checkout asks
//! again by key and never assumes.

use std::fmt;

use async_trait::async_trait;

use crate::kernel::{Money, Timestamp};

/// The buyer's means of payment as the gateway's own page made it. Lives as long as the attempt; never logged nor stored.
#[derive(Clone)]
pub struct CardToken(String);

impl CardToken {
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

/// What is to be reserved.
#[derive(Clone, Debug)]
pub struct Charge {
    pub key: String,
    pub amount: Money,
    pub token: CardToken,
    /// What the buyer reads on her statement.
    pub description: String,
    /// Where the gateway sends her after a redirect.
    pub return_url: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorizeOutcome {
    /// The money is reserved.
    Authorized {
        reference: String,
    },
    /// Refused for good: no money will move under this key.
    Declined {
        reason: String,
    },
    /// The buyer must first visit this page of the gateway.
    Redirect {
        url: String,
    },
    Unknown,
}

/// A payment as the gateway has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentState {
    /// The buyer has not yet answered on the gateway's page.
    AwaitingBuyer {
        url: String,
    },
    Authorized {
        reference: String,
    },
    Captured,
    Declined {
        reason: String,
    },
    Voided,
    Refunded,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupOutcome {
    Found(PaymentState),
    NotFound,
    Unknown,
}

/// How a capture, a void or a refund went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettleOutcome {
    Done,
    /// Refused for good, in the payment's present state.
    Refused {
        reason: String,
    },
    Unknown,
}

/// A webhook that carried the gateway's signature. A hint only: checkout reads the payment back by its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// The gateway's id of this message, the same on each delivery.
    pub event: String,
    /// The payment it speaks of.
    pub key: String,
}

/// The webhook does not carry the gateway's signature, or is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the webhook is not signed by the gateway, or not now")]
pub struct InvalidSignature;

/// A payment gateway.
#[async_trait]
pub trait PaymentGateway: Send + Sync + 'static {
    /// Its name in webhook addresses, for instance `sandbox`.
    fn name(&self) -> &str;

    /// Reserves the money.
    async fn authorize(&self, charge: &Charge) -> AuthorizeOutcome;

    async fn lookup(&self, key: &str) -> LookupOutcome;

    /// Takes reserved money. `Done` also when it has been taken under this key before.
    async fn capture(&self, key: &str, amount: Money) -> SettleOutcome;

    /// Gives a reservation back. After `Done` no money can be taken under this key, not even by a request for it that
    /// is still on its way; so an unknown key can be voided too.
    async fn void(&self, key: &str) -> SettleOutcome;

    /// Pays captured money back.
    async fn refund(&self, key: &str, amount: Money) -> SettleOutcome;

    /// Checks a webhook's signature over its raw body, and its age.
    ///
    /// # Errors
    /// [`NotSigned`]; the body is then nobody's word.
    fn verify_webhook(
        &self,
        headers: &[(String, String)],
        body: &[u8],
        now: Timestamp,
    ) -> Result<Webhook, InvalidSignature>;
}

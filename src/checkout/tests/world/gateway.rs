//! A fake payment gateway.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::crash_point::CrashPoint;
use crate::{
    checkout::payment::{
        AuthorizeOutcome, Charge, InvalidSignature, LookupOutcome, PaymentGateway, PaymentState,
        SettleOutcome, Webhook,
    },
    kernel::{Money, Timestamp},
};

/// One payment in the gateway's statement.
#[derive(Clone, Debug)]
pub(crate) struct GatewayPayment {
    pub(crate) state: PaymentState,
    pub(crate) amount: Option<Money>,
    card: String,
    pub(crate) captures: u32,
    pub(crate) refunds: u32,
}

/// A fake gateway. The card decides how a payment goes.
#[derive(Default)]
pub(crate) struct FakeGateway {
    pub(crate) payments: Mutex<BTreeMap<String, GatewayPayment>>,
    authorize_calls: AtomicU64,
    is_silenced: AtomicBool,
}

impl FakeGateway {
    pub(crate) fn state(&self, key: &str) -> Option<PaymentState> {
        self.payments.lock().get(key).map(|payment| payment.state.clone())
    }

    pub(crate) fn set(&self, key: &str, state: PaymentState) {
        self.payments.lock().get_mut(key).unwrap().state = state;
    }

    pub(crate) fn authorize_calls(&self) -> u64 {
        self.authorize_calls.load(Ordering::SeqCst)
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        self.is_silenced.store(silent, Ordering::SeqCst);
    }
}

pub(crate) struct CrashingGateway(pub(crate) Arc<FakeGateway>, pub(crate) Arc<CrashPoint>);

impl CrashingGateway {
    fn is_silent(&self) -> bool {
        self.0.is_silenced.load(Ordering::SeqCst)
    }

    async fn settle(
        &self,
        key: &str,
        change: impl FnOnce(&mut GatewayPayment) -> SettleOutcome + Send,
    ) -> SettleOutcome {
        let call = async {
            let mut payments = self.0.payments.lock();
            let unknown = || GatewayPayment {
                state: PaymentState::Voided,
                amount: None,
                card: String::new(),
                captures: 0,
                refunds: 0,
            };
            let settled = change(payments.entry(key.to_owned()).or_insert_with(unknown));
            if self.is_silent() {
                SettleOutcome::Unknown
            } else {
                settled
            }
        };
        self.1.guard(call).await
    }
}

fn refused() -> SettleOutcome {
    SettleOutcome::Refused {
        reason: "not_in_this_state".into(),
    }
}

#[async_trait]
impl PaymentGateway for CrashingGateway {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn authorize(&self, charge: &Charge) -> AuthorizeOutcome {
        let call = async {
            self.0.authorize_calls.fetch_add(1, Ordering::SeqCst);
            let card = charge.token.expose();
            let reference = || PaymentState::Authorized {
                reference: "ref".into(),
            };
            let state = match card {
                "tok_ok" | "tok_timeout_after_success" | "tok_capture_fails" => reference(),
                "tok_redirect" => PaymentState::AwaitingBuyer {
                    url: "https://bank/page".into(),
                },
                "tok_never_arrives" => return AuthorizeOutcome::Unknown,
                _ => PaymentState::Declined {
                    reason: "card_declined".into(),
                },
            };
            let fresh = GatewayPayment {
                state,
                amount: Some(charge.amount),
                card: card.into(),
                captures: 0,
                refunds: 0,
            };
            let mut payments = self.0.payments.lock();
            let payment = payments.entry(charge.key.clone()).or_insert(fresh).clone();
            if card == "tok_timeout_after_success" || self.is_silent() {
                return AuthorizeOutcome::Unknown;
            }
            match payment.state {
                PaymentState::Authorized { reference } => AuthorizeOutcome::Authorized { reference },
                PaymentState::AwaitingBuyer { url } => AuthorizeOutcome::Redirect { url },
                PaymentState::Declined { reason } => AuthorizeOutcome::Declined { reason },
                _ => AuthorizeOutcome::Unknown,
            }
        };
        self.1.guard(call).await
    }

    async fn lookup(&self, key: &str) -> LookupOutcome {
        let call = async {
            if self.is_silent() {
                return LookupOutcome::Unknown;
            }
            self.0
                .state(key)
                .map_or(LookupOutcome::NotFound, LookupOutcome::Found)
        };
        self.1.guard(call).await
    }

    async fn capture(&self, key: &str, amount: Money) -> SettleOutcome {
        let change = |payment: &mut GatewayPayment| match &payment.state {
            PaymentState::Captured => SettleOutcome::Done,
            PaymentState::Authorized { .. }
                if payment.card != "tok_capture_fails" && payment.amount == Some(amount) =>
            {
                payment.state = PaymentState::Captured;
                payment.captures += 1;
                SettleOutcome::Done
            }
            _ => refused(),
        };
        self.settle(key, change).await
    }

    async fn void(&self, key: &str) -> SettleOutcome {
        let change = |payment: &mut GatewayPayment| match &payment.state {
            PaymentState::Voided | PaymentState::Declined { .. } => SettleOutcome::Done,
            PaymentState::Authorized { .. } | PaymentState::AwaitingBuyer { .. } => {
                payment.state = PaymentState::Voided;
                SettleOutcome::Done
            }
            _ => refused(),
        };
        self.settle(key, change).await
    }

    async fn refund(&self, key: &str, amount: Money) -> SettleOutcome {
        let change = |payment: &mut GatewayPayment| match &payment.state {
            PaymentState::Refunded => SettleOutcome::Done,
            PaymentState::Captured if payment.amount == Some(amount) => {
                payment.state = PaymentState::Refunded;
                payment.refunds += 1;
                SettleOutcome::Done
            }
            _ => refused(),
        };
        self.settle(key, change).await
    }

    fn verify_webhook(
        &self,
        headers: &[(String, String)],
        body: &[u8],
        _: Timestamp,
    ) -> Result<Webhook, InvalidSignature> {
        let event = headers
            .iter()
            .find(|(name, _)| name == "signed-by-fake")
            .ok_or(InvalidSignature)?
            .1
            .clone();
        Ok(Webhook {
            event,
            key: String::from_utf8(body.to_vec()).map_err(|_| InvalidSignature)?,
        })
    }
}

//! Client of the sandbox gateway (`stagedoor sandbox-gateway`) over HTTP.
//!
//! `POST {base}/v1/payments` authorizes, `GET {base}/v1/payments/{key}` looks up, `POST
//! .../{key}/capture|void|refund` settles. A missing or malformed answer and a server error say nothing about
//! what happened: the outcome is unknown.

use std::time::Duration;

use async_trait::async_trait;
use http::{Method, StatusCode, Uri};
use serde::Deserialize;

use crate::{
    checkout::{
        payment::{
            AuthorizeOutcome, Charge, InvalidSignature, LookupOutcome, PaymentGateway, PaymentState,
            SettleOutcome, Webhook,
        },
        webhooks::WebhookSecret,
    },
    kernel::{Money, Timestamp},
    platform::http_client::{CallError, HttpClient, Response},
};

const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// The payment port on the sandbox gateway.
#[derive(Clone, Debug)]
pub struct SandboxGateway {
    client: HttpClient,
    base: String,
    secret: WebhookSecret,
}

/// The configured base URL is not an absolute URL.
#[derive(Debug, thiserror::Error)]
#[error("not an absolute URL of a payment gateway: {0}")]
pub struct InvalidGatewayUrl(String);

#[derive(Deserialize)]
struct PaymentBody {
    state: String,
    reference: Option<String>,
    reason: Option<String>,
    redirect_url: Option<String>,
}

#[derive(Deserialize)]
struct WebhookBody {
    data: WebhookData,
}

#[derive(Deserialize)]
struct WebhookData {
    key: String,
}

impl SandboxGateway {
    /// A client of the gateway at `base`, with a timeout for each call.
    ///
    /// # Errors
    /// [`InvalidGatewayUrl`] if `base` (for instance `http://127.0.0.1:8090`) is not an absolute URL.
    pub fn new(base: &str, secret: WebhookSecret, timeout: Duration) -> Result<Self, InvalidGatewayUrl> {
        let base = base.trim_end_matches('/').to_owned();
        let absolute = base
            .parse::<Uri>()
            .is_ok_and(|uri| uri.authority().is_some() && uri.scheme().is_some());
        if !absolute {
            return Err(InvalidGatewayUrl(base));
        }
        Ok(Self {
            client: HttpClient::new(timeout, ANSWER_BYTES_MAX),
            base,
            secret,
        })
    }

    /// Keys are made by checkout (a UUID, a colon, digits) and need no escaping. `None` for anything else.
    fn uri(&self, path: &str) -> Option<Uri> {
        format!("{}/v1/payments{path}", self.base).parse().ok()
    }

    async fn settle(&self, key: &str, verb: &str, amount: Option<Money>) -> SettleOutcome {
        let Some(uri) = self.uri(&format!("/{key}/{verb}")) else {
            return SettleOutcome::Refused {
                reason: "not_a_key".into(),
            };
        };
        let body = serde_json::json!({ "amount": amount });
        let answer = self.client.post_json(uri, &[], &body).await;
        match answer {
            Ok(answer) if answer.status == StatusCode::OK => SettleOutcome::Done,
            Ok(answer)
                if matches!(
                    answer.status,
                    StatusCode::CONFLICT | StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY
                ) =>
            {
                let reason = answer.json::<PaymentBody>().ok().and_then(|body| body.reason);
                SettleOutcome::Refused {
                    reason: reason.unwrap_or_else(|| answer.status.as_str().to_owned()),
                }
            }
            Ok(_) | Err(_) => SettleOutcome::Unknown,
        }
    }
}

fn state_of(answer: &Response) -> Option<PaymentState> {
    let body: PaymentBody = answer.json().ok()?;
    Some(match body.state.as_str() {
        "awaiting_buyer" => PaymentState::AwaitingBuyer {
            url: body.redirect_url?,
        },
        "authorized" => PaymentState::Authorized {
            reference: body.reference?,
        },
        "captured" => PaymentState::Captured,
        "declined" => PaymentState::Declined {
            reason: body.reason.unwrap_or_default(),
        },
        "voided" => PaymentState::Voided,
        "refunded" => PaymentState::Refunded,
        _ => return None,
    })
}

#[async_trait]
impl PaymentGateway for SandboxGateway {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    async fn authorize(&self, charge: &Charge) -> AuthorizeOutcome {
        let body = serde_json::json!({
            "key": charge.key,
            "amount": charge.amount,
            "token": charge.token.expose(),
            "description": charge.description,
            "return_url": charge.return_url,
        });
        let Some(uri) = self.uri("") else {
            return AuthorizeOutcome::Declined {
                reason: "not_understood".into(),
            };
        };
        let answer = match self.client.post_json(uri, &[], &body).await {
            Ok(answer) if answer.status.is_success() || answer.status == StatusCode::PAYMENT_REQUIRED => {
                answer
            }
            Ok(answer) if answer.status == StatusCode::UNPROCESSABLE_ENTITY => {
                return AuthorizeOutcome::Declined {
                    reason: "not_understood".into(),
                };
            }
            Ok(_) | Err(CallError::NotSent | CallError::Timeout(_) | CallError::ConnectionLost) => {
                return AuthorizeOutcome::Unknown;
            }
        };
        match state_of(&answer) {
            Some(PaymentState::Authorized { reference }) => AuthorizeOutcome::Authorized { reference },
            Some(PaymentState::Declined { reason }) => AuthorizeOutcome::Declined { reason },
            Some(PaymentState::AwaitingBuyer { url }) => AuthorizeOutcome::Redirect { url },
            // Captured, voided or refunded already: the saga looks the payment up before it concludes
            // anything.
            _ => AuthorizeOutcome::Unknown,
        }
    }

    async fn lookup(&self, key: &str) -> LookupOutcome {
        let Some(uri) = self.uri(&format!("/{key}")) else {
            return LookupOutcome::NotFound;
        };
        match self.client.send(Method::GET, uri, &[], bytes::Bytes::new()).await {
            Ok(answer) if answer.status == StatusCode::OK => {
                state_of(&answer).map_or(LookupOutcome::Unknown, LookupOutcome::Found)
            }
            Ok(answer) if answer.status == StatusCode::NOT_FOUND => LookupOutcome::NotFound,
            Ok(_) | Err(_) => LookupOutcome::Unknown,
        }
    }

    async fn capture(&self, key: &str, amount: Money) -> SettleOutcome {
        self.settle(key, "capture", Some(amount)).await
    }

    async fn void(&self, key: &str) -> SettleOutcome {
        self.settle(key, "void", None).await
    }

    async fn refund(&self, key: &str, amount: Money) -> SettleOutcome {
        self.settle(key, "refund", Some(amount)).await
    }

    fn verify_webhook(
        &self,
        headers: &[(String, String)],
        body: &[u8],
        now: Timestamp,
    ) -> Result<Webhook, InvalidSignature> {
        let event = self.secret.verify(headers, body, now).ok_or(InvalidSignature)?;
        let body: WebhookBody = serde_json::from_slice(body).map_err(|_| InvalidSignature)?;
        Ok(Webhook {
            event,
            key: body.data.key,
        })
    }
}

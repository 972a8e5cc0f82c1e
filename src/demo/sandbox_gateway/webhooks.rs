//! Webhooks: each change of state, signed, at least once, tried again until it is taken or too old.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri, header::CONTENT_TYPE};

use crate::demo::sandbox_gateway::{
    Gateway, Payment,
    book::{BookError, Message},
};
use crate::{
    checkout::webhooks::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, WebhookSecret},
    platform::{http_client::HttpClient, signing::base64url},
};

/// Where webhooks go.
#[derive(Clone, Debug)]
pub struct WebhookTarget {
    pub url: Uri,
    pub secret: WebhookSecret,
}

const DEADLINE: Duration = Duration::from_secs(5);
const ATTEMPTS_MAX: u32 = 16;
const RETRY_BASE: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_mins(1);
const BATCH: u32 = 64;
/// How far a storm's copies are strewn.
const STORM_MS: u64 = 600;

/// The message that tells of a payment's new state; under `tok_webhook_storm` several copies, late and out of order.
pub(crate) fn message(gateway: &Gateway, payment: &Payment) -> Message {
    let storm = payment.card == "tok_webhook_storm";
    let mut id = [0; 16];
    gateway.config.entropy.fill(&mut id);
    let now = gateway.config.clock.now();
    let body = serde_json::json!({
        "type": "payment.changed",
        "timestamp": now,
        "data": { "key": payment.key, "state": payment.state },
    });
    let delay_ms = if storm {
        gateway.config.entropy.below(STORM_MS)
    } else {
        0
    };
    Message {
        id: format!("msg_{}", base64url(&id)),
        body: body.to_string(),
        copies: if storm { 3 } else { 1 },
        attempts: 0,
        due_at: now.plus(Duration::from_millis(delay_ms)),
    }
}

pub(crate) async fn send(gateway: Arc<Gateway>) {
    let Some(target) = gateway.config.webhook.clone() else {
        return;
    };
    let client = HttpClient::new(DEADLINE, 4_096);
    loop {
        match gateway.book.messages_due(gateway.config.clock.now(), BATCH).await {
            Ok(due) if !due.is_empty() => {
                let sends = due.iter().map(|it| send_one(&gateway, &client, &target, it));
                for sent in futures_util::future::join_all(sends).await {
                    if let Err(error) = sent {
                        tracing::warn!(%error, "a webhook's fate could not be written down; it is sent again");
                    }
                }
                if gateway.life.is_stopping() {
                    return;
                }
                continue;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the webhooks cannot be read"),
        }
        tokio::select! {
            () = gateway.life.stopping() => return,
            () = gateway.ring.notified() => {}
            () = tokio::time::sleep(RETRY_BASE) => {}
        }
    }
}

async fn send_one(
    gateway: &Gateway,
    client: &HttpClient,
    target: &WebhookTarget,
    message: &Message,
) -> Result<(), BookError> {
    let now = gateway.config.clock.now();
    let signature = target.secret.sign(&message.id, now, message.body.as_bytes());
    let header = |name: &'static str, value: &str| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_str(value).expect("ids, times and base64 are header values"),
        )
    };
    let headers = [
        header(ID, &message.id),
        header(TIMESTAMP, &now.as_secs().to_string()),
        header(SIGNATURE, &signature),
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
    ];
    let answer = client
        .send(
            Method::POST,
            target.url.clone(),
            &headers,
            Bytes::from(message.body.clone()),
        )
        .await;
    let taken = answer.is_ok_and(|it| it.status.is_success());
    let given_up = message.attempts + 1 >= ATTEMPTS_MAX;
    let copies_left = if given_up {
        0
    } else {
        message.copies - u32::from(taken)
    };
    let pause = if taken {
        Duration::from_millis(gateway.config.entropy.below(STORM_MS))
    } else {
        RETRY_BASE
            .saturating_mul(1 << message.attempts.min(16))
            .min(RETRY_MAX)
            .mul_f64(gateway.config.entropy.unit())
    };
    gateway.book.sent(message, copies_left, now.plus(pause)).await
}

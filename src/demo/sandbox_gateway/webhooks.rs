//! Sends a signed webhook for each change of state, at least once, with retries until it is accepted or given
//! up.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header::CONTENT_TYPE};

use super::{
    config::{SandboxConfig, WebhookTarget},
    gateway::Gateway,
    store::{Message, Payment, StoreError},
};
use crate::{
    checkout::webhooks::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER},
    platform::{http_client::HttpClient, signing::base64url},
};

const TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS_MAX: u32 = 16;
const RETRY_BASE: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_mins(1);
const BATCH: u32 = 64;
/// The maximal delay of each copy in a webhook storm.
const STORM_MS: u64 = 600;

/// The message that announces a payment's new state. `tok_webhook_storm` sends several copies, late and out
/// of order.
pub(super) fn message(config: &SandboxConfig, payment: &Payment) -> Message {
    let storm = payment.card == "tok_webhook_storm";
    let mut id = [0; 16];
    config.entropy.fill(&mut id);
    let now = config.clock.now();
    let body = serde_json::json!({
        "type": "payment.changed",
        "timestamp": now,
        "data": { "key": payment.key, "state": payment.state },
    });
    let delay_ms = if storm { config.entropy.below(STORM_MS) } else { 0 };
    Message {
        id: format!("msg_{}", base64url(&id)),
        body: body.to_string(),
        copies: if storm { 3 } else { 1 },
        attempts: 0,
        due_at: now.plus(Duration::from_millis(delay_ms)),
    }
}

/// Sends due webhooks until the process stops.
pub(super) async fn send(gateway: Arc<Gateway>) {
    let Some(target) = gateway.config.webhook.clone() else {
        return;
    };
    let client = HttpClient::new(TIMEOUT, 4_096);
    loop {
        match gateway
            .store
            .messages_due(gateway.config.clock.now(), BATCH)
            .await
        {
            Ok(due) if !due.is_empty() => {
                let sends = due
                    .iter()
                    .map(|message| send_one(&gateway, &client, &target, message));
                let mut all_stored = true;
                for sent in futures_util::future::join_all(sends).await {
                    if let Err(error) = sent {
                        all_stored = false;
                        tracing::warn!(%error, "the outcome of a webhook could not be stored; it is sent \
                        again");
                    }
                }
                if gateway.life.is_stopping() {
                    return;
                }
                // What could not be stored is still due: without a pause it would be sent again at once.
                if all_stored {
                    continue;
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the webhooks that are due to be sent cannot be read; retrying");
            }
        }
        tokio::select! {
            () = gateway.life.stopping() => return,
            () = gateway.webhooks_due.notified() => {}
            () = tokio::time::sleep(RETRY_BASE) => {}
        }
    }
}

async fn send_one(
    gateway: &Gateway,
    client: &HttpClient,
    target: &WebhookTarget,
    message: &Message,
) -> Result<(), StoreError> {
    let now = gateway.config.clock.now();
    let signature = target.secret.sign(&message.id, now, message.body.as_bytes());
    let header = |name: &'static str, value: &str| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_str(value).expect("ids, times and base64 are header values"),
        )
    };
    let headers = [
        header(ID_HEADER, &message.id),
        header(TIMESTAMP_HEADER, &now.as_secs().to_string()),
        header(SIGNATURE_HEADER, &signature),
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
    let is_accepted = answer.is_ok_and(|response| response.status.is_success());
    let given_up = message.attempts + 1 >= ATTEMPTS_MAX;
    let copies_left = if given_up {
        0
    } else {
        message.copies - u32::from(is_accepted)
    };
    let pause = if is_accepted {
        Duration::from_millis(gateway.config.entropy.below(STORM_MS))
    } else {
        RETRY_BASE
            .saturating_mul(1 << message.attempts.min(16))
            .min(RETRY_MAX)
            .mul_f64(gateway.config.entropy.unit())
    };
    gateway.store.sent(message, copies_left, now.plus(pause)).await
}

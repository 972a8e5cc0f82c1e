//! The shop's receiver: CloudEvents as structured JSON over HTTP, signed as Standard Webhooks.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Uri, header};

use crate::{
    checkout::outbox::event::CloudEvent,
    checkout::webhooks::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, WebhookSecret},
    kernel::Clock,
    platform::http_client::{HttpClient, TrustStore},
};

/// Content type of a CloudEvent in structured mode.
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/cloudevents+json");
/// What is read of an answer, so that its connection can be used again.
const ANSWER_BYTES_MAX: usize = 4 * 1024;
/// Bounds of a secret's length, as in the Standard Webhooks specification.
const SECRET_BYTES_MIN: usize = 24;
const SECRET_BYTES_MAX: usize = 64;

/// What became of an attempt to deliver an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The receiver answered 2xx.
    Accepted,
    /// It did not; the text says what happened instead.
    Failed(String),
}

/// Receiver of events. Delivery is at least once: receivers deduplicate by the event's id.
#[async_trait]
pub trait EventReceiver: Send + Sync + 'static {
    /// Sends one event. Returns within the receiver's time limit.
    async fn deliver(&self, id: &str, body: Bytes) -> DeliveryOutcome;
}

/// The shop's URL, called with `POST`.
pub struct WebhookReceiver {
    client: HttpClient,
    url: Uri,
    secret: WebhookSecret,
    clock: Arc<dyn Clock>,
}

/// A receiver that cannot be called. The text never contains the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReceiver {
    /// Neither https, nor http on this machine.
    #[error("must be https://..., or http://... on this machine, without user, password and fragment")]
    Url,
    /// Not a secret of Standard Webhooks.
    #[error(
        "must be whsec_ and the base64 of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} random bytes; \
         `echo whsec_$(openssl rand -base64 32)` makes a good one"
    )]
    Secret,
}

impl WebhookReceiver {
    /// A receiver at `url`. `timeout` limits each attempt.
    ///
    /// # Errors
    /// [`InvalidReceiver`].
    pub fn new(
        url: &str,
        secret: &str,
        timeout: Duration,
        trust_store: &TrustStore,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidReceiver> {
        Ok(Self {
            client: HttpClient::with_trust_store(timeout, ANSWER_BYTES_MAX, trust_store),
            url: receiver_url(url)?,
            secret: webhook_secret(secret)?,
            clock,
        })
    }

    /// Sends one event about nothing.
    ///
    /// # Errors
    /// Why the receiver did not accept it.
    pub async fn send_test(&self, public_base: &str) -> Result<(), String> {
        let event = CloudEvent::test(public_base, self.clock.now());
        let body = serde_json::to_vec(&event).expect("our own events are JSON");
        match self.deliver(&event.id, body.into()).await {
            DeliveryOutcome::Accepted => Ok(()),
            DeliveryOutcome::Failed(why) => Err(why),
        }
    }
}

/// The URL of a receiver.
///
/// # Errors
/// [`InvalidReceiver::Url`]
pub fn receiver_url(text: &str) -> Result<Uri, InvalidReceiver> {
    let url: Uri = text.parse().map_err(|_| InvalidReceiver::Url)?;
    let host = url.host().unwrap_or_default();
    let is_local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let is_allowed = match url.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => is_local,
        _ => false,
    };
    let has_user = url
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'));
    if is_allowed && !has_user && !text.contains('#') {
        Ok(url)
    } else {
        Err(InvalidReceiver::Url)
    }
}

/// The secret of a receiver.
///
/// # Errors
/// [`InvalidReceiver::Secret`]
pub fn webhook_secret(text: &str) -> Result<WebhookSecret, InvalidReceiver> {
    let bytes = text
        .strip_prefix("whsec_")
        .and_then(|encoded| STANDARD.decode(encoded).ok())
        .filter(|bytes| (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len()))
        .ok_or(InvalidReceiver::Secret)?;
    Ok(WebhookSecret::new(&bytes))
}

#[async_trait]
impl EventReceiver for WebhookReceiver {
    async fn deliver(&self, id: &str, body: Bytes) -> DeliveryOutcome {
        // The time of this attempt: receivers refuse old messages.
        let now = self.clock.now();
        let signature = self.secret.sign(id, now, &body);
        let text = |value: &str| HeaderValue::from_str(value).expect("ids, digits and base64 are ASCII");
        let headers = [
            (header::CONTENT_TYPE, CONTENT_TYPE),
            (HeaderName::from_static(ID_HEADER), text(id)),
            (
                HeaderName::from_static(TIMESTAMP_HEADER),
                text(&now.as_secs().to_string()),
            ),
            (HeaderName::from_static(SIGNATURE_HEADER), text(&signature)),
        ];
        match self
            .client
            .post_for_status(self.url.clone(), &headers, body)
            .await
        {
            Ok(status) if status.is_success() => DeliveryOutcome::Accepted,
            Ok(status) if status.is_redirection() => DeliveryOutcome::Failed(format!(
                "answered {}; redirects are not followed",
                status.as_u16()
            )),
            Ok(status) => DeliveryOutcome::Failed(format!("answered {}", status.as_u16())),
            Err(error) => DeliveryOutcome::Failed(error.to_string()),
        }
    }
}

/// Without the URL, whose query may hold a secret.
impl fmt::Debug for WebhookReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookReceiver")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_is_https_or_on_this_machine() {
        for url in [
            "https://shop.example/hooks",
            "https://shop.example:8443/hooks?shop=2",
            "http://localhost:8000/",
            "http://127.0.0.1:1/x",
            "http://[::1]:1/x",
        ] {
            assert!(receiver_url(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "shop.example",
            "/hooks",
            "http://shop.example/hooks",
            "http://127.0.0.1.shop.example/",
            "https://user:password@shop.example/",
            "https://shop.example/#x",
            "ftp://shop.example/",
        ] {
            assert_eq!(receiver_url(url), Err(InvalidReceiver::Url), "{url}");
        }
    }

    #[test]
    fn a_secret_has_the_form_of_the_specification() {
        let encoded = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        assert!(webhook_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_ok());
        for (secret, is_valid) in [
            (encoded(24), true),
            (encoded(64), true),
            (encoded(23), false),
            (encoded(65), false),
            (STANDARD.encode([7; 32]), false),
            ("whsec_not base64, but long enough to be one".to_owned(), false),
        ] {
            let error = webhook_secret(&secret).err();
            assert_eq!(error.is_none(), is_valid, "{secret}");
            assert!(error.is_none_or(|error| !error.to_string().contains(&secret)));
        }
    }
}

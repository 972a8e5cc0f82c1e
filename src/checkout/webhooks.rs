//! Signatures of webhooks, as in the Standard Webhooks specification: HMAC-SHA-256 over id, time and raw
//! body.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::kernel::Timestamp;

/// Header with the id of the message.
pub const ID_HEADER: &str = "webhook-id";
/// Header with the time of sending, in seconds since the Unix epoch.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// Header with one or more signatures, separated by spaces.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// A message that is older than this, or further in the future, may be a replay.
const AGE_MAX: Duration = Duration::from_mins(5);

/// The secret that sender and receiver share.
#[derive(Clone)]
pub struct WebhookSecret(hmac::Key);

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookSecret")
    }
}

impl WebhookSecret {
    /// Wraps the bytes of a secret.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The value of [`SIGNATURE_HEADER`] for a message.
    #[must_use]
    pub fn sign(&self, id: &str, at: Timestamp, body: &[u8]) -> String {
        format!(
            "v1,{}",
            STANDARD.encode(hmac::sign(&self.0, &signed(id, &at.as_secs().to_string(), body)))
        )
    }

    /// The message's id, if one of its signatures is valid and its time is close to `now`.
    #[must_use]
    pub fn verify(&self, headers: &[(String, String)], body: &[u8], now: Timestamp) -> Option<String> {
        let header = |name: &str| {
            headers
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.as_str())
        };
        let (id, timestamp) = (header(ID_HEADER)?, header(TIMESTAMP_HEADER)?);
        let at = Timestamp::from_secs(timestamp.parse().ok()?);
        if now.since(at).max(at.since(now)) > AGE_MAX {
            return None;
        }
        let message = signed(id, timestamp, body);
        let is_valid = |signature: &str| {
            let tag = signature
                .strip_prefix("v1,")
                .and_then(|tag| STANDARD.decode(tag).ok());
            tag.is_some_and(|tag| hmac::verify(&self.0, &message, &tag).is_ok())
        };
        header(SIGNATURE_HEADER)?
            .split(' ')
            .take(8)
            .any(is_valid)
            .then(|| id.to_owned())
    }
}

fn signed(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(id.len() + timestamp.len() + body.len() + 2);
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b"."] {
        message.extend_from_slice(part);
    }
    message.extend_from_slice(body);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(id: &str, at: Timestamp, signature: String) -> Vec<(String, String)> {
        vec![
            ("Webhook-Id".into(), id.into()),
            (TIMESTAMP_HEADER.into(), at.as_secs().to_string()),
            (SIGNATURE_HEADER.into(), signature),
        ]
    }

    #[test]
    fn a_signature_binds_secret_id_body_and_time() {
        let (secret, now) = (WebhookSecret::new(b"shared"), Timestamp::from_secs(1_795_464_000));
        let sent = headers("msg_1", now, secret.sign("msg_1", now, b"{}"));
        assert_eq!(secret.verify(&sent, b"{}", now), Some("msg_1".into()));
        assert_eq!(secret.verify(&sent, b"{} ", now), None, "another body");
        assert_eq!(
            WebhookSecret::new(b"other").verify(&sent, b"{}", now),
            None,
            "another secret"
        );
        assert_eq!(
            secret.verify(&sent, b"{}", now.plus(Duration::from_secs(301))),
            None,
            "too old"
        );
        assert_eq!(
            secret.verify(&sent, b"{}", now.minus(Duration::from_secs(301))),
            None,
            "from the future"
        );
        let renamed = headers("msg_2", now, secret.sign("msg_1", now, b"{}"));
        assert_eq!(secret.verify(&renamed, b"{}", now), None, "another id");
        let rotated = headers(
            "msg_1",
            now,
            format!("v1,AAAA {}", secret.sign("msg_1", now, b"{}")),
        );
        assert_eq!(
            secret.verify(&rotated, b"{}", now),
            Some("msg_1".into()),
            "one of several signatures"
        );
    }

    /// The example in the specification's documentation.
    #[test]
    fn signatures_match_the_specification() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let at = Timestamp::from_secs(1_614_265_330);
        let signature =
            WebhookSecret::new(&key).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, b"{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}

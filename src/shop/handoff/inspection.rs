//! What is known of hand-offs before the first customer comes: for preflight.

use std::sync::Arc;

use crate::{
    kernel::{Clock, Entropy},
    platform::{jwks::algorithms_of_key_set, shutdown::Lifecycle},
    shop::handoff::{
        config::{HandoffConfig, HandoffKeys},
        issuer::HandoffIssuer,
        verifier::{HandoffVerifier, Refusal},
    },
};

/// Fetches the shop's key set, or makes a token with the shared secret and verifies it; says what was found.
///
/// # Errors
/// Why no hand-off would be accepted.
pub async fn inspect_handoff_keys(
    config: &HandoffConfig,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
) -> Result<String, String> {
    let secret = match &config.keys {
        HandoffKeys::KeySet(url) => {
            let algorithms = algorithms_of_key_set(url, Arc::clone(clock)).await?;
            return Ok(format!(
                "the shop's key set has {} usable keys ({})",
                algorithms.len(),
                algorithms.join(", ")
            ));
        }
        HandoffKeys::Secret(secret) => secret.clone(),
    };
    let issuer = HandoffIssuer {
        issuer: config.issuer.clone(),
        audience: config.audience.clone(),
        secret,
    };
    let token = issuer.sign(clock.now(), &**entropy, "preflight", "");
    // A secret needs no background work.
    let verifier = HandoffVerifier::start(config, clock, entropy, &Lifecycle::new());
    match verifier.verify(&token).await {
        Ok(_) => Ok("a token under shop.handoff.secret with the configured claims is accepted".to_owned()),
        Err(Refusal::Invalid(error)) => Err(error.to_string()),
        Err(Refusal::NoKeys) => Err("there is no key".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use testkit::HttpServer;

    use super::*;
    use crate::kernel::{OsEntropy, SystemClock};

    async fn inspect(keys: HandoffKeys) -> Result<String, String> {
        let config = HandoffConfig {
            issuer: "https://shop.example".to_owned(),
            audience: "stagedoor".to_owned(),
            keys,
        };
        let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) =
            (Arc::new(SystemClock::new()), Arc::new(OsEntropy));
        inspect_handoff_keys(&config, &clock, &entropy).await
    }

    #[tokio::test]
    async fn a_token_under_the_secret_passes() {
        let found = inspect(HandoffKeys::Secret("s".repeat(32))).await;
        assert!(
            found.as_ref().is_ok_and(|text| text.contains("accepted")),
            "{found:?}"
        );
    }

    #[tokio::test]
    async fn the_key_set_is_fetched_and_its_algorithms_are_named() {
        let key = r#"{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let server = HttpServer::start("200 OK", &format!(r#"{{"keys": [{key}]}}"#))
            .await
            .unwrap();
        let found = || inspect(HandoffKeys::KeySet(format!("{}/jwks.json", server.url())));
        let text = found().await.unwrap();
        assert!(text.contains("1 usable") && text.contains("EdDSA"), "{text}");
        server.answer("200 OK", r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}"#);
        assert!(
            found()
                .await
                .unwrap_err()
                .contains("no RSA, P-256 or Ed25519 key")
        );
        server.answer("404 Not Found", "");
        assert!(found().await.unwrap_err().contains("404"));
        server.answer("302 Found\r\nLocation: /elsewhere", "");
        assert!(found().await.unwrap_err().contains("302"));
    }
}

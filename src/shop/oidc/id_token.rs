//! Verifies an ID token (OpenID Connect Core 1.0, section 3.1.3.7).

use serde_json::{Map, Value};

use super::config::OidcConfig;
use crate::{
    kernel::{Subject, Timestamp},
    platform::jwks::{JwksClient, KeyLookup},
};

const TOKEN_LEN_MAX: usize = 16_384;
const LEEWAY_S: i64 = 5;
const NAME_CHARS_MAX: usize = 150;

/// What an ID token says.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct IdToken {
    pub customer: Subject,
    /// May be empty.
    pub name: String,
}

/// The text says what is wrong, and holds nothing of the token.
pub(super) async fn verify_id_token(
    token: &str,
    config: &OidcConfig,
    nonce: &str,
    keys: &JwksClient,
    now: Timestamp,
) -> Result<IdToken, &'static str> {
    if token.len() > TOKEN_LEN_MAX {
        return Err("it has more than 16384 bytes");
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| "it is no JWT with a known algorithm")?;
    let key = match keys.find(header.kid.as_deref()).await {
        KeyLookup::Found(key) => key,
        KeyLookup::Unknown => return Err("the provider's key set has no such key"),
        KeyLookup::Unavailable => return Err("the provider's key set was not fetched yet"),
    };
    if header.alg != key.algorithm {
        return Err("its algorithm is not that of its key");
    }
    let claims = key.claims_of(token).map_err(|_| "its signature is not valid")?;
    read_claims(&claims, config, nonce, now)
}

fn read_claims(
    claims: &Map<String, Value>,
    config: &OidcConfig,
    nonce: &str,
    now: Timestamp,
) -> Result<IdToken, &'static str> {
    let text = |claim: &str| claims.get(claim).and_then(Value::as_str);
    if text("iss") != Some(&config.issuer) {
        return Err("iss is another issuer");
    }
    check_audience(claims, &config.client_id)?;
    if text("nonce") != Some(nonce) {
        return Err("nonce is not that of this sign-in");
    }
    let seconds = |claim| claims.get(claim).and_then(Value::as_f64);
    #[expect(clippy::cast_precision_loss, reason = "seconds of this century are exact")]
    let now_s = now.as_secs() as f64;
    #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
    let leeway_s = LEEWAY_S as f64;
    match (seconds("iat"), seconds("exp")) {
        (Some(issued), Some(expires)) if issued <= now_s + leeway_s && expires > now_s - leeway_s => {}
        (Some(_), Some(_)) => return Err("iat or exp do not fit the service's clock"),
        _ => return Err("iat and exp are required"),
    }
    let key = match claims.get(config.customer_claim.as_str()) {
        Some(Value::String(key)) => key.clone(),
        Some(Value::Number(key)) if !key.is_f64() => key.to_string(),
        _ => return Err("the claim with the customer's key is no text or whole number"),
    };
    Ok(IdToken {
        customer: Subject::customer(&key).map_err(|_| "the customer's key is empty or too long")?,
        name: text("name")
            .unwrap_or_default()
            .chars()
            .take(NAME_CHARS_MAX)
            .collect(),
    })
}

/// Where `azp` is there, it must name this service.
fn check_audience(claims: &Map<String, Value>, client_id: &str) -> Result<(), &'static str> {
    let is_own = match claims.get("aud") {
        Some(Value::String(one)) => one == client_id,
        Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(client_id)),
        _ => false,
    };
    let authorized = claims.get("azp").and_then(Value::as_str);
    if !is_own || authorized.is_some_and(|azp| azp != client_id) {
        return Err("aud or azp is another party");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop::oidc::ClientAuthentication;
    use serde_json::json;

    const NOW_S: i64 = 1_800_000_000;

    fn config() -> OidcConfig {
        OidcConfig {
            issuer: "https://shop.example".into(),
            client_id: "tickets".into(),
            client_secret: String::new(),
            client_authentication: ClientAuthentication::default(),
            customer_claim: "sub".into(),
            redirect_uri: "https://tickets.example/v1/sign-in/oidc".into(),
        }
    }

    fn read(change: impl FnOnce(&mut Map<String, Value>)) -> Result<IdToken, &'static str> {
        let claims = json!({
            "iss": "https://shop.example", "aud": "tickets", "sub": "4711", "name": "Kim & Lee",
            "nonce": "n", "iat": NOW_S, "exp": NOW_S + 300,
        });
        let Value::Object(mut claims) = claims else {
            unreachable!("it is an object")
        };
        change(&mut claims);
        read_claims(&claims, &config(), "n", Timestamp::from_secs(NOW_S))
    }

    #[test]
    fn a_token_for_this_sign_in_names_the_customer() {
        let token = read(|_| {}).ok().unwrap();
        assert_eq!(token.customer, Subject::customer("4711").unwrap());
        assert_eq!(token.name, "Kim & Lee");
        for (claim, value) in [
            ("aud", json!(["other", "tickets"])),
            ("azp", json!("tickets")),
            ("sub", json!(4711)),
            ("name", Value::Null),
            ("iat", json!(NOW_S + 4)),
        ] {
            assert!(
                read(|claims| drop(claims.insert(claim.into(), value.clone()))).is_ok(),
                "{claim}"
            );
        }
    }

    #[test]
    fn a_token_of_another_party_sign_in_or_time_is_refused() {
        for (claim, value) in [
            ("iss", json!("https://evil.example")),
            ("aud", json!("other")),
            ("aud", json!([])),
            ("azp", json!("other")),
            ("nonce", json!("of another sign-in")),
            ("nonce", Value::Null),
            ("exp", json!(NOW_S - 60)),
            ("exp", Value::Null),
            ("iat", json!(NOW_S + 60)),
            ("sub", json!("")),
            ("sub", json!(1.5)),
        ] {
            assert!(
                read(|claims| drop(claims.insert(claim.into(), value.clone()))).is_err(),
                "{claim} {value}"
            );
        }
    }
}

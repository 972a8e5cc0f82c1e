//! Signed hand-offs: the shop has signed its customer in and redirects them here with a JWT that works once.
//!
//! Header `{"alg": "HS256", "typ": "handoff+jwt"}`; claims `iss`, `aud`, `sub` (the shop's key of the
//! customer), `name` (may be missing), `iat`, `nbf`, `exp` (at most five minutes after `iat`), `jti`.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::{
    kernel::{Entropy, Timestamp},
    platform::signing::base64url,
    shop::types::HandoffConfig,
};

const TYPE: &str = "handoff+jwt";
const TTL_MAX_S: i64 = 300;
const LEEWAY_S: i64 = 5;
const TOKEN_LEN_MAX: usize = 4_096;
const JTI_LEN_MAX: usize = 128;
const NAME_CHARS_MAX: usize = 150;

#[derive(Clone, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    #[serde(default)]
    name: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: String,
}

/// A verified hand-off. It is accepted if its `jti` was not used before.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Handoff {
    pub customer_key: String,
    pub name: String,
    pub jti: String,
    /// From then on the token is refused as expired, so its use need not be remembered.
    pub forget_after: Timestamp,
}

/// Signs a hand-off as the shop would, valid for one minute. For the demo, load tests and tests.
#[must_use]
pub fn sign_handoff(
    config: &HandoffConfig,
    now: Timestamp,
    entropy: &dyn Entropy,
    customer_key: &str,
    name: &str,
) -> String {
    let mut jti = [0; 16];
    entropy.fill(&mut jti);
    let now_s = now.as_secs();
    let claims = Claims {
        iss: config.issuer.clone(),
        aud: config.audience.clone(),
        sub: customer_key.to_owned(),
        name: name.to_owned(),
        iat: now_s,
        nbf: now_s,
        exp: now_s + 60,
        jti: base64url(&jti),
    };
    encode(&claims, TYPE, config.secret.as_bytes())
}

/// Verifies a hand-off except for whether it was used before. `None` when it is not valid.
pub(super) fn verify_handoff(config: &HandoffConfig, now: Timestamp, token: &str) -> Option<Handoff> {
    if token.len() > TOKEN_LEN_MAX || jsonwebtoken::decode_header(token).ok()?.typ.as_deref() != Some(TYPE) {
        return None;
    }
    // The algorithm is fixed here and never taken from the token. Times are checked below, against our own
    // clock.
    let mut rules = Validation::new(Algorithm::HS256);
    rules.validate_exp = false;
    rules.validate_nbf = false;
    rules.set_required_spec_claims(&["iss", "aud", "sub", "exp", "nbf"]);
    rules.set_issuer(&[&config.issuer]);
    rules.set_audience(&[&config.audience]);
    let claims =
        jsonwebtoken::decode::<Claims>(token, &DecodingKey::from_secret(config.secret.as_bytes()), &rules)
            .ok()?
            .claims;
    let now_s = now.as_secs();
    let in_time = claims.iat <= now_s + LEEWAY_S
        && claims.nbf <= now_s + LEEWAY_S
        && claims.exp > now_s - LEEWAY_S
        && claims
            .exp
            .checked_sub(claims.iat)
            .is_some_and(|ttl| (1..=TTL_MAX_S).contains(&ttl));
    let is_identified = (1..=JTI_LEN_MAX).contains(&claims.jti.len()) && !claims.sub.is_empty();
    (in_time && is_identified).then(|| Handoff {
        customer_key: claims.sub,
        name: claims.name.chars().take(NAME_CHARS_MAX).collect(),
        jti: claims.jti,
        forget_after: Timestamp::from_secs(claims.exp).plus(Duration::from_secs(LEEWAY_S.unsigned_abs() + 1)),
    })
}

fn encode(claims: &Claims, typ: &str, secret: &[u8]) -> String {
    let mut header = Header::new(Algorithm::HS256);
    header.typ = Some(typ.to_owned());
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret))
        .expect("claims of text and numbers are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::SeededEntropy;

    const NOW_S: i64 = 1_800_000_000;

    fn config() -> HandoffConfig {
        HandoffConfig {
            issuer: "https://shop.example".into(),
            audience: "stagedoor".into(),
            secret: "s".repeat(32),
        }
    }

    fn claims() -> Claims {
        Claims {
            iss: config().issuer,
            aud: config().audience,
            sub: "42".into(),
            name: "임히어로".into(),
            iat: NOW_S,
            nbf: NOW_S,
            exp: NOW_S + 60,
            jti: "a".into(),
        }
    }

    fn read(token: &str) -> Option<Handoff> {
        verify_handoff(&config(), Timestamp::from_secs(NOW_S), token)
    }

    fn signed(change: impl Fn(&mut Claims)) -> Option<Handoff> {
        let mut claims = claims();
        change(&mut claims);
        read(&encode(&claims, TYPE, config().secret.as_bytes()))
    }

    #[test]
    fn a_valid_handoff_is_accepted() {
        let token = sign_handoff(
            &config(),
            Timestamp::from_secs(NOW_S),
            &SeededEntropy::new(1),
            "42",
            "임히어로",
        );
        let handoff = read(&token).unwrap();
        assert_eq!(
            (handoff.customer_key.as_str(), handoff.name.as_str()),
            ("42", "임히어로")
        );
        assert!(
            handoff.forget_after > Timestamp::from_secs(NOW_S + 60 + LEEWAY_S),
            "remembered for as long as it could be replayed"
        );
        assert!(signed(|_| {}).is_some());
    }

    #[test]
    fn times_are_checked_with_five_seconds_of_leeway() {
        for (valid, exp, nbf, iat) in [
            (true, -4, -60, -60),
            (false, -5, -60, -60),
            (true, 60, 5, 0),
            (false, 60, 6, 0),
            (true, 65, 0, 5),
            (false, 66, 0, 6),
            (true, 300, 0, 0),
            (false, 301, 0, 0),
            (false, 4, 0, 5),
            (false, i64::MAX - NOW_S, 0, i64::MIN),
        ] {
            let given = signed(|c| (c.exp, c.nbf, c.iat) = (NOW_S + exp, NOW_S + nbf, NOW_S + iat));
            assert_eq!(given.is_some(), valid, "exp {exp} nbf {nbf} iat {iat}");
        }
    }

    #[test]
    fn other_issuers_audiences_and_types_are_refused() {
        assert!(signed(|c| c.iss = "https://other.example".into()).is_none());
        assert!(signed(|c| c.aud = "elsewhere".into()).is_none());
        assert!(signed(|c| c.sub = String::new()).is_none());
        assert!(signed(|c| c.jti = String::new()).is_none());
        assert!(signed(|c| c.jti = "j".repeat(129)).is_none());
        assert!(read(&encode(&claims(), "JWT", config().secret.as_bytes())).is_none());
    }

    #[test]
    fn forged_tokens_are_refused() {
        assert!(read(&encode(&claims(), TYPE, "t".repeat(32).as_bytes())).is_none());
        let body = base64url(&serde_json::to_vec(&claims()).unwrap());
        for header in [
            r#"{"alg":"none","typ":"handoff+jwt"}"#,
            r#"{"alg":"None","typ":"handoff+jwt"}"#,
            r#"{"typ":"handoff+jwt"}"#,
        ] {
            assert!(
                read(&format!("{}.{body}.", base64url(header.as_bytes()))).is_none(),
                "{header}"
            );
        }
        let mut header = Header::new(Algorithm::HS512);
        header.typ = Some(TYPE.into());
        let key = EncodingKey::from_secret(config().secret.as_bytes());
        assert!(
            read(&jsonwebtoken::encode(&header, &claims(), &key).unwrap()).is_none(),
            "the right key under another algorithm"
        );
        assert!(read("").is_none() && read("a.b.c").is_none() && read(&"a".repeat(5_000)).is_none());
    }
}

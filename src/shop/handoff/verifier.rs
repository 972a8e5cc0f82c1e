//! Verifies hand-offs: first the form and the signature, then the claims.
//!
//! The configuration and the shop's own key set say which algorithm a key verifies, never the token.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, errors::ErrorKind};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    claims::{Handoff, HandoffError, read_claims},
    config::{HandoffConfig, HandoffKeys},
};
use crate::{
    kernel::{Clock, Entropy},
    platform::{
        jwks::{JwksClient, KeyLookup, VerificationKey},
        shutdown::Lifecycle,
        signing::from_base64url,
    },
};

const TOKEN_LEN_MAX: usize = 4_096;

/// Verifies the shop's hand-offs.
pub(crate) struct HandoffVerifier {
    issuer: String,
    audience: String,
    keys: Keys,
    clock: Arc<dyn Clock>,
}

/// Why a hand-off is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The token is at fault.
    Invalid(HandoffError),
    /// The shop's key set could not be fetched yet.
    NoKeys,
}

enum Keys {
    Secret(VerificationKey),
    KeySet(Arc<JwksClient>),
}

/// The parameters of a token's header that matter here.
#[derive(Deserialize)]
struct TokenHeader {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    /// Extensions that a recipient must understand; none is.
    crit: Option<Value>,
}

impl From<HandoffError> for Refusal {
    fn from(error: HandoffError) -> Self {
        Self::Invalid(error)
    }
}

impl HandoffVerifier {
    pub(crate) fn start(
        config: &HandoffConfig,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
        lifecycle: &Lifecycle,
    ) -> Self {
        let keys = match &config.keys {
            HandoffKeys::Secret(secret) => Keys::Secret(VerificationKey {
                algorithm: Algorithm::HS256,
                key: DecodingKey::from_secret(secret.as_bytes()),
            }),
            HandoffKeys::KeySet(url) => Keys::KeySet(JwksClient::start(
                url,
                Arc::clone(clock),
                Arc::clone(entropy),
                lifecycle,
            )),
        };
        Self {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            keys,
            clock: Arc::clone(clock),
        }
    }

    /// Verifies a hand-off except for whether it was used before.
    pub(crate) async fn verify(&self, token: &str) -> Result<Handoff, Refusal> {
        let header = read_header(token)?;
        let key = self.key(&header).await?;
        let claims = verify_signature(token, &header, &key)?;
        Ok(read_claims(
            &claims,
            &self.issuer,
            &self.audience,
            self.clock.now(),
        )?)
    }

    async fn key(&self, header: &TokenHeader) -> Result<VerificationKey, Refusal> {
        let keys = match &self.keys {
            Keys::Secret(key) => return Ok(key.clone()),
            Keys::KeySet(keys) => keys,
        };
        // Only a token that the shop may have signed makes the service ask for its keys.
        if !["RS256", "ES256", "EdDSA"].contains(&header.alg.as_str()) {
            return Err(HandoffError::new("alg", "must be RS256, ES256 or EdDSA").into());
        }
        match keys.find(header.kid.as_deref()).await {
            KeyLookup::Found(key) => Ok(key),
            KeyLookup::Unknown if header.kid.is_none() => {
                Err(HandoffError::new("kid", "is required, since the shop's key set has several keys").into())
            }
            KeyLookup::Unknown => Err(HandoffError::new(
                "kid",
                "the shop's key set has no such key for RS256, ES256 or EdDSA; it is fetched again at most \
                 once a minute",
            )
            .into()),
            KeyLookup::Unavailable => Err(Refusal::NoKeys),
        }
    }
}

fn read_header(token: &str) -> Result<TokenHeader, HandoffError> {
    if token.len() > TOKEN_LEN_MAX {
        return Err(HandoffError::new("token", "must have at most 4096 bytes"));
    }
    let header = token.split('.').next().and_then(from_base64url);
    let header: TokenHeader = header
        .filter(|_| token.split('.').count() == 3)
        .and_then(|header| serde_json::from_slice(&header).ok())
        .ok_or(HandoffError::new("token", "must be a JWT in compact form"))?;
    // Media types are compared without regard to case, and `application/` may be left out (RFC 7515, 4.1.9).
    let typ = header.typ.as_deref().unwrap_or("JWT").to_ascii_lowercase();
    let typ = typ.strip_prefix("application/").unwrap_or(&typ);
    if !["jwt", "handoff+jwt"].contains(&typ) {
        return Err(HandoffError::new(
            "typ",
            "must be JWT or handoff+jwt, or be left out",
        ));
    }
    if header.crit.is_some() {
        return Err(HandoffError::new("crit", "must be left out"));
    }
    Ok(header)
}

fn verify_signature(
    token: &str,
    header: &TokenHeader,
    key: &VerificationKey,
) -> Result<Map<String, Value>, HandoffError> {
    if header.alg != key.algorithm_name() {
        return Err(HandoffError::new(
            "alg",
            match key.algorithm {
                Algorithm::HS256 => "must be HS256, since shop.handoff.secret is configured",
                _ => "must be the algorithm of the key that kid names",
            },
        ));
    }
    key.claims_of(token).map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature => {
            HandoffError::new("token", "the signature is not valid under the configured key")
        }
        _ => HandoffError::new("token", "the signed content must be a JSON object"),
    })
}

#[cfg(test)]
mod tests;

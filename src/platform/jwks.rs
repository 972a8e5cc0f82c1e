//! Client of another party's JSON Web Key Set (RFC 7517), whose public keys verify that party's signatures.
//!
//! Verifying needs no call: keys are kept in memory, refreshed in the background, and kept while the other
//! party does not respond. A token under an unknown key makes the client ask at most once a minute, so that
//! forged tokens cannot turn into load.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use super::{
    http_client::{CallError, HttpClient, TrustStore},
    shutdown::Lifecycle,
};
use crate::kernel::{Clock, Entropy};

/// Time limit of one request.
const TIMEOUT: Duration = Duration::from_secs(3);
/// A key has some hundreds of bytes.
const RESPONSE_BYTES_MAX: usize = 64 * 1_024;
const KEYS_MAX: usize = 64;
/// How often tokens with unknown keys may make the client ask.
const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_mins(1);
const REFRESH_INTERVAL: Duration = Duration::from_mins(15);
/// The pause after a failed refresh; doubled after each further one.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
const RETRY_PAUSE_MAX: Duration = Duration::from_mins(1);

/// A public key and the one algorithm that it verifies.
#[derive(Clone)]
pub struct VerificationKey {
    /// The algorithm, which a token cannot choose.
    pub algorithm: Algorithm,
    /// The key.
    pub key: DecodingKey,
}

impl VerificationKey {
    /// The algorithm's name in a token's header.
    #[must_use]
    pub fn algorithm_name(&self) -> &'static str {
        match self.algorithm {
            Algorithm::HS256 => "HS256",
            Algorithm::RS256 => "RS256",
            Algorithm::ES256 => "ES256",
            Algorithm::EdDSA => "EdDSA",
            _ => "no supported algorithm",
        }
    }

    /// What a token under this key says. Only the signature is verified: what the claims must be is for the
    /// caller to check, and to name.
    ///
    /// # Errors
    /// `jsonwebtoken`'s error when the signature is not valid, or the content no JSON object.
    pub fn claims_of(&self, token: &str) -> Result<Map<String, Value>, jsonwebtoken::errors::Error> {
        let mut rules = Validation::new(self.algorithm);
        rules.validate_exp = false;
        rules.validate_aud = false;
        rules.required_spec_claims.clear();
        jsonwebtoken::decode(token, &self.key, &rules).map(|verified| verified.claims)
    }
}

/// A key by its id.
pub enum KeyLookup {
    /// The key.
    Found(VerificationKey),
    /// The key set has no such key.
    Unknown,
    /// No key set was fetched since this process started.
    Unavailable,
}

/// A key set at a URL.
pub struct JwksClient {
    url: Uri,
    http: HttpClient,
    keys: ArcSwap<Vec<NamedKey>>,
    /// When a token last made the client ask. Held while asking, so that calls share one answer.
    asked_at: Mutex<Option<Duration>>,
    clock: Arc<dyn Clock>,
}

struct NamedKey {
    id: Option<String>,
    key: VerificationKey,
}

/// Why a key set could not be fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the answer was {0}")]
    Status(StatusCode),
    #[error("the answer is not a key set: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("it has more than {KEYS_MAX} keys")]
    TooManyKeys,
    #[error("it has no RSA, P-256 or Ed25519 key for signatures")]
    NoUsableKey,
}

#[derive(Deserialize)]
struct KeySetBody {
    keys: Vec<Value>,
}

impl JwksClient {
    /// Starts to fetch and refresh the key set in the background.
    ///
    /// # Panics
    /// When `url` is not a URL, which the configuration's checks exclude.
    #[must_use]
    pub fn start(
        url: &str,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        lifecycle: &Lifecycle,
    ) -> Arc<Self> {
        let this = Arc::new(Self::new(url, clock, &TrustStore::for_url(url)));
        let (client, stopping) = (Arc::clone(&this), lifecycle.clone());
        lifecycle.supervise("key set refresh", RETRY_PAUSE, move || {
            let (client, entropy, lifecycle) = (Arc::clone(&client), Arc::clone(&entropy), stopping.clone());
            async move { client.keep_fresh(&*entropy, &lifecycle).await }
        });
        this
    }

    fn new(url: &str, clock: Arc<dyn Clock>, trust_store: &TrustStore) -> Self {
        Self {
            url: url.parse().expect("the configuration's checks parse it"),
            http: HttpClient::with_trust_store(TIMEOUT, RESPONSE_BYTES_MAX, trust_store),
            keys: ArcSwap::default(),
            asked_at: Mutex::new(None),
            clock,
        }
    }

    /// The key with this id; without an id, the only key of the set.
    pub async fn find(&self, id: Option<&str>) -> KeyLookup {
        if let Some(key) = self.known(id) {
            return KeyLookup::Found(key);
        }
        let mut asked_at = self.asked_at.lock().await;
        let now = self.clock.monotonic();
        let may_ask = asked_at.is_none_or(|at| now.saturating_sub(at) >= UNKNOWN_KEY_INTERVAL);
        if may_ask && self.known(id).is_none() {
            *asked_at = Some(now);
            self.fetch().await;
        }
        match self.known(id) {
            Some(key) => KeyLookup::Found(key),
            None if self.keys.load().is_empty() => KeyLookup::Unavailable,
            None => KeyLookup::Unknown,
        }
    }

    fn known(&self, id: Option<&str>) -> Option<VerificationKey> {
        let keys = self.keys.load();
        let found = match id {
            Some(id) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
            None => keys.first().filter(|_| keys.len() == 1),
        };
        found.map(|named| named.key.clone())
    }

    async fn keep_fresh(&self, entropy: &dyn Entropy, lifecycle: &Lifecycle) {
        let mut pause = RETRY_PAUSE;
        loop {
            let is_fetched = {
                let _flight = self.asked_at.lock().await;
                self.fetch().await
            };
            let wait = if is_fetched { REFRESH_INTERVAL } else { pause };
            pause = if is_fetched {
                RETRY_PAUSE
            } else {
                (pause * 2).min(RETRY_PAUSE_MAX)
            };
            let jittered = wait.mul_f64(0.5 + entropy.unit() / 2.0);
            if lifecycle
                .until_stopping(tokio::time::sleep(jittered))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    /// Fetches the key set; on failure the keys stay as they were.
    async fn fetch(&self) -> bool {
        let fetched = self.try_fetch().await;
        let outcome = if fetched.is_ok() { "fetched" } else { "failed" };
        metrics::counter!("stagedoor_key_set_fetches_total", "outcome" => outcome).increment(1);
        match fetched {
            Ok(keys) => {
                tracing::debug!(url = %self.url, keys = keys.len(), "fetched the key set");
                self.keys.store(Arc::new(keys));
                true
            }
            Err(error) => {
                tracing::warn!(
                    url = %self.url,
                    %error,
                    keys = self.keys.load().len(),
                    "cannot fetch the key set, which must be answered within 3 s, without a redirect and in \
                     64 KiB; the keys of the last one stay in use and it is tried again"
                );
                false
            }
        }
    }

    async fn try_fetch(&self) -> Result<Vec<NamedKey>, FetchError> {
        let answer = self
            .http
            .send(Method::GET, self.url.clone(), &[], Bytes::new())
            .await?;
        if answer.status != StatusCode::OK {
            return Err(FetchError::Status(answer.status));
        }
        let KeySetBody { keys } = answer.json()?;
        if keys.len() > KEYS_MAX {
            return Err(FetchError::TooManyKeys);
        }
        // A set may hold keys of other kinds and for other uses (RFC 7517, section 5).
        let usable: Vec<NamedKey> = keys.into_iter().filter_map(usable_key).collect();
        if usable.is_empty() {
            return Err(FetchError::NoUsableKey);
        }
        Ok(usable)
    }
}

/// Fetches a key set once; returns the algorithm of each usable key. For checks before a sale.
///
/// # Errors
/// Why the key set cannot be used.
pub async fn algorithms_of_key_set(url: &str, clock: Arc<dyn Clock>) -> Result<Vec<&'static str>, String> {
    let _: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
    let client = JwksClient::new(url, clock, &TrustStore::for_url(url));
    let keys = client.try_fetch().await.map_err(|error| error.to_string())?;
    Ok(keys.iter().map(|named| named.key.algorithm_name()).collect())
}

fn usable_key(key: serde_json::Value) -> Option<NamedKey> {
    let key: Jwk = serde_json::from_value(key).ok()?;
    let algorithm = match &key.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(point) if point.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    let named = key.common.key_algorithm.is_none_or(|named| match algorithm {
        Algorithm::RS256 => named == KeyAlgorithm::RS256,
        Algorithm::ES256 => named == KeyAlgorithm::ES256,
        _ => named == KeyAlgorithm::EdDSA,
    });
    let is_for_signatures = key
        .common
        .public_key_use
        .as_ref()
        .is_none_or(|usage| *usage == PublicKeyUse::Signature);
    (named && is_for_signatures).then_some(())?;
    Some(NamedKey {
        key: VerificationKey {
            algorithm,
            key: DecodingKey::from_jwk(&key).ok()?,
        },
        id: key.common.key_id,
    })
}

#[cfg(test)]
mod tests;

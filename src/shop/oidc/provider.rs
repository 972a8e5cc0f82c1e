//! The provider's addresses and keys, and the exchange of a code for an ID token.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::{
    config::{ClientAuthentication, OidcConfig},
    id_token::{IdToken, verify_id_token},
};
use crate::{
    kernel::{Clock, Entropy},
    platform::{
        http_client::{CallError, HttpClient, Response, TrustStore, is_url},
        jwks::JwksClient,
        shutdown::Lifecycle,
        signing::{base64url, sha256},
    },
};

/// Time limit of one request.
const TIMEOUT: Duration = Duration::from_secs(3);
const RESPONSE_BYTES_MAX: usize = 64 * 1_024;
const REFRESH_INTERVAL: Duration = Duration::from_mins(15);
const RETRY_PAUSE: Duration = Duration::from_secs(2);
const RETRY_PAUSE_MAX: Duration = Duration::from_mins(1);
/// Exchanges of codes at a time, so that a sale never slows the provider down.
const EXCHANGES_MAX: usize = 32;
const SCOPE: &str = "openid profile";

/// A provider, discovered in the background.
pub(crate) struct OidcProvider {
    config: OidcConfig,
    http: HttpClient,
    discovered: ArcSwapOption<Discovered>,
    exchanges: Semaphore,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    lifecycle: Lifecycle,
}

struct Discovered {
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    keys: Arc<JwksClient>,
}

/// Why there is no ID token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error("the provider's discovery document was not fetched yet")]
    NotDiscovered,
    #[error("as many codes are being exchanged as may be")]
    Busy,
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the discovery document names another issuer, {0}")]
    OtherIssuer(String),
    #[error("an endpoint of the discovery document is no URL, or less protected than the issuer")]
    Endpoints,
    #[error("the provider answered {0}")]
    Status(u16),
    #[error("the provider's answer lacks what it must have")]
    Malformed,
    #[error("the ID token is refused: {0}")]
    IdToken(&'static str),
}

#[derive(Deserialize)]
pub(super) struct DiscoveryDocument {
    pub(super) issuer: String,
    pub(super) authorization_endpoint: String,
    pub(super) token_endpoint: String,
    pub(super) jwks_uri: String,
}

impl DiscoveryDocument {
    fn endpoints(&self) -> [(&'static str, &str); 3] {
        [
            ("authorization_endpoint", &self.authorization_endpoint),
            ("token_endpoint", &self.token_endpoint),
            ("jwks_uri", &self.jwks_uri),
        ]
    }

    /// Endpoints over plain HTTP of an issuer that has TLS: others on the network could read codes there, and
    /// change keys.
    pub(super) fn endpoints_without_tls(&self) -> Vec<&'static str> {
        let is_plain = |url: &str| self.issuer.starts_with("https:") && !url.starts_with("https:");
        let plain = self.endpoints().into_iter().filter(|(_, url)| is_plain(url));
        plain.map(|(name, _)| name).collect()
    }
}

#[derive(Deserialize)]
struct TokenResponse {
    id_token: String,
}

/// The secret of a sign-in (RFC 7636, section 4.1), from 32 random bytes.
pub(crate) fn new_code_verifier(entropy: &dyn Entropy) -> String {
    let mut random = [0; 32];
    entropy.fill(&mut random);
    base64url(&random)
}

/// Binds the ID token to the sign-in that this browser began (OpenID Connect Core 1.0, section 15.5.2).
fn nonce_of(code_verifier: &str) -> String {
    base64url(&sha256(format!("nonce {code_verifier}").as_bytes()))
}

impl OidcProvider {
    /// Starts to discover the provider in the background.
    pub(crate) fn start(
        config: OidcConfig,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        lifecycle: &Lifecycle,
    ) -> Arc<Self> {
        let trust_store = TrustStore::for_url(&config.issuer);
        let this = Arc::new(Self {
            config,
            http: HttpClient::with_trust_store(TIMEOUT, RESPONSE_BYTES_MAX, &trust_store),
            discovered: ArcSwapOption::empty(),
            exchanges: Semaphore::new(EXCHANGES_MAX),
            clock,
            entropy,
            lifecycle: lifecycle.clone(),
        });
        let provider = Arc::clone(&this);
        lifecycle.supervise("OpenID discovery", RETRY_PAUSE, move || {
            let provider = Arc::clone(&provider);
            async move { provider.keep_fresh().await }
        });
        this
    }

    async fn keep_fresh(&self) {
        let mut pause = RETRY_PAUSE;
        loop {
            let wait = match self.discover().await {
                Ok(()) => {
                    pause = RETRY_PAUSE;
                    REFRESH_INTERVAL
                }
                Err(error) => {
                    let issuer = &self.config.issuer;
                    tracing::warn!(%error, issuer, "the OpenID provider was not discovered");
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                    pause
                }
            };
            let jittered = wait.mul_f64(0.5 + self.entropy.unit() / 2.0);
            let slept = self.lifecycle.until_stopping(tokio::time::sleep(jittered)).await;
            if slept.is_none() {
                return;
            }
        }
    }

    async fn discover(&self) -> Result<(), ExchangeError> {
        let document = fetch_discovery(&self.http, &self.config.issuer).await?;
        let are_urls = document.endpoints().iter().all(|(_, url)| is_url(url));
        if !are_urls || !document.endpoints_without_tls().is_empty() {
            return Err(ExchangeError::Endpoints);
        }
        let known = self
            .discovered
            .load_full()
            .filter(|it| it.jwks_uri == document.jwks_uri);
        let keys = known.map_or_else(
            || {
                let (clock, entropy) = (Arc::clone(&self.clock), Arc::clone(&self.entropy));
                JwksClient::start(&document.jwks_uri, clock, entropy, &self.lifecycle)
            },
            |known| Arc::clone(&known.keys),
        );
        self.discovered.store(Some(Arc::new(Discovered {
            authorization_endpoint: document.authorization_endpoint,
            token_endpoint: document.token_endpoint,
            jwks_uri: document.jwks_uri,
            keys,
        })));
        Ok(())
    }

    /// Where a browser goes to sign in; `None` until the provider is discovered.
    pub(crate) fn authorization(&self, state: &str, code_verifier: &str) -> Option<String> {
        let discovered = self.discovered.load_full()?;
        let endpoint = &discovered.authorization_endpoint;
        Some(authorization_url(&self.config, endpoint, state, code_verifier))
    }

    /// Exchanges the code that the browser has brought for who the customer is.
    pub(crate) async fn exchange(&self, code: &str, code_verifier: &str) -> Result<IdToken, ExchangeError> {
        let discovered = self.discovered.load_full().ok_or(ExchangeError::NotDiscovered)?;
        let _turn = self.exchanges.try_acquire().map_err(|_| ExchangeError::Busy)?;
        let endpoint = &discovered.token_endpoint;
        let response = token_exchange(&self.config, endpoint, &self.http, code, code_verifier).await?;
        if response.status != 200 {
            return Err(ExchangeError::Status(response.status.as_u16()));
        }
        let TokenResponse { id_token } = response.json().map_err(|_| ExchangeError::Malformed)?;
        let nonce = nonce_of(code_verifier);
        verify_id_token(
            &id_token,
            &self.config,
            &nonce,
            &discovered.keys,
            self.clock.now(),
        )
        .await
        .map_err(ExchangeError::IdToken)
    }
}

/// The provider's discovery document.
pub(super) async fn fetch_discovery(
    http: &HttpClient,
    issuer: &str,
) -> Result<DiscoveryDocument, ExchangeError> {
    let url = format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    );
    let response = http.get(&url).await?;
    if response.status != 200 {
        return Err(ExchangeError::Status(response.status.as_u16()));
    }
    let document: DiscoveryDocument = response.json().map_err(|_| ExchangeError::Malformed)?;
    // Another issuer's document could name addresses of its own (OpenID Connect Discovery 1.0, 4.3).
    if document.issuer != issuer {
        return Err(ExchangeError::OtherIssuer(document.issuer));
    }
    Ok(document)
}

/// Where a browser goes to sign in.
pub(super) fn authorization_url(
    config: &OidcConfig,
    endpoint: &str,
    state: &str,
    code_verifier: &str,
) -> String {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("response_type", "code")
        .append_pair("client_id", &config.client_id)
        .append_pair("redirect_uri", &config.redirect_uri)
        .append_pair("scope", SCOPE)
        .append_pair("state", state)
        .append_pair("nonce", &nonce_of(code_verifier))
        .append_pair("code_challenge", &base64url(&sha256(code_verifier.as_bytes())))
        .append_pair("code_challenge_method", "S256")
        .finish();
    let separator = if endpoint.contains('?') { '&' } else { '?' };
    format!("{endpoint}{separator}{query}")
}

/// Sends a code to the token endpoint, with the form of RFC 6749, section 4.1.3.
pub(super) async fn token_exchange(
    config: &OidcConfig,
    endpoint: &str,
    http: &HttpClient,
    code: &str,
    code_verifier: &str,
) -> Result<Response, ExchangeError> {
    let form = token_request(config, code, code_verifier);
    Ok(http
        .post_form(endpoint, form, basic_credentials(config).as_deref())
        .await?)
}

fn token_request(config: &OidcConfig, code: &str, code_verifier: &str) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "authorization_code")
        .append_pair("code", code)
        .append_pair("redirect_uri", &config.redirect_uri)
        .append_pair("code_verifier", code_verifier);
    if !has_basic_credentials(config) {
        form.append_pair("client_id", &config.client_id);
        if !config.client_secret.is_empty() {
            form.append_pair("client_secret", &config.client_secret);
        }
    }
    form.finish()
}

fn has_basic_credentials(config: &OidcConfig) -> bool {
    !config.client_secret.is_empty()
        && config.client_authentication == ClientAuthentication::ClientSecretBasic
}

/// Id and secret for the header, each encoded as in a form (RFC 6749, section 2.3.1).
fn basic_credentials(config: &OidcConfig) -> Option<String> {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    has_basic_credentials(config).then(|| {
        format!(
            "{}:{}",
            encoded(&config.client_id),
            encoded(&config.client_secret)
        )
    })
}

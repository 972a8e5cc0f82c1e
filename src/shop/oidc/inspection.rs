//! What is known of the provider before the first customer comes: for preflight.

use std::{sync::Arc, time::Duration};

use super::{
    config::OidcConfig,
    provider::{DiscoveryDocument, authorization_url, fetch_discovery, new_code_verifier, token_exchange},
};
use crate::{
    kernel::{Clock, Entropy},
    platform::{
        http_client::{HttpClient, Response, TrustStore},
        jwks::algorithms_of_key_set,
    },
};

const TIMEOUT: Duration = Duration::from_secs(5);
/// A sign-in page may be large.
const RESPONSE_BYTES_MAX: usize = 1 << 20;
const QUOTED_CHARS_MAX: usize = 160;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderFinding {
    /// As it should be.
    Good(String),
    /// It could not be told.
    Unclear(String),
    /// Customers could not sign in.
    Bad {
        /// What was found.
        finding: String,
        /// What to do about it.
        remedy: &'static str,
    },
}

/// The errors with which a provider answers a client that it does not know, or a redirect URI that is not
/// registered (RFC 6749, sections 4.1.2.1 and 5.2; some names are of well-known providers).
const CLIENT_ERRORS: [&str; 6] = [
    "invalid_client",
    "unauthorized_client",
    "invalid_redirect_uri",
    "redirect_uri_mismatch",
    "redirect_uri did not match",
    "invalid_request",
];
const CLIENT_REMEDY: &str = "compare shop.oidc.client_id and client_secret with the provider's, and register \
                             the redirect URI that the guide names";
const PROVIDER_REMEDY: &str = "mend the provider, or shop.oidc.issuer";

/// Asks the provider all that can be asked without a person.
pub async fn inspect_provider(
    config: &OidcConfig,
    clock: Arc<dyn Clock>,
    entropy: &dyn Entropy,
) -> Vec<ProviderFinding> {
    let trust_store = TrustStore::for_url(&config.issuer);
    let http = HttpClient::with_trust_store(TIMEOUT, RESPONSE_BYTES_MAX, &trust_store);
    let document = match fetch_discovery(&http, &config.issuer).await {
        Ok(document) => document,
        Err(error) => {
            return vec![ProviderFinding::Bad {
                finding: format!("the discovery document of {}: {error}", config.issuer),
                remedy: PROVIDER_REMEDY,
            }];
        }
    };
    let mut findings = vec![endpoints(config, &document)];
    findings.push(match algorithms_of_key_set(&document.jwks_uri, clock).await {
        Ok(algorithms) => ProviderFinding::Good(format!(
            "the key set has {} usable keys ({})",
            algorithms.len(),
            algorithms.join(", ")
        )),
        Err(error) => ProviderFinding::Bad {
            finding: format!("the key set at {}: {error}", document.jwks_uri),
            remedy: PROVIDER_REMEDY,
        },
    });
    let code_verifier = new_code_verifier(entropy);
    findings.push(authorization(config, &document, &http, &code_verifier).await);
    findings.push(token(config, &document, &http, &code_verifier).await);
    findings
}

fn endpoints(config: &OidcConfig, document: &DiscoveryDocument) -> ProviderFinding {
    let plain = document.endpoints_without_tls();
    if plain.is_empty() {
        return ProviderFinding::Good(format!("{} is discovered and names itself", config.issuer));
    }
    ProviderFinding::Bad {
        finding: format!("{} of {} are not https", plain.join(", "), config.issuer),
        remedy: PROVIDER_REMEDY,
    }
}

/// Where a browser would be sent: the provider shows its sign-in page, or leads to it.
async fn authorization(
    config: &OidcConfig,
    document: &DiscoveryDocument,
    http: &HttpClient,
    code_verifier: &str,
) -> ProviderFinding {
    let url = authorization_url(
        config,
        &document.authorization_endpoint,
        "preflight",
        code_verifier,
    );
    match http.get(&url).await {
        Ok(response) => judge_authorization(&response),
        Err(error) => ProviderFinding::Unclear(format!(
            "the authorization endpoint was not reached from here, which browsers must: {error}"
        )),
    }
}

fn judge_authorization(response: &Response) -> ProviderFinding {
    let location = response.location();
    let query = location.split_once(['?', '#']).map_or("", |(_, query)| query);
    let in_location = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "error")
        .map(|(_, error)| error.into_owned());
    let body = String::from_utf8_lossy(&response.body);
    // A sign-in page may have the words in its scripts.
    let is_page = response.status.is_success();
    let in_body = CLIENT_ERRORS
        .iter()
        .find(|error| !is_page && body.contains(**error))
        .map(|error| (*error).to_owned());
    let status = response.status;
    match in_location.or(in_body) {
        Some(error) => ProviderFinding::Bad {
            finding: format!(
                "the authorization endpoint refuses this client: {}",
                quoted(&error)
            ),
            remedy: CLIENT_REMEDY,
        },
        None if status.is_success() || status.is_redirection() => {
            ProviderFinding::Good("the authorization endpoint takes client_id and redirect URI".to_owned())
        }
        None => ProviderFinding::Bad {
            finding: format!("the authorization endpoint answers {status}"),
            remedy: CLIENT_REMEDY,
        },
    }
}

/// A code that the provider never gave out: it refuses the code, but must know the client.
async fn token(
    config: &OidcConfig,
    document: &DiscoveryDocument,
    http: &HttpClient,
    code_verifier: &str,
) -> ProviderFinding {
    let response =
        match token_exchange(config, &document.token_endpoint, http, "preflight", code_verifier).await {
            Ok(response) => response,
            Err(error) => {
                return ProviderFinding::Bad {
                    finding: format!("the token endpoint: {error}"),
                    remedy: PROVIDER_REMEDY,
                };
            }
        };
    let error = response.json::<serde_json::Value>().unwrap_or_default();
    match error["error"].as_str().unwrap_or_default() {
        "invalid_grant" => ProviderFinding::Good("the token endpoint knows this client".to_owned()),
        "invalid_client" | "unauthorized_client" => ProviderFinding::Bad {
            finding: "the token endpoint refuses this client".to_owned(),
            remedy: CLIENT_REMEDY,
        },
        _ if response.status == 401 => ProviderFinding::Bad {
            finding: "the token endpoint refuses this client with 401".to_owned(),
            remedy: CLIENT_REMEDY,
        },
        error => ProviderFinding::Unclear(format!(
            "the token endpoint answers {} {} to a code that it never gave out",
            response.status.as_u16(),
            quoted(error)
        )),
    }
}

/// What another party wrote, fit for a terminal.
fn quoted(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(QUOTED_CHARS_MAX)
        .collect()
}

#[cfg(test)]
mod tests;

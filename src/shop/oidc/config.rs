//! How an OpenID provider is configured.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where the provider sends the browser back to, a path of this service.
pub const OIDC_RETURN_PATH: &str = "/v1/sign-in/oidc";

/// How this service shows its secret to the token endpoint (OpenID Connect Core 1.0, section 9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthentication {
    /// In the `Authorization` header: what a provider expects of a client that it knows nothing else of.
    #[default]
    ClientSecretBasic,
    /// Among the fields of the form.
    ClientSecretPost,
}

/// The shop's OpenID provider. `Debug` omits the secret.
#[derive(Clone)]
pub struct OidcConfig {
    /// The provider's issuer, under which its discovery document lies.
    pub issuer: String,
    /// This service's id at the provider.
    pub client_id: String,
    /// Its secret; empty for a public client.
    pub client_secret: String,
    /// How the secret is shown.
    pub client_authentication: ClientAuthentication,
    /// The claim that has the shop's key of the customer, usually `sub`.
    pub customer_claim: String,
    /// Where the provider sends the browser back to: an address of this service.
    pub redirect_uri: String,
}

impl fmt::Debug for OidcConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OidcConfig(issuer {}, client {})", self.issuer, self.client_id)
    }
}

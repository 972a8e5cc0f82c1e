//! How an OpenID provider is configured.

use std::fmt;

/// Where the provider sends the browser back to, a path of this service.
pub const OIDC_RETURN_PATH: &str = "/v1/sign-in/oidc";

/// The shop's OpenID provider. `Debug` omits the secret.
#[derive(Clone)]
pub struct OidcConfig {
    /// The provider's issuer, under which its discovery document lies.
    pub issuer: String,
    /// This service's id at the provider.
    pub client_id: String,
    /// Its secret; empty for a public client.
    pub client_secret: String,
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

//! Sign-in at an OpenID provider of the shop: the authorization code flow with PKCE (OpenID Connect Core 1.0,
//! RFC 7636).

mod config;
mod id_token;
mod inspection;
mod provider;

pub(super) use self::provider::{ExchangeError, OidcProvider, new_code_verifier};
pub use self::{
    config::{ClientAuthentication, OIDC_RETURN_PATH, OidcConfig},
    inspection::{ProviderFinding, inspect_provider},
};

//! How the shop's signed hand-offs are verified.

use std::fmt;

/// How the shop's signed hand-offs are verified.
#[derive(Clone, Debug)]
pub struct HandoffConfig {
    /// The claim `iss`.
    pub issuer: String,
    /// The claim `aud`.
    pub audience: String,
    /// What verifies the signature.
    pub keys: HandoffKeys,
}

/// What verifies the signature of a hand-off. `Debug` omits the secret.
#[derive(Clone)]
pub enum HandoffKeys {
    /// A secret that the shop and the service share (HS256), at least 32 bytes.
    Secret(String),
    /// The URL of the shop's key set (RS256, ES256, EdDSA).
    KeySet(String),
}

impl fmt::Debug for HandoffKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("Secret"),
            Self::KeySet(url) => write!(f, "KeySet({url})"),
        }
    }
}

//! The shop's side of a hand-off that a shared secret signs, for the demo, load tests and tests.

use std::fmt;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use crate::{
    kernel::{Entropy, Timestamp},
    platform::signing::base64url,
};

/// Signs hand-offs as the shop would. `Debug` omits the secret.
#[derive(Clone)]
pub struct HandoffIssuer {
    /// The claim `iss`.
    pub issuer: String,
    /// The claim `aud`.
    pub audience: String,
    /// The shared secret.
    pub secret: String,
}

impl fmt::Debug for HandoffIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HandoffIssuer({} for {})", self.issuer, self.audience)
    }
}

impl HandoffIssuer {
    /// A hand-off of this customer, valid for one minute.
    ///
    /// # Panics
    /// Never: claims of text and numbers are JSON.
    #[must_use]
    pub fn sign(&self, now: Timestamp, entropy: &dyn Entropy, customer_key: &str, name: &str) -> String {
        let mut jti = [0; 16];
        entropy.fill(&mut jti);
        let now_s = now.as_secs();
        let claims = json!({
            "iss": self.issuer, "aud": self.audience, "sub": customer_key, "name": name,
            "iat": now_s, "exp": now_s + 60, "jti": base64url(&jti),
        });
        let key = EncodingKey::from_secret(self.secret.as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
            .expect("claims of text and numbers are JSON")
    }
}

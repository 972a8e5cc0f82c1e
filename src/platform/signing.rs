//! Signatures (Ed25519 JWTs), MACs and hashes. Each key has an id and each purpose its own keys.

use std::collections::BTreeMap;

use aws_lc_rs::{
    constant_time, digest, hmac,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Bytes of a token's MAC: HMAC-SHA-256 truncated to 128 bits (RFC 2104, section 5, allows half of the hash).
pub const TAG_LEN: usize = 16;

/// The SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes)
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}

/// An incremental SHA-256.
pub struct Sha256(digest::Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Sha256 {
    /// Appends bytes to the message.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The hash of the message.
    ///
    /// # Panics
    /// Never: the hash has 32 bytes.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        self.0.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

/// HMAC-SHA-256 of `message` under `key`.
#[must_use]
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message)
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}

/// Encodes bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// Decodes hexadecimal digits of either case; `None` when the text is not valid.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| {
        char::from(digit)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
    let digits: Vec<u8> = text.bytes().map(digit).collect::<Option<_>>()?;
    digits.len().is_multiple_of(2).then(|| {
        digits
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    })
}

/// Encodes bytes as unpadded base64url, as in JWTs.
#[must_use]
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes unpadded base64url; `None` when the text is not valid.
#[must_use]
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// MAC keys of one purpose, by id. The highest id signs and all verify, so that keys can be rotated.
#[derive(Clone)]
pub struct MacKeys {
    current: u8,
    keys: BTreeMap<u8, hmac::Key>,
}

impl std::fmt::Debug for MacKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MacKeys(current {})", self.current)
    }
}

impl MacKeys {
    /// Keys from their secrets, by id.
    ///
    /// # Panics
    /// When there is no key at all.
    #[must_use]
    pub fn new(secrets: &BTreeMap<u8, [u8; 32]>) -> Self {
        let keys: BTreeMap<_, _> = secrets
            .iter()
            .map(|(&kid, secret)| (kid, hmac::Key::new(hmac::HMAC_SHA256, secret)))
            .collect();
        let current = *keys.last_key_value().expect("at least one key").0;
        Self { current, keys }
    }

    /// Derives keys for a purpose from shared secrets. A derived key reveals nothing about its secret or
    /// about the keys of other purposes.
    ///
    /// # Panics
    /// When there is no key at all.
    #[must_use]
    pub fn derived(secrets: &BTreeMap<u8, [u8; 32]>, purpose: &[u8]) -> Self {
        let derive = |secret: &[u8; 32]| {
            let whole = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), purpose);
            <[u8; 32]>::try_from(whole.as_ref()).expect("SHA-256 has 32 bytes")
        };
        Self::new(
            &secrets
                .iter()
                .map(|(&kid, secret)| (kid, derive(secret)))
                .collect(),
        )
    }

    /// The id of the key that signs.
    #[must_use]
    pub fn current(&self) -> u8 {
        self.current
    }

    /// The MAC of `message` under key `kid`; `None` when there is no such key.
    #[must_use]
    pub fn tag(&self, kid: u8, message: &[u8]) -> Option<[u8; TAG_LEN]> {
        let whole = hmac::sign(self.keys.get(&kid)?, message);
        whole.as_ref()[..TAG_LEN].try_into().ok()
    }

    /// Whether `tag` is the MAC of `message` under key `kid`. Compares in constant time.
    #[must_use]
    pub fn verify(&self, kid: u8, message: &[u8], tag: &[u8]) -> bool {
        self.tag(kid, message)
            .is_some_and(|expected| constant_time::verify_slices_are_equal(&expected, tag).is_ok())
    }

    /// A 64-bit pseudonym of `message` that can neither be computed nor reversed without the key. It uses the
    /// *oldest*
    /// key, so that it does not change when a key is added.
    #[must_use]
    pub fn keyed_hash(&self, message: &[u8]) -> u64 {
        let (_, key) = self.keys.first_key_value().expect("at least one key");
        let whole = hmac::sign(key, message);
        u64::from_be_bytes(whole.as_ref()[..8].try_into().expect("8 of 32 bytes"))
    }
}

/// Why a signed token is not accepted. Public responses never reveal more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of this format.
    #[error("it is not a token of this kind")]
    Malformed,
    /// Unknown key, or a wrong signature or MAC.
    #[error("its signature is not valid")]
    Signature,
    /// Made for another purpose, sale or issuer.
    #[error("it is of another purpose, sale or issuer")]
    Purpose,
    /// Used before its time.
    #[error("it is not valid yet")]
    NotYet,
    /// Used after its time, or revoked.
    #[error("it has expired")]
    Expired,
}

struct SigningKey {
    encoding: EncodingKey,
    public: [u8; 32],
}

/// Public Ed25519 keys by id: they verify JWTs.
#[derive(Clone, Default)]
pub struct VerifyingKeys(BTreeMap<String, DecodingKey>);

impl VerifyingKeys {
    /// The Ed25519 keys of a JSON Web Key Set; keys of other types are ignored.
    #[must_use]
    pub fn from_jwks(keys: &[Jwk]) -> Self {
        let ours = keys.iter().filter(|key| key.kty == "OKP" && key.crv == "Ed25519");
        Self(
            ours.filter_map(|key| Some((key.kid.clone(), DecodingKey::from_ed_components(&key.x).ok()?)))
                .collect(),
        )
    }

    /// Verifies the signature and `typ` of a JWT and returns its claims. The caller checks times, issuer and
    /// audience, against its own clock.
    ///
    /// # Errors
    /// [`TokenError::Malformed`], [`TokenError::Purpose`] or [`TokenError::Signature`].
    pub fn verify<C: DeserializeOwned + Clone>(&self, typ: &str, token: &str) -> Result<C, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed)?;
        if header.typ.as_deref() != Some(typ) {
            return Err(TokenError::Purpose);
        }
        let key = header
            .kid
            .as_ref()
            .and_then(|kid| self.0.get(kid))
            .ok_or(TokenError::Signature)?;
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.validate_exp = false;
        rules.validate_nbf = false;
        rules.validate_aud = false;
        rules.required_spec_claims.clear();
        let data = jsonwebtoken::decode::<C>(token, key, &rules).map_err(|e| match e.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => TokenError::Signature,
            _ => TokenError::Malformed,
        })?;
        Ok(data.claims)
    }
}

/// Ed25519 keys that sign JWTs of one purpose. The public keys are published as a JSON Web Key Set.
pub struct SigningKeys {
    current: String,
    keys: BTreeMap<String, SigningKey>,
    verifying: VerifyingKeys,
}

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKeys(current {})", self.current)
    }
}

/// One public key, as in RFC 8037.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Jwk {
    /// Key type, `OKP`.
    pub kty: String,
    /// Curve, `Ed25519`.
    pub crv: String,
    /// Key id.
    pub kid: String,
    /// Algorithm, `EdDSA`.
    pub alg: String,
    /// `sig`.
    #[serde(rename = "use")]
    pub usage: String,
    /// The public key, base64url.
    pub x: String,
}

impl SigningKeys {
    /// Keys from their seeds; key ids are `{prefix}-{id}`, the highest id signs.
    ///
    /// # Panics
    /// When there is no key at all, or more than 256.
    #[must_use]
    pub fn new(prefix: &str, seeds: &BTreeMap<u8, [u8; 32]>) -> Self {
        let mut keys = BTreeMap::new();
        let mut verifying = VerifyingKeys::default();
        let mut current = String::new();
        for (id, seed) in seeds {
            let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("every 32 bytes are a seed");
            let pkcs8 = pair.to_pkcs8v1().expect("a key pair has a PKCS#8 form");
            let public: [u8; 32] = pair.public_key().as_ref().try_into().expect("32 bytes");
            // Zero-padded, so that text order is number order.
            current = format!("{prefix}-{id:03}");
            let key = SigningKey {
                encoding: EncodingKey::from_ed_der(pkcs8.as_ref()),
                public,
            };
            keys.insert(current.clone(), key);
            verifying
                .0
                .insert(current.clone(), DecodingKey::from_ed_der(&public));
        }
        assert!(!keys.is_empty(), "at least one key");
        Self {
            current,
            keys,
            verifying,
        }
    }

    /// Derives keys for a purpose from shared secrets. A derived key reveals nothing about its secret or
    /// about the keys of other purposes.
    ///
    /// # Panics
    /// As [`SigningKeys::new`].
    #[must_use]
    pub fn derived(prefix: &str, secrets: &BTreeMap<u8, [u8; 32]>, purpose: &[u8]) -> Self {
        Self::new(
            prefix,
            &secrets
                .iter()
                .map(|(&id, secret)| (id, hmac_sha256(secret, purpose)))
                .collect(),
        )
    }

    /// Signs the claims as a JWT of the given `typ`, with EdDSA and the current key.
    ///
    /// # Panics
    /// When the claims are not a JSON object.
    #[must_use]
    pub fn sign<C: Serialize>(&self, typ: &str, claims: &C) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(typ.to_owned());
        header.kid = Some(self.current.clone());
        let key = &self.keys[&self.current];
        jsonwebtoken::encode(&header, claims, &key.encoding).expect("our own claims are a JSON object")
    }

    /// Verifies a JWT; see [`VerifyingKeys::verify`].
    ///
    /// # Errors
    /// [`TokenError::Malformed`], [`TokenError::Purpose`] or [`TokenError::Signature`].
    pub fn verify<C: DeserializeOwned + Clone>(&self, typ: &str, token: &str) -> Result<C, TokenError> {
        self.verifying.verify(typ, token)
    }

    /// The public keys, for publication.
    #[must_use]
    pub fn jwks(&self) -> Vec<Jwk> {
        self.keys
            .iter()
            .map(|(kid, key)| Jwk {
                kty: "OKP".into(),
                crv: "Ed25519".into(),
                kid: kid.clone(),
                alg: "EdDSA".into(),
                usage: "sig".into(),
                x: base64url(&key.public),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;

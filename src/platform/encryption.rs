//! Encrypts secrets that are stored among other data: AES-256-GCM, each purpose with a key of its own.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

use crate::platform::signing::hmac_sha256;

/// Encryption keys of one purpose, by id. The highest id encrypts and all decrypt, so that keys can be
/// rotated.
#[derive(Clone)]
pub struct EncryptionKeys(BTreeMap<u8, [u8; 32]>);

impl fmt::Debug for EncryptionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionKeys")
    }
}

impl EncryptionKeys {
    /// Derives keys for a purpose from shared secrets. A derived key reveals nothing about its secret or
    /// about the keys of other purposes.
    ///
    /// # Panics
    /// When there is no key at all.
    #[must_use]
    pub fn derived(secrets: &BTreeMap<u8, [u8; 32]>, purpose: &[u8]) -> Self {
        assert!(!secrets.is_empty(), "at least one key");
        Self(
            secrets
                .iter()
                .map(|(&id, secret)| (id, hmac_sha256(secret, purpose)))
                .collect(),
        )
    }

    /// Encrypts a text and binds it to `context`. Returns key id, nonce, and ciphertext with tag.
    ///
    /// # Panics
    /// Never: short texts can always be encrypted.
    #[must_use]
    pub fn encrypt(&self, context: &[u8], plain: &[u8]) -> Vec<u8> {
        let (&id, key) = self.0.last_key_value().expect("at least one key");
        let mut text = plain.to_vec();
        let nonce = aead(key)
            .seal_in_place_append_tag(Aad::from(context), &mut text)
            .expect("a short text can be encrypted");
        let mut encrypted = vec![id];
        encrypted.extend_from_slice(nonce.as_ref());
        encrypted.append(&mut text);
        encrypted
    }

    /// Decrypts; `None` when the key or the context is another one, or the ciphertext was changed.
    #[must_use]
    pub fn decrypt(&self, context: &[u8], encrypted: &[u8]) -> Option<Vec<u8>> {
        let (id, rest) = encrypted.split_first()?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let plain = aead(self.0.get(id)?)
            .open_in_place(nonce, Aad::from(context), &mut text)
            .ok()?;
        Some(plain.to_vec())
    }
}

fn aead(key: &[u8; 32]) -> RandomizedNonceKey {
    RandomizedNonceKey::new(&AES_256_GCM, key).expect("32 bytes are a key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_decrypts_with_its_key_and_context_only() {
        let old = EncryptionKeys::derived(&BTreeMap::from([(1, [1; 32])]), b"p");
        let encrypted = old.encrypt(b"sale", b"secret");
        let rotated = EncryptionKeys::derived(&BTreeMap::from([(1, [1; 32]), (2, [2; 32])]), b"p");
        assert_eq!(
            rotated.decrypt(b"sale", &encrypted).as_deref(),
            Some(b"secret".as_slice())
        );
        assert_eq!(rotated.decrypt(b"other", &encrypted), None);
        assert_eq!(
            old.decrypt(b"sale", &rotated.encrypt(b"sale", b"x")),
            None,
            "a key that it does not have"
        );
        assert_eq!(
            EncryptionKeys::derived(&BTreeMap::from([(1, [1; 32])]), b"q").decrypt(b"sale", &encrypted),
            None
        );
        assert!((0..encrypted.len()).all(|cut| rotated.decrypt(b"sale", &encrypted[..cut]).is_none()));
    }
}

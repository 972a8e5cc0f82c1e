//! The keys themselves, and their encrypted form.

use std::{collections::BTreeMap, sync::Arc};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use serde::{Deserialize, Serialize};

use crate::{
    kernel::Entropy,
    platform::{
        encryption::EncryptionKeys,
        signing::{MacKeys, SigningKeys, base64url, from_base64url, sha256},
        sql::{self, DatabaseRef},
    },
};

/// All keys of the service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keys {
    /// MACs of queue tokens, and the keyed hashes of their subjects.
    pub queue: MacKeys,
    /// MACs of proof-of-work challenges.
    pub proof_of_work: MacKeys,
    /// Encrypts the secrets of draws until they are held.
    pub draw: EncryptionKeys,
    /// MACs of session tokens.
    pub session: MacKeys,
    /// Encrypts what browsers carry between the shop and the service.
    pub handoff: EncryptionKeys,
    /// Encrypts which customer asked to be told when called.
    pub call_notice: EncryptionKeys,
    /// MACs of messages between the service's own processes.
    pub internal: MacKeys,
    /// Signs admission passes; public keys at `/.well-known/jwks.json`.
    pub pass: Arc<SigningKeys>,
    /// Signs draw receipts; public keys there too.
    pub receipt: Arc<SigningKeys>,
    /// Signs tickets; public keys there too.
    pub ticket: Arc<SigningKeys>,
}

/// Why there are no keys. Holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The database that the nodes share cannot be opened.
    #[error(transparent)]
    Open(#[from] sql::OpenError),
    /// A query to that database failed.
    #[error("cannot read or write the keys in {database}: {source}")]
    Query {
        /// The database.
        database: DatabaseRef,
        /// The driver's error.
        source: sqlx::Error,
    },
    /// Something that the service has created before is missing.
    #[error(
        "{database} lacks {missing}, which this service has created there before; a new one would contradict \
        what was sold: restore the backup, or use an empty database"
    )]
    Missing {
        /// The database.
        database: DatabaseRef,
        /// What is missing.
        missing: String,
    },
    /// The key file cannot be read or written.
    #[error("cannot read or write the key file {file}: {source}")]
    File {
        /// Its path.
        file: String,
        /// The file system's error.
        source: std::io::Error,
    },
    /// The keys were encrypted under another master key.
    #[error(
        "the keys in {file} cannot be decrypted with this master key; new keys would invalidate every queue \
        token and \
         ticket, so nothing was changed"
    )]
    WrongMasterKey {
        /// The key file's path or the database.
        file: String,
    },
    /// The decrypted content is not a set of keys.
    #[error("{file} does not hold a set of keys of this version")]
    Malformed {
        /// The key file's path or the database.
        file: String,
    },
}

/// The secrets in clear, as JSON; encrypted wherever they are stored.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredSecrets {
    /// Purpose -> key id -> 32-byte secret (base64url).
    secrets: BTreeMap<String, BTreeMap<u8, String>>,
}

/// The purposes with a secret of their own; keys of the other purposes are derived from these.
const PURPOSES: [&str; 4] = ["queue", "session", "pass", "ticket"];
/// Additional authenticated data: binds the ciphertext to this use and format.
const AAD: &[u8] = b"stagedoor keys 1";

impl Keys {
    /// Keys that live as long as the process, for tests and benchmarks.
    ///
    /// # Panics
    /// Never: generated keys are complete.
    #[must_use]
    pub fn ephemeral(entropy: &dyn Entropy) -> Self {
        Self::from_secrets(&generate(entropy)).expect("generated keys are complete")
    }

    /// `None` when a purpose is missing or a secret is not 32 bytes.
    pub(super) fn from_secrets(stored: &StoredSecrets) -> Option<Self> {
        let secrets_of = |purpose: &str| -> Option<BTreeMap<u8, [u8; 32]>> {
            let secrets: Option<BTreeMap<u8, [u8; 32]>> = stored
                .secrets
                .get(purpose)?
                .iter()
                .map(|(&id, text)| Some((id, from_base64url(text)?.try_into().ok()?)))
                .collect();
            secrets.filter(|secrets| !secrets.is_empty())
        };
        Some(Self {
            queue: MacKeys::new(&secrets_of("queue")?),
            // Derived keys, here and below, so that key files written before these purposes existed stay
            // valid.
            proof_of_work: MacKeys::derived(&secrets_of("queue")?, b"stagedoor proof of work 1"),
            draw: EncryptionKeys::derived(&secrets_of("queue")?, b"stagedoor draw 1"),
            internal: MacKeys::derived(&secrets_of("session")?, b"stagedoor internal 1"),
            session: MacKeys::new(&secrets_of("session")?),
            handoff: EncryptionKeys::derived(&secrets_of("session")?, b"stagedoor hand-off 1"),
            call_notice: EncryptionKeys::derived(&secrets_of("queue")?, b"stagedoor call notice 1"),
            pass: Arc::new(SigningKeys::new("pass", &secrets_of("pass")?)),
            receipt: Arc::new(SigningKeys::derived(
                "receipt",
                &secrets_of("pass")?,
                b"stagedoor receipt 1",
            )),
            ticket: Arc::new(SigningKeys::new("ticket", &secrets_of("ticket")?)),
        })
    }
}

/// New random secrets, one for each purpose, with key id 1.
pub(super) fn generate(entropy: &dyn Entropy) -> StoredSecrets {
    let secret = || {
        let mut bytes = [0; 32];
        entropy.fill(&mut bytes);
        base64url(&bytes)
    };
    StoredSecrets {
        secrets: PURPOSES
            .iter()
            .map(|&purpose| (purpose.to_owned(), BTreeMap::from([(1, secret())])))
            .collect(),
    }
}

fn master_aead(master: &str) -> RandomizedNonceKey {
    RandomizedNonceKey::new(&AES_256_GCM, &sha256(master.as_bytes())).expect("32 bytes are a key")
}

/// A nonce and the ciphertext with its tag.
pub(super) fn encrypt(stored: &StoredSecrets, master: &str) -> Vec<u8> {
    let mut text = serde_json::to_vec(stored).expect("maps of text are JSON");
    let nonce = master_aead(master)
        .seal_in_place_append_tag(Aad::from(AAD), &mut text)
        .expect("a short text can be encrypted");
    let mut encrypted = nonce.as_ref().to_vec();
    encrypted.append(&mut text);
    encrypted
}

/// `None`: encrypted under another master key, or truncated.
pub(super) fn decrypt(encrypted: &[u8], master: &str) -> Option<StoredSecrets> {
    let (nonce, text) = encrypted.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = text.to_vec();
    let plain = master_aead(master)
        .open_in_place(nonce, Aad::from(AAD), &mut text)
        .ok()?;
    serde_json::from_slice(plain).ok()
}

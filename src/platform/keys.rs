//! The house's keys: made once, stored encrypted under one master key, shared by everything that signs.
//!
//! `keys.json`, or a table that nodes share, holds random 32-byte secrets by purpose and id, sealed with AES-256-GCM.
//! Losing the master key loses every place and every ticket's signature, so keys that cannot be opened are an error,
//! never a reason for new ones.

mod shared;

use std::{collections::BTreeMap, fs, io::Write, path::Path, sync::Arc};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use serde::{Deserialize, Serialize};

use crate::kernel::Entropy;
use crate::platform::{
    encryption::SealingKeys,
    signing::{MacKeys, SigningKeys, base64url, from_base64url, sha256},
    sql::{self, Place},
};

/// All keys of the house.
#[derive(Clone, Debug)]
pub struct Keys {
    /// MACs of queue tokens, and the keyed hashes of their subjects.
    pub queue: MacKeys,
    /// MACs of proof-of-work challenges.
    pub proof_of_work: MacKeys,
    /// What draws keep to themselves until they are held.
    pub draw: SealingKeys,
    /// MACs of session tokens.
    pub session: MacKeys,
    /// MACs of what one process of the house says to another.
    pub house: MacKeys,
    /// Signatures of admission passes; public halves at `/.well-known/jwks.json`.
    pub pass: Arc<SigningKeys>,
    /// Signatures under a draw's groups; public halves there too.
    pub receipt: Arc<SigningKeys>,
    /// Signatures of tickets.
    pub ticket: Arc<SigningKeys>,
}

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(transparent)]
    Open(#[from] sql::OpenError),
    #[error("cannot read or keep the keys in {place}: {source}")]
    Database { place: Place, source: sqlx::Error },
    #[error("cannot read or write the key file {file}: {source}")]
    File { file: String, source: std::io::Error },
    #[error(
        "the keys in {file} do not open with this master key; with the wrong key every place and ticket would be lost, so nothing was changed"
    )]
    Sealed { file: String },
    #[error("what is in {file} is not a set of keys of this version")]
    Content { file: String },
}

#[derive(Serialize, Deserialize)]
struct Stored {
    /// purpose -> key id -> secret (base64url)
    secrets: BTreeMap<String, BTreeMap<u8, String>>,
}

const PURPOSES: [&str; 4] = ["queue", "session", "pass", "ticket"];
const AAD: &[u8] = b"stagedoor keys 1";

impl Keys {
    /// Opens the key file, or makes it (readable by its owner only) when there is none.
    ///
    /// # Errors
    /// [`KeysError`]: unreadable, sealed under another master key, or not a key file.
    pub fn open_or_make(file: &Path, master: &str, entropy: &dyn Entropy) -> Result<Self, KeysError> {
        let name = || file.display().to_string();
        match fs::read(file) {
            Ok(sealed) => Self::from_secrets(
                &unseal(&sealed, master).ok_or_else(|| KeysError::Sealed { file: name() })?,
            )
            .ok_or_else(|| KeysError::Content { file: name() }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let stored = fresh(entropy);
                write_private(file, &seal(&stored, master))
                    .map_err(|source| KeysError::File { file: name(), source })?;
                Self::from_secrets(&stored).ok_or_else(|| KeysError::Content { file: name() })
            }
            Err(source) => Err(KeysError::File { file: name(), source }),
        }
    }

    /// Keys that live as long as the process: for tests and benchmarks.
    ///
    /// # Panics
    /// Never: fresh keys are complete.
    #[must_use]
    pub fn ephemeral(entropy: &dyn Entropy) -> Self {
        Self::from_secrets(&fresh(entropy)).expect("fresh keys are complete")
    }

    fn from_secrets(stored: &Stored) -> Option<Self> {
        let of = |purpose: &str| -> Option<BTreeMap<u8, [u8; 32]>> {
            let secrets: Option<BTreeMap<u8, [u8; 32]>> = stored
                .secrets
                .get(purpose)?
                .iter()
                .map(|(&id, text)| Some((id, from_base64url(text)?.try_into().ok()?)))
                .collect();
            secrets.filter(|s| !s.is_empty())
        };
        Some(Self {
            queue: MacKeys::new(&of("queue")?),
            // Derived, like the house's, so that the files of houses that had no such key stay good.
            proof_of_work: MacKeys::derived(&of("queue")?, b"stagedoor proof of work 1"),
            draw: SealingKeys::derived(&of("queue")?, b"stagedoor draw 1"),
            house: MacKeys::derived(&of("session")?, b"stagedoor house 1"),
            session: MacKeys::new(&of("session")?),
            pass: Arc::new(SigningKeys::new("pass", &of("pass")?)),
            receipt: Arc::new(SigningKeys::derived(
                "receipt",
                &of("pass")?,
                b"stagedoor receipt 1",
            )),
            ticket: Arc::new(SigningKeys::new("ticket", &of("ticket")?)),
        })
    }
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// What the file system says.
pub fn write_private(file: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let unfinished = file.with_extension("new");
    let mut out = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    out.write_all(content)?;
    out.sync_all()?;
    fs::rename(&unfinished, file)
}

fn fresh(entropy: &dyn Entropy) -> Stored {
    let secret = || {
        let mut bytes = [0; 32];
        entropy.fill(&mut bytes);
        base64url(&bytes)
    };
    Stored {
        secrets: PURPOSES
            .iter()
            .map(|&p| (p.to_owned(), BTreeMap::from([(1, secret())])))
            .collect(),
    }
}

fn sealing_key(master: &str) -> RandomizedNonceKey {
    RandomizedNonceKey::new(&AES_256_GCM, &sha256(master.as_bytes())).expect("32 bytes are a key")
}

fn seal(stored: &Stored, master: &str) -> Vec<u8> {
    let mut text = serde_json::to_vec(stored).expect("maps of text are JSON");
    let nonce = sealing_key(master)
        .seal_in_place_append_tag(Aad::from(AAD), &mut text)
        .expect("a short text can be sealed");
    let mut sealed = nonce.as_ref().to_vec();
    sealed.append(&mut text);
    sealed
}

fn unseal(sealed: &[u8], master: &str) -> Option<Stored> {
    let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = text.to_vec();
    let plain = sealing_key(master)
        .open_in_place(nonce, Aad::from(AAD), &mut text)
        .ok()?;
    serde_json::from_slice(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::SeededEntropy;

    #[test]
    fn keys_outlive_the_process_and_open_only_with_their_master_key() {
        let dir = std::env::temp_dir().join(format!("stagedoor-keys-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("keys.json");
        let entropy = SeededEntropy::new(1);
        let made = Keys::open_or_make(&file, "master", &entropy).unwrap();
        let again = Keys::open_or_make(&file, "master", &entropy).unwrap();
        assert_eq!(made.pass.jwks(), again.pass.jwks());
        assert!(made.queue.verify(1, b"m", &again.queue.tag(1, b"m").unwrap()));
        assert_ne!(
            made.queue.tag(1, b"m"),
            made.session.tag(1, b"m"),
            "each purpose has a key of its own"
        );
        assert_ne!(made.house.tag(1, b"m"), made.session.tag(1, b"m"));
        assert_ne!(made.proof_of_work.tag(1, b"m"), made.queue.tag(1, b"m"));
        assert_eq!(made.receipt.jwks(), again.receipt.jwks());
        assert_ne!(made.receipt.jwks()[0].x, made.pass.jwks()[0].x);
        assert_eq!(made.house.tag(1, b"m"), again.house.tag(1, b"m"));
        assert!(matches!(
            Keys::open_or_make(&file, "other", &entropy),
            Err(KeysError::Sealed { .. })
        ));
        fs::write(&file, b"short").unwrap();
        assert!(matches!(
            Keys::open_or_make(&file, "master", &entropy),
            Err(KeysError::Sealed { .. })
        ));
        fs::remove_dir_all(&dir).unwrap();
    }
}

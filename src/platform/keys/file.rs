//! Keys in a file, for a service with one node.

use std::{fs, path::Path};

use crate::{
    kernel::Entropy,
    platform::{
        keys::key_set::{Keys, KeysError, decrypt, encrypt, generate},
        private_file::write_private,
    },
};

impl Keys {
    /// Reads the key file, or creates it with new keys (readable by its owner only) when there is none.
    ///
    /// # Errors
    /// [`KeysError`]: unreadable, encrypted under another master key, or not a key file.
    pub fn open_or_create(file: &Path, master: &str, entropy: &dyn Entropy) -> Result<Self, KeysError> {
        let name = || file.display().to_string();
        let secrets = match fs::read(file) {
            Ok(encrypted) => {
                decrypt(&encrypted, master).ok_or_else(|| KeysError::WrongMasterKey { file: name() })?
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let secrets = generate(entropy);
                write_private(file, &encrypt(&secrets, master))
                    .map_err(|source| KeysError::File { file: name(), source })?;
                secrets
            }
            Err(source) => return Err(KeysError::File { file: name(), source }),
        };
        Self::from_secrets(&secrets).ok_or_else(|| KeysError::Malformed { file: name() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::SeededEntropy;

    #[test]
    fn keys_survive_a_restart_and_need_their_master_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.json");
        let entropy = SeededEntropy::new(1);
        let created = Keys::open_or_create(&file, "master", &entropy).unwrap();
        let reopened = Keys::open_or_create(&file, "master", &entropy).unwrap();
        assert_eq!(created.pass.jwks(), reopened.pass.jwks());
        assert!(
            created
                .queue
                .verify(1, b"m", &reopened.queue.tag(1, b"m").unwrap())
        );
        assert_ne!(
            created.queue.tag(1, b"m"),
            created.session.tag(1, b"m"),
            "each purpose has a key of its own"
        );
        assert_ne!(created.internal.tag(1, b"m"), created.session.tag(1, b"m"));
        assert_ne!(created.proof_of_work.tag(1, b"m"), created.queue.tag(1, b"m"));
        assert_eq!(created.receipt.jwks(), reopened.receipt.jwks());
        assert_ne!(created.receipt.jwks()[0].x, created.pass.jwks()[0].x);
        assert_eq!(created.internal.tag(1, b"m"), reopened.internal.tag(1, b"m"));
        assert!(matches!(
            Keys::open_or_create(&file, "other", &entropy),
            Err(KeysError::WrongMasterKey { .. })
        ));
        fs::write(&file, b"short").unwrap();
        assert!(matches!(
            Keys::open_or_create(&file, "master", &entropy),
            Err(KeysError::WrongMasterKey { .. })
        ));
    }
}

//! The secrets of a draw, and what is derived from them.

use std::fmt;

use crate::waiting_room::draw::digest::Digest;
use crate::{
    kernel::{Entropy, SaleId},
    platform::signing::{hmac_sha256, sha256},
};

/// One sale's secrets. The seed is published with the draw; what nonces are made of never is.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    seed: Digest,
    nonce_key: [u8; 32],
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    /// New secrets for one draw.
    pub fn new(entropy: &dyn Entropy) -> Self {
        let (mut seed, mut nonce_key) = ([0; 32], [0; 32]);
        entropy.fill(&mut seed);
        entropy.fill(&mut nonce_key);
        Self {
            seed: Digest(seed),
            nonce_key,
        }
    }

    /// As they are sealed: the seed, then the key of the nonces.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.seed.0);
        bytes[32..].copy_from_slice(&self.nonce_key);
        bytes
    }

    /// Reads stored secrets; `None` when the length is wrong.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (seed, nonce_key) = bytes.split_first_chunk::<32>()?;
        Some(Self {
            seed: Digest(*seed),
            nonce_key: nonce_key.try_into().ok()?,
        })
    }

    /// The service's share of the draw's seed, opened after the draw.
    #[must_use]
    pub fn seed(&self) -> Digest {
        self.seed
    }

    /// What hides an entry until its owner shows it.
    #[must_use]
    pub fn nonce(&self, arrival: u32) -> Digest {
        Digest(hmac_sha256(&self.nonce_key, &u64::from(arrival).to_be_bytes()))
    }

    /// The leaf of an arrival; `subject` is `None` for a void number.
    #[must_use]
    pub fn leaf(&self, arrival: u32, subject: Option<u64>) -> Digest {
        leaf_of(&self.nonce(arrival), arrival, subject)
    }
}

/// The leaf that belongs to a nonce.
pub(super) fn leaf_of(nonce: &Digest, arrival: u32, subject: Option<u64>) -> Digest {
    let mut entry = [0; 16];
    entry[..8].copy_from_slice(&u64::from(arrival).to_be_bytes());
    entry[8..].copy_from_slice(&subject.unwrap_or_default().to_be_bytes());
    let entry = if subject.is_some() {
        &entry[..]
    } else {
        &entry[..8]
    };
    Digest(hmac_sha256(&nonce.0, entry))
}

/// The commitment that binds the service to a secret seed.
#[must_use]
pub fn commitment(seed: &Digest, sale: &SaleId) -> Digest {
    Digest(sha256(&[&seed.0, sale.as_str().as_bytes()].concat()))
}

/// What the shuffle goes by.
#[must_use]
pub fn draw_seed(seed: &Digest, beacon: &Digest, root: &Digest, entries: u32) -> Digest {
    Digest(sha256(
        &[&seed.0[..], &beacon.0, &root.0, &u64::from(entries).to_be_bytes()].concat(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::SeededEntropy;

    #[test]
    fn secrets_round_trip_and_leaves_depend_on_all_inputs() {
        let secrets = Secrets::new(&SeededEntropy::new(3));
        assert_eq!(Secrets::from_bytes(&secrets.to_bytes()), Some(secrets.clone()));
        assert_eq!(Secrets::from_bytes(&[0; 63]), None);
        let leaf = secrets.leaf(7, Some(9));
        assert_eq!(
            leaf.0,
            hmac_sha256(
                &secrets.nonce(7).0,
                &[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9]
            )
        );
        let others = [
            secrets.leaf(8, Some(9)),
            secrets.leaf(7, Some(8)),
            secrets.leaf(7, None),
            secrets.leaf(7, Some(0)),
        ];
        assert!(!others.contains(&leaf) && others[2] != others[3]);
        assert_ne!(leaf, Secrets::new(&SeededEntropy::new(4)).leaf(7, Some(9)));
    }
}

//! Verifies signatures of drand's scheme `bls-unchained-g1-rfc9380`, which its chain `quicknet` uses.
//!
//! The message is the SHA-256 of the round's number (8 bytes, big endian), hashed to BLS12-381's G1 as RFC
//! 9380 says; the signature is a compressed point of G1 (48 bytes), the chain's public key one of G2 (96
//! bytes). No single server can forge a round: a threshold of the network's members must sign it.
//!
//! The curve's arithmetic is `blst`'s (C and assembly, built with this program; Apache-2.0; audited, and what
//! most Ethereum clients verify with). The pure Rust alternative, `drand-verify`, depends on an older
//! `bls12_381`, which is not audited and whose hash-to-curve is marked experimental.

use std::{fmt, str::FromStr};

use blst::{
    BLST_ERROR,
    min_sig::{PublicKey, Signature},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::platform::signing::{from_hex, hex, sha256};

/// The scheme's published name.
pub const SCHEME: &str = "bls-unchained-g1-rfc9380";
/// The scheme's domain separation tag.
pub(crate) const DOMAIN: &[u8] = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_";
/// The chain that the League of Entropy runs under this scheme: a round every 3 s since 2023-08-23T15:09:27Z.
pub const QUICKNET: &str = "52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971";
/// The public key of [`QUICKNET`].
pub const QUICKNET_KEY: &str = concat!(
    "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d106451",
    "0d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a",
);

/// A chain's public key, written as 192 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChainKey(PublicKey);

/// A text is not a chain's public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the public key of a chain with the scheme {SCHEME}: 192 hexadecimal digits, a point of G2")]
pub struct InvalidChainKey;

impl ChainKey {
    /// Whether this is the chain's signature of the round. Any bytes may be given.
    #[must_use]
    pub fn verify(&self, round: u64, signature: &[u8]) -> bool {
        let Ok(signature) = Signature::uncompress(signature) else {
            return false;
        };
        // The key's group membership was checked when it was parsed.
        signature.verify(true, &message(round), DOMAIN, &[], &self.0, false) == BLST_ERROR::BLST_SUCCESS
    }

    pub(crate) fn new(key: PublicKey) -> Self {
        Self(key)
    }
}

/// The message that is signed for a round.
pub(crate) fn message(round: u64) -> [u8; 32] {
    sha256(&round.to_be_bytes())
}

impl FromStr for ChainKey {
    type Err = InvalidChainKey;

    fn from_str(text: &str) -> Result<Self, InvalidChainKey> {
        let key = from_hex(text)
            .and_then(|bytes| PublicKey::uncompress(&bytes).ok())
            .ok_or(InvalidChainKey)?;
        key.validate().map_err(|_| InvalidChainKey)?;
        Ok(Self(key))
    }
}

impl fmt::Display for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0.compress()))
    }
}

impl fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainKey({self})")
    }
}

impl Serialize for ChainKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChainKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of quicknet as they were published: number, signature, randomness.
    const PUBLISHED: [(u64, &str, &str); 2] = [
        (
            1_000,
            concat!(
                "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b1957",
                "6350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39"
            ),
            "fe290beca10872ef2fb164d2aa4442de4566183ec51c56ff3cd603d930e54fdd",
        ),
        (
            657_413,
            concat!(
                "b713718a38ae728dfd477991af2822e08d2f305e47718cef",
                "9f7848ce4050e7be41076862b98fad56e91a6b85b89cd97b"
            ),
            "fc1873a13f3545aeade8401532ef5519920652eee6b0d2b19ca12643b87b3587",
        ),
    ];

    #[test]
    fn published_rounds_of_quicknet_verify() {
        let key: ChainKey = QUICKNET_KEY.parse().unwrap();
        assert_eq!(key.to_string(), QUICKNET_KEY);
        for (round, signature, randomness) in PUBLISHED {
            let signature = from_hex(signature).unwrap();
            assert!(key.verify(round, &signature), "{round}");
            assert_eq!(hex(&sha256(&signature)), randomness);
            assert!(!key.verify(round + 1, &signature), "another round's");
        }
        let [one, other] = PUBLISHED.map(|(_, signature, _)| from_hex(signature).unwrap());
        assert!(
            !key.verify(1_000, &other),
            "another round's, though the same network's"
        );
        for wrong in [
            &one[..47],
            &[],
            &[0; 48],
            &[0xff; 48],
            &[one.as_slice(), &one].concat(),
        ] {
            assert!(!key.verify(1_000, wrong));
        }
        // The point at infinity is on the curve, but must not verify.
        let infinity: Vec<u8> = std::iter::once(0xc0).chain([0; 47]).collect();
        assert!(!key.verify(1_000, &infinity));
    }

    #[test]
    fn invalid_keys_are_refused() {
        let infinity = format!("c0{}", "0".repeat(190));
        for wrong in [
            "",
            "00",
            "zz",
            &QUICKNET_KEY[2..],
            &"0".repeat(192),
            &infinity,
            &format!("{QUICKNET_KEY}00"),
        ] {
            assert_eq!(wrong.parse::<ChainKey>(), Err(InvalidChainKey), "{wrong}");
        }
    }
}

//! Queue token: what does not change about one queue entry, signed and kept by the browser, so that waiting
//! costs the server nothing.
//!
//! | bytes | holds |
//! |---|---|
//! | 0 | version, 1 |
//! | 1 | purpose, `q` |
//! | 2 | id of the signing key |
//! | 3..11 | sale: the first 8 bytes of the SHA-256 of its id |
//! | 11..19 | arrival number, big endian |
//! | 19..27 | keyed hash of the subject |
//! | 27..35 | when the visitor joined, ms since the epoch |
//! | 35..51 | HMAC-SHA-256 of all before, cut to 16 bytes |
//!
//! The highest bit of the hash marks an anonymous visitor. Such a visitor has no name to hash, so the rest is
//! random, and no request ever looks the entry up by it.
//!
//! 51 bytes are 68 characters of base64url with no bit left over, so a token has exactly one spelling.

use crate::{
    kernel::{Entropy, SaleId, Subject, Timestamp},
    platform::signing::{MacKeys, TAG_LEN, TokenError, base64url, from_base64url, sha256},
};

const VERSION: u8 = 1;
const PURPOSE: u8 = b'q';
const SIGNED_LEN: usize = 35;
const LEN: usize = SIGNED_LEN + TAG_LEN;
/// Characters of a token.
const TEXT_LEN: usize = LEN / 3 * 4;

/// A queue entry of one sale, as proven by a token that this service signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueToken {
    /// Arrival number: 1-based order of joining; assigned once, never changed.
    pub arrival: u64,
    /// Keyed hash of the subject, or a random one of an anonymous visitor.
    pub subject_hash: u64,
    /// When the visitor joined.
    pub joined_at: Timestamp,
}

/// Pseudonym of a subject within one sale; without the key it cannot be traced back.
pub(crate) fn subject_hash(keys: &MacKeys, sale: &SaleId, who: &Subject) -> u64 {
    let mut message = Vec::with_capacity(sale.as_str().len() + 1 + who.as_str().len());
    message.extend_from_slice(sale.as_str().as_bytes());
    message.push(0);
    message.extend_from_slice(who.as_str().as_bytes());
    keys.keyed_hash(&message) & !ANONYMOUS
}

const ANONYMOUS: u64 = 1 << 63;

/// A random pseudonym for an anonymous visitor.
pub(crate) fn anonymous_subject(entropy: &dyn Entropy) -> u64 {
    let mut hash = [0; 8];
    entropy.fill(&mut hash);
    u64::from_le_bytes(hash) | ANONYMOUS
}

/// Whether this is an anonymous visitor's pseudonym.
pub(crate) const fn is_anonymous(subject_hash: u64) -> bool {
    subject_hash & ANONYMOUS != 0
}

/// Eight bytes that stand for the sale in its tokens.
pub(crate) fn sale_hash(sale: &SaleId) -> [u8; 8] {
    *sha256(sale.as_str().as_bytes())
        .first_chunk()
        .expect("32 bytes hold 8")
}

impl QueueToken {
    /// The token's text, signed with the current key.
    pub(crate) fn sign(&self, keys: &MacKeys, sale: [u8; 8]) -> String {
        let kid = keys.current();
        let mut bytes = [0; LEN];
        bytes[..3].copy_from_slice(&[VERSION, PURPOSE, kid]);
        bytes[3..11].copy_from_slice(&sale);
        bytes[11..19].copy_from_slice(&self.arrival.to_be_bytes());
        bytes[19..27].copy_from_slice(&self.subject_hash.to_be_bytes());
        bytes[27..35].copy_from_slice(&self.joined_at.as_millis().to_be_bytes());
        let tag = keys
            .tag(kid, &bytes[..SIGNED_LEN])
            .expect("the current key is one of the keys");
        bytes[SIGNED_LEN..].copy_from_slice(&tag);
        base64url(&bytes)
    }

    /// Verifies a token's text: key, purpose, sale.
    ///
    /// # Errors
    /// [`TokenError`] says what is wrong with it.
    pub(crate) fn open(text: &str, keys: &MacKeys, sale: [u8; 8]) -> Result<Self, TokenError> {
        if text.len() != TEXT_LEN {
            return Err(TokenError::Malformed);
        }
        let bytes: [u8; LEN] = from_base64url(text)
            .and_then(|b| b.try_into().ok())
            .ok_or(TokenError::Malformed)?;
        let (signed, tag) = bytes.split_at(SIGNED_LEN);
        if signed[..2] != [VERSION, PURPOSE] {
            return Err(TokenError::Purpose);
        }
        if !keys.verify(signed[2], signed, tag) {
            return Err(TokenError::Signature);
        }
        if signed[3..11] != sale {
            return Err(TokenError::Purpose);
        }
        let word = |from: usize| <[u8; 8]>::try_from(&signed[from..from + 8]).expect("eight bytes");
        Ok(Self {
            arrival: u64::from_be_bytes(word(11)),
            subject_hash: u64::from_be_bytes(word(19)),
            joined_at: Timestamp::from_millis(i64::from_be_bytes(word(27))),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::kernel::SeededEntropy;

    fn keys() -> MacKeys {
        MacKeys::new(&BTreeMap::from([(1, [1; 32]), (7, [7; 32])]))
    }

    fn any_token() -> impl Strategy<Value = QueueToken> {
        (any::<u64>(), any::<u64>(), any::<i64>()).prop_map(|(arrival, subject_hash, at)| QueueToken {
            arrival,
            subject_hash,
            joined_at: Timestamp::from_millis(at),
        })
    }

    proptest! {
        #[test]
        fn a_token_is_valid_in_its_own_sale_only(token in any_token(), sale: [u8; 8], other: [u8; 8]) {
            let text = token.sign(&keys(), sale);
            prop_assert_eq!(text.len(), 68);
            prop_assert_eq!(QueueToken::open(&text, &keys(), sale), Ok(token));
            if other != sale {
                prop_assert_eq!(QueueToken::open(&text, &keys(), other), Err(TokenError::Purpose));
            }
        }

        #[test]
        fn any_flipped_bit_is_refused(token in any_token(), sale: [u8; 8], bit in 0_usize..LEN * 8) {
            let mut bytes = from_base64url(&token.sign(&keys(), sale)).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(QueueToken::open(&base64url(&bytes), &keys(), sale).is_err());
        }

        #[test]
        fn any_other_text_is_refused(text in ".{0,80}") {
            prop_assert!(QueueToken::open(&text, &keys(), [0; 8]).is_err());
        }
    }

    #[test]
    fn a_subject_has_another_pseudonym_in_each_sale() {
        let who = Subject::customer("42").unwrap();
        let name = |sale: &str| subject_hash(&keys(), &sale.parse().unwrap(), &who);
        assert_eq!(name("a"), name("a"));
        assert_ne!(name("a"), name("b"));
        assert!(is_anonymous(anonymous_subject(&SeededEntropy::new(1))) && !is_anonymous(name("a")));
        // The separator keeps sale and subject apart: "ab" + "c.." is not "a" + "bc..".
        let joined = Subject::from_stored("bx").unwrap();
        let apart = Subject::from_stored("x").unwrap();
        assert_ne!(
            subject_hash(&keys(), &"a".parse().unwrap(), &joined),
            subject_hash(&keys(), &"ab".parse().unwrap(), &apart)
        );
    }
}

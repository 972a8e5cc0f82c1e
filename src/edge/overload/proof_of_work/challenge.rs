//! Challenges and solutions, and what their salts carry.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    kernel::{Entropy, SaleId},
    platform::signing::{MacKeys, from_hex, hex, sha256},
};

/// Highest difficulty that can be configured, as a power of two of hashes. More would keep a phone busy for
/// minutes.
pub const BITS_MAX: u8 = 24;

const ALGORITHM: &str = "SHA-256";
const RANDOM_LEN: usize = 12;
/// A salt names a sale of at most 64 characters; a longer one was not issued here.
const SALT_LEN_MAX: usize = 160;
const DIGEST_HEX_LEN: usize = 64;

/// A challenge in ALTCHA's form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names are ALTCHA's")]
pub struct Challenge {
    /// The hash function: `SHA-256`.
    #[schema(value_type = String)]
    pub(super) algorithm: &'static str,
    /// The SHA-256 of salt and number, in hexadecimal digits.
    pub(super) challenge: String,
    /// Upper bound of the number.
    pub(super) maxnumber: u32,
    /// Random digits, then the expiry, the sale, the difficulty and the key.
    pub(super) salt: String,
    /// The MAC of `challenge`, in hexadecimal digits.
    pub(super) signature: String,
}

/// A solved challenge: its fields, and the number.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct Solution {
    /// The challenge's own value.
    pub(super) algorithm: String,
    /// The challenge's own value.
    pub(super) challenge: String,
    /// The number that was found.
    pub(super) number: u32,
    /// The challenge's own value.
    pub(super) salt: String,
    /// The challenge's own value.
    pub(super) signature: String,
}

/// Why a solution was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofRejection {
    /// Not issued here, issued for another sale, or not the number.
    Wrong,
    /// Past its expiry.
    Expired,
    /// It has bought a queue entry already.
    AlreadyUsed,
    /// Joins from this address need a higher difficulty.
    TooEasy,
    /// No further used challenge can be remembered now.
    TooManyUsed,
}

impl ProofRejection {
    /// The `reason` in problem documents and the `outcome` label of metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::Expired => "expired",
            Self::AlreadyUsed => "already_used",
            Self::TooEasy => "too_easy",
            Self::TooManyUsed => "too_many_used",
        }
    }
}

impl Challenge {
    /// A challenge for this sale, with a number of up to `2^bits`, signed by the current one of `keys`.
    pub(super) fn issue(
        sale: &SaleId,
        bits: u8,
        expires_at_s: i64,
        keys: &MacKeys,
        entropy: &dyn Entropy,
    ) -> Self {
        let mut random = [0; RANDOM_LEN];
        entropy.fill(&mut random);
        let kid = keys.current();
        let salt = Salt {
            expires_at_s,
            sale: sale.as_str(),
            bits,
            kid,
        }
        .to_text(&hex(&random));
        let maxnumber = 1_u32 << bits.min(BITS_MAX);
        let number = u32::try_from(entropy.below(u64::from(maxnumber) + 1)).expect("not above maxnumber");
        let challenge = hash(&salt, number);
        let tag = keys
            .tag(kid, challenge.as_bytes())
            .expect("the current key is one of the keys");
        Self {
            algorithm: ALGORITHM,
            challenge,
            maxnumber,
            salt,
            signature: hex(&tag),
        }
    }
}

impl Solution {
    /// The content of its salt, if the challenge was issued for this sale with one of `keys` and the number
    /// is right.
    pub(super) fn verify(&self, sale: &SaleId, keys: &MacKeys) -> Option<Salt<'_>> {
        let salt = Salt::from_text(&self.salt)?;
        let is_issued_here = self.algorithm == ALGORITHM
            && salt.sale == sale.as_str()
            && self.challenge.len() == DIGEST_HEX_LEN
            && from_hex(&self.signature)
                .is_some_and(|tag| keys.verify(salt.kid, self.challenge.as_bytes(), &tag));
        // The cheap MAC first: a forged challenge costs no hash.
        (is_issued_here && hash(&self.salt, self.number) == self.challenge).then_some(salt)
    }

    /// The first 64 bits of the challenge, by which a used one is remembered.
    pub(super) fn id(&self) -> Option<u64> {
        u64::from_str_radix(self.challenge.get(..16)?, 16).ok()
    }
}

fn hash(salt: &str, number: u32) -> String {
    hex(&sha256(format!("{salt}{number}").as_bytes()))
}

/// The content of a salt.
pub(super) struct Salt<'a> {
    /// When the challenge expires, in seconds since 1970.
    pub(super) expires_at_s: i64,
    sale: &'a str,
    /// The difficulty.
    pub(super) bits: u8,
    kid: u8,
}

impl<'a> Salt<'a> {
    pub(super) fn to_text(&self, random: &str) -> String {
        let Self {
            expires_at_s,
            sale,
            bits,
            kid,
        } = self;
        format!("{random}?expires={expires_at_s}&sale={sale}&bits={bits}&key={kid}&")
    }

    /// Parses a salt. Only one text is accepted for each content: the one that `to_text` writes.
    pub(super) fn from_text(text: &'a str) -> Option<Self> {
        if text.len() > SALT_LEN_MAX {
            return None;
        }
        let (random, facts) = text.split_once('?')?;
        let (expires, rest) = facts.strip_prefix("expires=")?.split_once("&sale=")?;
        let (sale, rest) = rest.split_once("&bits=")?;
        let (bits, rest) = rest.split_once("&key=")?;
        let salt = Self {
            expires_at_s: expires.parse().ok()?,
            sale,
            bits: bits.parse().ok()?,
            kid: rest.strip_suffix('&')?.parse().ok()?,
        };
        (salt.bits <= BITS_MAX && salt.to_text(random) == text).then_some(salt)
    }
}

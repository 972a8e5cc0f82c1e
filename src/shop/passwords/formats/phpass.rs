//! The portable hashes of phpass: MD5 over and over (WordPress before 6.8, phpBB, Joomla), and Drupal's kind
//! of it with SHA-512.

use aws_lc_rs::digest::{SHA512, digest};
use md5::{Digest, Md5};

use crate::shop::passwords::password_format::{PasswordFormat, equal, trim_as_php};

/// The digits of phpass's base64; the least significant six bits come first.
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// About a second of a core.
const LOG2_COUNT_MAX: u32 = 20;
/// Drupal cuts its hashes to so many characters, settings included.
const DRUPAL_LEN: usize = 55;

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PhpassHash {
    function: Function,
    log2_count: u32,
    salt: String,
    /// In phpass's base64.
    hash: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Function {
    Md5,
    Sha512,
}

impl PhpassHash {
    /// `$P$` or `$H$` (phpBB), or Drupal's `$S$`: then one digit, log2 of the iterations, a salt of 8
    /// characters, and the hash.
    pub(crate) fn parse(text: &str) -> Option<(PasswordFormat, Self)> {
        let (function, format, len) = match text.get(..3)? {
            "$P$" | "$H$" => (Function::Md5, PasswordFormat::Phpass, 34),
            "$S$" => (Function::Sha512, PasswordFormat::Drupal, DRUPAL_LEN),
            _ => return None,
        };
        (text.len() == len && text.is_ascii()).then_some(())?;
        let log2_count = DIGITS.iter().position(|digit| *digit == text.as_bytes()[3])?;
        let hash = Self {
            function,
            log2_count: u32::try_from(log2_count).ok()?,
            salt: text[4..12].to_owned(),
            hash: text[12..].to_owned(),
        };
        (7..=30).contains(&hash.log2_count).then_some((format, hash))
    }

    pub(crate) fn is_too_costly(&self) -> bool {
        self.log2_count > LOG2_COUNT_MAX
    }

    pub(crate) fn matches(&self, password: &str) -> bool {
        let password = trim_as_php(password).as_bytes();
        let mut hash = self.function.hash(&[self.salt.as_bytes(), password].concat());
        for _ in 0..1_u64 << self.log2_count {
            hash.extend_from_slice(password);
            hash = self.function.hash(&hash);
        }
        let found = encode(&hash);
        equal(found.get(..self.hash.len()).unwrap_or(&[]), self.hash.as_bytes())
    }
}

impl Function {
    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => Md5::digest(bytes).to_vec(),
            Self::Sha512 => digest(&SHA512, bytes).as_ref().to_vec(),
        }
    }
}

fn encode(bytes: &[u8]) -> Vec<u8> {
    bytes
        .chunks(3)
        .flat_map(|three| {
            let bits = three
                .iter()
                .rev()
                .fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
            (0..=three.len()).map(move |ix| DIGITS[(bits >> (6 * ix) & 63) as usize])
        })
        .collect()
}

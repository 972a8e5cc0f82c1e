//! PBKDF2 (RFC 8018), as Django, PHC strings, Spring Security and ASP.NET Core Identity write it.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{platform::signing::from_hex, shop::passwords::password_format::PasswordFormat};

/// Limit of iterations, so that a row of the shop's table cannot block the threads. Django 6 uses 1.2
/// million.
const ITERATIONS_MAX: u32 = 5_000_000;

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pbkdf2Hash {
    digest: Digest,
    iterations: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

/// The hash function of the HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digest {
    Sha1,
    Sha256,
    Sha512,
}

impl Digest {
    fn algorithm(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl Pbkdf2Hash {
    fn new(digest: Digest, iterations: u32, salt: &[u8], hash: &[u8]) -> Option<Self> {
        let is_hash = (16..=64).contains(&hash.len()) && !salt.is_empty();
        is_hash.then_some(())?;
        Some(Self {
            digest,
            iterations: NonZeroU32::new(iterations)?,
            salt: salt.to_vec(),
            hash: hash.to_vec(),
        })
    }

    /// Django: `pbkdf2_sha256$ITERATIONS$SALT$BASE64` and `pbkdf2_sha1$...`.
    pub(crate) fn from_django(text: &str) -> Option<(PasswordFormat, Self)> {
        let mut parts = text.split('$');
        let (scheme, iterations, salt, hash) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let (digest, format) = match scheme {
            "pbkdf2_sha256" => (Digest::Sha256, PasswordFormat::DjangoPbkdf2Sha256),
            "pbkdf2_sha1" => (Digest::Sha1, PasswordFormat::DjangoPbkdf2Sha1),
            _ => return None,
        };
        let hash = STANDARD.decode(hash).ok()?;
        let is_whole = parts.next().is_none() && hash.len() == digest.len();
        is_whole.then_some(())?;
        Some((
            format,
            Self::new(digest, iterations.parse().ok()?, salt.as_bytes(), &hash)?,
        ))
    }

    /// `$pbkdf2-sha256$i=ITERATIONS,l=LENGTH$SALT$HASH`, and with sha1 and sha512.
    pub(crate) fn from_phc(text: &str) -> Option<Self> {
        let phc = phc::PasswordHash::new(text).ok()?;
        let digest = match phc.algorithm.as_str() {
            "pbkdf2" | "pbkdf2-sha1" => Digest::Sha1,
            "pbkdf2-sha256" => Digest::Sha256,
            "pbkdf2-sha512" => Digest::Sha512,
            _ => return None,
        };
        Self::new(
            digest,
            phc.params.get_decimal("i")?,
            phc.salt.as_ref()?,
            phc.hash.as_ref()?.as_bytes(),
        )
    }

    /// Spring's `{pbkdf2}` (SHA-1, 185,000 iterations, salt of 8 bytes) and `{pbkdf2@SpringSecurity_v5_8}`
    /// (SHA-256, 310,000, 16 bytes), both without a secret of the application: hexadecimal digits of salt and
    /// hash.
    pub(crate) fn from_spring(id: &str, text: &str) -> Option<Self> {
        let (digest, iterations, salt_len) = match id {
            "pbkdf2" => (Digest::Sha1, 185_000, 8),
            "pbkdf2@SpringSecurity_v5_8" => (Digest::Sha256, 310_000, 16),
            _ => return None,
        };
        let bytes = from_hex(text)?;
        let (salt, hash) = bytes.split_at_checked(salt_len)?;
        (hash.len() == 32).then_some(())?;
        Self::new(digest, iterations, salt, hash)
    }

    /// ASP.NET Core Identity: base64 of a marker 1, then, as big-endian words of 32 bits, the hash function
    /// (0, 1, 2), the iterations and the salt's length, then salt and hash.
    pub(crate) fn from_aspnet(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        let (header, rest) = bytes.split_at_checked(13)?;
        (header[0] == 1).then_some(())?;
        let word = |at: usize| {
            header[at..at + 4]
                .iter()
                .fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte))
        };
        let digest = match word(1) {
            0 => Digest::Sha1,
            1 => Digest::Sha256,
            2 => Digest::Sha512,
            _ => return None,
        };
        let (salt, hash) = rest.split_at_checked(usize::try_from(word(9)).ok()?)?;
        (salt.len() >= 16).then_some(())?;
        Self::new(digest, word(5), salt, hash)
    }

    pub(crate) fn is_too_costly(&self) -> bool {
        self.iterations.get() > ITERATIONS_MAX
    }

    pub(crate) fn matches(&self, password: &str) -> bool {
        let algorithm = self.digest.algorithm();
        pbkdf2::verify(
            algorithm,
            self.iterations,
            &self.salt,
            password.as_bytes(),
            &self.hash,
        )
        .is_ok()
    }
}

/// Hashes a password as Django does (PBKDF2-HMAC-SHA256).
pub(crate) fn django_hash(password: &str, salt: &str, iterations: NonZeroU32) -> String {
    let mut hash = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        salt.as_bytes(),
        password.as_bytes(),
        &mut hash,
    );
    format!("pbkdf2_sha256${iterations}${salt}${}", STANDARD.encode(hash))
}

//! Password hashes as shops store them, one variant a format.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use base64::{Engine, engine::general_purpose::STANDARD};

/// Limit of iterations, so that a row of the shop's table cannot block the threads. Django 6 uses 1.2
/// million.
const ITERATIONS_MAX: u32 = 5_000_000;

/// A stored password hash of a known format.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum StoredHash {
    /// Django: `pbkdf2_sha256$ITERATIONS$SALT$BASE64` and `pbkdf2_sha1$...`.
    Pbkdf2 {
        cost: Cost,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
}

/// The cost of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) digest: Digest,
    pub(super) iterations: NonZeroU32,
}

/// The hash function of the HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Digest {
    Sha1,
    Sha256,
}

impl Digest {
    fn algorithm(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

impl StoredHash {
    /// `None` for unknown formats, for accounts without a usable password (`!...`), and for costs beyond the
    /// limit.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('$');
        let (scheme, iterations, salt, hash) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let digest = match scheme {
            "pbkdf2_sha256" => Digest::Sha256,
            "pbkdf2_sha1" => Digest::Sha1,
            _ => return None,
        };
        let iterations = iterations
            .parse::<NonZeroU32>()
            .ok()
            .filter(|count| count.get() <= ITERATIONS_MAX)?;
        let hash = STANDARD
            .decode(hash)
            .ok()
            .filter(|bytes| bytes.len() == digest.len())?;
        let is_complete = parts.next().is_none() && !salt.is_empty();
        is_complete.then(|| Self::Pbkdf2 {
            cost: Cost { digest, iterations },
            salt: salt.as_bytes().to_vec(),
            hash,
        })
    }

    pub(super) fn cost(&self) -> Cost {
        match self {
            Self::Pbkdf2 { cost, .. } => *cost,
        }
    }

    /// Whether the password is right. Compares in constant time.
    pub(super) fn matches(&self, password: &str) -> bool {
        match self {
            Self::Pbkdf2 { cost, salt, hash } => pbkdf2::verify(
                cost.digest.algorithm(),
                cost.iterations,
                salt,
                password.as_bytes(),
                hash,
            )
            .is_ok(),
        }
    }

    /// A hash of the same cost that no password has.
    pub(super) fn decoy(cost: Cost) -> Self {
        Self::Pbkdf2 {
            cost,
            salt: b"decoy".to_vec(),
            hash: vec![0; cost.digest.len()],
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: NonZeroU32 = NonZeroU32::new(10).unwrap();

    #[test]
    fn published_hashes_verify() {
        // RFC 6070 gives the SHA-1 values; the SHA-256 one is the widely published counterpart for the same
        // input.
        let sha1 = StoredHash::parse("pbkdf2_sha1$4096$salt$SwB5AbdlSJq+rUnZJvch0GWkKcE=").unwrap();
        let sha256 =
            StoredHash::parse("pbkdf2_sha256$4096$salt$xeR41ZKIyEGqUw22hFxMjZYok6ABzk4RpJY4c6qYE0o=")
                .unwrap();
        for hash in [sha1, sha256] {
            assert!(hash.matches("password"));
            assert!(!hash.matches("Password"));
            assert!(!hash.matches(""));
        }
        let made = StoredHash::parse(&django_hash("비밀번호", "salt", FEW)).unwrap();
        assert!(made.matches("비밀번호") && !made.matches("비밀"));
    }

    #[test]
    fn unusable_hashes_are_refused() {
        let good = django_hash("x", "salt", FEW);
        let short = &good[..good.len() - 4];
        let beyond = good.replace("$10$", "$5000001$");
        let none = good.replace("$10$", "$0$");
        let saltless = good.replace("$salt$", "$$");
        let trailing = format!("{good}$");
        let other = good.replace("sha256", "sha512");
        for text in [
            "", "!", "!abc", "plain", "$$$", "md5$a$b", short, &beyond, &none, &saltless, &trailing, &other,
        ] {
            assert!(StoredHash::parse(text).is_none(), "{text}");
        }
    }
}

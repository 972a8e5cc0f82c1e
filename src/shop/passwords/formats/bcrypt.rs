//! bcrypt (Provos and Mazières, 1999) as it is, and with what Django and WordPress put before it.

use aws_lc_rs::{digest, hmac};
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    platform::signing::hex,
    shop::passwords::password_format::{PasswordFormat, trim_as_php},
};

/// A cost of 16 takes about four seconds of a core.
const COST_MAX: u32 = 15;

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BcryptHash {
    before: Before,
    cost: u32,
    /// `$2b$10$...`, 60 characters.
    text: String,
}

/// What is done to a password before bcrypt, which looks at 72 bytes only.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// Django: SHA-256 as lower-case hexadecimal digits.
    Sha256,
    /// WordPress since 6.8: HMAC-SHA-384 with the key `wp-sha384`, as base64.
    WordpressSha384,
}

impl BcryptHash {
    /// `$2a$`, `$2b$` and `$2y$` differ only in faults of old programs that wrote them; Django writes
    /// `bcrypt$` or `bcrypt_sha256$` before, WordPress `$wp`.
    pub(crate) fn parse(text: &str) -> Option<(PasswordFormat, Self)> {
        let (before, format, rest) = if let Some(rest) = text.strip_prefix("bcrypt_sha256$") {
            (Before::Sha256, PasswordFormat::DjangoBcryptSha256, rest)
        } else if let Some(rest) = text.strip_prefix("bcrypt$") {
            (Before::Nothing, PasswordFormat::DjangoBcrypt, rest)
        } else if let Some(rest) = text.strip_prefix("$wp") {
            (Before::WordpressSha384, PasswordFormat::WordpressBcrypt, rest)
        } else {
            (Before::Nothing, PasswordFormat::Bcrypt, text)
        };
        let is_known = ["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|version| rest.starts_with(version));
        let parts: bcrypt::HashParts = is_known.then(|| rest.parse().ok()).flatten()?;
        let hash = Self {
            before,
            cost: parts.get_cost(),
            text: rest.to_owned(),
        };
        (4..=31).contains(&hash.cost).then_some((format, hash))
    }

    pub(crate) fn is_too_costly(&self) -> bool {
        self.cost > COST_MAX
    }

    pub(crate) fn matches(&self, password: &str) -> bool {
        let prepared = match self.before {
            Before::Nothing => password.to_owned(),
            Before::Sha256 => hex(digest::digest(&digest::SHA256, password.as_bytes()).as_ref()),
            Before::WordpressSha384 => {
                let key = hmac::Key::new(hmac::HMAC_SHA384, b"wp-sha384");
                STANDARD.encode(hmac::sign(&key, trim_as_php(password).as_bytes()))
            }
        };
        bcrypt::verify(prepared, &self.text).unwrap_or(false)
    }
}

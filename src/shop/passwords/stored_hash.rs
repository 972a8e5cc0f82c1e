//! A password as the shop stores it: its format, recognized by how the text looks, and the primitive that
//! verifies it.

use crate::shop::passwords::{
    formats::{Argon2Hash, BcryptHash, Pbkdf2Hash, PhpassHash, ScryptHash, UnsafeDigest},
    password_format::PasswordFormat,
};

/// A stored password hash of a known format.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoredHash {
    format: PasswordFormat,
    primitive: Primitive,
}

#[derive(Clone, PartialEq, Eq)]
enum Primitive {
    Pbkdf2(Pbkdf2Hash),
    Bcrypt(BcryptHash),
    Argon2(Argon2Hash),
    Scrypt(ScryptHash),
    Phpass(PhpassHash),
    Unsafe(UnsafeDigest),
}

/// Why a stored password cannot be verified here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// The account has no password, for instance because its customer signs in by another service.
    NoPassword,
    /// No known format. How the text begins, without anything of the hash itself.
    UnknownFormat(String),
    /// The format protects nothing, and the configuration does not name it.
    Unsafe(PasswordFormat),
    /// Verifying it would take seconds of a core, or hundreds of megabytes.
    TooCostly(PasswordFormat),
}

impl Unusable {
    /// For logs.
    pub(crate) fn format(&self) -> &str {
        match self {
            Self::NoPassword => "none",
            Self::UnknownFormat(beginning) => beginning,
            Self::Unsafe(format) | Self::TooCostly(format) => format.name(),
        }
    }
}

impl StoredHash {
    /// Reads what the shop stores. Unsafe formats are accepted if `allowed_unsafe` has them.
    ///
    /// # Errors
    /// [`Unusable`].
    pub(crate) fn parse(text: &str, allowed_unsafe: &[PasswordFormat]) -> Result<Self, Unusable> {
        // Django writes `!` for accounts without a password; `*` is usual where crypt(3) is used.
        if text.is_empty() || text.starts_with(['!', '*']) {
            return Err(Unusable::NoPassword);
        }
        let (format, primitive) = recognize(text)
            .or_else(|| {
                let is_allowed = allowed_unsafe.contains(&PasswordFormat::Plain);
                is_allowed.then(|| plain(text))
            })
            .ok_or_else(|| Unusable::UnknownFormat(beginning(text)))?;
        if format.is_unsafe() && !allowed_unsafe.contains(&format) {
            return Err(Unusable::Unsafe(format));
        }
        let is_too_costly = match &primitive {
            Primitive::Pbkdf2(hash) => hash.is_too_costly(),
            Primitive::Bcrypt(hash) => hash.is_too_costly(),
            Primitive::Argon2(hash) => hash.is_too_costly(),
            Primitive::Scrypt(hash) => hash.is_too_costly(),
            Primitive::Phpass(hash) => hash.is_too_costly(),
            Primitive::Unsafe(_) => false,
        };
        if is_too_costly {
            return Err(Unusable::TooCostly(format));
        }
        Ok(Self { format, primitive })
    }

    pub(crate) fn format(&self) -> PasswordFormat {
        self.format
    }

    /// Whether the password is right. Compares in constant time.
    pub(crate) fn matches(&self, password: &str) -> bool {
        match &self.primitive {
            Primitive::Pbkdf2(hash) => hash.matches(password),
            Primitive::Bcrypt(hash) => hash.matches(password),
            Primitive::Argon2(hash) => hash.matches(password),
            Primitive::Scrypt(hash) => hash.matches(password),
            Primitive::Phpass(hash) => hash.matches(password),
            Primitive::Unsafe(digest) => digest.matches(password),
        }
    }
}

fn plain(text: &str) -> (PasswordFormat, Primitive) {
    (
        PasswordFormat::Plain,
        Primitive::Unsafe(UnsafeDigest::plain(text)),
    )
}

fn recognize(text: &str) -> Option<(PasswordFormat, Primitive)> {
    if let Some((id, rest)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) {
        return recognize_spring(id, rest);
    }
    if let Some(rest) = text.strip_prefix("argon2$") {
        let hash = Argon2Hash::from_phc(&format!("${rest}"))?;
        return Some((PasswordFormat::DjangoArgon2, Primitive::Argon2(hash)));
    }
    let of = |format| move |primitive| (format, primitive);
    Pbkdf2Hash::from_django(text)
        .map(|(format, hash)| (format, Primitive::Pbkdf2(hash)))
        .or_else(|| BcryptHash::parse(text).map(|(format, hash)| (format, Primitive::Bcrypt(hash))))
        .or_else(|| PhpassHash::parse(text).map(|(format, hash)| (format, Primitive::Phpass(hash))))
        .or_else(|| {
            let hash = ScryptHash::from_django(text).map(Primitive::Scrypt);
            hash.map(of(PasswordFormat::DjangoScrypt))
        })
        .or_else(|| recognize_phc(text))
        .or_else(|| UnsafeDigest::parse(text).map(|(format, hash)| (format, Primitive::Unsafe(hash))))
        .or_else(|| {
            let hash = Pbkdf2Hash::from_aspnet(text).map(Primitive::Pbkdf2);
            hash.map(of(PasswordFormat::AspnetIdentityV3))
        })
}

fn recognize_phc(text: &str) -> Option<(PasswordFormat, Primitive)> {
    if let Some(hash) = Argon2Hash::from_phc(text) {
        return Some((PasswordFormat::Argon2, Primitive::Argon2(hash)));
    }
    if let Some(hash) = ScryptHash::from_phc(text) {
        return Some((PasswordFormat::Scrypt, Primitive::Scrypt(hash)));
    }
    Pbkdf2Hash::from_phc(text).map(|hash| (PasswordFormat::Pbkdf2, Primitive::Pbkdf2(hash)))
}

/// Spring Security writes the id of the encoder in braces before the hash.
fn recognize_spring(id: &str, text: &str) -> Option<(PasswordFormat, Primitive)> {
    match id {
        "bcrypt" => BcryptHash::parse(text).map(|(format, hash)| (format, Primitive::Bcrypt(hash))),
        "argon2" | "argon2@SpringSecurity_v5_8" => {
            Argon2Hash::from_phc(text).map(|hash| (PasswordFormat::Argon2, Primitive::Argon2(hash)))
        }
        "scrypt" | "scrypt@SpringSecurity_v5_8" => {
            ScryptHash::from_spring(text).map(|hash| (PasswordFormat::SpringScrypt, Primitive::Scrypt(hash)))
        }
        "noop" => Some(plain(text)),
        _ => Pbkdf2Hash::from_spring(id, text)
            .map(|hash| (PasswordFormat::SpringPbkdf2, Primitive::Pbkdf2(hash))),
    }
}

/// A text this long is hardly a password itself.
const HASH_LEN_MIN: usize = 40;

/// What names a format at the beginning of a text: `{id}`, `$id$` or `id$`. All else may be a password.
fn beginning(text: &str) -> String {
    named_beginning(text).unwrap_or_else(|| "unknown".to_owned())
}

fn named_beginning(text: &str) -> Option<String> {
    (text.len() >= HASH_LEN_MIN).then_some(())?;
    let (before, rest, after) = match text.as_bytes()[0] {
        b'{' => ("{", &text[1..], '}'),
        b'$' => ("$", &text[1..], '$'),
        _ => ("", text, '$'),
    };
    let (id, _) = rest.split_once(after)?;
    let is_char = |c: char| c.is_ascii_alphanumeric() || "-_@.".contains(c);
    let is_id = (1..=32).contains(&id.len()) && id.chars().all(is_char);
    is_id.then(|| format!("{before}{id}{after}"))
}

#[cfg(test)]
mod tests;

//! Password verification: the formats of stored hashes, and the threads that verify them.

mod formats;
mod password_format;
mod stored_hash;
mod verifier;

pub(crate) use self::password_format::PasswordFormat;
pub use self::password_format::unsafe_password_formats;
pub(super) use self::{
    formats::django_hash,
    stored_hash::{StoredHash, Unusable},
    verifier::{PasswordVerifier, Verdict},
};

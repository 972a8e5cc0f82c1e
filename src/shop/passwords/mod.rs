//! Password verification: the formats of stored hashes, and the threads that verify them.

mod capacity;
mod formats;
mod password_format;
mod stored_hash;
mod typical;
mod verifier;

pub(crate) use self::password_format::PasswordFormat;
pub use self::{
    capacity::PasswordLimits,
    password_format::unsafe_password_formats,
    typical::{PasswordFormatCost, password_format_costs},
};
pub(super) use self::{
    capacity::{HashSample, MeasuredHash},
    formats::django_hash,
    stored_hash::{StoredHash, Unusable},
    verifier::{PasswordVerifier, Verdict},
};

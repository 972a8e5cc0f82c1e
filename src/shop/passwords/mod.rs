//! Password verification: the formats of stored hashes, and the threads that verify them.

mod stored_hash;
mod verifier;

pub(super) use self::{stored_hash::django_hash, verifier::PasswordVerifier};

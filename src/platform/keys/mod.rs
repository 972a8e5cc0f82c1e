//! The service's keys: created once, stored encrypted under one master key, used by everything that signs.
//!
//! `keys.json`, or a table that nodes share, holds random 32-byte secrets by purpose and key id, encrypted
//! with AES-256-GCM. New keys would invalidate every queue token and ticket, so keys that cannot be decrypted
//! are an error, never a reason to create new ones.

mod file;
mod key_set;
mod shared;

/// Bytes of a master key at least: shorter texts can be guessed from a stolen key file.
pub const MASTER_KEY_BYTES_MIN: usize = 32;

pub use self::{
    key_set::{Keys, KeysError},
    shared::record_created_schemas,
};

//! One file a primitive; each knows how shop systems write its hashes.
//!
//! Sources: Django `django/contrib/auth/hashers.py`; the PHC string format
//! (github.com/P-H-C/phc-string-format); phpass (openwall.com/phpass); WordPress 6.8 `wp_hash_password`;
//! Drupal `PhpassHashedPassword`; Spring Security's `DelegatingPasswordEncoder` and the encoders it names;
//! ASP.NET Core Identity `PasswordHasher` (format marker 1).

mod argon2;
mod bcrypt;
mod pbkdf2;
mod phpass;
mod scrypt;
mod unsafe_digest;

pub(crate) use self::pbkdf2::django_hash;
pub(super) use self::{
    argon2::Argon2Hash, bcrypt::BcryptHash, pbkdf2::Pbkdf2Hash, phpass::PhpassHash, scrypt::ScryptHash,
    unsafe_digest::UnsafeDigest,
};

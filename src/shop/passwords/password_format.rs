//! The names of formats, and what several of them need.

/// A format of stored passwords: the system that writes it, and the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum PasswordFormat {
    DjangoPbkdf2Sha256,
    DjangoPbkdf2Sha1,
    DjangoBcrypt,
    DjangoBcryptSha256,
    DjangoArgon2,
    DjangoScrypt,
    Bcrypt,
    Argon2,
    Scrypt,
    Pbkdf2,
    WordpressBcrypt,
    Phpass,
    Drupal,
    SpringPbkdf2,
    SpringScrypt,
    AspnetIdentityV3,
    /// The formats from here on do not protect a password. They are verified only where the configuration
    /// names them.
    Md5,
    SaltedMd5,
    Sha1,
    SaltedSha1,
    Plain,
}

impl PasswordFormat {
    /// Every format with its name in configuration, logs and metrics.
    pub(crate) const ALL: &[(Self, &'static str)] = &[
        (Self::DjangoPbkdf2Sha256, "django_pbkdf2_sha256"),
        (Self::DjangoPbkdf2Sha1, "django_pbkdf2_sha1"),
        (Self::DjangoBcrypt, "django_bcrypt"),
        (Self::DjangoBcryptSha256, "django_bcrypt_sha256"),
        (Self::DjangoArgon2, "django_argon2"),
        (Self::DjangoScrypt, "django_scrypt"),
        (Self::Bcrypt, "bcrypt"),
        (Self::Argon2, "argon2"),
        (Self::Scrypt, "scrypt"),
        (Self::Pbkdf2, "pbkdf2"),
        (Self::WordpressBcrypt, "wordpress_bcrypt"),
        (Self::Phpass, "phpass"),
        (Self::Drupal, "drupal"),
        (Self::SpringPbkdf2, "spring_pbkdf2"),
        (Self::SpringScrypt, "spring_scrypt"),
        (Self::AspnetIdentityV3, "aspnet_identity_v3"),
        (Self::Md5, "md5"),
        (Self::SaltedMd5, "salted_md5"),
        (Self::Sha1, "sha1"),
        (Self::SaltedSha1, "salted_sha1"),
        (Self::Plain, "plain"),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(format, _)| *format == self)
            .map_or("unknown", |(_, name)| name)
    }

    /// Whether a stolen table of such hashes reveals most of the passwords.
    pub(crate) fn is_unsafe(self) -> bool {
        self >= Self::Md5
    }

    /// The formats that protect nothing, with their names.
    pub(crate) fn unsafe_ones() -> impl Iterator<Item = (Self, &'static str)> {
        Self::ALL.iter().copied().filter(|(format, _)| format.is_unsafe())
    }

    /// The unsafe formats with these names.
    pub(crate) fn unsafe_named(names: &[String]) -> Vec<Self> {
        Self::unsafe_ones()
            .filter(|(_, name)| names.iter().any(|it| it == name))
            .map(|(format, _)| format)
            .collect()
    }
}

/// Names of the stored password formats that protect nothing.
#[must_use]
pub fn unsafe_password_formats() -> Vec<&'static str> {
    PasswordFormat::unsafe_ones().map(|(_, name)| name).collect()
}

/// Whether two byte strings are equal, in a time that does not depend on where they differ.
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// PHP systems cut these from both ends of a password before they hash it (PHP's `trim`).
pub(crate) fn trim_as_php(password: &str) -> &str {
    password.trim_matches([' ', '\t', '\n', '\r', '\0', '\u{b}'])
}

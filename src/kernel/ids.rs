//! Ids. Each is a type of its own, so that a hold cannot be looked up by an order's id.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::kernel::{clock::Timestamp, rng::Entropy};

/// Why a text is not a valid id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Empty or too long.
    #[error("must be 1 to {max} characters long")]
    Length {
        /// The limit, in bytes.
        max: usize,
    },
    /// A character that is not allowed.
    #[error("may hold only lower-case letters, digits and hyphens")]
    Character,
    /// Not a UUID.
    #[error("is not a UUID")]
    NotUuid,
}

macro_rules! slug {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Maximum length in bytes.
            pub const LENGTH_MAX: usize = 64;

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                if text.is_empty() || text.len() > Self::LENGTH_MAX {
                    return Err(IdError::Length { max: Self::LENGTH_MAX });
                }
                if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
                    return Err(IdError::Character);
                }
                Ok(Self(text.into()))
            }
        }

        /// Allows map lookups by any text, valid or not.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

slug! {
    /// A sale's id: one queue with one or more performances. Lower-case letters, digits and hyphens.
    SaleId
}
slug! {
    /// A performance's id, unique in its sale: one seating plan, one availability.
    PerformanceId
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl $name {
            /// An id from its UUID.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID.
            #[must_use]
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::try_parse(text).map(Self).map_err(|_| IdError::NotUuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_id! {
    /// A hold's id (UUID version 4). It is unguessable and serves as the hold's secret.
    HoldId
}
uuid_id! {
    /// The id of one admitted visit (UUID version 4).
    VisitId
}
uuid_id! {
    /// An order's id (UUID version 7, so that new orders are adjacent in the ledger). Not a secret: ownership
    /// is checked.
    OrderId
}

impl HoldId {
    /// A new random id.
    #[must_use]
    pub fn random(entropy: &dyn Entropy) -> Self {
        Self(random_uuid(entropy))
    }
}

impl VisitId {
    /// A new random id.
    #[must_use]
    pub fn random(entropy: &dyn Entropy) -> Self {
        Self(random_uuid(entropy))
    }
}

impl OrderId {
    /// A new id, ordered by time.
    #[must_use]
    pub fn new(at: Timestamp, entropy: &dyn Entropy) -> Self {
        let mut random = [0; 10];
        entropy.fill(&mut random);
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(at_ms, &random).into_uuid())
    }
}

fn random_uuid(entropy: &dyn Entropy) -> Uuid {
    let mut random = [0; 16];
    entropy.fill(&mut random);
    uuid::Builder::from_random_bytes(random).into_uuid()
}

/// The authenticated identity of a visitor: `customer:42`, or `device:...` in sales without sign-in.
///
/// A subject has one entry in a queue, whatever devices it uses.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(Arc<str>);

impl Subject {
    /// Maximum length in bytes.
    pub const LENGTH_MAX: usize = 128;

    /// A customer of the shop, by the shop's key of the customer.
    ///
    /// # Errors
    /// [`IdError::Length`] when the key is empty or too long to be one.
    pub fn customer(key: &str) -> Result<Self, IdError> {
        Self::from_stored(&format!("customer:{key}")).and_then(|subject| {
            if key.is_empty() {
                Err(IdError::Length {
                    max: Self::LENGTH_MAX,
                })
            } else {
                Ok(subject)
            }
        })
    }

    /// The shop's key of the customer; `None` for a device.
    #[must_use]
    pub fn customer_key(&self) -> Option<&str> {
        self.0.strip_prefix("customer:")
    }

    /// Parses the stored form, see [`Subject::as_str`].
    ///
    /// # Errors
    /// [`IdError::Length`] when empty or longer than [`Subject::LENGTH_MAX`] bytes.
    pub fn from_stored(text: &str) -> Result<Self, IdError> {
        if text.is_empty() || text.len() > Self::LENGTH_MAX {
            return Err(IdError::Length {
                max: Self::LENGTH_MAX,
            });
        }
        Ok(Self(text.into()))
    }

    /// The stored form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A customer's key is personal data: it stays out of logs.
impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.starts_with("customer:") {
            "Subject(customer)"
        } else {
            "Subject(device)"
        })
    }
}

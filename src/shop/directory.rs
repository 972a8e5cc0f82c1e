//! The port to wherever the shop keeps its customers.

pub(crate) mod sql;

use std::{fmt, time::Duration};

use async_trait::async_trait;

/// A customer as the shop knows her.
#[derive(Clone, PartialEq, Eq)]
pub struct Customer {
    /// The shop's own key for her.
    pub key: String,
    pub name: String,
    /// As the shop stores it, for instance `pbkdf2_sha256$600000$SALT$BASE64` (Django).
    pub password_hash: String,
    pub active: bool,
}

/// Personal data and a hash: neither belongs in a log.
impl fmt::Debug for Customer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Customer(active {})", self.active)
    }
}

/// Why nothing is known of a customer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unavailable {
    /// The shop's database does not answer.
    Down { retry_after: Duration },
    /// It might, but what it may be asked is used up for the moment.
    OverBudget { retry_after: Duration },
}

/// The directory did not answer in time, or not with what was expected. The details have been logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shop's directory did not answer")]
pub struct DirectoryError;

/// Finds customers by their login. One call is one query; it keeps its own deadline.
#[async_trait]
pub trait CustomerDirectory: Send + Sync + 'static {
    /// The customer with this login (trimmed, in lower case), or `None` when there is none.
    async fn find(&self, login: &str) -> Result<Option<Customer>, DirectoryError>;
}

//! The port to the shop's customers.

use std::{fmt, time::Duration};

use async_trait::async_trait;

/// A customer of the shop. `Debug` omits personal data and the hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Customer {
    /// The shop's key of the customer.
    pub key: String,
    /// May be empty.
    pub name: String,
    /// In the shop's format, for instance `pbkdf2_sha256$600000$SALT$BASE64` (Django).
    pub password_hash: String,
    /// Whether the customer may sign in.
    pub active: bool,
}

impl fmt::Debug for Customer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Customer(active {})", self.active)
    }
}

/// Why a customer cannot be looked up now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unavailable {
    /// The shop's database does not respond.
    Down { retry_after: Duration },
    /// The query budget is used up for the moment.
    OverBudget { retry_after: Duration },
}

/// The query failed or timed out. The details have been logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the query of the shop's directory failed")]
pub struct DirectoryError;

/// Finds customers by their login. One call is one query with its own time limit.
#[async_trait]
pub trait CustomerDirectory: Send + Sync + 'static {
    /// The customer with this login (trimmed, in lower case); `None` when there is none.
    ///
    /// # Errors
    /// [`DirectoryError`].
    async fn find(&self, login: &str) -> Result<Option<Customer>, DirectoryError>;
}

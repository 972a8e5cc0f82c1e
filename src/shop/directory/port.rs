//! The port to the shop's customers.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use crate::shop::directory::login::Login;

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

/// Why a lookup has no result. The details have been logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// The query failed or timed out.
    #[error("the query of the shop's directory failed")]
    Failed,
    /// The shop's rows do not say who this is: several customers have the login, or a column that must have a
    /// value has none. Others can be looked up.
    #[error("the shop's customers with this login cannot be told apart or read")]
    Unclear,
}

/// How widely to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// By the login as typed and in lower case, which the shop's index finds.
    Exact,
    /// Whatever the case in which the shop has stored it; the shop may have to read all its customers.
    AnyCase,
}

/// Which customer to find.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// The one who signs in with this login.
    Login(Login),
    /// The one whom the shop knows by this key.
    Key(String),
}

impl Wanted {
    /// By what was typed.
    #[must_use]
    pub fn login(typed: &str) -> Self {
        Self::Login(Login::new(typed))
    }
}

/// Finds customers. One call is one query with its own time limit.
#[async_trait]
pub trait CustomerDirectory: Send + Sync + 'static {
    /// The customer; `None` when there is none. The width of the search is about logins.
    ///
    /// # Errors
    /// [`DirectoryError`].
    async fn find(&self, wanted: &Wanted, search: Search) -> Result<Option<Customer>, DirectoryError>;

    /// Whether [`Search::AnyCase`] can find more than [`Search::Exact`].
    fn searches_any_case(&self) -> bool {
        false
    }

    /// Whether customers can be found by their key.
    fn finds_by_key(&self) -> bool {
        false
    }

    /// Repeats the warning of what an operator has allowed against advice. To be called now and then.
    fn remind(&self) {}
}

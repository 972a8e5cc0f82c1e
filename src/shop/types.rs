//! Configuration, dependencies, outcomes and errors of the shop integration.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    kernel::{Clock, Entropy, Timestamp},
    platform::{keys::Keys, shutdown::Lifecycle, sql},
    shop::{
        directory::DirectoryOpenError,
        handoff::{HandoffConfig, HandoffError},
        oidc::OidcConfig,
        passwords::PasswordLimits,
        replay_guard::store::ReplayGuardLocation,
        session::Session,
    },
};

/// How the shop is connected.
#[derive(Clone, Debug)]
pub struct Config {
    /// `sqlite:/path/shop.db`, `postgres://...` or `mysql://...`; only read.
    pub database_url: String,
    /// SQL with the parameters `:login` and `:login_lower`; returns the columns `id`, `name`,
    /// `password_hash`, `active` and, where several customers may be found, `login`.
    pub customer_query: String,
    /// The same for logins that the first query does not find, whatever their case; empty: there is none.
    pub customer_query_any_case: String,
    /// The same for a customer's key, with the parameter `:id`; empty: there is none.
    pub customer_by_id_query: String,
    /// The same for some customers, without a parameter; empty: there is none.
    pub customer_sample_query: String,
    /// Tables with which it is tried that nothing can be written.
    pub tables: Vec<String>,
    /// Go on where the account could write.
    pub allow_write_access: bool,
    /// Maximum number of connections to the shop's database.
    pub connections_max: u32,
    /// Maximum rate of queries.
    pub queries_per_second_max: u32,
    /// Maximum rate of `customer_query_any_case`.
    pub any_case_queries_per_minute_max: u32,
    /// Time limit of one query, and of waiting for its turn.
    pub query_timeout: Duration,
    /// The threads that verify passwords, and the queue before them.
    pub password_limits: PasswordLimits,
    /// Wrong passwords a minute for one account; 0 means no limit.
    pub wrong_passwords_per_minute: u32,
    /// Stored password formats that protect nothing and are verified all the same, of
    /// [`unsafe_password_formats`](super::unsafe_password_formats).
    pub unsafe_password_formats: Vec<String>,
    /// Whether customers sign in with their password at all.
    pub password_sign_in: bool,
    /// Where customers sign in at the shop itself.
    pub sign_in_url: Option<String>,
    /// How long a session lasts.
    pub session_ttl: Duration,
    /// How hand-offs are verified; `None` disables them.
    pub handoff: Option<HandoffConfig>,
    /// The shop's OpenID provider; `None` without one.
    pub oidc: Option<OidcConfig>,
}

/// Dependencies of [`Shop`](super::Shop).
pub struct Deps {
    /// The process's clock.
    pub clock: Arc<dyn Clock>,
    /// The process's source of randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The service's keys; sessions are authenticated with them.
    pub keys: Keys,
    /// Where signed-out sessions and used hand-offs are recorded.
    pub replay_guard: ReplayGuardLocation,
    /// Ends the background loops.
    pub lifecycle: Lifecycle,
}

/// Maximum length of a login in bytes (RFC 5321's limit of an e-mail address).
pub const LOGIN_BYTES_MAX: usize = 254;
/// Maximum length of a password in bytes, as in Django and WordPress: hashing takes longer for longer ones.
pub const PASSWORD_BYTES_MAX: usize = 4_096;

/// The outcome of a sign-in.
#[derive(Debug)]
pub enum SignInOutcome {
    /// Success, with a new session.
    SignedIn(SignedIn),
    /// Wrong login or password, or a disabled account; never says which.
    Rejected,
    /// The hand-off is not valid, or was used before.
    HandoffRejected(HandoffError),
    /// The shop stores this customer's password in a form that cannot be verified here, or customers sign in
    /// at the shop only.
    AtShopOnly,
    /// Too many wrong passwords for this account, which may not even exist. The password was not looked at.
    TooManyGuesses {
        /// When to retry.
        retry_after: Duration,
    },
    /// Too many sign-ins at this moment.
    Busy {
        /// When to retry; jittered.
        retry_after: Duration,
    },
    /// The shop does not respond: its database, and this customer is not in the cache; or its key set, and no
    /// key is known yet.
    Unreachable {
        /// When to retry; jittered.
        retry_after: Duration,
    },
}

/// A new session.
pub struct SignedIn {
    /// The session token.
    pub token: String,
    /// When the session ends.
    pub expires_at: Timestamp,
    /// The session itself.
    pub session: Session,
    /// The customer's name at the shop; may be empty.
    pub name: String,
}

/// Omits token and name, so that they stay out of logs.
impl fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedIn(until {})", self.expires_at)
    }
}

/// Why the shop cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The shop's database cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryOpenError),
    /// Verifying a password takes longer than a request may.
    #[error(
        "verifying a password of the shop ({format}) takes {check_time:.1?} on this machine, and four fifths \
         of server.request_timeout_ms are {wait_max:.1?}: no sign-in would be answered in time. Raise \
         server.request_timeout_ms, or set shop.password_sign_in = false"
    )]
    PasswordsTooSlow {
        /// The most frequent format.
        format: &'static str,
        /// What was measured.
        check_time: Duration,
        /// How long a sign-in may wait.
        wait_max: Duration,
    },
    /// The system creates no threads.
    #[error("cannot start the password threads: {0}")]
    Threads(std::io::Error),
    /// The database of used tokens cannot be opened.
    #[error(transparent)]
    File(#[from] sql::OpenError),
    /// The used tokens cannot be read.
    #[error("cannot read the used tokens: {0}")]
    UsedTokens(sqlx::Error),
}

/// Why a token could not be marked as used; it stays valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShopError {
    /// The limit of used tokens is reached.
    #[error("too many sessions were signed out recently")]
    TooManyUsedTokens,
    /// Writing failed.
    #[error("the sign-out could not be written")]
    Storage,
}

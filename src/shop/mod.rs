//! The anti-corruption layer before the company's existing shop: its customers, their passwords, its hand-offs.
//!
//! The shop goes on selling while a sale runs, so it is only ever read, and never asked more than the budget allows:
//! a place before the password threads, then memory, then one question per login, breaker, budget, deadline.

mod cached_directory;
mod demo_shop;
mod directory;
mod handoff;
mod passwords;
mod protection;
mod replay_guard;
mod session;
#[cfg(test)]
mod test_dir;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

pub use self::directory::{Customer, CustomerDirectory, DirectoryError};
pub use demo_shop::{DEMO_PASSWORD, DemoShopError, create_demo_shop};
pub use handoff::sign_handoff;
pub use session::Session;

use self::cached_directory::{CachedDirectory, Lookup};
use self::directory::Unavailable;
use self::directory::sql::SqlDirectory;
use self::replay_guard::{UsedToken, ReplayGuard};
use passwords::PasswordVerifier;

pub use self::replay_guard::ReplayGuardLocation;

use crate::{
    kernel::{Clock, Entropy, Subject, Timestamp},
    platform::{keys::Keys, shutdown::Lifecycle, signing::TokenError, sql},
};

/// How the shop's customers are found.
#[derive(Clone, Debug)]
pub struct Config {
    /// `sqlite:/path/shop.db`; opened read-only.
    pub database_url: String,
    /// One `?` parameter, the login; gives the columns `id`, `name`, `password_hash`, `active`.
    pub customer_query: String,
    pub connections_max: u32,
    pub queries_per_second_max: u32,
    pub query_timeout: Duration,
    /// Threads that check passwords, and how many sign-ins may wait for them.
    pub password_threads: usize,
    pub password_queue_max: usize,
    pub session_ttl: Duration,
    /// Issuer and shared secret (HS256) of hand-off tokens; no hand-off without.
    pub handoff: Option<HandoffConfig>,
}

/// How the shop's signed hand-offs are checked.
#[derive(Clone)]
pub struct HandoffConfig {
    pub issuer: String,
    pub audience: String,
    pub secret: String,
}

impl fmt::Debug for HandoffConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "HandoffConfig(issuer {}, audience {})",
            self.issuer, self.audience
        )
    }
}

/// What the shop needs from the house.
pub struct Deps {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub keys: Keys,
    /// Where signed-out sessions and used hand-offs are kept.
    pub replay_guard: ReplayGuardLocation,
    pub life: Lifecycle,
}

/// Longer logins are nobody's (RFC 5321 ends an address there).
pub const LOGIN_BYTES_MAX: usize = 254;
/// Longer passwords are nobody's, and would make the check a burden.
pub const PASSWORD_BYTES_MAX: usize = 128;

/// What a sign-in comes to.
#[derive(Debug)]
pub enum SignInOutcome {
    SignedIn(SignedIn),
    /// Login, password, hand-off or account: it is never said which.
    Rejected,
    /// Too many sign in at this moment.
    Busy {
        retry_after: Duration,
    },
    /// The shop's database does not answer, and this customer was not seen lately.
    Unreachable {
        retry_after: Duration,
    },
}

/// A new session.
pub struct SignedIn {
    pub token: String,
    pub expires_at: Timestamp,
    pub session: Session,
    /// How the shop calls her; may be empty.
    pub name: String,
}

/// Token and name stay out of logs.
impl fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedIn(until {})", self.expires_at)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the shop's database address is not usable: {0}")]
    InvalidUrl(sqlx::Error),
    #[error("cannot start the password threads: {0}")]
    Threads(std::io::Error),
    #[error(transparent)]
    File(#[from] sql::OpenError),
    #[error("cannot read the signed-out sessions: {0}")]
    UsedTokens(sqlx::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShopError {
    #[error("too many sessions were signed out lately")]
    TooManyUsedTokens,
    #[error("the sign-out could not be written")]
    Storage,
}

/// The shop, as the rest of the house sees it.
pub struct Shop {
    config: Config,
    directory: CachedDirectory,
    passwords: PasswordVerifier,
    spent: Arc<ReplayGuard>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    keys: Keys,
}

impl Shop {
    /// Opens the house's side. The shop's database need not be there yet.
    ///
    /// # Errors
    /// [`OpenError`]: an address of no known kind, no threads, or an unusable file of signed-out sessions.
    pub async fn open(config: Config, deps: Deps) -> Result<Arc<Self>, OpenError> {
        let directory = SqlDirectory::new(
            &config.database_url,
            &config.customer_query,
            config.connections_max,
            config.query_timeout,
            Arc::clone(&deps.clock),
        )
        .map_err(OpenError::InvalidUrl)?;
        Self::open_with(config, Arc::new(directory), deps).await
    }

    /// As [`Shop::open`], with a directory of another kind.
    ///
    /// # Errors
    /// As [`Shop::open`].
    pub async fn open_with(
        config: Config,
        directory: Arc<dyn CustomerDirectory>,
        deps: Deps,
    ) -> Result<Arc<Self>, OpenError> {
        let Deps {
            clock,
            entropy,
            keys,
            replay_guard: spent,
            life,
        } = deps;
        let spent = ReplayGuard::open(&spent, Arc::clone(&clock), Arc::clone(&entropy), &life).await?;
        let passwords = PasswordVerifier::start(
            config.password_threads,
            config.password_queue_max,
            &clock,
            Arc::clone(&entropy),
        )
        .map_err(OpenError::Threads)?;
        let customers = CachedDirectory::new(
            directory,
            config.queries_per_second_max,
            config.query_timeout,
            Arc::clone(&clock),
            Arc::clone(&entropy),
            life,
        );
        Ok(Arc::new(Self {
            config,
            directory: customers,
            passwords,
            spent,
            clock,
            entropy,
            keys,
        }))
    }

    /// Signs a customer in with the login and password she has at the shop. The login's case and surrounding blanks do
    /// not matter. While the shop is down, customers seen before are let in on what is remembered of them.
    pub async fn sign_in(&self, login: &str, password: &str) -> SignInOutcome {
        let outcome = self.sign_in_by_password(login, password).await;
        count(&outcome, "password");
        outcome
    }

    /// Signs in whom the shop sent over. Each hand-off counts once; one that is forged, late or used is `Wrong`.
    pub async fn sign_in_by_handoff(&self, token: &str) -> SignInOutcome {
        let outcome = self.accept_handoff(token).await;
        count(&outcome, "handoff");
        outcome
    }

    /// Whose session a token is. No I/O.
    ///
    /// # Errors
    /// [`TokenError`]; a session that was signed out is [`TokenError::Expired`].
    pub fn read_session(&self, token: &str) -> Result<Session, TokenError> {
        let session = Session::from_token(token, &self.keys.session, self.clock.now())?;
        if self.spent.contains(&UsedToken::Session(session.id)) {
            return Err(TokenError::Expired);
        }
        Ok(session)
    }

    /// Ends a session for good, on the disk when this returns. Idempotent.
    ///
    /// # Errors
    /// [`ShopError`]: the session goes on; try again.
    pub async fn sign_out(&self, session: &Session) -> Result<(), ShopError> {
        self.spent
            .spend(UsedToken::Session(session.id), session.expires_at)
            .await
            .map(|_first| ())
    }

    /// Every way through does one password check, so that its time tells nothing either.
    async fn sign_in_by_password(&self, login: &str, password: &str) -> SignInOutcome {
        let login = login.trim();
        if login.is_empty()
            || login.len() > LOGIN_BYTES_MAX
            || password.is_empty()
            || password.len() > PASSWORD_BYTES_MAX
        {
            return SignInOutcome::Rejected;
        }
        let place = match self.passwords.place() {
            Ok(place) => place,
            Err(retry_after) => return SignInOutcome::Busy { retry_after },
        };
        let (customer, trouble) = match self.directory.find(&login.to_lowercase()).await {
            Lookup::Found(customer) => (Some(customer), None),
            Lookup::Stale { customer, why } => (Some(customer), Some(why)),
            Lookup::NotFound => (None, None),
            Lookup::Unavailable(why) => (None, Some(why)),
        };
        let right = self
            .passwords
            .verify(
                place,
                password,
                customer.as_ref().map(|c| c.password_hash.as_str()),
            )
            .await;
        let signed_in = customer
            .filter(|c| right && c.active)
            .and_then(|c| self.new_session(&c.key, c.name));
        match (signed_in, trouble) {
            (Some(signed_in), _) => SignInOutcome::SignedIn(signed_in),
            (None, None) => SignInOutcome::Rejected,
            // The password may be new: what is only remembered does not prove it wrong.
            (None, Some(Unavailable::Down { retry_after })) => {
                SignInOutcome::Unreachable { retry_after }
            }
            (None, Some(Unavailable::OverBudget { retry_after })) => SignInOutcome::Busy { retry_after },
        }
    }

    async fn accept_handoff(&self, token: &str) -> SignInOutcome {
        let valid = self
            .config
            .handoff
            .as_ref()
            .and_then(|config| handoff::read_handoff(config, self.clock.now(), token));
        let Some(handoff) = valid else {
            return SignInOutcome::Rejected;
        };
        let Some(signed_in) = self.new_session(&handoff.customer_key, handoff.name) else {
            return SignInOutcome::Rejected;
        };
        match self
            .spent
            .spend(UsedToken::Handoff(handoff.jti), handoff.forget_after)
            .await
        {
            Ok(true) => SignInOutcome::SignedIn(signed_in),
            Ok(false) => SignInOutcome::Rejected,
            Err(_) => SignInOutcome::Busy {
                retry_after: Duration::from_secs(1).mul_f64(1.0 + self.entropy.unit()),
            },
        }
    }

    /// `None` when the shop's key for her is longer than a subject may be.
    fn new_session(&self, customer_key: &str, name: String) -> Option<SignedIn> {
        let Ok(subject) = Subject::customer(customer_key) else {
            tracing::error!(
                bytes = customer_key.len(),
                "the shop's key of a customer is empty or too long"
            );
            return None;
        };
        let session = Session::new(
            subject,
            self.clock.now(),
            self.config.session_ttl,
            &*self.entropy,
        );
        Some(SignedIn {
            token: session.to_token(&self.keys.session),
            expires_at: session.expires_at,
            session,
            name,
        })
    }
}

fn count(outcome: &SignInOutcome, way: &'static str) {
    let outcome = match outcome {
        SignInOutcome::SignedIn(_) => "signed_in",
        SignInOutcome::Rejected => "wrong",
        SignInOutcome::Busy { .. } => "busy",
        SignInOutcome::Unreachable { .. } => "unreachable",
    };
    metrics::counter!("shop_sign_ins_total", "way" => way, "outcome" => outcome).increment(1);
}

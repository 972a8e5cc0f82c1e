//! Sign-in and sign-out.

use std::{net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{
    kernel::{Clock, Entropy, Subject},
    platform::{keys::Keys, signing::TokenError},
    shop::{
        cached_directory::{Budgets, CachedDirectory, Lookup},
        capacity,
        directory::{CustomerDirectory, DirectoryConfig, Login, SqlDirectory, Unavailable, Wanted},
        guess_limit::GuessLimit,
        handoff::HandoffVerifier,
        oidc::OidcProvider,
        passwords::{PasswordFormat, PasswordVerifier, Verdict},
        replay_guard::{ReplayGuard, UsedToken},
        session::Session,
        types::{
            Config, Deps, LOGIN_BYTES_MAX, OpenError, PASSWORD_BYTES_MAX, ShopError, SignInOutcome, SignedIn,
        },
    },
};

/// How often a warning is repeated.
const REMINDER_INTERVAL: Duration = Duration::from_mins(10);

/// The integration with the existing shop: signs customers in and out.
pub struct Shop {
    config: Config,
    directory: CachedDirectory,
    pub(super) passwords: PasswordVerifier,
    guesses: GuessLimit,
    reminded_at: Mutex<Duration>,
    /// `None` where hand-offs are not configured.
    pub(super) handoffs: Option<HandoffVerifier>,
    /// `None` without an OpenID provider.
    pub(super) provider: Option<Arc<OidcProvider>>,
    pub(super) replay_guard: Arc<ReplayGuard>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) keys: Keys,
}

impl Shop {
    /// Opens the integration. The shop's database may be down; else it is checked that nothing can be written
    /// there, and how many sign-ins this machine can take.
    ///
    /// # Errors
    /// [`OpenError`]: an unsupported URL or query, an account that may write, passwords that cannot be
    /// verified in time, no threads, or an unusable database of used tokens.
    pub async fn open(config: Config, deps: Deps) -> Result<Arc<Self>, OpenError> {
        let directory = SqlDirectory::new(directory_config(&config), Arc::clone(&deps.clock))?;
        let mut measured = None;
        if config.password_sign_in {
            directory.inspect().await?;
            measured = capacity::measure(&config, &directory, &deps.clock).await?;
        }
        let shop = Self::open_with(config, Arc::new(directory), deps).await?;
        if let Some(measured) = measured {
            shop.passwords.calibrate(measured);
        }
        Ok(shop)
    }

    /// Like [`Shop::open`], with another customer directory.
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
            replay_guard: location,
            lifecycle,
        } = deps;
        let replay_guard =
            ReplayGuard::open(&location, Arc::clone(&clock), Arc::clone(&entropy), &lifecycle).await?;
        let passwords = PasswordVerifier::start(
            config.password_limits,
            PasswordFormat::unsafe_named(&config.unsafe_password_formats),
            &clock,
            Arc::clone(&entropy),
        )
        .map_err(OpenError::Threads)?;
        let handoffs = config
            .handoff
            .as_ref()
            .map(|handoff| HandoffVerifier::start(handoff, &clock, &entropy, &lifecycle));
        let provider = config.oidc.clone().map(|oidc| {
            let (clock, entropy) = (Arc::clone(&clock), Arc::clone(&entropy));
            OidcProvider::start(oidc, clock, entropy, &lifecycle)
        });
        let guesses = GuessLimit::new(config.wrong_passwords_per_minute, &clock);
        let customers = CachedDirectory::new(
            directory,
            Budgets {
                queries_per_second_max: config.queries_per_second_max,
                any_case_queries_per_minute_max: config.any_case_queries_per_minute_max,
            },
            config.query_timeout,
            Arc::clone(&clock),
            Arc::clone(&entropy),
            lifecycle,
        );
        Ok(Arc::new(Self {
            config,
            directory: customers,
            passwords,
            guesses,
            handoffs,
            provider,
            replay_guard,
            reminded_at: Mutex::new(clock.monotonic()),
            clock,
            entropy,
            keys,
        }))
    }

    /// Signs a customer in with their login and password at the shop. The login's case and surrounding
    /// whitespace do not matter. While the shop is down, recently seen customers are verified against the
    /// cache. `client` is the caller's network; it has a fair share of the password threads, whatever other
    /// networks ask for.
    pub async fn sign_in(&self, login: &str, password: &str, client: IpAddr) -> SignInOutcome {
        if !self.config.password_sign_in {
            return SignInOutcome::AtShopOnly;
        }
        let outcome = self.sign_in_by_password(login, password, client).await;
        count(&outcome, "password");
        outcome
    }

    /// Verifies a session token. No I/O.
    ///
    /// # Errors
    /// [`TokenError`]; a session that was signed out is [`TokenError::Expired`].
    pub fn read_session(&self, token: &str) -> Result<Session, TokenError> {
        let session = Session::from_token(token, &self.keys.session, self.clock.now())?;
        if self.replay_guard.contains(&UsedToken::Session(session.id)) {
            return Err(TokenError::Expired);
        }
        Ok(session)
    }

    /// Whether the session was ended at any node. [`Shop::read_session`] learns of other nodes' sign-outs a
    /// moment later; what belongs to a person is asked for here. While the sign-outs cannot be read, the
    /// answer is that of this node's copy.
    pub async fn is_signed_out(&self, session: &Session) -> bool {
        self.replay_guard.is_used(&UsedToken::Session(session.id)).await
    }

    /// Ends a session, durably when this returns. Idempotent.
    ///
    /// # Errors
    /// [`ShopError`]: the session is still valid; try again.
    pub async fn sign_out(&self, session: &Session) -> Result<(), ShopError> {
        self.replay_guard
            .use_once(UsedToken::Session(session.id), session.expires_at)
            .await
            .map(|_first| ())
    }

    /// Whether the shop still lets a customer buy: sessions outlive the moment in which the shop closes an
    /// account. The answer is at most as old as cached customers are fresh. While the shop does not answer,
    /// or where it is not asked for customers, who is signed in buys on; so do visitors of sales without a
    /// sign-in.
    pub async fn may_buy(&self, who: &Subject) -> bool {
        let is_asked = self.config.password_sign_in && self.directory.finds_by_key();
        let Some(key) = who.customer_key().filter(|_| is_asked) else {
            return true;
        };
        match self.directory.find(&Wanted::Key(key.to_owned())).await {
            Lookup::Found(customer) | Lookup::Stale { customer, .. } => customer.active,
            Lookup::NotFound => false,
            Lookup::Unclear | Lookup::Unavailable(_) => true,
        }
    }

    /// Where customers sign in at the shop itself, if it is known.
    pub fn sign_in_url(&self) -> Option<&str> {
        self.config.sign_in_url.as_deref()
    }

    /// Drops what is remembered of wrong passwords that no longer count, and repeats the warning of what an
    /// operator has allowed against advice. To be called now and then.
    pub fn upkeep(&self) {
        self.guesses.remove_idle();
        let now = self.clock.monotonic();
        let mut reminded_at = self.reminded_at.lock();
        if now.saturating_sub(*reminded_at) >= REMINDER_INTERVAL {
            *reminded_at = now;
            self.directory.remind();
        }
    }

    async fn sign_in_by_password(&self, login: &str, password: &str, client: IpAddr) -> SignInOutcome {
        let typed = login.trim();
        if typed.is_empty()
            || typed.len() > LOGIN_BYTES_MAX
            // No login has them, and databases refuse some.
            || typed.chars().any(char::is_control)
            || password.is_empty()
            || password.len() > PASSWORD_BYTES_MAX
        {
            return SignInOutcome::Rejected;
        }
        let login = Login::new(typed);
        let guess = match self.guesses.take(login.lower_case(), client) {
            Ok(guess) => guess,
            Err(retry_after) => return SignInOutcome::TooManyGuesses { retry_after },
        };
        let outcome = self.check_password(&login, password, client).await;
        // Which accounts are to be signed in at the shop must not be tried out without a limit either.
        if !matches!(outcome, SignInOutcome::Rejected | SignInOutcome::AtShopOnly) {
            self.guesses.give_back(&guess);
        }
        outcome
    }

    /// Performs one password verification on every path, so that the response time does not reveal which
    /// logins exist.
    async fn check_password(&self, login: &Login, password: &str, client: IpAddr) -> SignInOutcome {
        let slot = match self.passwords.try_reserve(client) {
            Ok(slot) => slot,
            Err(retry_after) => return SignInOutcome::Busy { retry_after },
        };
        let lookup = self.directory.find(&Wanted::Login(login.clone())).await;
        let is_unclear = lookup == Lookup::Unclear;
        let (customer, unavailable) = match lookup {
            Lookup::Found(customer) => (Some(customer), None),
            Lookup::Stale { customer, why } => (Some(customer), Some(why)),
            Lookup::NotFound | Lookup::Unclear => (None, None),
            Lookup::Unavailable(why) => (None, Some(why)),
        };
        let verdict = self
            .passwords
            .verify(
                slot,
                password,
                customer.as_ref().map(|customer| customer.password_hash.as_str()),
            )
            .await;
        let signed_in = customer
            .filter(|customer| verdict == Verdict::Right && customer.active)
            .and_then(|customer| Some(self.new_session(subject_of(&customer.key)?, customer.name)));
        match (signed_in, unavailable) {
            (Some(signed_in), _) => SignInOutcome::SignedIn(signed_in),
            (None, _) if is_unclear || verdict == Verdict::NotVerifiable => SignInOutcome::AtShopOnly,
            (None, None) => SignInOutcome::Rejected,
            // The password may have changed at the shop: a stale hash does not prove that it is wrong.
            (None, Some(Unavailable::Down { retry_after })) => SignInOutcome::Unreachable { retry_after },
            (None, Some(Unavailable::OverBudget { retry_after })) => SignInOutcome::Busy { retry_after },
        }
    }

    pub(super) fn new_session(&self, customer: Subject, name: String) -> SignedIn {
        let session = Session::new(
            customer,
            self.clock.now(),
            self.config.session_ttl,
            &*self.entropy,
        );
        SignedIn {
            token: session.to_token(&self.keys.session),
            expires_at: session.expires_at,
            session,
            name,
        }
    }
}

pub(super) fn directory_config(config: &Config) -> DirectoryConfig {
    DirectoryConfig {
        database_url: config.database_url.clone(),
        customer_query: config.customer_query.clone(),
        customer_query_any_case: config.customer_query_any_case.clone(),
        customer_by_id_query: config.customer_by_id_query.clone(),
        customer_sample_query: config.customer_sample_query.clone(),
        tables: config.tables.clone(),
        allow_write_access: config.allow_write_access,
        connections_max: config.connections_max,
        query_timeout: config.query_timeout,
    }
}

/// `None` when the customer's key is empty, or longer than a subject may be.
fn subject_of(customer_key: &str) -> Option<Subject> {
    let subject = Subject::customer(customer_key).ok();
    if subject.is_none() {
        tracing::error!(
            bytes = customer_key.len(),
            "cannot sign a customer in: their key at the shop is empty or too long"
        );
    }
    subject
}

pub(super) fn count(outcome: &SignInOutcome, method: &'static str) {
    let outcome = match outcome {
        SignInOutcome::SignedIn(_) => "signed_in",
        SignInOutcome::Rejected | SignInOutcome::HandoffRejected(_) => "rejected",
        SignInOutcome::AtShopOnly => "at_shop_only",
        SignInOutcome::TooManyGuesses { .. } => "too_many_guesses",
        SignInOutcome::Busy { .. } => "busy",
        SignInOutcome::Unreachable { .. } => "unreachable",
    };
    metrics::counter!("stagedoor_shop_sign_ins_total", "method" => method, "outcome" => outcome).increment(1);
}

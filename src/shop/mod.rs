//! The anti-corruption layer before the company's existing shop.

use std::time::Duration;

/// How the shop's customers are found.
#[derive(Clone, Debug)]
pub struct Config {
    /// `sqlite:/path/shop.db`; opened read-only.
    pub database_url: String,
    /// One `?` parameter, the login; gives the columns `id`, `name`, `password_hash`, `active`.
    pub customer_query: String,
    pub connections_max: u32,
    pub queries_per_second_max: u32,
    pub query_deadline: Duration,
    /// Threads that check passwords, and how many sign-ins may wait for them.
    pub password_threads: usize,
    pub password_waiting_max: usize,
    pub session_life: Duration,
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

impl std::fmt::Debug for HandoffConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HandoffConfig(issuer {}, audience {})", self.issuer, self.audience)
    }
}

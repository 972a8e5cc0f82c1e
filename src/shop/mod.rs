//! Integration with the company's existing shop: its customers, their passwords, its hand-offs. Translates
//! the shop's data and failures, so that no other module depends on them.
//!
//! The shop keeps selling during a sale, so its database is only read, and within a budget. A sign-in passes
//! in this order: the account's budget of wrong passwords, a slot of the password threads, the cache, one
//! query at a time for each login, the circuit breaker, the query budget, the query's time limit.

mod cached_directory;
mod capacity;
mod circuit_breaker;
mod demo_shop;
mod directory;
mod guess_limit;
mod handoff;
mod handoff_sign_in;
mod inspection;
mod oidc;
mod oidc_sign_in;
mod passwords;
mod query_budget;
mod replay_guard;
mod service;
mod session;
#[cfg(test)]
mod tests;
mod types;

pub use self::{
    demo_shop::{DEMO_PASSWORD, DemoShopError, create_demo_shop},
    directory::{
        Customer, CustomerDirectory, DatabaseKind, DirectoryError, DirectoryOpenError, Login, QueryError,
        QueryFinding, QueryKind, Search, Wanted, check_customer_query,
    },
    handoff::{HandoffConfig, HandoffError, HandoffIssuer, HandoffKeys, SignInState, inspect_handoff_keys},
    handoff_sign_in::DepositOutcome,
    inspection::{CustomerSample, ShopInspection, inspect_shop},
    oidc::{ClientAuthentication, OIDC_RETURN_PATH, OidcConfig, ProviderFinding, inspect_provider},
    passwords::{PasswordFormatCost, PasswordLimits, password_format_costs, unsafe_password_formats},
    replay_guard::ReplayGuardLocation,
    service::Shop,
    session::Session,
    types::{
        Config, Deps, LOGIN_BYTES_MAX, OpenError, PASSWORD_BYTES_MAX, ShopError, SignInOutcome, SignedIn,
    },
};

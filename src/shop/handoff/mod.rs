//! Signed hand-offs: the shop has signed its customer in and says so in a JWT that works once.

mod claims;
mod config;
mod inspection;
mod issuer;
mod one_time_token;
mod verifier;

pub(super) use self::{
    claims::Handoff,
    one_time_token::HandoffCode,
    verifier::{HandoffVerifier, Refusal},
};
pub use self::{
    claims::HandoffError,
    config::{HandoffConfig, HandoffKeys},
    inspection::inspect_handoff_keys,
    issuer::HandoffIssuer,
    one_time_token::SignInState,
};

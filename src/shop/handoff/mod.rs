//! Signed hand-offs: the shop has signed its customer in and says so in a JWT that works once.

mod claims;
mod config;
mod issuer;
mod verifier;

pub(super) use self::verifier::{HandoffVerifier, Refusal};
pub use self::{
    claims::HandoffError,
    config::{HandoffConfig, HandoffKeys},
    issuer::HandoffIssuer,
};

//! A payment gateway that misbehaves on demand: an HTTP service with durable storage whose test cards choose
//! what goes wrong.
//!
//! | card | effect |
//! |---|---|
//! | `tok_ok` | authorized |
//! | `tok_declined` | declined (402) |
//! | `tok_slow` | authorized after a delay |
//! | `tok_timeout_after_success` | authorized, but the first answer never arrives |
//! | `tok_error` | 500 three times without a payment, then declined |
//! | `tok_redirect` | the buyer must approve or decline on a page of the gateway |
//! | `tok_capture_fails` | authorized; every capture is refused |
//! | `tok_webhook_storm` | authorized; every webhook is sent three times, late and out of order |
//! | any other | declined |
//!
//! `POST /v1/payments`, `GET /v1/payments/{key}` and `POST /v1/payments/{key}/capture|void|refund` are
//! idempotent by key. A void makes the key unusable for ever, even before its payment arrives. `GET
//! /v1/statement?after={key}` lists all payments for reconciliation and audits.

mod cards;
mod config;
mod gateway;
mod server;
mod store;
#[cfg(test)]
mod tests;
mod webhooks;

pub use self::config::{SandboxConfig, WebhookTarget};
pub use self::server::{ServeError, serve};
pub use self::store::{Payment, PaymentState};

//! The admin listener: metrics, health, the box office's reports, and operators' calls.
//!
//! It must not be reachable by the public. [`routes::ADMIN_ROUTES`] lists its endpoints, [`openapi`]
//! describes them.

mod events;
pub mod listener;
pub mod openapi;
mod operator_call;
pub mod operators;
mod orders;
pub mod routes;

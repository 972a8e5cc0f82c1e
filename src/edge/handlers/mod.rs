//! Handlers of the public API and the pages: take the proofs, make one call into a context, shape the
//! response.
//!
//! [`crate::edge::routes`] says which handler serves which path; [`crate::edge::openapi`] describes what each
//! can answer.

pub mod call_notice;
pub mod draws;
pub mod forward_auth;
mod hold_limits;
pub mod hold_request;
pub mod holds;
pub mod html;
pub mod join_limits;
pub mod openapi;
pub mod order_request;
pub mod orders;
mod params;
mod purchase_admission;
pub mod queue;
mod request;
mod response;
pub mod sales;
pub mod seats;
pub mod shop_sign_in;
pub mod sign_in;

pub use self::request::NoFields;
use self::response::{CachedBody, cacheable, private_json};
pub(crate) use self::{
    params::Query,
    request::parse_object,
    response::{HandlerResult, task_failed},
};

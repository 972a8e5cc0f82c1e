//! The public HTTP listener: connections, protection against overload, authentication, endpoints and pages.
//!
//! A request passes [`connection`] (accept loop, timeouts), [`Dispatcher`] (rate limit, load shedding, fast
//! path or router), an extractor of [`auth`] that proves who asks, and its handler in [`handlers`]; what
//! fails becomes a problem document in [`errors`]. Everything about an endpoint stands in one row of
//! [`routes::ROUTES`].

pub mod auth;
pub mod connection;
mod dispatch;
pub mod errors;
pub mod handlers;
pub mod openapi;
pub mod overload;
pub mod pages;
pub mod public_base;
mod request_timing;
pub mod routes;
pub mod state;
mod unknown_path;

pub use self::{
    connection::timeouts::ConnectionTimeouts,
    dispatch::Dispatcher,
    public_base::PublicBase,
    state::{
        AppState, BoxOfficeState, ClientLimits, Config, DemoLogin, EndedVisits, HasAppState, PerformanceInfo,
        SaleInfo, ShopSignIn, SignIn, WaitingRoomState,
    },
};

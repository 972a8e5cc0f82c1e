//! The public listener: every URL and every layer on this page.

pub mod cookies;
mod extract;
pub mod http;
pub mod limits;
mod openapi;
pub mod pages;
mod patience;
pub mod problem;
pub mod server;
mod sse;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ::http::{HeaderValue, header};
use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

pub use patience::Patience;

use self::{
    cookies::CookieRules,
    limits::{AddressLimit, Network},
    problem::{Kind, Problem},
};
use crate::{
    checkout::Checkout,
    kernel::{Clock, Entropy, LocalText, SaleId, Timestamp},
    platform::{lifecycle::Lifecycle, signing::Jwk},
    seating::Seating,
    shop::Shop,
    waiting_room::WaitingRoom,
};

/// Limits and addresses of the public listener.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where browsers reach us, without a slash at the end.
    pub public_base: String,
    pub trusted_proxies: Vec<Network>,
    pub body_bytes_max: usize,
    pub body_timeout: Duration,
    /// Whoever waits longer for an answer than this gets 503; a change that was begun still ends.
    pub request_timeout: Duration,
    pub requests_in_flight_max: usize,
}

/// Whether a sale knows its fans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignIn {
    None,
    Customer,
}

/// What the public is told of a performance; the seats themselves are [`Seating`]'s.
#[derive(Clone, Debug)]
pub struct PerformanceOnOffer {
    pub id: crate::kernel::PerformanceId,
    pub title: LocalText,
    pub venue: String,
    pub starts_at: Timestamp,
}

/// One sale with its door.
pub struct SaleOnOffer {
    pub id: SaleId,
    pub title: LocalText,
    pub artist: String,
    pub sign_in: SignIn,
    pub queueing: &'static str,
    pub prequeue_at: Timestamp,
    pub opens_at: Timestamp,
    pub closes_at: Timestamp,
    pub seats_per_fan: u8,
    pub hold: Duration,
    pub performances: Vec<PerformanceOnOffer>,
    /// A login that anybody may use: in the demo only.
    pub demo: Option<http::sales::DemoLogin>,
    pub room: Arc<WaitingRoom>,
}

/// How often an address may do what costs us most.
pub struct AddressLimits {
    pub sign_ins: AddressLimit,
    pub joins: AddressLimit,
    pub requests: AddressLimit,
}

/// Everything that handlers may reach.
pub struct House {
    pub config: Config,
    pub cookies: CookieRules,
    pub sales: BTreeMap<SaleId, Arc<SaleOnOffer>>,
    pub seating: Arc<Seating>,
    pub checkout: Arc<Checkout>,
    pub shop: Arc<Shop>,
    pub pages: pages::Pages,
    /// Public halves of the keys that sign passes and tickets.
    pub public_keys: Vec<Jwk>,
    pub limits: AddressLimits,
    pub in_flight: Semaphore,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub life: Lifecycle,
}

impl House {
    #[must_use]
    pub fn sale(&self, id: &SaleId) -> Option<Arc<SaleOnOffer>> {
        self.sales.get(id).cloned()
    }

    /// A delay that does not bring everybody back at once: uniform in `from_s..=to_s`.
    #[must_use]
    pub fn soon_s(&self, from_s: u64, to_s: u64) -> u64 {
        from_s + self.entropy.below(to_s - from_s + 1)
    }
}

/// All URLs of the public listener.
pub fn router(house: Arc<House>) -> Router {
    use self::http::{gate, orders, places, sales, seats, sign_in, site};
    Router::new()
        // sales and sign-in
        .route("/v1/sales", get(sales::list))
        .route("/v1/sales/{sale}", get(sales::facts))
        .route("/v1/sign-in", post(sign_in::sign_in))
        .route("/v1/sign-in/handoff", post(sign_in::handoff))
        .route("/v1/session", delete(sign_in::sign_out))
        // the waiting room
        .route("/v1/sales/{sale}/queue", post(places::join))
        .route("/v1/sales/{sale}/queue/place", get(places::place).delete(places::leave))
        .route("/v1/sales/{sale}/queue/presence", put(places::present))
        .route("/v1/sales/{sale}/board", get(places::board))
        .route("/v1/sales/{sale}/board/events", get(places::board_events))
        .route("/v1/sales/{sale}/admission", post(places::enter).put(places::renew).delete(places::end_visit))
        // seats
        .route("/v1/sales/{sale}/performances/{performance}/plan", get(seats::plan))
        .route("/v1/sales/{sale}/performances/{performance}/seats", get(seats::snapshot))
        .route("/v1/sales/{sale}/performances/{performance}/seats/events", get(seats::events))
        .route("/v1/sales/{sale}/performances/{performance}/holds", post(seats::hold))
        .route("/v1/holds/{hold}", get(seats::show).patch(seats::swap).delete(seats::release))
        .route("/v1/holds/{hold}/extend", post(seats::extend))
        // checkout
        .route("/v1/orders", get(orders::list).post(orders::place))
        .route("/v1/orders/{order}", get(orders::show))
        .route("/v1/orders/{order}/history", get(orders::history))
        .route("/v1/orders/{order}/tickets", get(orders::tickets))
        .route("/v1/orders/{order}/tickets/{ticket}", get(orders::ticket_code))
        .route("/v1/orders/{order}/confirm", post(orders::confirm))
        .route("/v1/orders/{order}/cancel", post(orders::cancel))
        .route("/v1/orders/{order}/return", get(orders::come_back))
        .route("/v1/webhooks/{gateway}", post(orders::webhook))
        // for other programs
        .route("/v1/gate/{sale}", get(gate::check))
        .route("/.well-known/jwks.json", get(gate::jwks))
        .route("/openapi.json", get(openapi::document))
        // pages
        .route("/", get(site::home))
        .route("/sales/{sale}", get(site::sale))
        .route("/sales/{sale}/seats", get(site::seats))
        .route("/orders/{order}", get(site::order))
        .route("/assets/{*path}", get(site::asset))
        .fallback(site::nothing_here)
        .method_not_allowed_fallback(|| async { Problem::new(Kind::MethodNotAllowed) })
        .layer(middleware::from_fn_with_state(Arc::clone(&house), guard))
        .with_state(house)
}

/// The only layer: refuses early what we could not answer in time, and bounds how long anybody waits.
async fn guard(State(house): State<Arc<House>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if let Some(address) = extract::address(&parts, &house)
        && let Err(wait) = house.limits.requests.take(address)
    {
        return Problem::new(Kind::TooManyRequests).retry_after_s(wait.as_secs() + 1).into_response();
    }
    let Ok(_in_flight) = house.in_flight.try_acquire() else {
        return Problem::new(Kind::Overloaded).retry_after_s(house.soon_s(1, 4)).into_response();
    };
    let answer = next.run(Request::from_parts(parts, body));
    let Ok(mut response) = tokio::time::timeout(house.config.request_timeout, answer).await else {
        metrics::counter!("edge_timeouts_total").increment(1);
        return Problem::new(Kind::Overloaded)
            .detail("not answered in time; what was begun goes on")
            .retry_after_s(house.soon_s(2, 6))
            .into_response();
    };
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

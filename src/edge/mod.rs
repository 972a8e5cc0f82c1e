//! The public listener: every URL, and every bound that holds for all of them, on this page.
//!
//! # Profile of a place and of the board
//! 64 connections on two cores that the client shares (how: README, "Profile it"). A place costs 10 to 12 µs of the node, the
//! bare route 9 to 11.5. Writing the answer to the socket is 55 % (each `writev` carries the loopback's way to the client's
//! socket with it), reading the request 10 %, waiting for the next one 4 %; of what is ours, finding handler, sale and bounds is
//! 5 %, the token's MAC 3 %, place and answer 4 %, hyper's parsing and writing of heads 8 %. The board costs what the bare
//! route of as many bytes costs, 8.6 to 9 µs: 66 % is `writev`, and 3 % the bytes made beforehand and their headers.
//! What it took: no router on this way (a tenth), no layer that boxes, one look-up of the sale, a MAC instead of a
//! signature in the token, a board that is encoded once a tick.

pub mod auth;
pub mod connection;
pub mod errors;
pub mod handlers;
mod openapi;
pub mod overload;
pub mod pages;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::{Future, poll_fn},
    net::IpAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use ::http::{HeaderValue, Method, header};
use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tower::Service;
use utoipa::ToSchema;

pub use self::connection::timeouts::Patience;

use self::{
    auth::{
        cookies::{CookieRules, SaleCookies},
        extractors::{AtDoor, Placed},
    },
    connection::acceptor::Peer,
    errors::problem::{Kind, Problem},
    overload::{
        health::{Concern, Pulse},
        proof_of_work::{InUse, ProofOfWork},
        rate_limit::{AddressLimit, Network, client_address},
        shed::{AtWork, Class, Valve},
    },
};
use crate::{
    checkout::Checkout,
    kernel::{Clock, Entropy, LocalText, Money, PerformanceId, SaleId, Timestamp, VisitId},
    platform::{shutdown::Lifecycle, signing::Jwk},
    seating::Seating,
    shop::Shop,
    waiting_room::{Papers, WaitingRoom},
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
    pub id: PerformanceId,
    pub title: LocalText,
    pub venue: String,
    pub starts_at: Timestamp,
    pub seat_count: usize,
    pub plan_hash: String,
    /// Face price by price zone.
    pub prices: BTreeMap<String, Money>,
}

/// One sale, as every process of the house knows it.
pub struct SaleOnOffer {
    pub id: SaleId,
    pub cookies: SaleCookies,
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
    pub demo: Option<handlers::sales::DemoLogin>,
    /// Reads this sale's tokens and passes.
    pub papers: Arc<dyn Papers>,
}

/// How often an address may do what costs us most.
pub struct AddressLimits {
    pub sign_ins: AddressLimit,
    pub joins: AddressLimit,
    pub requests: AddressLimit,
}

/// What the handlers of every role may reach.
pub struct House {
    pub config: Config,
    pub cookies: CookieRules,
    pub sales: BTreeMap<SaleId, Arc<SaleOnOffer>>,
    pub shop: Arc<Shop>,
    pub pages: pages::Pages,
    /// Public halves of the keys that sign passes, a draw's groups and tickets.
    pub public_keys: Vec<Jwk>,
    pub limits: AddressLimits,
    /// What a place costs where nobody signs in.
    pub proof_of_work: ProofOfWork,
    pub at_work: AtWork,
    /// Turns away what cannot be answered in time.
    pub valve: Valve,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub life: Lifecycle,
}

impl House {
    #[must_use]
    pub fn sale(&self, id: &SaleId) -> Option<Arc<SaleOnOffer>> {
        self.sales.get(id).cloned()
    }

    /// How much of what this node has for requests is in use.
    #[must_use]
    pub fn in_use(&self) -> InUse {
        InUse {
            left: self.at_work.room(),
            of: self.at_work.most,
        }
    }

    /// A delay that does not bring everybody back at once: uniform in `from_s..=to_s`.
    #[must_use]
    pub fn soon_s(&self, from_s: u64, to_s: u64) -> u64 {
        from_s + self.entropy.below(to_s - from_s + 1)
    }

    /// Seconds to come again after, not sooner than this.
    #[must_use]
    pub fn no_sooner_s(&self, than: Duration) -> u64 {
        let least_s = than.as_secs().max(1);
        self.soon_s(least_s, least_s * 2)
    }
}

/// What the waiting room's handlers may reach besides.
#[derive(Clone)]
pub struct Door {
    pub house: Arc<House>,
    /// One for each of the house's sales.
    pub rooms: Arc<BTreeMap<SaleId, Arc<WaitingRoom>>>,
}

impl Door {
    #[must_use]
    pub fn room(&self, sale: &SaleId) -> Option<Arc<WaitingRoom>> {
        self.rooms.get(sale).cloned()
    }

    /// A sale of this name and its room.
    fn find(&self, sale: &str) -> Option<(&Arc<SaleOnOffer>, &Arc<WaitingRoom>)> {
        Some((self.house.sales.get(sale)?, self.rooms.get(sale)?))
    }

    fn at(&self, sale: &str) -> Option<AtDoor> {
        self.find(sale).map(|(sale, room)| AtDoor {
            sale: Arc::clone(sale),
            room: Arc::clone(room),
        })
    }
}

/// What the box office's handlers may reach besides.
#[derive(Clone)]
pub struct BoxOffice {
    pub house: Arc<House>,
    pub seating: Arc<Seating>,
    pub checkout: Arc<Checkout>,
    pub ended: EndedVisits,
    /// How its visitors fare.
    pub pulse: Arc<Pulse>,
}

/// Visits that the box office has seen to their end, until the door has heard of them.
#[derive(Clone, Debug, Default)]
pub struct EndedVisits(Arc<Mutex<BTreeMap<SaleId, Vec<VisitId>>>>);

impl EndedVisits {
    pub fn add(&self, sale: &SaleId, visit: VisitId) {
        self.0.lock().entry(sale.clone()).or_default().push(visit);
    }

    /// Those of one sale since the last time.
    #[must_use]
    pub fn take(&self, sale: &SaleId) -> Vec<VisitId> {
        self.0.lock().remove(sale).unwrap_or_default()
    }
}

/// A router's state, from which the whole house can be reached.
pub trait InHouse: Send + Sync {
    fn house(&self) -> &Arc<House>;
}

impl InHouse for Arc<House> {
    fn house(&self) -> &Arc<House> {
        self
    }
}

impl InHouse for Door {
    fn house(&self) -> &Arc<House> {
        &self.house
    }
}

impl InHouse for BoxOffice {
    fn house(&self) -> &Arc<House> {
        &self.house
    }
}

/// What answers the requests of a listener.
#[derive(Clone)]
pub struct Front {
    urls: Router,
    /// Whose bounds apply to each request; a private listener has none.
    house: Option<Arc<House>>,
    /// The waiting room, if it is here.
    door: Option<Door>,
    /// The box office, if it is here.
    office: Option<BoxOffice>,
}

impl Front {
    /// The public listener of this process.
    #[must_use]
    pub fn public(house: Arc<House>, door: Option<Door>, box_office: Option<BoxOffice>) -> Self {
        Self {
            urls: router(Arc::clone(&house), door.clone(), box_office.clone()),
            house: Some(house),
            door,
            office: box_office,
        }
    }

    /// A listener that only operators and our own programs can reach.
    #[must_use]
    pub fn private(urls: Router) -> Self {
        Self {
            urls,
            house: None,
            door: None,
            office: None,
        }
    }

    /// By which its answers are dated, where it is public.
    fn clock(&self) -> Option<Arc<dyn Clock>> {
        self.house.as_ref().map(|house| Arc::clone(&house.clock))
    }

    /// Answers one request that came over a connection from `peer`. Not a layer: axum would box, clone and route every
    /// request once more for it.
    async fn answer(&self, peer: IpAddr, request: Request) -> Response {
        let Some(house) = &self.house else {
            return self.route(peer, request).await;
        };
        house.at_work.came();
        if house.limits.requests.applies()
            && let Err(wait) = house.limits.requests.take(client_address(
                peer,
                request.headers(),
                &house.config.trusted_proxies,
            ))
        {
            return Problem::new(Kind::TooManyRequests)
                .retry_after_s(wait.as_secs() + 1)
                .into_response();
        }
        let (method, path) = (request.method(), request.uri().path());
        let class = Class::of(method, path);
        let is_timed = class.is_timed(method, path);
        let concern = self
            .office
            .as_ref()
            .and_then(|office| Some((&office.pulse, Concern::of(path)?)));
        let came_at = (is_timed || concern.is_some()).then(|| house.clock.monotonic());
        let response = match house
            .turn_away(class)
            .or_else(|| self.turn_away_orders(house, method, path))
        {
            Some(refusal) => refusal,
            None => self.answer_in_time(house, peer, request).await,
        };
        if let Some(came_at) = came_at {
            let took = house.clock.monotonic().saturating_sub(came_at);
            if is_timed {
                house.valve.answered(took);
            }
            if let Some((pulse, concern)) = concern {
                pulse.answered(concern, took, response.status().is_server_error());
            }
        }
        response
    }

    /// An order that would wait in vain is told so before anything is done for it.
    fn turn_away_orders(&self, house: &House, method: &Method, path: &str) -> Option<Response> {
        let office = self
            .office
            .as_ref()
            .filter(|_| method == Method::POST && path == "/v1/orders")?;
        Some(house.come_again(office.checkout.sends_away()?))
    }

    async fn answer_in_time(&self, house: &House, peer: IpAddr, request: Request) -> Response {
        let Some(_worked) = house.at_work.begin() else {
            return Problem::new(Kind::Overloaded)
                .retry_after_s(house.soon_s(1, 4))
                .into_response();
        };
        let mut response = match self.at_the_wicket(request) {
            Ok(response) => response,
            Err(request) => {
                let mut answering = pin!(self.route(peer, request));
                // What is answered at once needs no timer.
                let answered = match poll_fn(|cx| Poll::Ready(answering.as_mut().poll(cx))).await {
                    Poll::Ready(response) => Ok(response),
                    Poll::Pending => tokio::time::timeout(house.config.request_timeout, answering).await,
                };
                answered.unwrap_or_else(|_| {
                    metrics::counter!("edge_timeouts_total").increment(1);
                    let problem =
                        Problem::new(Kind::Overloaded).detail("not answered in time; what was begun goes on");
                    problem.retry_after_s(house.soon_s(2, 6)).into_response()
                })
            }
        };
        response.headers_mut().insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        response
    }

    /// What a waiting crowd looks at by the million is answered without the router, which would be a tenth of the work, as
    /// are joins ([`Self::joins_at`]); a path that is written in another way finds the same handler there.
    #[expect(clippy::result_large_err, reason = "most are answered")]
    fn at_the_wicket(&self, request: Request) -> Result<Response, Request> {
        let Some(door) = self.door.as_ref().filter(|_| request.method() == Method::GET) else {
            return Err(request);
        };
        let Some((sale, call @ ("board" | "queue/place"))) = of_sale(&request) else {
            return Err(request);
        };
        let Some(at_door) = door.at(sale) else {
            return Err(request);
        };
        if call == "board" {
            return Ok(handlers::queue::board_of(&at_door, request.headers()));
        }
        let (parts, _) = request.into_parts();
        Ok(Placed::of(&parts, door, at_door)
            .map(|placed| handlers::queue::place_of(&placed))
            .into_response())
    }

    /// Where a request wants a place.
    fn joins_at(&self, request: &Request) -> Option<(&Door, &Arc<SaleOnOffer>, &Arc<WaitingRoom>)> {
        let door = self.door.as_ref().filter(|_| request.method() == Method::POST)?;
        let (sale, "queue") = of_sale(request)? else {
            return None;
        };
        let (sale, room) = door.find(sale)?;
        Some((door, sale, room))
    }

    async fn route(&self, peer: IpAddr, mut request: Request) -> Response {
        if let Some((door, sale, room)) = self.joins_at(&request) {
            let address = client_address(peer, request.headers(), &door.house.config.trusted_proxies);
            // Boxed: a connection must not keep room for it while it does something else.
            return Box::pin(handlers::queue::take_place(
                door,
                sale,
                room,
                Some(address),
                request,
            ))
            .await
            .into_response();
        }
        request.extensions_mut().insert(Peer(peer));
        self.urls
            .clone()
            .call(request)
            .await
            .unwrap_or_else(|never: Infallible| match never {})
    }
}

/// `/v1/sales/SALE/CALL`: which sale's, and what of it.
fn of_sale(request: &Request) -> Option<(&str, &str)> {
    request.uri().path().strip_prefix("/v1/sales/")?.split_once('/')
}

/// All URLs of the public listener: those of every process, and those of the roles that this one has. What is not
/// served here does not exist here; the balancer knows who has what (`config/deploy/nginx.conf`).
fn router(house: Arc<House>, door: Option<Door>, box_office: Option<BoxOffice>) -> Router {
    let mut urls = for_all();
    if let Some(door) = door {
        urls = urls
            .merge(waiting_room_pages())
            .merge(waiting_room().with_state(door));
    }
    if let Some(office) = box_office {
        urls = urls
            .merge(box_office_pages())
            .merge(box_office_calls().with_state(office));
    }
    urls.fallback(handlers::html::nothing_here)
        .method_not_allowed_fallback(|| async { Problem::new(Kind::MethodNotAllowed) })
        .with_state(house)
}

fn for_all() -> Router<Arc<House>> {
    use self::handlers::{forward_auth, html, sign_in};
    Router::new()
        .route("/v1/sign-in", post(sign_in::sign_in))
        .route("/v1/sign-in/handoff", post(sign_in::handoff))
        .route("/v1/session", delete(sign_in::sign_out))
        .route("/.well-known/jwks.json", get(forward_auth::jwks))
        .route("/openapi.json", get(openapi::document))
        .route("/assets/{*path}", get(html::asset))
}

fn waiting_room_pages() -> Router<Arc<House>> {
    use self::handlers::html;
    Router::new().route("/", get(html::home))
}

fn waiting_room() -> Router<Door> {
    use self::handlers::{anonymous, draws, forward_auth, html, queue, sales};
    Router::new()
        .route("/sales/{sale}", get(html::sale))
        .route("/sales/{sale}/draw", get(html::draw))
        .route("/v1/sales", get(sales::list))
        .route("/v1/sales/{sale}", get(sales::facts))
        .route("/v1/sales/{sale}/queue", post(queue::join))
        .route("/v1/sales/{sale}/queue/challenge", get(anonymous::challenge))
        .route(
            "/v1/sales/{sale}/queue/place",
            get(queue::place).delete(queue::leave),
        )
        .route("/v1/sales/{sale}/queue/presence", put(queue::present))
        .route("/v1/sales/{sale}/board", get(queue::board))
        .route("/v1/sales/{sale}/board/events", get(queue::board_events))
        .route(
            "/v1/sales/{sale}/admission",
            post(queue::enter).put(queue::renew).delete(queue::end_visit),
        )
        .route("/v1/sales/{sale}/draw", get(draws::draw))
        .route("/v1/sales/{sale}/draw/entries", get(draws::entries))
        .route("/v1/sales/{sale}/draw/receipt", get(draws::receipt))
        // for other programs
        .route("/v1/gate/{sale}", get(forward_auth::check))
}

fn box_office_pages() -> Router<Arc<House>> {
    use self::handlers::html;
    Router::new()
        .route("/sales/{sale}/seats", get(html::seats))
        .route("/orders/{order}", get(html::order))
}

fn box_office_calls() -> Router<BoxOffice> {
    use self::handlers::{orders, seats};
    Router::new()
        // seats
        .route(
            "/v1/sales/{sale}/performances/{performance}/plan",
            get(seats::plan),
        )
        .route(
            "/v1/sales/{sale}/performances/{performance}/seats",
            get(seats::snapshot),
        )
        .route(
            "/v1/sales/{sale}/performances/{performance}/seats/events",
            get(seats::events),
        )
        .route(
            "/v1/sales/{sale}/performances/{performance}/holds",
            post(seats::hold),
        )
        .route(
            "/v1/holds/{hold}",
            get(seats::show).patch(seats::swap).delete(seats::release),
        )
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
}

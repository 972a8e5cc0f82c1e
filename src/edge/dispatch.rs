//! The way of a request from a connection to its handler: rate limit, load shedding, limit of requests in
//! progress, then the fast path or the router.
//!
//! The bounds are plain calls and not `tower` layers, because axum would box, clone and route every request
//! once more for them; the two endpoints that a waiting crowd polls skip the router as well. What is off
//! these paths is composed in [`with_middleware`].

use std::{
    any::Any,
    convert::Infallible,
    future::{Future, poll_fn},
    net::IpAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter},
};
use http::{HeaderValue, Method, Version, header};
use tower::{Service, ServiceBuilder};
use tower_http::{
    catch_panic::{CatchPanic, CatchPanicLayer},
    set_header::{SetResponseHeader, SetResponseHeaderLayer},
};
use tracing::Instrument;

use crate::{
    edge::{
        auth::extractors::{QueueHolder, SaleRoom},
        errors::{
            page::{navigation, page_instead_of_problem},
            problem::{Problem, ProblemType},
            unavailable::overloaded,
        },
        handlers,
        overload::{
            client_ip::{Peer, client_address},
            shed::Priority,
        },
        request_timing,
        routes::{self, FastPath, Handler, ROUTES, Route},
        state::{AppState, BoxOfficeState, SaleInfo, WaitingRoomState},
        unknown_path::not_found,
    },
    waiting_room::WaitingRoom,
};

/// Answers the requests of one listener.
#[derive(Clone)]
pub struct Dispatcher {
    router: Routed,
    /// The state whose bounds apply to each request; a private listener has none.
    app: Option<Arc<AppState>>,
    /// The waiting room, in a process that serves it.
    waiting_room: Option<WaitingRoomState>,
    /// The box office, in a process that serves it.
    box_office: Option<BoxOfficeState>,
}

impl Dispatcher {
    /// The public listener of this process. It serves the shared routes and those of the roles it has.
    #[must_use]
    pub fn public(
        app: Arc<AppState>,
        waiting_room: Option<WaitingRoomState>,
        box_office: Option<BoxOfficeState>,
    ) -> Self {
        Self {
            router: with_middleware(router(
                Arc::clone(&app),
                waiting_room.as_ref(),
                box_office.as_ref(),
            )),
            app: Some(app),
            waiting_room,
            box_office,
        }
    }

    /// A listener that only operators and the service's own processes reach: no limits apply.
    #[must_use]
    pub fn private(router: Router) -> Self {
        Self {
            router: with_middleware(router),
            app: None,
            waiting_room: None,
            box_office: None,
        }
    }

    /// The state that its responses depend on, if it is public.
    pub(crate) fn app(&self) -> Option<Arc<AppState>> {
        self.app.clone()
    }

    /// Answers one request that came over a connection from `peer`.
    pub(crate) async fn respond(&self, peer: IpAddr, request: Request) -> Response {
        let Some(app) = &self.app else {
            return self.call_router(peer, request).await;
        };
        app.in_flight.record_arrival();
        let navigation = navigation(app, &request);
        let response = self.respond_publicly(app, peer, request).await;
        let mut response = match navigation {
            Some(lang) => page_instead_of_problem(app, lang, response),
            None => response,
        };
        app.config.public_base.leave(&mut response);
        response
    }

    async fn respond_publicly(&self, app: &AppState, peer: IpAddr, mut request: Request) -> Response {
        if let Err(refusal) = check_host(&request).and_then(|()| check_rate_limit(app, peer, &request)) {
            return refusal.into_response();
        }
        if app.config.public_base.enter(&mut request).is_none() {
            return not_under_path(app).into_response();
        }
        let Some(route) = routes::find(request.method(), request.uri().path()) else {
            // The router answers that there is no such path or method.
            return match shed(app, Priority::Browsing) {
                Some(refusal) => refusal,
                None => self.respond_in_time(app, None, peer, request).await,
            };
        };
        let is_fast = route.fast_path.is_some();
        let started_at = (!is_fast).then(|| app.clock.monotonic());
        let refusal = shed(app, route.priority).or_else(|| self.shed_order(app, route));
        let is_served = refusal.is_none();
        let response = match refusal {
            Some(refusal) => refusal,
            None => self.respond_in_time(app, Some(route), peer, request).await,
        };
        if let Some(started_at) = started_at {
            let took = app.clock.monotonic().saturating_sub(started_at);
            if route.is_timed {
                app.load_shedder.record_response(took);
            }
            if let (Some(box_office), Some(subsystem)) = (&self.box_office, route.subsystem) {
                box_office
                    .health
                    .record_response(subsystem, took, response.status().is_server_error());
            }
            // A refusal must cost next to nothing, and `requests_shed_total` counts it.
            if is_served {
                request_timing::record(route, response.status(), took);
            }
        }
        response
    }

    /// Refuses an order that the full order limiter would reject, before anything is done for it.
    fn shed_order(&self, app: &AppState, route: &Route<Handler>) -> Option<Response> {
        let box_office = self.box_office.as_ref().filter(|_| route.is_order_limited)?;
        let wait = box_office.checkout.reject_if_full()?;
        Some(overloaded(app.retry_after_at_least_s(wait)))
    }

    /// Answers within `request_timeout`, unless too many requests are in progress.
    async fn respond_in_time(
        &self,
        app: &AppState,
        route: Option<&Route<Handler>>,
        peer: IpAddr,
        request: Request,
    ) -> Response {
        let Some(_permit) = app.in_flight.try_acquire() else {
            return Problem::new(ProblemType::Overloaded)
                .retry_after_s(app.retry_after_jitter_s(1, 4))
                .into_response();
        };
        let request = match self.fast_path(request) {
            Ok(mut response) => {
                response
                    .headers_mut()
                    .insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
                return response;
            }
            Err(request) => request,
        };
        let mut responding = pin!(self.route(route, peer, request));
        // A response that is ready at once needs no timer.
        if let Poll::Ready(response) = poll_fn(|cx| Poll::Ready(responding.as_mut().poll(cx))).await {
            return response;
        }
        tokio::time::timeout(app.config.request_timeout, responding)
            .await
            .unwrap_or_else(|_| {
                metrics::counter!("stagedoor_http_request_timeouts_total").increment(1);
                Problem::new(ProblemType::Overloaded)
                    .detail("no response in time; a change that was begun still completes")
                    .retry_after_s(app.retry_after_jitter_s(2, 6))
                    .into_response()
            })
    }

    /// Answers the endpoints that a waiting crowd polls without the router, which would be a tenth of the
    /// work. A path that is percent-encoded differently finds the same handler through the router.
    #[expect(clippy::result_large_err, reason = "most are answered")]
    fn fast_path(&self, request: Request) -> Result<Response, Request> {
        let Some(state) = self
            .waiting_room
            .as_ref()
            .filter(|_| request.method() == Method::GET)
        else {
            return Err(request);
        };
        let Some((fast_path, sale, _)) = routes::fast_path(request.method(), request.uri().path()) else {
            return Err(request);
        };
        let Some((sale, room)) = state.find(sale) else {
            return Err(request);
        };
        let sale_room = SaleRoom {
            sale: Arc::clone(sale),
            room: Arc::clone(room),
        };
        match fast_path {
            FastPath::Status => Ok(handlers::queue::status_response(&sale_room, request.headers())),
            FastPath::Position => {
                let (parts, body) = request.into_parts();
                match QueueHolder::from_parts(&parts, state, sale_room) {
                    Ok(holder) => handlers::queue::position_at_once(&holder)
                        .ok_or_else(|| Request::from_parts(parts, body)),
                    Err(problem) => Ok(problem.into_response()),
                }
            }
            FastPath::Join => Err(request),
        }
    }

    /// The sale and the waiting room that a request joins.
    fn match_join(
        &self,
        request: &Request,
    ) -> Option<(&WaitingRoomState, &Arc<SaleInfo>, &Arc<WaitingRoom>)> {
        let state = self.waiting_room.as_ref()?;
        let (FastPath::Join, sale, _) = routes::fast_path(request.method(), request.uri().path())? else {
            return None;
        };
        let (sale, room) = state.find(sale)?;
        Some((state, sale, room))
    }

    /// Answers by the join handler or by the router.
    async fn route(&self, route: Option<&Route<Handler>>, peer: IpAddr, request: Request) -> Response {
        if let Some((state, sale, room)) = self.match_join(&request) {
            let address = client_address(peer, request.headers(), &state.app.config.trusted_proxies);
            // Boxed: a connection must not keep room for a join while it does something else.
            let joining = Box::pin(handlers::queue::join_queue(
                state,
                sale,
                room,
                Some(address),
                request,
            ));
            let mut response = joining.await.into_response();
            response
                .headers_mut()
                .insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
            return response;
        }
        let path = route.map(|route| route.path);
        let span = tracing::debug_span!("http_request", method = %request.method(), route = path);
        self.call_router(peer, request).instrument(span).await
    }

    async fn call_router(&self, peer: IpAddr, mut request: Request) -> Response {
        request.extensions_mut().insert(Peer(peer));
        let response = self
            .router
            .clone()
            .call(request)
            .await
            .unwrap_or_else(|never: Infallible| match never {});
        response.map(Body::new)
    }
}

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// One `Host`, as RFC 9112 (3.2) demands: of two, a proxy may have gone by the other one.
fn check_host(request: &Request) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let has_host = hosts.next().is_some();
    if hosts.next().is_some() || (!has_host && request.version() == Version::HTTP_11) {
        return Err(Problem::new(ProblemType::MalformedRequest)
            .with("field", &"Host")
            .detail("exactly one Host header is required"));
    }
    Ok(())
}

/// The refusal of a path that is not the service's: a proxy in front took the path off, or leads here what is
/// another service's.
fn not_under_path(app: &AppState) -> Problem {
    Problem::new(ProblemType::NotFound).detail(format!(
        "this service is at {} (server.public_base): a proxy must pass the path of the request unchanged",
        app.config.public_base.url("/")
    ))
}

/// The limit of requests per client address, where there is one.
fn check_rate_limit(app: &AppState, peer: IpAddr, request: &Request) -> Result<(), Problem> {
    if !app.limits.requests.is_enabled() {
        return Ok(());
    }
    let address = client_address(peer, request.headers(), &app.config.trusted_proxies);
    app.limits
        .requests
        .take(address)
        .map_err(|wait| Problem::new(ProblemType::TooManyRequests).retry_after_s(wait.as_secs() + 1))
}

/// The refusal of a request that is shed; `None` lets it through.
fn shed(app: &AppState, priority: Priority) -> Option<Response> {
    if !app
        .load_shedder
        .sheds(priority, &app.in_flight, || app.entropy.unit())
    {
        return None;
    }
    let (from_s, to_s) = app.load_shedder.retry_after_range_s(priority);
    Some(overloaded(app.retry_after_jitter_s(from_s, to_s)))
}

/// The public listener's router: the rows of [`ROUTES`] that this process serves.
fn router(
    app: Arc<AppState>,
    waiting_room: Option<&WaitingRoomState>,
    box_office: Option<&BoxOfficeState>,
) -> Router {
    let mut router = Router::<Arc<AppState>>::new();
    for Route {
        method,
        path,
        handler,
        ..
    } in ROUTES
    {
        let method = MethodFilter::try_from(method.clone()).expect("a test builds the router");
        let bound: Option<MethodRouter<Arc<AppState>>> = match handler {
            Handler::Shared(bind) => Some(bind(method).with_state(Arc::clone(&app))),
            Handler::WaitingRoom(bind) => waiting_room.map(|state| bind(method).with_state(state.clone())),
            Handler::BoxOffice(bind) => box_office.map(|state| bind(method).with_state(state.clone())),
        };
        if let Some(bound) = bound {
            router = router.route(path, bound);
        }
    }
    router
        .fallback(not_found)
        .method_not_allowed_fallback(|| async { Problem::new(ProblemType::MethodNotAllowed) })
        .with_state(app)
}

/// The router with its layers.
type Routed = SetResponseHeader<CatchPanic<Router, fn(Box<dyn Any + Send>) -> Response>, HeaderValue>;

/// All layers of the routed endpoints, the outermost first. They stand around the router as a whole: axum
/// would box and clone each of them for every route and request. Time limits, load shedding and rate limits
/// are the dispatcher's: they answer with problem documents and must also hold for the fast paths.
fn with_middleware(router: Router) -> Routed {
    ServiceBuilder::new()
        // Browsers must not guess a type: an asset or a problem is what its header says.
        .layer(SetResponseHeaderLayer::overriding(
            header::X_CONTENT_TYPE_OPTIONS,
            NOSNIFF,
        ))
        // A panic in a handler costs one response and not the connection, on which other requests may be in
        // progress.
        .layer(CatchPanicLayer::custom(panic_response as fn(_) -> _))
        .service(router)
}

fn panic_response(_panic: Box<dyn Any + Send>) -> Response {
    Problem::internal("a handler", &"panicked").into_response()
}

//! The one table of the public listener's endpoints: whatever the service knows about an endpoint stands in
//! its row.
//!
//! The router, the load shedder's priorities, the health window, the `route` label of metrics, the OpenAPI
//! document and the balancer's configuration (`config/deploy/nginx.conf`) all read this table, and tests hold
//! each of them against it. An endpoint without a row is not served.
//!
//! The admin listener has a table of the same type ([`crate::ops::admin`]).

use std::sync::LazyLock;

use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;

use crate::edge::{
    handlers::{
        call_notice, draws, forward_auth, holds, html, join_limits, openapi, orders, queue, sales, seats,
        shop_sign_in, sign_in,
    },
    overload::{health::Subsystem, shed::Priority},
    state::{AppState, BoxOfficeState, WaitingRoomState},
};
use crate::shop;

/// Everything that is known about one endpoint. `H` names the handler and the state that it needs.
#[derive(Debug)]
pub struct Route<H> {
    /// The method. A `GET` route answers `HEAD` too.
    pub method: Method,
    /// The path template in axum's notation, such as `/v1/sales/{sale}`. Also the `route` label of metrics.
    pub path: &'static str,
    /// The operation in the OpenAPI document; `None` for pages, assets and the document itself.
    pub operation_id: Option<&'static str>,
    /// How long the load shedder lets requests through.
    pub priority: Priority,
    /// Whether its response time counts towards the late responses of admitted visitors. Calls that wait for
    /// the payment gateway do not count.
    pub is_timed: bool,
    /// Whether it waits in the order limiter, so that it is refused early while the limiter is full.
    pub is_order_limited: bool,
    /// The part of the box office whose health its responses show; `None` where it belongs to none.
    pub subsystem: Option<Subsystem>,
    /// The shortcut past the router, for the endpoints that a waiting crowd calls most.
    pub fast_path: Option<FastPath>,
    /// Whether the response is an event stream, which a proxy must not buffer.
    pub is_event_stream: bool,
    /// The handler, and which processes serve it.
    pub handler: H,
}

/// Endpoints that the dispatcher answers without the router. Each is `/v1/sales/{sale}/...`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastPath {
    /// Takes a queue number.
    Join,
    /// The caller's own position.
    Position,
    /// The public status of a queue.
    Status,
}

/// A handler of the public listener, by the processes that serve it and by the state it needs.
#[derive(Clone, Copy, Debug)]
pub enum Handler {
    /// Every process serves it: sign-in, keys, assets.
    Shared(HandlerOf<std::sync::Arc<AppState>>),
    /// Processes with the waiting room serve it, among it the start page and the sales.
    WaitingRoom(HandlerOf<WaitingRoomState>),
    /// Processes with the box office serve it.
    BoxOffice(HandlerOf<BoxOfficeState>),
}

/// Binds a handler function to the method of its row.
pub type HandlerOf<S> = fn(MethodFilter) -> MethodRouter<S>;

impl<H> Route<H> {
    /// A row with the usual facts: shed with pages and facts, not timed, routed, no stream.
    pub const fn new(method: Method, path: &'static str, operation_id: &'static str, handler: H) -> Self {
        Self {
            method,
            path,
            operation_id: Some(operation_id),
            priority: Priority::Browsing,
            is_timed: false,
            is_order_limited: false,
            subsystem: None,
            fast_path: None,
            is_event_stream: false,
            handler,
        }
    }

    /// A `GET` that is not part of the API: a page, an asset.
    pub const fn page(path: &'static str, handler: H) -> Self {
        let mut route = Self::new(Method::GET, path, "", handler);
        route.operation_id = None;
        route
    }

    /// Sets how long the load shedder lets requests through.
    #[must_use]
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// A call of an admitted visitor: [`Priority::Admitted`], and its response time counts.
    #[must_use]
    pub const fn admitted(mut self) -> Self {
        self.priority = Priority::Admitted;
        self.is_timed = true;
        self
    }

    /// A new order: it waits in the order limiter and for the payment gateway, so its response time does not
    /// count.
    #[must_use]
    pub const fn order_limited(mut self) -> Self {
        self.is_order_limited = true;
        self.is_timed = false;
        self
    }

    /// Counts its responses for the health of `subsystem`.
    #[must_use]
    pub const fn health_of(mut self, subsystem: Subsystem) -> Self {
        self.subsystem = Some(subsystem);
        self
    }

    /// Lets the dispatcher answer it without the router.
    #[must_use]
    pub const fn fast(mut self, fast_path: FastPath) -> Self {
        self.fast_path = Some(fast_path);
        self
    }

    /// Marks an event stream.
    #[must_use]
    pub const fn event_stream(mut self) -> Self {
        self.is_event_stream = true;
        self
    }
}

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const PATCH: Method = Method::PATCH;
const DELETE: Method = Method::DELETE;

/// Every endpoint of the public listener.
pub static ROUTES: &[Route<Handler>] = {
    use self::Handler::{BoxOffice, Shared, WaitingRoom};
    use self::Priority::{Critical, Entering, Queueing};
    use self::Subsystem::{Orders, Seats};
    &[
        // Sign-in, keys and assets: every process.
        Route::new(
            POST,
            "/v1/sign-in",
            "sign_in",
            Shared(|m| on(m, sign_in::sign_in)),
        )
        .priority(Queueing),
        Route::new(
            POST,
            "/v1/sign-in/handoff",
            "sign_in_by_handoff",
            Shared(|m| on(m, sign_in::handoff)),
        )
        .priority(Queueing),
        Route::new(
            POST,
            "/v1/handoffs",
            "deposit_handoff",
            Shared(|m| on(m, shop_sign_in::deposit)),
        )
        .priority(Queueing),
        Route::new(
            GET,
            "/v1/sign-in/shop",
            "sign_in_at_shop",
            Shared(|m| on(m, shop_sign_in::start)),
        )
        .priority(Queueing),
        Route::new(
            POST,
            shop_sign_in::RETURN_PATH,
            "return_from_shop_with_handoff",
            Shared(|m| on(m, shop_sign_in::return_with_form)),
        )
        .priority(Queueing),
        Route::new(
            GET,
            shop_sign_in::RETURN_PATH,
            "return_from_shop_with_code",
            Shared(|m| on(m, shop_sign_in::return_with_code)),
        )
        .priority(Queueing),
        Route::new(
            GET,
            shop::OIDC_RETURN_PATH,
            "return_from_provider",
            Shared(|m| on(m, shop_sign_in::return_from_provider)),
        )
        .priority(Queueing),
        Route::new(
            DELETE,
            "/v1/session",
            "sign_out",
            Shared(|m| on(m, sign_in::sign_out)),
        )
        .priority(Queueing),
        Route::new(
            GET,
            "/.well-known/jwks.json",
            "get_public_keys",
            Shared(|m| on(m, forward_auth::jwks)),
        ),
        Route::page("/openapi.json", Shared(|m| on(m, openapi::document))),
        Route::page("/assets/{*path}", Shared(|m| on(m, html::asset))),
        Route::page("/favicon.ico", Shared(|m| on(m, html::favicon))),
        Route::page("/robots.txt", Shared(|m| on(m, html::robots))),
        // Pages and facts of the sales.
        Route::page("/", WaitingRoom(|m| on(m, html::home))),
        Route::page("/sales/{sale}", WaitingRoom(|m| on(m, html::sale))),
        Route::page("/sales/{sale}/draw", WaitingRoom(|m| on(m, html::draw))),
        Route::page(
            "/sales/{sale}/qr.svg",
            WaitingRoom(|m| on(m, html::sale_address_code)),
        ),
        Route::new(
            GET,
            "/v1/sales",
            "list_sales",
            WaitingRoom(|m| on(m, sales::list)),
        ),
        Route::new(
            GET,
            "/v1/sales/{sale}",
            "get_sale",
            WaitingRoom(|m| on(m, sales::show)),
        ),
        // The queue.
        Route::new(
            POST,
            "/v1/sales/{sale}/queue",
            "join_queue",
            WaitingRoom(|m| on(m, queue::join)),
        )
        .priority(Queueing)
        .fast(FastPath::Join),
        Route::new(
            DELETE,
            "/v1/sales/{sale}/queue",
            "leave_queue",
            WaitingRoom(|m| on(m, queue::leave)),
        )
        .priority(Queueing),
        Route::new(
            GET,
            "/v1/sales/{sale}/queue/challenge",
            "get_join_challenge",
            WaitingRoom(|m| on(m, join_limits::challenge)),
        )
        .priority(Queueing),
        Route::new(
            GET,
            "/v1/sales/{sale}/queue/position",
            "get_queue_position",
            WaitingRoom(|m| on(m, queue::position)),
        )
        .priority(Queueing)
        .fast(FastPath::Position),
        Route::new(
            PUT,
            "/v1/sales/{sale}/queue/heartbeat",
            "send_heartbeat",
            WaitingRoom(|m| on(m, queue::heartbeat)),
        )
        .priority(Queueing),
        Route::new(
            GET,
            "/v1/sales/{sale}/queue/call-notice",
            "get_call_notice",
            WaitingRoom(|m| on(m, call_notice::get)),
        )
        .priority(Queueing),
        Route::new(
            PUT,
            "/v1/sales/{sale}/queue/call-notice",
            "ask_for_call_notice",
            WaitingRoom(|m| on(m, call_notice::ask)),
        )
        .priority(Queueing),
        Route::new(
            DELETE,
            "/v1/sales/{sale}/queue/call-notice",
            "withdraw_call_notice",
            WaitingRoom(|m| on(m, call_notice::withdraw)),
        )
        .priority(Queueing),
        // Never shed: its bytes are encoded once a tick, so that answering costs no more than refusing.
        Route::new(
            GET,
            "/v1/sales/{sale}/status",
            "get_queue_status",
            WaitingRoom(|m| on(m, queue::status)),
        )
        .priority(Critical)
        .fast(FastPath::Status),
        Route::new(
            GET,
            "/v1/sales/{sale}/status/events",
            "stream_queue_status",
            WaitingRoom(|m| on(m, queue::status_events)),
        )
        .priority(Queueing)
        .event_stream(),
        // Admission.
        Route::new(
            POST,
            "/v1/sales/{sale}/admission",
            "enter",
            WaitingRoom(|m| on(m, queue::enter)),
        )
        .priority(Entering),
        Route::new(
            PUT,
            "/v1/sales/{sale}/admission",
            "renew_pass",
            WaitingRoom(|m| on(m, queue::renew)),
        )
        .admitted(),
        Route::new(
            DELETE,
            "/v1/sales/{sale}/admission",
            "end_visit",
            WaitingRoom(|m| on(m, queue::end_visit)),
        )
        .admitted(),
        Route::new(
            GET,
            "/v1/forward-auth/{sale}",
            "check_pass",
            WaitingRoom(|m| on(m, forward_auth::check)),
        )
        .admitted(),
        // The random draw.
        Route::new(
            GET,
            "/v1/sales/{sale}/draw",
            "get_draw",
            WaitingRoom(|m| on(m, draws::draw)),
        ),
        Route::new(
            GET,
            "/v1/sales/{sale}/draw/entries",
            "list_draw_entries",
            WaitingRoom(|m| on(m, draws::entries)),
        ),
        Route::new(
            GET,
            "/v1/sales/{sale}/draw/receipt",
            "get_draw_receipt",
            WaitingRoom(|m| on(m, draws::receipt)),
        ),
        // The box office's pages.
        Route::page("/sales/{sale}/seats", BoxOffice(|m| on(m, html::seats))),
        Route::page("/orders", BoxOffice(|m| on(m, html::orders))),
        Route::page("/orders/{order}", BoxOffice(|m| on(m, html::order))),
        // Seats and holds.
        Route::new(
            GET,
            "/v1/sales/{sale}/performances/{performance}/plan",
            "get_seating_plan",
            BoxOffice(|m| on(m, seats::plan)),
        ),
        Route::new(
            GET,
            "/v1/sales/{sale}/performances/{performance}/seats",
            "get_seats",
            BoxOffice(|m| on(m, seats::snapshot)),
        )
        .admitted()
        .health_of(Seats),
        Route::new(
            GET,
            "/v1/sales/{sale}/performances/{performance}/seats/events",
            "stream_seats",
            BoxOffice(|m| on(m, seats::events)),
        )
        .admitted()
        .health_of(Seats)
        .event_stream(),
        Route::new(
            POST,
            "/v1/sales/{sale}/performances/{performance}/holds",
            "hold_seats",
            BoxOffice(|m| on(m, holds::create)),
        )
        .admitted()
        .health_of(Seats),
        Route::new(GET, "/v1/holds", "list_holds", BoxOffice(|m| on(m, holds::list)))
            .admitted()
            .health_of(Seats),
        Route::new(
            GET,
            "/v1/holds/{hold}",
            "get_hold",
            BoxOffice(|m| on(m, holds::show)),
        )
        .admitted()
        .health_of(Seats),
        Route::new(
            PATCH,
            "/v1/holds/{hold}",
            "swap_seats",
            BoxOffice(|m| on(m, holds::swap)),
        )
        .admitted()
        .health_of(Seats),
        Route::new(
            DELETE,
            "/v1/holds/{hold}",
            "release_hold",
            BoxOffice(|m| on(m, holds::release)),
        )
        .admitted()
        .health_of(Seats),
        Route::new(
            POST,
            "/v1/holds/{hold}/extend",
            "extend_hold",
            BoxOffice(|m| on(m, holds::extend)),
        )
        .admitted()
        .health_of(Seats),
        // Orders. How long these take is up to the gateway.
        Route::new(
            GET,
            "/v1/orders",
            "list_orders",
            BoxOffice(|m| on(m, orders::list)),
        )
        .admitted()
        .health_of(Orders),
        Route::new(
            POST,
            "/v1/orders",
            "place_order",
            BoxOffice(|m| on(m, orders::create)),
        )
        .admitted()
        .order_limited()
        .health_of(Orders),
        Route::new(
            GET,
            "/v1/orders/{order}",
            "get_order",
            BoxOffice(|m| on(m, orders::show)),
        )
        .admitted()
        .health_of(Orders),
        Route::new(
            GET,
            "/v1/orders/{order}/history",
            "get_order_history",
            BoxOffice(|m| on(m, orders::history)),
        )
        .admitted()
        .health_of(Orders),
        Route::new(
            GET,
            "/v1/orders/{order}/tickets",
            "list_tickets",
            BoxOffice(|m| on(m, orders::tickets)),
        )
        .admitted()
        .health_of(Orders),
        Route::new(
            GET,
            "/v1/orders/{order}/tickets/{ticket}",
            "get_ticket_code",
            BoxOffice(|m| on(m, orders::ticket_code)),
        )
        .admitted()
        .health_of(Orders),
        Route::new(
            POST,
            "/v1/orders/{order}/confirm",
            "confirm_order",
            BoxOffice(|m| on(m, orders::confirm)),
        )
        .priority(Critical)
        .health_of(Orders),
        Route::new(
            POST,
            "/v1/orders/{order}/cancel",
            "cancel_order",
            BoxOffice(|m| on(m, orders::cancel)),
        )
        .admitted()
        .health_of(Orders),
        Route::new(
            GET,
            "/v1/orders/{order}/return",
            "return_from_payment",
            BoxOffice(|m| on(m, orders::payment_return)),
        )
        .priority(Critical)
        .health_of(Orders),
        Route::new(
            POST,
            "/v1/webhooks/{gateway}",
            "receive_webhook",
            BoxOffice(|m| on(m, orders::webhook)),
        )
        .priority(Critical),
    ]
};

/// The row that serves a request; `None` when the path, or the method on it, is not served at all.
///
/// Called once for each request, before anything else is done for it.
pub fn find(method: &Method, path: &str) -> Option<&'static Route<Handler>> {
    static BY_PATH: LazyLock<matchit::Router<Vec<&'static Route<Handler>>>> = LazyLock::new(by_path);
    // A `HEAD` is answered as a `GET`.
    let method = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    match fast_path(method, path) {
        Some((_, _, route)) => Some(route),
        None => BY_PATH
            .at(path)
            .ok()?
            .value
            .iter()
            .copied()
            .find(|route| route.method == *method),
    }
}

/// The row of a request on a fast path, and the sale that its path names.
pub(crate) fn fast_path<'a>(
    method: &Method,
    path: &'a str,
) -> Option<(FastPath, &'a str, &'static Route<Handler>)> {
    static FAST: LazyLock<Vec<(FastPath, &'static str, &'static Route<Handler>)>> = LazyLock::new(|| {
        let fast = |route: &'static Route<Handler>| {
            Some((
                route.fast_path?,
                route.path.strip_prefix("/v1/sales/{sale}/")?,
                route,
            ))
        };
        ROUTES.iter().filter_map(fast).collect()
    });
    let (sale, call) = path.strip_prefix("/v1/sales/")?.split_once('/')?;
    let (fast_path, _, route) = FAST
        .iter()
        .find(|(_, fast_call, route)| *fast_call == call && route.method == *method)?;
    Some((*fast_path, sale, route))
}

/// The rows by path, as the router matches them.
fn by_path() -> matchit::Router<Vec<&'static Route<Handler>>> {
    let mut paths = std::collections::BTreeMap::<&str, Vec<_>>::new();
    for route in ROUTES {
        paths.entry(route.path).or_default().push(route);
    }
    let mut router = matchit::Router::new();
    for (path, routes) in paths {
        router.insert(path, routes).expect("a test matches every path");
    }
    router
}

#[cfg(test)]
mod tests;

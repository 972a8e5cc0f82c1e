//! The one table of the admin listener's endpoints.

use axum::{Router, extract::DefaultBodyLimit, routing::on};
use bytes::Bytes;
use http::Method;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::{
    edge::{
        errors::problem::{Problem, ProblemType},
        routes::{HandlerOf, Route},
    },
    ops::{
        admin::{
            events,
            listener::{self, ProcessState, Readiness},
            operators::{self, COMMAND_BYTES_MAX, OperatorApi},
            orders,
        },
        reports::{BoxOfficeFeed, accept_report},
    },
};

/// A handler of the admin listener, by the state that it needs.
#[derive(Clone, Copy, Debug)]
pub enum AdminHandler {
    /// It tells about this process.
    Process(HandlerOf<ProcessState>),
    /// It takes the box office's reports.
    Reports(HandlerOf<BoxOfficeFeed>),
    /// It serves operators.
    Operators(HandlerOf<OperatorApi>),
}

const GET: Method = Method::GET;
const POST: Method = Method::POST;

/// Every endpoint of the admin listener.
pub static ADMIN_ROUTES: &[Route<AdminHandler>] = {
    use self::AdminHandler::{Operators, Process, Reports};
    &[
        Route::new(
            GET,
            "/metrics",
            "get_metrics",
            Process(|m| on(m, listener::metrics)),
        ),
        Route::new(
            GET,
            "/health/live",
            "get_liveness",
            Process(|m| on(m, listener::live)),
        ),
        Route::new(
            GET,
            "/health/ready",
            "get_readiness",
            Process(|m| on(m, listener::ready)),
        ),
        Route::page("/openapi.json", Process(|m| on(m, listener::openapi_document))),
        Route::new(
            POST,
            "/v1/box-office/{sale}/reports",
            "report_box_office",
            Reports(|m| on(m, accept_report)),
        ),
        Route::new(
            GET,
            "/v1/admin/sales/{sale}",
            "get_admission_settings",
            Operators(|m| on(m, operators::show)),
        ),
        Route::new(
            POST,
            "/v1/admin/sales/{sale}/commands",
            "execute_command",
            Operators(|m| on(m, operators::execute).layer(DefaultBodyLimit::max(COMMAND_BYTES_MAX))),
        ),
        Route::new(
            POST,
            "/v1/admin/sales/{sale}/orders/{order}/cancel",
            "cancel_order_by_operator",
            Operators(|m| on(m, orders::cancel).layer(DefaultBodyLimit::max(COMMAND_BYTES_MAX))),
        ),
        Route::new(
            GET,
            "/v1/admin/events",
            "get_events",
            Operators(|m| on(m, events::feed)),
        ),
        Route::new(
            POST,
            "/v1/admin/events/replay",
            "replay_events",
            Operators(|m| on(m, events::replay).layer(DefaultBodyLimit::max(COMMAND_BYTES_MAX))),
        ),
        Route::new(
            GET,
            "/v1/admin/dead-letters",
            "get_dead_letters",
            Operators(|m| on(m, events::dead_letters)),
        ),
        Route::new(
            POST,
            "/v1/admin/dead-letters/resend",
            "resend_dead_letters",
            Operators(|m| on(m, events::resend_all).layer(DefaultBodyLimit::max(COMMAND_BYTES_MAX))),
        ),
        Route::new(
            POST,
            "/v1/admin/dead-letters/{event}/resend",
            "resend_dead_letter",
            Operators(|m| on(m, events::resend)),
        ),
        Route::new(
            POST,
            "/v1/admin/dead-letters/{event}/skip",
            "skip_dead_letter",
            Operators(|m| on(m, events::skip)),
        ),
    ]
};

/// The router of the admin listener. `openapi_document` is the encoded document of this table.
pub fn router(
    readiness: Readiness,
    metrics: Option<PrometheusHandle>,
    openapi_document: Bytes,
    reports: &BoxOfficeFeed,
    operators: &OperatorApi,
) -> Router {
    let process = ProcessState {
        readiness,
        metrics,
        openapi_document,
    };
    let mut router = Router::new();
    for route in ADMIN_ROUTES {
        let method = route
            .method
            .clone()
            .try_into()
            .expect("the table names methods that the router knows");
        let handler = match route.handler {
            AdminHandler::Process(bind) => bind(method).with_state(process.clone()),
            AdminHandler::Reports(bind) => bind(method).with_state(reports.clone()),
            AdminHandler::Operators(bind) => bind(method).with_state(operators.clone()),
        };
        router = router.route(route.path, handler);
    }
    router
        .fallback(|| async { Problem::new(ProblemType::NotFound) })
        .method_not_allowed_fallback(|| async { Problem::new(ProblemType::MethodNotAllowed) })
}

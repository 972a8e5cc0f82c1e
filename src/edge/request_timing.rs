//! The histogram of response times: one handle a route and status, looked up once.
//!
//! The macro of the `metrics` crate would hash three labels for each request, a tenth of what a hold costs.

use std::{
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use http::StatusCode;
use metrics::Histogram;

use crate::edge::routes::{Handler, ROUTES, Route};

const STATUS_MIN: u16 = 100;
const STATUSES: usize = 500;

/// The handles of one route by status.
type ByStatus = Box<[OnceLock<Histogram>]>;

/// Records how long a served request of this route took.
pub(crate) fn record(route: &'static Route<Handler>, status: StatusCode, took: Duration) {
    static HANDLES: LazyLock<Vec<ByStatus>> = LazyLock::new(|| {
        let by_status = || (0..STATUSES).map(|_| OnceLock::new()).collect();
        ROUTES.iter().map(|_| by_status()).collect()
    });
    let handle = ROUTES
        .element_offset(route)
        .and_then(|at| HANDLES[at].get(usize::from(status.as_u16().saturating_sub(STATUS_MIN))));
    if let Some(handle) = handle {
        handle
            .get_or_init(|| {
                metrics::histogram!(
                    "http_server_request_duration_seconds",
                    "route" => route.path,
                    "method" => route.method.as_str(),
                    "status" => status.as_str().to_owned()
                )
            })
            .record(took);
    }
}

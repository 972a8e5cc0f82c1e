//! The private listener: metrics, health, the box office's reports, and operators' orders. Never to be reachable by the public.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::ops::{admin::operators::OperatorApi, reports::BoxOfficeFeed};

/// Whether this node should get traffic: false until everything is recovered, and from the moment it is to stop.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::SeqCst);
    }

    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

#[derive(Clone)]
struct Ops {
    readiness: Readiness,
    metrics: Option<PrometheusHandle>,
}

/// All URLs of the private listener.
pub fn router(
    readiness: Readiness,
    metrics: Option<PrometheusHandle>,
    reports: BoxOfficeFeed,
    operators: OperatorApi,
) -> Router {
    Router::new()
        .route("/metrics", get(render_metrics))
        .route("/health/live", get(|| async { StatusCode::NO_CONTENT }))
        .route("/health/ready", get(ready))
        .with_state(Ops { readiness, metrics })
        .merge(reports.router())
        .merge(operators.router())
}

async fn ready(State(ops): State<Ops>) -> StatusCode {
    if ops.readiness.is_ready() {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

async fn render_metrics(State(ops): State<Ops>) -> Response {
    let Some(metrics) = ops.metrics else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut response = metrics.render().into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4"),
    );
    response
}

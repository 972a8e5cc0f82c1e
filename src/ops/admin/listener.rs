//! What the admin listener tells about its process: metrics, liveness and readiness.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::{
    edge::{
        errors::problem::{Problem, ProblemType},
        handlers::openapi::json_document,
    },
    platform::process::Process,
};

/// The content type of Prometheus's text format.
pub(super) const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// Whether this node should get traffic: false until recovery is complete, again from the beginning of a
/// shutdown, and while a condition of the process is not met. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    is_open: Arc<AtomicBool>,
    process: Process,
}

impl Readiness {
    /// The readiness of this process.
    #[must_use]
    pub fn of(process: &Process) -> Self {
        Self {
            is_open: Arc::default(),
            process: process.clone(),
        }
    }

    /// Sets whether the process takes traffic at all.
    pub fn set(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::SeqCst);
    }

    fn unmet_conditions(&self) -> Vec<String> {
        self.process.unmet_conditions()
    }

    /// Whether this node should get traffic.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_open.load(Ordering::SeqCst) && self.process.unmet_conditions().is_empty()
    }
}

/// State of the handlers that tell about the process.
#[derive(Clone)]
pub struct ProcessState {
    pub(super) readiness: Readiness,
    /// `None` where another recorder is installed, as in tests with several processes in one.
    pub(super) metrics: Option<PrometheusHandle>,
    pub(super) openapi_document: Bytes,
}

/// `GET /health/live`: the process answers.
pub(super) async fn live() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// `GET /health/ready`: whether a balancer should send traffic.
pub(super) async fn ready(State(process): State<ProcessState>) -> Response {
    if process.readiness.is_ready() {
        return StatusCode::NO_CONTENT.into_response();
    }
    let mut reasons = process.readiness.unmet_conditions();
    if reasons.is_empty() {
        reasons.push("the process starts or stops".into());
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n")).into_response()
}

/// `GET /metrics`: all metrics in Prometheus's text format.
pub(super) async fn metrics(State(process): State<ProcessState>) -> Result<Response, Problem> {
    let metrics = process
        .metrics
        .ok_or_else(|| Problem::new(ProblemType::NotFound).detail("this process records no metrics"))?;
    let mut response = metrics.render().into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(METRICS_CONTENT_TYPE),
    );
    Ok(response)
}

/// `GET /openapi.json` on the admin listener.
pub(super) async fn openapi_document(State(process): State<ProcessState>) -> Response {
    json_document(&process.openapi_document)
}

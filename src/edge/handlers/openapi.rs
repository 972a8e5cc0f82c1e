//! The OpenAPI document, as the composition root encoded it.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use bytes::Bytes;
use http::{HeaderValue, header};

use crate::edge::state::AppState;

/// `GET /openapi.json`: the document of the public API.
pub async fn document(State(app): State<Arc<AppState>>) -> Response {
    json_document(&app.openapi_document)
}

/// The response with an encoded OpenAPI document.
pub fn json_document(encoded: &Bytes) -> Response {
    let mut response = Response::new(encoded.clone().into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=300"),
    );
    response
}

//! One handler a call: take the proofs, make one call into the house, shape the answer.

pub mod gate;
pub mod orders;
pub mod places;
pub mod sales;
pub mod seats;
pub mod sign_in;
pub mod site;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::problem::Problem;
use crate::platform::lifecycle::Broken;

type Answer = Result<Response, Problem>;

/// JSON that belongs to one visitor: never stored on the way.
fn private_json<T: serde::Serialize>(status: StatusCode, body: &T) -> Response {
    let bytes = serde_json::to_vec(body).expect("wire types are JSON");
    let mut response = (status, bytes).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    response
}

/// Bytes that were encoded once for everybody, or 304 when the caller has them already.
fn shared(headers: &HeaderMap, content_type: &'static str, etag: &str, cache: &'static str, bytes: &Bytes, gzip: Option<&Bytes>) -> Response {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).is_some_and(|v| v.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag));
    let packed = gzip.filter(|_| accepts_gzip(headers));
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Response::new(Body::from(packed.unwrap_or(bytes).clone()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if packed.is_some() {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    };
    let out = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(etag) {
        out.insert(header::ETAG, etag);
    }
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    if gzip.is_some() {
        out.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    response
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|coding| {
            let mut parts = coding.split(';');
            parts.next().is_some_and(|name| name.trim() == "gzip") && !parts.any(|p| matches!(p.trim(), "q=0" | "q=0.0"))
        })
}

fn broken(e: Broken) -> Problem {
    Problem::internal("a state change", &e)
}

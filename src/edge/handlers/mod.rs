//! One handler a call: take the proofs, make one call into the house, shape the answer.

pub mod anonymous;
pub mod draws;
pub mod forward_auth;
pub mod html;
pub mod orders;
pub mod queue;
pub mod sales;
pub mod seats;
pub mod sign_in;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::edge::errors::problem::Problem;
use crate::platform::shutdown::TaskPanicked;

type HandlerResult = Result<Response, Problem>;

/// Room for the JSON that is asked for most.
const JSON_CAPACITY: usize = 256;

/// JSON that belongs to one visitor: never stored on the way.
fn private_json<T: serde::Serialize>(status: StatusCode, body: &T) -> Response {
    let mut bytes = Vec::with_capacity(JSON_CAPACITY);
    serde_json::to_writer(&mut bytes, body).expect("wire types are JSON");
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-store"),
    );
    response
}

/// In which forms a body is at hand.
enum CachedBody<'a> {
    /// As it is, and perhaps compressed.
    PlainAndGzip(&'a Bytes, Option<&'a Bytes>),
    /// Compressed only: large, and hardly anybody wants it otherwise.
    GzipOnly(Bytes),
}

/// Bytes that were encoded once for everybody, or 304 when the caller has them already.
fn cacheable(
    headers: &HeaderMap,
    content_type: &'static str,
    etag: &str,
    cache: &'static str,
    form: CachedBody<'_>,
) -> Response {
    let varies = !matches!(form, CachedBody::PlainAndGzip(_, None));
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| {
            v.split(',')
                .any(|tag| tag.trim().trim_start_matches("W/") == etag)
        });
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        encoded_body(headers, content_type, form)
    };
    let out = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(etag) {
        out.insert(header::ETAG, etag);
    }
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    if varies {
        out.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    response
}

fn encoded_body(headers: &HeaderMap, content_type: &'static str, form: CachedBody<'_>) -> Response {
    let wants_gzip = accepts_gzip(headers);
    let (bytes, is_gzip) = match form {
        CachedBody::PlainAndGzip(_, Some(gzip)) if wants_gzip => (gzip.clone(), true),
        CachedBody::PlainAndGzip(plain, _) => (plain.clone(), false),
        CachedBody::GzipOnly(gzip) if wants_gzip => (gzip, true),
        CachedBody::GzipOnly(gzip) => match gunzip(&gzip) {
            Ok(plain) => (plain.into(), false),
            Err(e) => return Problem::internal("unpacking our own bytes", &e).into_response(),
        },
    };
    let mut response = Response::new(Body::from(bytes));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if is_gzip {
        response
            .headers_mut()
            .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn gunzip(gzip: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(gzip).read_to_end(&mut plain)?;
    Ok(plain)
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|coding| {
            let mut parts = coding.split(';');
            parts.next().is_some_and(|name| name.trim() == "gzip")
                && !parts.any(|p| matches!(p.trim(), "q=0" | "q=0.0"))
        })
}

fn task_failed(e: TaskPanicked) -> Problem {
    Problem::internal("a state change", &e)
}

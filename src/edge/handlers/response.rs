//! Responses that handlers share: private JSON, and bytes that were encoded once for all callers.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::edge::errors::problem::Problem;
use crate::platform::shutdown::TaskPanicked;

/// What a handler returns: the response, or the problem that becomes one.
pub(super) type HandlerResult = Result<Response, Problem>;

/// Holds the JSON that is requested most (a position) without growing.
const JSON_CAPACITY: usize = 256;

/// JSON for one visitor: no cache on the way may store it.
pub(super) fn private_json<T: serde::Serialize>(status: StatusCode, body: &T) -> Response {
    let mut bytes = Vec::with_capacity(JSON_CAPACITY);
    serde_json::to_writer(&mut bytes, body).expect("wire types are JSON");
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-store"),
    );
    response
}

/// The encodings in which a shared body exists.
pub(super) enum CachedBody<'a> {
    /// Uncompressed, and perhaps compressed too.
    PlainAndGzip(&'a Bytes, Option<&'a Bytes>),
    /// Compressed only: it is large, and clients without gzip are so rare that it is decompressed for them.
    GzipOnly(Bytes),
}

/// Bytes that were encoded once for all callers, or 304 when the caller has them already.
pub(super) fn cacheable(
    headers: &HeaderMap,
    content_type: &'static str,
    etag: &str,
    cache_control: &'static str,
    body: CachedBody<'_>,
) -> Response {
    let varies = !matches!(body, CachedBody::PlainAndGzip(_, None));
    let mut response = if has_current(headers, etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        encoded_body(headers, content_type, body)
    };
    let out = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(etag) {
        out.insert(header::ETAG, etag);
    }
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
    if varies {
        out.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    response
}

/// Whether `If-None-Match` names `etag`. The comparison is weak, as RFC 9110 asks for `GET`.
pub(super) fn has_current(headers: &HeaderMap, etag: &str) -> bool {
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    known.is_some_and(|tags| {
        tags.split(',')
            .any(|tag| tag.trim().trim_start_matches("W/") == etag)
    })
}

fn encoded_body(headers: &HeaderMap, content_type: &'static str, body: CachedBody<'_>) -> Response {
    let wants_gzip = accepts_gzip(headers);
    let (bytes, is_gzip) = match body {
        CachedBody::PlainAndGzip(_, Some(gzip)) if wants_gzip => (gzip.clone(), true),
        CachedBody::PlainAndGzip(plain, _) => (plain.clone(), false),
        CachedBody::GzipOnly(gzip) if wants_gzip => (gzip, true),
        CachedBody::GzipOnly(gzip) => match gunzip(&gzip) {
            Ok(plain) => (plain.into(), false),
            Err(e) => return Problem::internal("decompressing an embedded body", &e).into_response(),
        },
    };
    let mut response = Response::new(Body::from(bytes));
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if is_gzip {
        out.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
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
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parts = coding.split(';');
            parts.next().is_some_and(|name| name.trim() == "gzip")
                && !parts.any(|parameter| matches!(parameter.trim(), "q=0" | "q=0.0"))
        })
}

/// The problem of a state change whose task panicked.
pub(super) fn task_failed(e: TaskPanicked) -> Problem {
    Problem::internal("a state change", &e)
}

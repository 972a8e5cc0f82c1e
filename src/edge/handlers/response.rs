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
pub(crate) type HandlerResult = Result<Response, Problem>;

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

/// The encodings in which a shared body exists. Each is made once: a caller who could choose that work is
/// done for a response would choose much of it.
#[derive(Clone, Copy)]
pub(super) struct CachedBody<'a> {
    /// Uncompressed.
    pub plain: &'a Bytes,
    /// Compressed, where that is worth it.
    pub gzip: Option<&'a Bytes>,
}

/// Bytes that were encoded once for all callers, or 304 when the caller has them already.
pub(super) fn cacheable(
    headers: &HeaderMap,
    content_type: &'static str,
    etag: &str,
    cache_control: &'static str,
    body: CachedBody<'_>,
) -> Response {
    let varies = body.gzip.is_some();
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
        let mut tags = tags.split(',').map(str::trim_ascii);
        tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}

fn encoded_body(headers: &HeaderMap, content_type: &'static str, body: CachedBody<'_>) -> Response {
    let gzip = body.gzip.filter(|_| accepts_gzip(headers));
    let mut response = Response::new(Body::from(gzip.unwrap_or(body.plain).clone()));
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if gzip.is_some() {
        out.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
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
pub(crate) fn task_failed(e: TaskPanicked) -> Problem {
    Problem::internal("a state change", &e)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn sent(accept_encoding: Option<&'static str>, body: CachedBody<'_>) -> (Bytes, bool) {
        let mut headers = HeaderMap::new();
        if let Some(accepted) = accept_encoding {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted));
        }
        let response = cacheable(&headers, "application/json", "\"1\"", "no-cache", body);
        assert_eq!(response.headers()[header::VARY], "accept-encoding");
        let is_gzip = response.headers().contains_key(header::CONTENT_ENCODING);
        let frame = response.into_body().frame().await.unwrap().unwrap();
        (frame.into_data().unwrap(), is_gzip)
    }

    #[test]
    fn a_known_tag_is_found_among_others() {
        for (known, is_current) in [
            ("\"1\"", true),
            ("W/\"1\"", true),
            ("\"0\", W/\"1\"", true),
            ("*", true),
            ("\"11\", 1", false),
        ] {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(known))]);
            assert_eq!(has_current(&headers, "\"1\""), is_current, "{known}");
        }
    }

    #[tokio::test]
    async fn every_caller_is_sent_the_same_bytes_whatever_encoding_is_accepted() {
        let (plain, gzip) = (Bytes::from(vec![b'p'; 5_000]), Bytes::from(vec![b'g'; 500]));
        for (accepted, shared, is_gzip) in [
            (None, &plain, false),
            (Some("identity"), &plain, false),
            (Some("gzip;q=0"), &plain, false),
            (Some("br, gzip"), &gzip, true),
        ] {
            let body = CachedBody {
                plain: &plain,
                gzip: Some(&gzip),
            };
            let (bytes, said_gzip) = sent(accepted, body).await;
            assert_eq!(
                (bytes.as_ptr(), bytes.len(), said_gzip),
                (shared.as_ptr(), shared.len(), is_gzip),
                "{accepted:?}: the response is a copy"
            );
        }
    }
}

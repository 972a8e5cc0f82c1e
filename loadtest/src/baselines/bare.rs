//! Routes that answer a given number of bytes and do nothing else.

use axum::{
    Json, Router,
    extract::Path,
    http::{StatusCode, header},
    routing::get,
};
use bytes::Bytes;
use serde_json::{Value, json};

const PREPARED_MAX: usize = 1 << 16;
/// The size of the JSON around the padding.
const JSON_BYTES: usize = 12;

/// `GET|POST /bare/{bytes}` serialize JSON of so many bytes; `GET /bytes/{bytes}` sends bytes made
/// beforehand.
pub fn routes() -> Router {
    let bare = |Path(bytes): Path<usize>| async move { Json(padding(bytes)) };
    let created = |Path(bytes): Path<usize>| async move { (StatusCode::CREATED, Json(padding(bytes))) };
    let prepared = Bytes::from(vec![b'x'; PREPARED_MAX]);
    let bytes = move |Path(bytes): Path<usize>| {
        let body = prepared.slice(..bytes.min(PREPARED_MAX));
        async move { ([(header::CONTENT_TYPE, "application/json")], body) }
    };
    Router::new()
        .route("/bare/{bytes}", get(bare).post(created))
        .route("/bytes/{bytes}", get(bytes))
}

fn padding(bytes: usize) -> Value {
    json!({ "token": "x".repeat(bytes.saturating_sub(JSON_BYTES)) })
}

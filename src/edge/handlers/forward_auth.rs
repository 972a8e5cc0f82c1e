//! For other programs: the gate for any site that wants only the waiting room, and the keys that passes are checked with.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::edge::handlers::private_json;
use crate::{
    edge::{auth::extractors::Admitted, state::{AppState}},
    platform::signing::Jwk,
};

/// For nginx's `auth_request`: 204 with a live pass of this sale, 401 without.
pub async fn check(_: Admitted) -> StatusCode {
    StatusCode::NO_CONTENT
}

#[derive(Serialize)]
struct JwkSet<'a> {
    keys: &'a [Jwk],
}

pub async fn jwks(State(app): State<Arc<AppState>>) -> Response {
    let mut response = private_json(
        StatusCode::OK,
        &JwkSet {
            keys: &app.public_keys,
        },
    );
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=300"),
    );
    response
}

//! Operations for other programs: the check of a reverse proxy, and the keys that verify passes and tickets.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::edge::handlers::private_json;
use crate::{
    edge::{auth::extractors::Admitted, state::AppState},
    platform::signing::Jwk,
};

/// `Cache-Control` of the public keys: a new key is published this long before it signs.
pub(crate) const JWKS_CACHE: &str = "public, max-age=300";

/// A JSON Web Key Set (RFC 7517) of Ed25519 keys (RFC 8037).
#[derive(Serialize, ToSchema)]
pub struct JwkSet<'a> {
    /// The public keys.
    #[schema(value_type = Vec<Jwk>)]
    pub(crate) keys: &'a [Jwk],
}

/// `GET /v1/forward-auth/{sale}`, for a proxy such as nginx's `auth_request`: 204 with a valid admission pass
/// of this sale, 401 without.
pub async fn check(_: Admitted) -> StatusCode {
    StatusCode::NO_CONTENT
}

/// `GET /.well-known/jwks.json`: the public halves of the keys that sign passes, draw receipts and tickets.
pub async fn jwks(State(app): State<Arc<AppState>>) -> Response {
    let mut response = private_json(
        StatusCode::OK,
        &JwkSet {
            keys: &app.public_keys,
        },
    );
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static(JWKS_CACHE));
    response
}

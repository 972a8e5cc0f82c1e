//! For other programs: the gate for any site that wants only the waiting room, and the keys that passes are checked with.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::edge::handlers::private_json;
use crate::{
    edge::{House, auth::extractors::Admitted},
    platform::signing::Jwk,
};

/// For nginx's `auth_request`: 204 with a live pass of this sale, 401 without.
#[utoipa::path(get, path = "/v1/gate/{sale}", tag = "gate", params(("sale" = String, Path)), responses((status = 204), (status = 401)))]
pub async fn check(_: Admitted) -> StatusCode {
    StatusCode::NO_CONTENT
}

#[derive(Serialize)]
struct KeySet<'a> {
    keys: &'a [Jwk],
}

#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "gate", responses((status = 200, description = "JSON Web Key Set (RFC 7517, RFC 8037)")))]
pub async fn jwks(State(house): State<Arc<House>>) -> Response {
    let mut response = private_json(
        StatusCode::OK,
        &KeySet {
            keys: &house.public_keys,
        },
    );
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=300"),
    );
    response
}

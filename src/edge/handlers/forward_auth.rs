//! Operations for other programs: the check of a reverse proxy, and the keys that verify passes and tickets.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::edge::handlers::{HandlerResult, private_json, queue::pass_cookie};
use crate::{
    edge::{
        auth::extractors::{Admitted, SaleRoom},
        errors::problem::{Problem, ProblemType},
        state::{AppState, WaitingRoomState},
    },
    platform::signing::Jwk,
    waiting_room::RenewOutcome,
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
///
/// The pages behind the proxy need not know that passes are renewed: in the second half of a pass's life the
/// response sets a fresh one, which the proxy passes on.
pub async fn check(
    State(WaitingRoomState { app, .. }): State<WaitingRoomState>,
    SaleRoom { sale, room }: SaleRoom,
    Admitted { pass, .. }: Admitted,
) -> HandlerResult {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let now = app.clock.now();
    let life = pass.expires_at.since(pass.issued_at);
    if pass.expires_at.since(now) > life / 2 {
        return Ok(response);
    }
    match room.renew(&pass).await {
        Ok(RenewOutcome::Renewed { pass, .. }) => {
            let cookie = pass_cookie(&app, &sale, &pass);
            response.headers_mut().append(header::SET_COOKIE, cookie);
            Ok(response)
        }
        Ok(RenewOutcome::Ended) => Err(Problem::new(ProblemType::PassRequired).detail("the visit has ended")),
        // The pass is valid without the store; it is renewed with a later request.
        Err(error) => {
            tracing::debug!(%error, "a pass could not be renewed; it stays valid until it expires");
            Ok(response)
        }
    }
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

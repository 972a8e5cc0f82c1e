//! What handlers read of a request besides credentials: JSON bodies, idempotency keys, the client's address.

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Request},
};
use http::{Extensions, HeaderMap, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::edge::{
    errors::problem::{Problem, ProblemType},
    overload::client_ip::{Peer, client_address},
    state::{AppState, HasAppState},
};

/// A JSON body, read within limits of size and time.
pub struct Json<T>(pub T);

/// The caller's `Idempotency-Key`.
pub struct IdempotencyKey(pub Option<String>);

/// The client's address, behind the proxies that the configuration trusts.
pub struct ClientAddress(pub std::net::IpAddr);

const KEY_LENGTH_MAX: usize = 255;

impl<S: HasAppState> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get("idempotency-key") else {
            return Ok(Self(None));
        };
        let key = value
            .to_str()
            .ok()
            .filter(|key| !key.is_empty() && key.len() <= KEY_LENGTH_MAX);
        let problem = || {
            Problem::new(ProblemType::InvalidField)
                .with("field", &"Idempotency-Key")
                .detail("1 to 255 visible ASCII characters")
        };
        Ok(Self(Some(key.ok_or_else(problem)?.to_owned())))
    }
}

impl<S: HasAppState> FromRequestParts<S> for ClientAddress {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        address(&parts.extensions, &parts.headers, state.app())
            .map(Self)
            .ok_or_else(|| Problem::new(ProblemType::Internal))
    }
}

impl<S: HasAppState, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        // A form on another site cannot post here either: sending this type needs a CORS preflight.
        let is_json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| {
                let kind = v.split(';').next().unwrap_or_default().trim();
                kind.eq_ignore_ascii_case("application/json")
            });
        if !is_json {
            return Err(Problem::new(ProblemType::NotJson));
        }
        let bytes = read_body(request.into_body(), state.app()).await?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|e| {
            let field = e.path().to_string();
            let inner = e.into_inner();
            if inner.is_data() {
                Problem::new(ProblemType::InvalidField)
                    .with("field", &field)
                    .detail(without_position(&inner))
            } else {
                Problem::new(ProblemType::MalformedRequest).detail(inner.to_string())
            }
        })?;
        json.end()
            .map_err(|e| Problem::new(ProblemType::MalformedRequest).detail(e.to_string()))?;
        Ok(Self(value))
    }
}

/// The whole body, within the limits of size and time.
pub(crate) async fn read_body(body: Body, app: &AppState) -> Result<bytes::Bytes, Problem> {
    let limit = app.config.body_bytes_max;
    let whole = tokio::time::timeout(app.config.body_timeout, Limited::new(body, limit).collect());
    match whole.await {
        Err(_) => Err(Problem::new(ProblemType::BodyTooSlow)),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => {
            Err(Problem::new(ProblemType::BodyTooLarge).detail(format!("at most {limit} bytes")))
        }
        Ok(Err(_)) => Err(Problem::new(ProblemType::MalformedRequest).detail("the body ended early")),
    }
}

/// The client's address; `None` when the listener recorded no peer.
#[must_use]
pub(crate) fn address(
    extensions: &Extensions,
    headers: &HeaderMap,
    app: &AppState,
) -> Option<std::net::IpAddr> {
    let Peer(peer) = extensions.get::<Peer>()?;
    Some(client_address(*peer, headers, &app.config.trusted_proxies))
}

/// serde_json's message without "at line 1 column 7": the path of the field says it better.
fn without_position(e: &serde_json::Error) -> String {
    let whole = e.to_string();
    whole
        .rsplit_once(" at line ")
        .map_or(whole.clone(), |(message, _)| message.to_owned())
}

//! Who is there: a password of the shop's, or the shop's own word for it.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::edge::handlers::{HandlerResult, task_failed, private_json};
use crate::{
    edge::{auth::extractors::{ClientAddress, Json, SESSION_COOKIE, SignedIn}, errors::problem::{Kind, Problem}, state::{AppState}},
    kernel::Timestamp,
    shop::SignInOutcome,
};

#[derive(Deserialize, ToSchema)]
pub struct Credentials {
    login: String,
    password: String,
}

#[derive(Deserialize, ToSchema)]
pub struct HandoffRequest {
    /// A JWT that the shop signed.
    token: String,
}

#[derive(Serialize, ToSchema)]
pub struct SessionResponse<'a> {
    token: &'a str,
    #[schema(value_type = String)]
    expires_at: Timestamp,
    customer: CustomerName<'a>,
}

#[derive(Serialize, ToSchema)]
pub struct CustomerName<'a> {
    name: &'a str,
}

pub async fn sign_in(
    State(app): State<Arc<AppState>>,
    ClientAddress(address): ClientAddress,
    Json(it): Json<Credentials>,
) -> HandlerResult {
    if let Err(wait) = app.limits.sign_ins.take(address) {
        return Err(Problem::new(Kind::TooManyRequests).retry_after_s(wait.as_secs() + 1));
    }
    let shop = Arc::clone(&app.shop);
    let outcome = app
        .lifecycle
        .spawn_uncancellable(async move { shop.sign_in(&it.login, &it.password).await })
        .await
        .map_err(task_failed)?;
    session_response(&app, outcome)
}

pub async fn handoff(State(app): State<Arc<AppState>>, Json(it): Json<HandoffRequest>) -> HandlerResult {
    let shop = Arc::clone(&app.shop);
    let outcome = app
        .lifecycle
        .spawn_uncancellable(async move { shop.sign_in_by_handoff(&it.token).await })
        .await
        .map_err(task_failed)?;
    session_response(&app, outcome)
}

pub async fn sign_out(State(app): State<Arc<AppState>>, SignedIn(session): SignedIn) -> HandlerResult {
    let shop = Arc::clone(&app.shop);
    let done = app
        .lifecycle
        .spawn_uncancellable(async move { shop.sign_out(&session).await })
        .await
        .map_err(task_failed)?;
    done.map_err(|e| Problem::unavailable("sign-out", &e).retry_after_s(app.retry_after_jitter_s(1, 4)))?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response
        .headers_mut()
        .append(header::SET_COOKIE, app.cookies.remove(SESSION_COOKIE));
    Ok(response)
}

fn session_response(app: &AppState, outcome: SignInOutcome) -> Result<Response, Problem> {
    match outcome {
        SignInOutcome::SignedIn(it) => {
            let body = SessionResponse {
                token: &it.token,
                expires_at: it.expires_at,
                customer: CustomerName { name: &it.name },
            };
            let mut response = private_json(StatusCode::OK, &body);
            let life = it.expires_at.since(app.clock.now());
            response.headers_mut().append(
                header::SET_COOKIE,
                app.cookies.set(SESSION_COOKIE, &it.token, life),
            );
            Ok(response)
        }
        SignInOutcome::Rejected => Err(Problem::new(Kind::WrongCredentials)),
        SignInOutcome::Busy { retry_after } => Err(Problem::new(Kind::Overloaded)
            .detail("many are signing in at this moment")
            .retry_after_s(retry_after.as_secs())),
        SignInOutcome::Unreachable { retry_after } => {
            Err(Problem::new(Kind::ShopUnreachable).retry_after_s(retry_after.as_secs()))
        }
    }
}

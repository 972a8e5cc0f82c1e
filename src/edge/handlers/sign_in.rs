//! Who is there: a password of the shop's, or the shop's own word for it.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::edge::handlers::{Answer, broken, private_json};
use crate::{
    edge::{
        House,
        auth::extractors::{ClientAddress, Json, SESSION_COOKIE, SignedIn},
        errors::problem::{Kind, Problem},
    },
    kernel::Timestamp,
    shop::SignInOutcome,
};

#[derive(Deserialize, ToSchema)]
pub struct Credentials {
    login: String,
    password: String,
}

#[derive(Deserialize, ToSchema)]
pub struct Handoff {
    /// A JWT that the shop signed.
    token: String,
}

#[derive(Serialize, ToSchema)]
pub struct SessionGranted<'a> {
    token: &'a str,
    #[schema(value_type = String)]
    expires_at: Timestamp,
    customer: CustomerName<'a>,
}

#[derive(Serialize, ToSchema)]
pub struct CustomerName<'a> {
    name: &'a str,
}

#[utoipa::path(post, path = "/v1/sign-in", tag = "sign-in", request_body = Credentials,
    responses((status = 200, body = SessionGranted), (status = 401), (status = 429), (status = 503)))]
pub async fn sign_in(
    State(house): State<Arc<House>>,
    ClientAddress(address): ClientAddress,
    Json(it): Json<Credentials>,
) -> Answer {
    if let Err(wait) = house.limits.sign_ins.take(address) {
        return Err(Problem::new(Kind::TooManyRequests).retry_after_s(wait.as_secs() + 1));
    }
    let shop = Arc::clone(&house.shop);
    let outcome = house
        .life
        .run_to_end(async move { shop.sign_in(&it.login, &it.password).await })
        .await
        .map_err(broken)?;
    granted(&house, outcome)
}

#[utoipa::path(post, path = "/v1/sign-in/handoff", tag = "sign-in", request_body = Handoff,
    responses((status = 200, body = SessionGranted), (status = 401)))]
pub async fn handoff(State(house): State<Arc<House>>, Json(it): Json<Handoff>) -> Answer {
    let shop = Arc::clone(&house.shop);
    let outcome = house
        .life
        .run_to_end(async move { shop.sign_in_by_handoff(&it.token).await })
        .await
        .map_err(broken)?;
    granted(&house, outcome)
}

#[utoipa::path(delete, path = "/v1/session", tag = "sign-in", responses((status = 204), (status = 401)))]
pub async fn sign_out(State(house): State<Arc<House>>, SignedIn(session): SignedIn) -> Answer {
    let shop = Arc::clone(&house.shop);
    let done = house
        .life
        .run_to_end(async move { shop.sign_out(&session).await })
        .await
        .map_err(broken)?;
    done.map_err(|e| Problem::unavailable("sign-out", &e).retry_after_s(house.soon_s(1, 4)))?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response
        .headers_mut()
        .append(header::SET_COOKIE, house.cookies.revoke(SESSION_COOKIE));
    Ok(response)
}

fn granted(house: &House, outcome: SignInOutcome) -> Result<Response, Problem> {
    match outcome {
        SignInOutcome::SignedIn(it) => {
            let body = SessionGranted {
                token: &it.token,
                expires_at: it.expires_at,
                customer: CustomerName { name: &it.name },
            };
            let mut response = private_json(StatusCode::OK, &body);
            let life = it.expires_at.since(house.clock.now());
            response.headers_mut().append(
                header::SET_COOKIE,
                house.cookies.grant(SESSION_COOKIE, &it.token, life),
            );
            Ok(response)
        }
        SignInOutcome::Wrong => Err(Problem::new(Kind::WrongCredentials)),
        SignInOutcome::Busy { retry_after } => Err(Problem::new(Kind::Overloaded)
            .detail("many are signing in at this moment")
            .retry_after_s(retry_after.as_secs())),
        SignInOutcome::Unreachable { retry_after } => {
            Err(Problem::new(Kind::ShopUnreachable).retry_after_s(retry_after.as_secs()))
        }
    }
}

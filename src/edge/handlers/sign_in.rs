//! Operations of signing in: by the shop's password, or by a token that the shop signed.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::edge::handlers::{HandlerResult, private_json, task_failed};
use crate::{
    edge::{
        auth::cookies::SaleCookies,
        auth::credentials::SESSION_COOKIE,
        auth::extractors::SignedIn,
        errors::problem::{Problem, ProblemType},
        handlers::request::{ClientAddress, Json},
        overload::client_ip::client_network,
        state::{AppState, SaleInfo, SignIn},
    },
    kernel::{Subject, Timestamp},
    platform::signing::TokenError,
    shop::{SignInOutcome, SignedIn as NewSession},
};

/// A customer's credentials in the shop.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The login name or e-mail address.
    login: String,
    /// The password in the clear.
    password: String,
}

/// A token from the shop, where the customer is signed in already.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HandoffRequest {
    /// A JWT that the shop signed. It works once.
    pub(super) token: String,
}

/// A customer's session.
#[derive(Serialize, ToSchema)]
pub struct SessionResponse<'a> {
    /// The session token. Also set as a cookie.
    pub(crate) token: &'a str,
    /// When the session ends.
    pub(crate) expires_at: Timestamp,
    /// The customer who is signed in.
    pub(crate) customer: CustomerName<'a>,
}

/// A customer, as pages greet them.
#[derive(Serialize, ToSchema)]
pub struct CustomerName<'a> {
    /// The name to show.
    pub(crate) name: &'a str,
}

/// `POST /v1/sign-in`: a session for login and password.
pub async fn sign_in(
    State(app): State<Arc<AppState>>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Json(credentials): Json<Credentials>,
) -> HandlerResult {
    check_sign_in_rate(&app, address)?;
    let shop = Arc::clone(&app.shop);
    let outcome = app
        .lifecycle
        .spawn_uncancellable(async move {
            let client = client_network(address);
            shop.sign_in(&credentials.login, &credentials.password, client)
                .await
        })
        .await
        .map_err(task_failed)?;
    session_response(&app, &headers, outcome)
}

/// Each attempt costs this service and the shop something, so that an address has a rate of them.
pub(super) fn check_sign_in_rate(app: &AppState, address: IpAddr) -> Result<(), Problem> {
    let taken = app.limits.sign_ins.take(address);
    taken.map_err(|wait| Problem::new(ProblemType::TooManyRequests).retry_after_s(wait.as_secs() + 1))
}

/// `POST /v1/sign-in/handoff`: a session for a token of the shop.
pub async fn handoff(
    State(app): State<Arc<AppState>>,
    headers: HeaderMap,
    Json(request): Json<HandoffRequest>,
) -> HandlerResult {
    let shop = Arc::clone(&app.shop);
    let outcome = app
        .lifecycle
        .spawn_uncancellable(async move { shop.sign_in_by_handoff(&request.token).await })
        .await
        .map_err(task_failed)?;
    session_response(&app, &headers, outcome)
}

/// `DELETE /v1/session`: ends the session on every node, and leaves nothing of the customer in the browser.
pub async fn sign_out(
    State(app): State<Arc<AppState>>,
    SignedIn(session): SignedIn,
    headers: HeaderMap,
) -> HandlerResult {
    let shop = Arc::clone(&app.shop);
    let signed_out = app
        .lifecycle
        .spawn_uncancellable(async move { shop.sign_out(&session).await })
        .await
        .map_err(task_failed)?;
    signed_out
        .map_err(|e| Problem::unavailable("sign-out", &e).retry_after_s(app.retry_after_jitter_s(1, 4)))?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response
        .headers_mut()
        .append(header::SET_COOKIE, app.cookies.remove(SESSION_COOKIE));
    remove_foreign_cookies(&app, &headers, None, &mut response);
    Ok(response)
}

/// Removes the queue tokens and passes of customers other than `who`: at a shared computer the next customer
/// must not stand at the place of the last one. A place itself stays with its customer.
fn remove_foreign_cookies(
    app: &AppState,
    headers: &HeaderMap,
    who: Option<&Subject>,
    response: &mut Response,
) {
    for sale in app.sales.values().filter(|sale| sale.sign_in == SignIn::Customer) {
        let SaleCookies { queue, pass } = &sale.cookies;
        let is_of_another = |token: &str| who.is_none_or(|who| !is_token_of(sale, token, who));
        let is_pass_of_another = |pass: &str| who.is_none_or(|who| !is_pass_of(sale, pass, who));
        let has_queue = app.cookies.read(headers, queue).is_some_and(is_of_another);
        let has_pass = app.cookies.read(headers, pass).is_some_and(is_pass_of_another);
        for (name, is_foreign) in [(queue, has_queue), (pass, has_pass)] {
            if is_foreign {
                let removal = app.cookies.remove(name);
                response.headers_mut().append(header::SET_COOKIE, removal);
            }
        }
    }
}

fn is_token_of(sale: &SaleInfo, token: &str, who: &Subject) -> bool {
    let token = sale.tokens.verify_token(token);
    token.is_ok_and(|token| sale.tokens.token_belongs_to(&token, who))
}

/// An expired pass may still pay for held seats, and its holder is the session's.
fn is_pass_of(sale: &SaleInfo, pass: &str, who: &Subject) -> bool {
    match sale.tokens.verify_pass(pass) {
        Ok(pass) => sale.tokens.pass_belongs_to(&pass, who),
        Err(error) => error == TokenError::Expired,
    }
}

fn session_response(
    app: &AppState,
    headers: &HeaderMap,
    outcome: SignInOutcome,
) -> Result<Response, Problem> {
    let session = signed_in_or_problem(app, outcome)?;
    let body = SessionResponse {
        token: &session.token,
        expires_at: session.expires_at,
        customer: CustomerName { name: &session.name },
    };
    let mut response = private_json(StatusCode::OK, &body);
    set_session(app, headers, &session, &mut response);
    Ok(response)
}

/// Gives the browser its session, and takes away what belongs to another customer.
pub(super) fn set_session(
    app: &AppState,
    headers: &HeaderMap,
    session: &NewSession,
    response: &mut Response,
) {
    let ttl = session.expires_at.since(app.clock.now());
    let cookie = app.cookies.set(SESSION_COOKIE, &session.token, ttl);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    remove_foreign_cookies(app, headers, Some(&session.session.subject), response);
}

/// The new session, or why there is none.
pub(super) fn signed_in_or_problem(app: &AppState, outcome: SignInOutcome) -> Result<NewSession, Problem> {
    match outcome {
        SignInOutcome::SignedIn(session) => Ok(session),
        SignInOutcome::AtShopOnly => Err(sign_in_at_shop(app)),
        SignInOutcome::Rejected => Err(Problem::new(ProblemType::WrongCredentials)),
        SignInOutcome::HandoffRejected(error) => {
            Err(Problem::new(ProblemType::WrongCredentials).detail(error.to_string()))
        }
        SignInOutcome::TooManyGuesses { retry_after } => Err(Problem::new(ProblemType::TooManyRequests)
            .detail("too many wrong passwords for this account")
            .with("reason", &"wrong_passwords")
            .retry_after_s(retry_after.as_secs() + 1)),
        SignInOutcome::Busy { retry_after } => Err(Problem::new(ProblemType::Overloaded)
            .detail("too many customers are signing in")
            .retry_after_s(retry_after.as_secs())),
        SignInOutcome::Unreachable { retry_after } => {
            Err(Problem::new(ProblemType::ShopUnreachable).retry_after_s(retry_after.as_secs()))
        }
    }
}

/// Leads to the shop: by this service's own link where the shop hands its customers over.
fn sign_in_at_shop(app: &AppState) -> Problem {
    let problem = Problem::new(ProblemType::SignInAtShop);
    let own = app.config.shop_sign_in.as_ref();
    let own = own.map(|_| app.config.public_base.url("/v1/sign-in/shop"));
    match own.as_deref().or(app.shop.sign_in_url()) {
        Some(url) => problem.with("sign_in_url", &url),
        None => problem,
    }
}

//! Signing in at the shop: the visitor goes there from the sign-in page and comes back with a hand-off.
//!
//! The visitor's browser keeps a state from the moment it leaves, so that no other site can sign a visitor
//! in under another customer's name. The shop's hand-off comes back in a form that the shop's page sends, or
//! stays at the service while the browser brings a code for it.

use std::sync::Arc;

use axum::{body::Body, extract::State, response::IntoResponse};
use form_urlencoded::byte_serialize;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    edge::{
        auth::credentials::single_header,
        errors::{
            page::prefers_html,
            problem::{Problem, ProblemType},
        },
        handlers::{
            HandlerResult,
            params::Query,
            private_json,
            request::{ClientAddress, Json, read_form},
            sign_in::{HandoffRequest, check_sign_in_rate, set_session, signed_in_or_problem},
            task_failed,
        },
        state::{AppState, ShopSignIn},
    },
    kernel::Timestamp,
    shop::{DepositOutcome, SignInOutcome, SignInState},
};

/// The cookie with the state of a sign-in at the shop.
pub(crate) const STATE_COOKIE: &str = "sd_sign_in";
/// Where the visitor comes back to.
pub(crate) const RETURN_PATH: &str = "/v1/sign-in/return";
const PATH_LEN_MAX: usize = 512;

/// Where a sign-in at the shop starts.
#[derive(Deserialize)]
pub struct Start {
    /// The page to come back to, as a path of this host.
    return_to: Option<String>,
}

/// A hand-off in a form that the shop's page sends.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the fields are read one by one; the type describes them")]
pub struct HandoffForm {
    /// A JWT that the shop signed. It works once.
    token: String,
    /// The `state` that the shop's page was opened with.
    state: String,
}

/// The code of a deposited hand-off, as the shop adds it to the address.
#[derive(Deserialize)]
pub struct CodeQuery {
    /// The code.
    code: Option<String>,
    /// The `state` that the shop's page was opened with.
    state: Option<String>,
}

/// A hand-off that the service keeps until the customer's browser comes for it.
#[derive(Serialize, ToSchema)]
pub struct DepositedHandoff {
    /// The code that the browser brings. It works once.
    pub(crate) code: String,
    /// Until when it works.
    pub(crate) expires_at: Timestamp,
}

/// `GET /v1/sign-in/shop`: leads the browser to the shop's sign-in, and gives it a state to come back with.
pub async fn start(State(app): State<Arc<AppState>>, Query(start): Query<Start>) -> HandlerResult {
    let base = &app.config.public_base;
    let path = start.return_to.as_deref().and_then(local_path);
    let path = path.and_then(|path| base.own_path(path)).unwrap_or("/".into());
    let (address, state) = match shop_sign_in(&app)? {
        ShopSignIn::Provider => match app.shop.begin_at_provider(&path) {
            Ok(begun) => begun,
            Err(refused) => return Err(refusal(&app, refused)),
        },
        ShopSignIn::Page { url, .. } => {
            let state = app.shop.new_sign_in_state(&path);
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("state", &state)
                .append_pair("return_to", &base.url(RETURN_PATH))
                .finish();
            let separator = if url.contains('?') { '&' } else { '?' };
            (format!("{url}{separator}{query}"), state)
        }
    };
    let mut response = see_other(&address)?;
    let cookie = app
        .cookies
        .set_for_other_sites(STATE_COOKIE, &state, SignInState::TTL);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// `POST /v1/sign-in/return`: the shop's page sends the browser back with a hand-off.
pub async fn return_with_form(
    State(app): State<Arc<AppState>>,
    headers: HeaderMap,
    body: Body,
) -> HandlerResult {
    let ShopSignIn::Page { origins, .. } = shop_sign_in(&app)? else {
        return Err(no_hand_off());
    };
    let origin = single_header(&headers, "origin").unwrap_or_default();
    if !origins.iter().any(|allowed| allowed == origin) {
        return Err(Problem::new(ProblemType::CrossOrigin).detail(
            "the form's Origin must be one of shop.handoff.origins; a page whose Referrer-Policy is \
                     no-referrer or same-origin sends none",
        ));
    }
    let [token, state] = read_form(&headers, body, &app, ["token", "state"]).await?;
    presented_state(&app, &headers, &state)?;
    // A form from another site comes without most cookies. The session is made where all are seen, so that
    // those of a customer before are removed.
    let DepositedHandoff { code, .. } = deposited(&app, token).await?;
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("code", &code)
        .append_pair("state", &state)
        .finish();
    see_other(&format!("{RETURN_PATH}?{query}"))
}

/// `GET /v1/sign-in/return`: the browser comes back with the code of a deposited hand-off.
pub async fn return_with_code(
    State(app): State<Arc<AppState>>,
    headers: HeaderMap,
    Query(CodeQuery { code, state }): Query<CodeQuery>,
) -> HandlerResult {
    if !matches!(shop_sign_in(&app)?, ShopSignIn::Page { .. }) {
        return Err(no_hand_off());
    }
    let (code, state) = match (code, state) {
        (Some(code), Some(state)) => (code, state),
        // A form that could not be answered at once is repeated by its page, without what was in it.
        (None, None) => return see_other(&page_left(&app, &headers)),
        _ => return Err(Problem::new(ProblemType::MalformedRequest).detail("code and state are required")),
    };
    let state = presented_state(&app, &headers, &state)?;
    let (shop, path) = (Arc::clone(&app.shop), state.return_path.clone());
    let outcome = app
        .lifecycle
        .spawn_uncancellable(async move { shop.sign_in_by_code(&state, &code).await })
        .await
        .map_err(task_failed)?;
    back_to_page(&app, &headers, outcome, &path)
}

/// `POST /v1/handoffs`: the shop deposits a hand-off and gets a code for it.
pub async fn deposit(State(app): State<Arc<AppState>>, Json(request): Json<HandoffRequest>) -> HandlerResult {
    let deposited = deposited(&app, request.token).await?;
    Ok(private_json(StatusCode::CREATED, &deposited))
}

async fn deposited(app: &AppState, token: String) -> Result<DepositedHandoff, Problem> {
    let shop = Arc::clone(&app.shop);
    let outcome = app
        .lifecycle
        .spawn_uncancellable(async move { shop.deposit_handoff(&token).await })
        .await
        .map_err(task_failed)?;
    match outcome {
        DepositOutcome::Deposited { code, expires_at } => Ok(DepositedHandoff { code, expires_at }),
        DepositOutcome::Refused(refused) => Err(refusal(app, refused)),
    }
}

/// The problem of an outcome that is no session.
fn refusal(app: &AppState, refused: SignInOutcome) -> Problem {
    match signed_in_or_problem(app, refused) {
        Err(problem) => problem,
        Ok(_) => Problem::new(ProblemType::Internal),
    }
}

/// What the provider adds to the address (RFC 6749, sections 4.1.2 and 4.1.2.1).
#[derive(Deserialize)]
pub struct ProviderQuery {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
}

/// `GET /v1/sign-in/oidc`: the provider sends the browser back.
pub async fn return_from_provider(
    State(app): State<Arc<AppState>>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Query(ProviderQuery { code, state, error }): Query<ProviderQuery>,
) -> HandlerResult {
    if !matches!(shop_sign_in(&app)?, ShopSignIn::Provider) {
        return Err(Problem::new(ProblemType::NotFound).detail("shop.oidc is not configured"));
    }
    let Some(state) = state else {
        return Err(Problem::new(ProblemType::MalformedRequest).detail("state is required"));
    };
    let state = match presented_state(&app, &headers, &state) {
        Ok(presented) => presented,
        // Of another tab, used by the back button, or over: the page offers the sign-in again.
        Err(problem) => {
            let of_this_service = app.shop.read_sign_in_state(&state);
            let path = of_this_service.map_or_else(|| page_left(&app, &headers), |state| state.return_path);
            return page_or_problem(&headers, &path, problem);
        }
    };
    let Some(code) = code.filter(|_| error.is_none()) else {
        // The visitor gave up at the provider, or is not allowed in: the page offers the sign-in again.
        tracing::info!(
            error = error.unwrap_or_default(),
            "a visitor came back from the provider without a code"
        );
        return see_other(&state.return_path);
    };
    check_sign_in_rate(&app, address)?;
    let (shop, path) = (Arc::clone(&app.shop), state.return_path.clone());
    let outcome = app
        .lifecycle
        .spawn_uncancellable(async move { shop.sign_in_by_provider(&state, &code).await })
        .await
        .map_err(task_failed)?;
    if let SignInOutcome::HandoffRejected(error) = outcome {
        return page_or_problem(
            &headers,
            &path,
            refusal(&app, SignInOutcome::HandoffRejected(error)),
        );
    }
    back_to_page(&app, &headers, outcome, &path)
}

/// A browser comes back to the page that it left, which says that the sign-in failed; a program reads why.
fn page_or_problem(headers: &HeaderMap, path: &str, problem: Problem) -> HandlerResult {
    if prefers_html(headers) {
        see_other(&format!("{path}#sign_in_failed"))
    } else {
        Err(problem)
    }
}

fn no_hand_off() -> Problem {
    Problem::new(ProblemType::NotFound).detail("shop.handoff.sign_in_url is not configured")
}

fn shop_sign_in(app: &AppState) -> Result<&ShopSignIn, Problem> {
    app.config.shop_sign_in.as_ref().ok_or_else(|| {
        Problem::new(ProblemType::NotFound).detail(
            "there is no sign-in at the shop: neither shop.handoff.sign_in_url nor shop.oidc is configured",
        )
    })
}

/// The state that this browser left with, if it is the one that the shop sends back.
fn presented_state(app: &AppState, headers: &HeaderMap, state: &str) -> Result<SignInState, Problem> {
    let is_own = app.cookies.read(headers, STATE_COOKIE) == Some(state);
    let state = app.shop.read_sign_in_state(state).filter(|_| is_own);
    state.ok_or_else(|| {
        Problem::new(ProblemType::WrongCredentials).detail(
            "state: this browser began no sign-in at the shop with it in the last 10 minutes; start again at \
             the sign-in page",
        )
    })
}

/// The page that the browser left for the shop, as far as it knows.
fn page_left(app: &AppState, headers: &HeaderMap) -> String {
    let state = app.cookies.read(headers, STATE_COOKIE);
    let state = state.and_then(|state| app.shop.read_sign_in_state(state));
    state.map_or_else(|| "/".to_owned(), |state| state.return_path)
}

/// Signs in and leads to the page where the visitor was. The name comes in the fragment, which stays in the
/// browser.
fn back_to_page(app: &AppState, headers: &HeaderMap, outcome: SignInOutcome, path: &str) -> HandlerResult {
    let session = signed_in_or_problem(app, outcome)?;
    let name: String = byte_serialize(session.name.as_bytes()).collect();
    let mut response = see_other(&format!("{path}#signed_in={name}"))?;
    set_session(app, headers, &session, &mut response);
    let used = app.cookies.remove(STATE_COOKIE);
    response.headers_mut().append(header::SET_COOKIE, used);
    Ok(response)
}

fn see_other(location: &str) -> HandlerResult {
    let location = HeaderValue::try_from(location).map_err(|e| Problem::internal("a redirect", &e))?;
    let headers = [
        (header::LOCATION, location),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-store"),
        ),
    ];
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

/// The path and query of a page of this site; `None` for what a browser could take for another site.
fn local_path(text: &str) -> Option<&str> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let is_local = text.starts_with('/') && !text.starts_with("//") && !text.contains('#');
    (is_plain && is_local && text.len() <= PATH_LEN_MAX).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visitor_comes_back_to_this_site_only() {
        for path in [
            "/",
            "/sales/x",
            "/sales/x/seats?lang=ko&performance=a",
            "/sales/%EA%B0%80",
        ] {
            assert_eq!(local_path(path), Some(path));
        }
        for path in [
            "",
            "sales/x",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example/",
            "javascript:alert(1)",
            "/\t/evil.example",
            "/\n/evil.example",
            "/a b",
            "/가",
            "/a#signed_in=x",
            &format!("/{}", "a".repeat(PATH_LEN_MAX)),
        ] {
            assert_eq!(local_path(path), None, "{path:?}");
        }
    }
}

//! The pages, which were rendered for each language at start and are served as bytes, and their assets.
//!
//! What fails here is a problem; the dispatcher makes a page of it for a person.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::{FromRequestParts, RawPathParams, State},
    response::{Html, IntoResponse, Redirect, Response},
};
use http::{HeaderMap, HeaderValue, Uri, header, request::Parts};

use crate::edge::handlers::{CachedBody, HandlerResult, cacheable, params::PathParams};
use crate::{
    checkout::qr_svg,
    edge::{
        auth::credentials,
        auth::extractors::{SalePath, SaleRoom},
        errors::{
            page::{LANG_COOKIE, language, query_value},
            problem::{Problem, ProblemType},
        },
        pages::{Asset, Lang, Page},
        state::{AppState, HasAppState, SaleInfo, SignIn, WaitingRoomState},
    },
    waiting_room::{CHANCE_MIN_PERCENT, EntryState, Phase, Position, Wait, WaitingRoom},
};

/// Only this origin's files, no inline scripts or styles; images may also be inline.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Programs have no use for orders, assets and API calls in a search index; the pages of sales are welcome.
const ROBOTS: &str = "User-agent: *\nDisallow: /v1/\nDisallow: /orders/\nDisallow: /sales/*/seats\n";

/// What a page's address and headers ask for. Whatever else a shared link carries is ignored.
pub struct PageRequest {
    lang: Lang,
    /// Whether `?lang=` chose the language, which the cookie then remembers.
    is_chosen: bool,
    /// `?plain`: the page itself sends browsers without scripts here.
    is_plain: bool,
    headers: HeaderMap,
}

impl<S: HasAppState> FromRequestParts<S> for PageRequest {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        Ok(Self {
            lang: language(state.app(), &parts.uri, &parts.headers),
            is_chosen: query_value(&parts.uri, "lang").and_then(Lang::from_tag).is_some(),
            is_plain: query_value(&parts.uri, "plain").is_some(),
            headers: parts.headers.clone(),
        })
    }
}

/// A sale that a page is about. An address in another case than the sale's id leads to the sale.
pub struct PageSale;

/// Why a page about a sale cannot be shown.
pub enum NoPage {
    /// The same page under the sale's id.
    Moved(String),
    /// No such sale.
    Missing(Problem),
}

impl IntoResponse for NoPage {
    fn into_response(self) -> Response {
        match self {
            Self::Moved(path) => Redirect::permanent(&path).into_response(),
            Self::Missing(problem) => problem.into_response(),
        }
    }
}

impl<S: HasAppState> FromRequestParts<S> for PageSale {
    type Rejection = NoPage;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, NoPage> {
        let Err(missing) = SalePath::from_request_parts(parts, state).await else {
            return Ok(Self);
        };
        let params = RawPathParams::from_request_parts(parts, state).await;
        let name = params
            .iter()
            .flat_map(RawPathParams::iter)
            .find(|(key, _)| *key == "sale");
        let id = name
            .map(|(_, name)| name.to_ascii_lowercase())
            .unwrap_or_default();
        if !state.app().sales.contains_key(id.as_str()) {
            return Err(NoPage::Missing(missing));
        }
        let rest = parts.uri.path().splitn(4, '/').nth(3);
        let path = rest.map_or_else(|| format!("/sales/{id}"), |rest| format!("/sales/{id}/{rest}"));
        Err(NoPage::Moved(with_query(&path, &parts.uri)))
    }
}

/// `GET /`: the start page.
pub async fn home(State(app): State<Arc<AppState>>, request: PageRequest) -> Response {
    page(&app, Page::Home, &request)
}

/// `GET /sales/{sale}`: the queue of a sale.
pub async fn sale(
    State(state): State<WaitingRoomState>,
    _: PageSale,
    request: PageRequest,
    mut parts: Parts,
) -> HandlerResult {
    if request.is_plain {
        let SaleRoom { sale, room } = SaleRoom::from_request_parts(&mut parts, &state).await?;
        return Ok(plain_page(&state.app, &sale, &room, &request, &parts));
    }
    Ok(page(&state.app, Page::Sale, &request))
}

/// `GET /sales/{sale}/qr.svg`: the address of the sale's page, for the camera of another device.
pub(crate) async fn sale_address_code(
    State(app): State<Arc<AppState>>,
    SalePath(sale): SalePath,
) -> Response {
    let address = app.config.public_base.url(&format!("/sales/{}", sale.id));
    let code = sale.address_code.get_or_init(|| qr_svg(&address).into());
    let mut response = code.clone().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/svg+xml"));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=3600"),
    );
    response
}

/// `GET /sales/{sale}/draw`: how the draw was computed, to be verified in the browser.
pub async fn draw(State(app): State<Arc<AppState>>, _: PageSale, request: PageRequest) -> Response {
    page(&app, Page::Draw, &request)
}

/// `GET /sales/{sale}/seats`: the seat map.
pub async fn seats(State(app): State<Arc<AppState>>, _: PageSale, request: PageRequest) -> Response {
    page(&app, Page::Seats, &request)
}

/// `GET /orders`: the visitor's tickets, orders and held seats.
pub async fn orders(State(app): State<Arc<AppState>>, request: PageRequest) -> Response {
    page(&app, Page::Orders, &request)
}

/// `GET /orders/{order}`: an order and its tickets.
pub async fn order(State(app): State<Arc<AppState>>, request: PageRequest) -> Response {
    page(&app, Page::Order, &request)
}

/// `GET /assets/{*path}`: a file that pages refer to.
pub async fn asset(
    State(app): State<Arc<AppState>>,
    PathParams(path): PathParams<String>,
    headers: HeaderMap,
) -> HandlerResult {
    let asset = app
        .pages
        .asset(&path)
        .ok_or_else(|| Problem::new(ProblemType::NotFound))?;
    Ok(asset_response(&asset, &headers))
}

/// `GET /favicon.ico`, which browsers ask for beside pages that name no icon.
pub async fn favicon(State(app): State<Arc<AppState>>, headers: HeaderMap) -> HandlerResult {
    let icon = app
        .pages
        .asset("icon.svg")
        .ok_or_else(|| Problem::new(ProblemType::NotFound))?;
    Ok(asset_response(&icon, &headers))
}

/// `GET /robots.txt`. Search engines read it on a host of its own only; under a path its lines belong into
/// the shop's.
pub async fn robots(State(app): State<Arc<AppState>>) -> String {
    ROBOTS.replace(": /", &format!(": {}/", app.config.public_base.path()))
}

/// The path with the query of the request.
pub(crate) fn with_query(path: &str, uri: &Uri) -> String {
    uri.query()
        .map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

fn page(app: &AppState, which: Page, request: &PageRequest) -> Response {
    let asset = asset_response(&app.pages.page(which, request.lang), &request.headers);
    with_page_headers(app, request, asset)
}

/// The visitor's position in words, and what to do next, for a browser without scripts.
fn plain_page(
    app: &AppState,
    sale: &SaleInfo,
    room: &WaitingRoom,
    request: &PageRequest,
    parts: &Parts,
) -> Response {
    let lang = request.lang;
    let text = |key: &str| app.pages.text(lang, key, &[]);
    // A token that cannot be verified counts as none. The method is safe, so the request's origin does not
    // matter.
    let position = credentials::presented_queue_token(parts, app, sale)
        .ok()
        .flatten()
        .map(|(token, _)| room.position(&token));
    let mut lines = position.map_or_else(
        || vec![text("plain.none")],
        |position| position_lines(app, lang, &position),
    );
    lines.extend(phase_text_key(room.phase()).map(text));
    lines.push(text(if sale.sign_in == SignIn::Customer {
        "plain.how.customer"
    } else {
        "plain.how.none"
    }));
    let html = app.pages.plain(lang, sale.title.in_language(lang.tag()), &lines);
    let mut response = with_page_headers(app, request, Html(html).into_response());
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-store"),
    );
    response
}

fn position_lines(app: &AppState, lang: Lang, position: &Position) -> Vec<String> {
    let text = |key: &str, values: &[(&str, &str)]| app.pages.text(lang, key, values);
    let mut lines = Vec::new();
    if let Some(number) = position.number.filter(|_| position.state != EntryState::Left) {
        lines.push(text("sale.number", &[("n", &number.to_string())]));
    }
    match position.state {
        EntryState::Prequeue => lines.push(text("plain.early", &[])),
        EntryState::Waiting => {
            let about = if position.approximate {
                text("sale.about", &[])
            } else {
                String::new()
            };
            lines.extend(
                position
                    .ahead
                    .map(|ahead| text("plain.waiting", &[("n", &format!("{about}{ahead}"))])),
            );
            lines.extend(
                position
                    .wait
                    .as_ref()
                    .map(|wait| text("plain.wait", &[("wait", &wait_minutes(app, lang, wait))])),
            );
            lines.extend(position.seat_chance_percent.and_then(|percent| match percent {
                0..CHANCE_MIN_PERCENT => Some(text("plain.none_left", &[])),
                CHANCE_MIN_PERCENT..=80 => Some(text("plain.seat_chance", &[("n", &percent.to_string())])),
                _ => None,
            }));
        }
        EntryState::Called => lines.push(text("sale.called_heading", &[])),
        EntryState::Missed => lines.push(text("sale.missed_heading", &[])),
        EntryState::Admitted => lines.push(text("sale.admitted_heading", &[])),
        EntryState::Left => lines.push(text("sale.left_heading", &[])),
    }
    lines
}

fn wait_minutes(app: &AppState, lang: Lang, wait: &Wait) -> String {
    let (low, high) = ((wait.p10_s / 60).to_string(), wait.p90_s.div_ceil(60).to_string());
    app.pages
        .text(lang, "common.range_minutes", &[("low", &low), ("high", &high)])
}

fn phase_text_key(phase: Phase) -> Option<&'static str> {
    match phase {
        Phase::Paused => Some("sale.paused_text"),
        Phase::SoldOut => Some("sale.waiting_list"),
        Phase::Closed => Some("sale.closed_heading"),
        _ => None,
    }
}

/// Adds the headers that every page has, and remembers the chosen language.
fn with_page_headers(app: &AppState, request: &PageRequest, mut response: Response) -> Response {
    let lang = request.lang;
    let out = response.headers_mut();
    out.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(CONTENT_SECURITY_POLICY),
    );
    out.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    out.insert(
        "permissions-policy",
        HeaderValue::from_static("camera=(), microphone=(), geolocation=()"),
    );
    out.insert(
        header::VARY,
        HeaderValue::from_static("accept-encoding, accept-language, cookie"),
    );
    out.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(lang.tag()));
    if request.is_chosen {
        let year = std::time::Duration::from_hours(365 * 24);
        out.append(header::SET_COOKIE, app.cookies.set(LANG_COOKIE, lang.tag(), year));
    }
    response
}

fn asset_response(asset: &Asset, headers: &HeaderMap) -> Response {
    cacheable(
        headers,
        asset.content_type,
        &asset.etag,
        asset.cache,
        CachedBody {
            plain: &asset.plain,
            gzip: Some(&asset.gzip),
        },
    )
}

//! The pages, which were rendered for each language at start and are served as bytes, and their assets.
//!
//! A browser gets an HTML page for an unknown address; a program gets a problem.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{Html, IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header, request::Parts};
use serde::Deserialize;

use crate::edge::handlers::{
    CachedBody, cacheable,
    params::{PathParams, Query},
};
use crate::{
    edge::{
        auth::credentials,
        auth::extractors::{SalePath, SaleRoom},
        errors::problem::{Problem, ProblemType},
        pages::{Asset, Lang, Page},
        state::{AppState, SaleInfo, SignIn, WaitingRoomState},
    },
    waiting_room::{EntryState, Phase, Position, Wait, WaitingRoom},
};

/// The cookie with the visitor's choice of language.
pub const LANG_COOKIE: &str = "sd_lang";

/// Only this origin's files, no inline scripts or styles; images may also be inline.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// What a page's address may say.
#[derive(Default, Deserialize)]
pub struct PageQuery {
    /// The language to show, and to remember in the cookie.
    lang: Option<String>,
    /// `?plain`: the page itself sends browsers without scripts here.
    plain: Option<String>,
}

/// `GET /`: the start page.
pub async fn home(
    State(app): State<Arc<AppState>>,
    Query(query): Query<PageQuery>,
    headers: HeaderMap,
) -> Response {
    page(&app, Page::Home, &query, &headers)
}

/// `GET /sales/{sale}`: the queue of a sale.
pub async fn sale(
    State(WaitingRoomState { app, .. }): State<WaitingRoomState>,
    sale_room: Result<SaleRoom, Problem>,
    Query(query): Query<PageQuery>,
    parts: Parts,
) -> Response {
    match sale_room {
        Ok(SaleRoom { sale, room }) if query.plain.is_some() => {
            plain_page(&app, &sale, &room, &query, &parts)
        }
        sale_room => sale_page(
            &app,
            sale_room.map(|sale_room| SalePath(sale_room.sale)),
            Page::Sale,
            &query,
            &parts.headers,
        ),
    }
}

/// `GET /sales/{sale}/draw`: how the draw was computed, to be verified in the browser.
pub async fn draw(
    State(WaitingRoomState { app, .. }): State<WaitingRoomState>,
    sale_room: Result<SaleRoom, Problem>,
    Query(query): Query<PageQuery>,
    headers: HeaderMap,
) -> Response {
    sale_page(
        &app,
        sale_room.map(|sale_room| SalePath(sale_room.sale)),
        Page::Draw,
        &query,
        &headers,
    )
}

/// `GET /sales/{sale}/seats`: the seat map.
pub async fn seats(
    State(app): State<Arc<AppState>>,
    sale: Result<SalePath, Problem>,
    Query(query): Query<PageQuery>,
    headers: HeaderMap,
) -> Response {
    sale_page(&app, sale, Page::Seats, &query, &headers)
}

/// `GET /orders/{order}`: an order and its tickets.
pub async fn order(
    State(app): State<Arc<AppState>>,
    Query(query): Query<PageQuery>,
    headers: HeaderMap,
) -> Response {
    page(&app, Page::Order, &query, &headers)
}

/// `GET /assets/{*path}`: a file that pages refer to.
pub async fn asset(
    State(app): State<Arc<AppState>>,
    PathParams(path): PathParams<String>,
    headers: HeaderMap,
) -> Response {
    match app.pages.asset(&path) {
        Some(asset) => asset_response(&asset, &headers),
        None => Problem::new(ProblemType::NotFound).into_response(),
    }
}

/// Any address without an endpoint: 404, as a page for browsers, as a problem for programs.
pub async fn not_found(State(app): State<Arc<AppState>>, uri: Uri, headers: HeaderMap) -> Response {
    if uri.path().starts_with("/v1/") || !wants_html(&headers) {
        return Problem::new(ProblemType::NotFound).into_response();
    }
    let mut response = page(&app, Page::NotFound, &PageQuery::default(), &headers);
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

fn sale_page(
    app: &AppState,
    sale: Result<SalePath, Problem>,
    which: Page,
    query: &PageQuery,
    headers: &HeaderMap,
) -> Response {
    match sale {
        Ok(_) => page(app, which, query, headers),
        Err(problem) if !wants_html(headers) => problem.into_response(),
        Err(_) => {
            let mut response = page(app, Page::NotFound, query, headers);
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

fn page(app: &AppState, which: Page, query: &PageQuery, headers: &HeaderMap) -> Response {
    let lang = language(app, query, headers);
    with_page_headers(
        app,
        query,
        lang,
        asset_response(&app.pages.page(which, lang), headers),
    )
}

/// The visitor's position in words, and what to do next, for a browser without scripts.
fn plain_page(
    app: &AppState,
    sale: &SaleInfo,
    room: &WaitingRoom,
    query: &PageQuery,
    parts: &Parts,
) -> Response {
    let lang = language(app, query, &parts.headers);
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
    let mut response = with_page_headers(app, query, lang, Html(html).into_response());
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

fn language(app: &AppState, query: &PageQuery, headers: &HeaderMap) -> Lang {
    let accept = headers
        .get(header::ACCEPT_LANGUAGE)
        .and_then(|value| value.to_str().ok());
    Lang::choose(
        accept,
        app.cookies.read(headers, LANG_COOKIE),
        query.lang.as_deref(),
    )
}

/// Adds the headers that every page has, and remembers the chosen language.
fn with_page_headers(app: &AppState, query: &PageQuery, lang: Lang, mut response: Response) -> Response {
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
    if query.lang.is_some() {
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
        CachedBody::PlainAndGzip(&asset.plain, Some(&asset.gzip)),
    )
}

fn wants_html(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("text/html"))
}

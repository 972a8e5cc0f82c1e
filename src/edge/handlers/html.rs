//! The pages: rendered once per language at start, served as bytes.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    response::{Html, IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header, request::Parts};
use serde::Deserialize;

use crate::edge::handlers::{CachedBody, cacheable};
use crate::{
    edge::{auth::extractors::{self, SaleRoom, OnSale}, errors::problem::{Kind, Problem}, pages::{Asset, Lang, Page}, state::{AppState, SaleInfo, SignIn, WaitingRoomState}},
    waiting_room::{Phase, Place, PlaceState, Wait, WaitingRoom},
};

/// The fan's choice of language.
pub const LANG_COOKIE: &str = "sd_lang";

/// Nothing but our own files; pictures may also be drawn in place.
const CSP: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

#[derive(Deserialize)]
pub struct PageQuery {
    lang: Option<String>,
    /// A browser that runs no scripts is sent here by the page itself: `?plain`.
    plain: Option<String>,
}

pub async fn home(
    State(app): State<Arc<AppState>>,
    Query(chosen): Query<PageQuery>,
    headers: HeaderMap,
) -> Response {
    page(&app, Page::Home, &chosen, &headers)
}

pub async fn sale(
    State(WaitingRoomState { app, .. }): State<WaitingRoomState>,
    at_door: Result<SaleRoom, Problem>,
    Query(chosen): Query<PageQuery>,
    parts: Parts,
) -> Response {
    match at_door {
        Ok(SaleRoom { sale, room }) if chosen.plain.is_some() => plain_page(&app, &sale, &room, &chosen, &parts),
        at_door => sale_page(
            &app,
            at_door.map(|it| OnSale(it.sale)),
            Page::Sale,
            &chosen,
            &parts.headers,
        ),
    }
}

pub async fn draw(
    State(WaitingRoomState { app, .. }): State<WaitingRoomState>,
    at_door: Result<SaleRoom, Problem>,
    Query(chosen): Query<PageQuery>,
    headers: HeaderMap,
) -> Response {
    sale_page(
        &app,
        at_door.map(|it| OnSale(it.sale)),
        Page::Draw,
        &chosen,
        &headers,
    )
}

pub async fn seats(
    State(app): State<Arc<AppState>>,
    sale: Result<OnSale, Problem>,
    Query(chosen): Query<PageQuery>,
    headers: HeaderMap,
) -> Response {
    sale_page(&app, sale, Page::Seats, &chosen, &headers)
}

pub async fn order(
    State(app): State<Arc<AppState>>,
    Query(chosen): Query<PageQuery>,
    headers: HeaderMap,
) -> Response {
    page(&app, Page::Order, &chosen, &headers)
}

pub async fn asset(
    State(app): State<Arc<AppState>>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    match app.pages.asset(&path) {
        Some(asset) => asset_response(&asset, &headers),
        None => Problem::new(Kind::NotFound).into_response(),
    }
}

/// A person gets a page, a program a problem.
pub async fn not_found(State(app): State<Arc<AppState>>, uri: Uri, headers: HeaderMap) -> Response {
    if uri.path().starts_with("/v1/") || !wants_html(&headers) {
        return Problem::new(Kind::NotFound).into_response();
    }
    let mut response = page(
        &app,
        Page::NotFound,
        &PageQuery {
            lang: None,
            plain: None,
        },
        &headers,
    );
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

fn sale_page(
    app: &AppState,
    sale: Result<OnSale, Problem>,
    which: Page,
    chosen: &PageQuery,
    headers: &HeaderMap,
) -> Response {
    match sale {
        Ok(_) => page(app, which, chosen, headers),
        Err(problem) if !wants_html(headers) => problem.into_response(),
        Err(_) => {
            let mut response = page(app, Page::NotFound, chosen, headers);
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

fn page(app: &AppState, which: Page, chosen: &PageQuery, headers: &HeaderMap) -> Response {
    let lang = language(app, chosen, headers);
    with_page_headers(app, chosen, lang, asset_response(&app.pages.page(which, lang), headers))
}

/// Her place in words, for a browser that runs no scripts, and how she goes on. Only she may see it.
fn plain_page(app: &AppState, sale: &SaleInfo, room: &WaitingRoom, chosen: &PageQuery, parts: &Parts) -> Response {
    let lang = language(app, chosen, &parts.headers);
    let text = |key: &str| app.pages.text(lang, key, &[]);
    // A place that cannot be read is none; a safe method needs no look at where the request comes from.
    let place = extractors::presented_queue_token(parts, app, sale)
        .ok()
        .flatten()
        .map(|(token, _)| room.place(&token));
    let mut lines = place.map_or_else(|| vec![text("plain.none")], |place| position_lines(app, lang, &place));
    lines.extend(phase_text_key(room.phase()).map(text));
    lines.push(text(if sale.sign_in == SignIn::Customer {
        "plain.how.customer"
    } else {
        "plain.how.none"
    }));
    let html = app
        .pages
        .plain(lang, sale.title.in_language(lang.tag()), &lines);
    let mut response = with_page_headers(app, chosen, lang, Html(html).into_response());
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-store"),
    );
    response
}

fn position_lines(app: &AppState, lang: Lang, place: &Place) -> Vec<String> {
    let text = |key: &str, values: &[(&str, &str)]| app.pages.text(lang, key, values);
    let mut lines = Vec::new();
    if let Some(number) = place.number.filter(|_| place.state != PlaceState::Left) {
        lines.push(text("sale.number", &[("n", &number.to_string())]));
    }
    match place.state {
        PlaceState::Prequeue => lines.push(text("plain.early", &[])),
        PlaceState::Waiting => {
            let about = if place.about {
                text("sale.about", &[])
            } else {
                String::new()
            };
            lines.extend(
                place
                    .ahead
                    .map(|ahead| text("plain.waiting", &[("n", &format!("{about}{ahead}"))])),
            );
            lines.extend(
                place
                    .wait
                    .as_ref()
                    .map(|wait| text("plain.wait", &[("wait", &wait_minutes(app, lang, wait))])),
            );
        }
        PlaceState::Called => lines.push(text("sale.called_heading", &[])),
        PlaceState::PassedOver => lines.push(text("sale.passed_heading", &[])),
        PlaceState::Entered => lines.push(text("sale.entered_heading", &[])),
        PlaceState::Left => lines.push(text("sale.left_heading", &[])),
    }
    lines
}

fn wait_minutes(app: &AppState, lang: Lang, wait: &Wait) -> String {
    let (low, high) = ((wait.p10_s / 60).to_string(), wait.p90_s.div_ceil(60).to_string());
    app
        .pages
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

fn language(app: &AppState, chosen: &PageQuery, headers: &HeaderMap) -> Lang {
    let accept = headers.get(header::ACCEPT_LANGUAGE).and_then(|v| v.to_str().ok());
    Lang::choose(
        accept,
        app.cookies.read(headers, LANG_COOKIE),
        chosen.lang.as_deref(),
    )
}

/// What holds for every page.
fn with_page_headers(app: &AppState, chosen: &PageQuery, lang: Lang, mut response: Response) -> Response {
    let out = response.headers_mut();
    out.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CSP));
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
    if chosen.lang.is_some() {
        let year = std::time::Duration::from_hours(365 * 24);
        out.append(
            header::SET_COOKIE,
            app.cookies.set(LANG_COOKIE, lang.tag(), year),
        );
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
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains("text/html"))
}

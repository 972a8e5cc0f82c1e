//! The pages: rendered once per language at start, served as bytes.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    response::{Html, IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header, request::Parts};
use serde::Deserialize;

use crate::edge::handlers::{Form, shared};
use crate::{
    edge::{
        Door, House, SaleOnOffer, SignIn,
        auth::extractors::{self, AtDoor, OnSale},
        errors::problem::{Kind, Problem},
        pages::{Asset, Lang, Page},
    },
    waiting_room::{Phase, Place, PlaceState, Wait, WaitingRoom},
};

/// The fan's choice of language.
pub const LANG_COOKIE: &str = "sd_lang";

/// Nothing but our own files; pictures may also be drawn in place.
const CSP: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

#[derive(Deserialize)]
pub struct Chosen {
    lang: Option<String>,
    /// A browser that runs no scripts is sent here by the page itself: `?plain`.
    plain: Option<String>,
}

pub async fn home(
    State(house): State<Arc<House>>,
    Query(chosen): Query<Chosen>,
    headers: HeaderMap,
) -> Response {
    page(&house, Page::Home, &chosen, &headers)
}

pub async fn sale(
    State(Door { house, .. }): State<Door>,
    at_door: Result<AtDoor, Problem>,
    Query(chosen): Query<Chosen>,
    parts: Parts,
) -> Response {
    match at_door {
        Ok(AtDoor { sale, room }) if chosen.plain.is_some() => plain(&house, &sale, &room, &chosen, &parts),
        at_door => of_sale(
            &house,
            at_door.map(|it| OnSale(it.sale)),
            Page::Sale,
            &chosen,
            &parts.headers,
        ),
    }
}

pub async fn draw(
    State(Door { house, .. }): State<Door>,
    at_door: Result<AtDoor, Problem>,
    Query(chosen): Query<Chosen>,
    headers: HeaderMap,
) -> Response {
    of_sale(
        &house,
        at_door.map(|it| OnSale(it.sale)),
        Page::Draw,
        &chosen,
        &headers,
    )
}

pub async fn seats(
    State(house): State<Arc<House>>,
    sale: Result<OnSale, Problem>,
    Query(chosen): Query<Chosen>,
    headers: HeaderMap,
) -> Response {
    of_sale(&house, sale, Page::Seats, &chosen, &headers)
}

pub async fn order(
    State(house): State<Arc<House>>,
    Query(chosen): Query<Chosen>,
    headers: HeaderMap,
) -> Response {
    page(&house, Page::Order, &chosen, &headers)
}

pub async fn asset(
    State(house): State<Arc<House>>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    match house.pages.asset(&path) {
        Some(asset) => send(&asset, &headers),
        None => Problem::new(Kind::NotFound).into_response(),
    }
}

/// A person gets a page, a program a problem.
pub async fn nothing_here(State(house): State<Arc<House>>, uri: Uri, headers: HeaderMap) -> Response {
    if uri.path().starts_with("/v1/") || !wants_html(&headers) {
        return Problem::new(Kind::NotFound).into_response();
    }
    let mut response = page(
        &house,
        Page::NotFound,
        &Chosen {
            lang: None,
            plain: None,
        },
        &headers,
    );
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

fn of_sale(
    house: &House,
    sale: Result<OnSale, Problem>,
    which: Page,
    chosen: &Chosen,
    headers: &HeaderMap,
) -> Response {
    match sale {
        Ok(_) => page(house, which, chosen, headers),
        Err(problem) if !wants_html(headers) => problem.into_response(),
        Err(_) => {
            let mut response = page(house, Page::NotFound, chosen, headers);
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

fn page(house: &House, which: Page, chosen: &Chosen, headers: &HeaderMap) -> Response {
    let lang = language(house, chosen, headers);
    with_rules(house, chosen, lang, send(&house.pages.page(which, lang), headers))
}

/// Her place in words, for a browser that runs no scripts, and how she goes on. Only she may see it.
fn plain(house: &House, sale: &SaleOnOffer, room: &WaitingRoom, chosen: &Chosen, parts: &Parts) -> Response {
    let lang = language(house, chosen, &parts.headers);
    let text = |key: &str| house.pages.text(lang, key, &[]);
    // A place that cannot be read is none; a safe method needs no look at where the request comes from.
    let place = extractors::place_shown(parts, house, sale)
        .ok()
        .flatten()
        .map(|(token, _)| room.place(&token));
    let mut lines = place.map_or_else(|| vec![text("plain.none")], |place| of_place(house, lang, &place));
    lines.extend(of_phase(room.phase()).map(text));
    lines.push(text(if sale.sign_in == SignIn::Customer {
        "plain.how.customer"
    } else {
        "plain.how.none"
    }));
    let html = house
        .pages
        .plain(lang, sale.title.in_language(lang.tag()), &lines);
    let mut response = with_rules(house, chosen, lang, Html(html).into_response());
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-store"),
    );
    response
}

fn of_place(house: &House, lang: Lang, place: &Place) -> Vec<String> {
    let text = |key: &str, values: &[(&str, &str)]| house.pages.text(lang, key, values);
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
                    .map(|wait| text("plain.wait", &[("wait", &minutes(house, lang, wait))])),
            );
        }
        PlaceState::Called => lines.push(text("sale.called_heading", &[])),
        PlaceState::PassedOver => lines.push(text("sale.passed_heading", &[])),
        PlaceState::Entered => lines.push(text("sale.entered_heading", &[])),
        PlaceState::Left => lines.push(text("sale.left_heading", &[])),
    }
    lines
}

fn minutes(house: &House, lang: Lang, wait: &Wait) -> String {
    let (low, high) = ((wait.p10_s / 60).to_string(), wait.p90_s.div_ceil(60).to_string());
    house
        .pages
        .text(lang, "common.range_minutes", &[("low", &low), ("high", &high)])
}

fn of_phase(phase: Phase) -> Option<&'static str> {
    match phase {
        Phase::Paused => Some("sale.paused_text"),
        Phase::SoldOut => Some("sale.waiting_list"),
        Phase::Closed => Some("sale.closed_heading"),
        _ => None,
    }
}

fn language(house: &House, chosen: &Chosen, headers: &HeaderMap) -> Lang {
    let accept = headers.get(header::ACCEPT_LANGUAGE).and_then(|v| v.to_str().ok());
    Lang::choose(
        accept,
        house.cookies.read(headers, LANG_COOKIE),
        chosen.lang.as_deref(),
    )
}

/// What holds for every page.
fn with_rules(house: &House, chosen: &Chosen, lang: Lang, mut response: Response) -> Response {
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
            house.cookies.grant(LANG_COOKIE, lang.tag(), year),
        );
    }
    response
}

fn send(asset: &Asset, headers: &HeaderMap) -> Response {
    shared(
        headers,
        asset.content_type,
        &asset.etag,
        asset.cache,
        Form::Both(&asset.plain, Some(&asset.gzip)),
    )
}

fn wants_html(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains("text/html"))
}

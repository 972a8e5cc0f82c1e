//! The pages: rendered once per language at start, served as bytes.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde::Deserialize;

use super::{Form, shared};
use crate::edge::{
    House,
    extract::OnSale,
    pages::{Asset, Lang, Page},
    problem::{Kind, Problem},
};

/// The fan's choice of language.
pub const LANG_COOKIE: &str = "sd_lang";

/// Nothing but our own files; pictures may also be drawn in place.
const CSP: &str =
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

#[derive(Deserialize)]
pub struct Chosen {
    lang: Option<String>,
}

pub async fn home(State(house): State<Arc<House>>, Query(chosen): Query<Chosen>, headers: HeaderMap) -> Response {
    page(&house, Page::Home, &chosen, &headers)
}

pub async fn sale(
    State(house): State<Arc<House>>,
    sale: Result<OnSale, Problem>,
    Query(chosen): Query<Chosen>,
    headers: HeaderMap,
) -> Response {
    of_sale(&house, sale, Page::Sale, &chosen, &headers)
}

pub async fn seats(
    State(house): State<Arc<House>>,
    sale: Result<OnSale, Problem>,
    Query(chosen): Query<Chosen>,
    headers: HeaderMap,
) -> Response {
    of_sale(&house, sale, Page::Seats, &chosen, &headers)
}

pub async fn order(State(house): State<Arc<House>>, Query(chosen): Query<Chosen>, headers: HeaderMap) -> Response {
    page(&house, Page::Order, &chosen, &headers)
}

pub async fn asset(State(house): State<Arc<House>>, Path(path): Path<String>, headers: HeaderMap) -> Response {
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
    let mut response = page(&house, Page::NotFound, &Chosen { lang: None }, &headers);
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

fn of_sale(house: &House, sale: Result<OnSale, Problem>, which: Page, chosen: &Chosen, headers: &HeaderMap) -> Response {
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
    let accept = headers.get(header::ACCEPT_LANGUAGE).and_then(|v| v.to_str().ok());
    let lang = Lang::choose(accept, house.cookies.read(headers, LANG_COOKIE), chosen.lang.as_deref());
    let mut response = send(&house.pages.page(which, lang), headers);
    let out = response.headers_mut();
    out.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CSP));
    out.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    out.insert("permissions-policy", HeaderValue::from_static("camera=(), microphone=(), geolocation=()"));
    out.insert(header::VARY, HeaderValue::from_static("accept-encoding, accept-language, cookie"));
    out.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(lang.tag()));
    if chosen.lang.is_some() {
        let year = std::time::Duration::from_hours(365 * 24);
        out.append(header::SET_COOKIE, house.cookies.grant(LANG_COOKIE, lang.tag(), year));
    }
    response
}

fn send(asset: &Asset, headers: &HeaderMap) -> Response {
    shared(headers, asset.content_type, &asset.etag, asset.cache, Form::Both(&asset.plain, Some(&asset.gzip)))
}

fn wants_html(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("text/html"))
}

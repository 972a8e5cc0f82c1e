//! What is on sale.

use std::collections::BTreeMap;

use axum::{extract::State, response::Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::edge::handlers::{HandlerResult, private_json};
use crate::{
    edge::{auth::extractors::SaleRoom, pages::Lang, state::{AppState, SaleInfo, SignIn, WaitingRoomState}},
    kernel::{LocalText, Money, Timestamp},
    waiting_room::Phase,
};

/// Facts of a sale.
#[derive(Debug, Serialize, ToSchema)]
pub struct SaleResponse<'a> {
    id: &'a str,
    /// In the language that the request asks for.
    title: &'a str,
    #[schema(value_type = Object)]
    titles: &'a LocalText,
    artist: &'a str,
    /// `scheduled`, `prequeue`, `drawing`, `on_sale`, `paused`, `sold_out` or `closed`.
    #[schema(value_type = String)]
    phase: Phase,
    #[schema(value_type = String)]
    now: Timestamp,
    #[schema(value_type = String)]
    prequeue_at: Timestamp,
    #[schema(value_type = String)]
    opens_at: Timestamp,
    #[schema(value_type = String)]
    closes_at: Timestamp,
    sign_in: SignIn,
    /// `fifo` or `fair_draw`.
    queueing: &'a str,
    limits: PurchaseLimits,
    performances: Vec<PerformanceResponse<'a>>,
    /// Face prices over all performances; where a zone's price differs between them, each performance says its own.
    price_zones: Vec<PriceZone>,
    #[serde(skip_serializing_if = "Option::is_none")]
    demo: Option<&'a DemoLogin>,
}

/// Limits of one fan in this sale.
#[derive(Debug, Serialize, ToSchema)]
pub struct PurchaseLimits {
    seats_per_fan: u8,
    hold_s: u64,
}

/// One performance of a sale.
#[derive(Debug, Serialize, ToSchema)]
pub struct PerformanceResponse<'a> {
    id: &'a str,
    title: &'a str,
    venue: &'a str,
    #[schema(value_type = String)]
    starts_at: Timestamp,
    seat_count: usize,
    /// The plan's hash is in it: what is behind it never changes.
    plan_url: String,
    price_zones: Vec<PriceZone>,
}

/// A price zone with its face price.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PriceZone {
    zone: String,
    #[schema(value_type = Object)]
    price: Money,
}

/// All sales.
#[derive(Debug, Serialize, ToSchema)]
pub struct SaleList<'a> {
    sales: Vec<SaleResponse<'a>>,
}

pub async fn list(State(door): State<WaitingRoomState>, headers: HeaderMap) -> Response {
    let lang = preferred_language(&door.app, &headers);
    let sales = door
        .app
        .sales
        .values()
        .filter_map(|sale| Some(describe(&door.app, sale, door.room(&sale.id)?.phase(), lang)));
    public_json(&SaleList {
        sales: sales.collect(),
    })
}

pub async fn show(
    State(WaitingRoomState { app, .. }): State<WaitingRoomState>,
    SaleRoom { sale, room }: SaleRoom,
    headers: HeaderMap,
) -> HandlerResult {
    Ok(public_json(&describe(
        &app,
        &sale,
        room.phase(),
        preferred_language(&app, &headers),
    )))
}

pub(crate) fn preferred_language(app: &AppState, headers: &HeaderMap) -> Lang {
    let accept = headers.get(header::ACCEPT_LANGUAGE).and_then(|v| v.to_str().ok());
    Lang::choose(
        accept,
        app
            .cookies
            .read(headers, crate::edge::handlers::html::LANG_COOKIE),
        None,
    )
}

fn describe<'a>(app: &AppState, sale: &'a SaleInfo, phase: Phase, lang: Lang) -> SaleResponse<'a> {
    let performances: Vec<_> = sale
        .performances
        .iter()
        .map(|it| PerformanceResponse {
            id: it.id.as_str(),
            title: it.title.in_language(lang.tag()),
            venue: &it.venue,
            starts_at: it.starts_at,
            seat_count: it.seat_count,
            plan_url: format!(
                "/v1/sales/{}/performances/{}/plan?v={}",
                sale.id, it.id, it.plan_hash
            ),
            price_zones: it
                .prices
                .iter()
                .map(|(zone, price)| PriceZone {
                    zone: zone.clone(),
                    price: *price,
                })
                .collect(),
        })
        .collect();
    let mut price_zones = BTreeMap::new();
    for zone in performances
        .iter()
        .flat_map(|p: &PerformanceResponse<'_>| &p.price_zones)
    {
        price_zones
            .entry(zone.zone.clone())
            .or_insert_with(|| zone.clone());
    }
    let mut price_zones: Vec<_> = price_zones.into_values().collect();
    price_zones.sort_by_key(|zone| std::cmp::Reverse(zone.price.amount));
    SaleResponse {
        id: sale.id.as_str(),
        title: sale.title.in_language(lang.tag()),
        titles: &sale.title,
        artist: &sale.artist,
        phase,
        now: app.clock.now(),
        prequeue_at: sale.prequeue_starts_at,
        opens_at: sale.on_sale_starts_at,
        closes_at: sale.closes_at,
        sign_in: sale.sign_in,
        queueing: sale.queue_order,
        limits: PurchaseLimits {
            seats_per_fan: sale.seats_per_customer_max,
            hold_s: sale.hold_ttl.as_secs(),
        },
        performances,
        price_zones,
        demo: sale.demo.as_ref(),
    }
}

fn public_json<T: Serialize>(body: &T) -> Response {
    let mut response = private_json(StatusCode::OK, body);
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=1"),
    );
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("accept-language, cookie"));
    response
}

//! Operations that describe what is on sale.

use std::collections::BTreeMap;

use axum::{extract::State, response::Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::edge::handlers::{HandlerResult, private_json};
use crate::{
    edge::{
        auth::extractors::SaleRoom,
        errors::page::LANG_COOKIE,
        pages::Lang,
        state::{AppState, DemoLogin, PerformanceInfo, SaleInfo, SignIn, WaitingRoomState},
    },
    kernel::{LocalText, Money, PerformanceId, SaleId, Timestamp},
    waiting_room::Phase,
};

/// `Cache-Control` of a sale: its phase may change at any second.
pub(crate) const SALES_CACHE: &str = "public, max-age=1";

/// The public facts of a sale.
#[derive(Debug, Serialize, ToSchema)]
pub struct SaleResponse<'a> {
    /// The sale's id.
    #[schema(value_type = SaleId)]
    pub(crate) id: &'a SaleId,
    /// Title in the language that the request prefers.
    pub(crate) title: &'a str,
    /// Title by language.
    #[schema(value_type = LocalText)]
    pub(crate) titles: &'a LocalText,
    /// Name of the artist.
    pub(crate) artist: &'a str,
    /// How far the sale has come.
    pub(crate) phase: Phase,
    /// The server's time, from which pages count down.
    pub(crate) now: Timestamp,
    /// When the queue begins to take entries.
    pub(crate) prequeue_starts_at: Timestamp,
    /// When visitors are first admitted.
    pub(crate) on_sale_starts_at: Timestamp,
    /// When the sale ends.
    pub(crate) closes_at: Timestamp,
    /// Whether visitors sign in.
    pub(crate) sign_in: SignIn,
    /// How queue numbers are ordered: `fifo` or `fair_draw`.
    pub(crate) queue_order: &'a str,
    /// Whether customers who wait may ask to be told when they are called.
    pub(crate) call_notices: bool,
    /// What one customer may have.
    pub(crate) limits: PurchaseLimits,
    /// The performances, in the configured order.
    pub(crate) performances: Vec<PerformanceResponse<'a>>,
    /// Face prices over all performances, highest first. Where a zone's price differs between performances,
    /// it is the first performance's.
    pub(crate) price_zones: Vec<PriceZone>,
    /// Credentials for everyone; in the demo only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<DemoLogin>, nullable = false)]
    pub(crate) demo_login: Option<&'a DemoLogin>,
}

/// What one customer may have in a sale.
#[derive(Debug, Serialize, ToSchema)]
pub struct PurchaseLimits {
    /// Seats, over all orders.
    pub(crate) seats_per_customer_max: u8,
    /// How long a hold lasts, in seconds.
    pub(crate) hold_ttl_s: u64,
}

/// One performance of a sale.
#[derive(Debug, Serialize, ToSchema)]
pub struct PerformanceResponse<'a> {
    /// The performance's id within the sale.
    #[schema(value_type = PerformanceId)]
    pub(crate) id: &'a PerformanceId,
    /// Title in the language that the request prefers.
    pub(crate) title: &'a str,
    /// Name of the venue.
    pub(crate) venue: &'a str,
    /// When the performance begins.
    pub(crate) starts_at: Timestamp,
    /// From when on nothing is sold, and orders cannot be canceled.
    pub(crate) doors_open_at: Timestamp,
    /// The venue's time zone in the IANA database; show `starts_at` in it.
    pub(crate) time_zone: &'a str,
    /// Seats in the plan.
    pub(crate) seat_count: usize,
    /// Where the seating plan is. The address contains the plan's hash, so its content never changes.
    pub(crate) plan_url: String,
    /// Face prices of this performance.
    pub(crate) price_zones: Vec<PriceZone>,
}

/// A price zone with its face price.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PriceZone {
    /// Name of the zone, as in the seating plan's categories.
    pub(crate) zone: String,
    /// Face price of one seat.
    pub(crate) price: Money,
}

/// All sales.
#[derive(Debug, Serialize, ToSchema)]
pub struct SaleList<'a> {
    /// The sales, ordered by id.
    pub(crate) sales: Vec<SaleResponse<'a>>,
}

/// `GET /v1/sales`: all sales that this process serves.
pub async fn list(State(state): State<WaitingRoomState>, headers: HeaderMap) -> Response {
    let lang = preferred_language(&state.app, &headers);
    let sales = state
        .app
        .sales
        .values()
        .filter_map(|sale| Some(describe(&state.app, sale, state.room(&sale.id)?.phase(), lang)))
        .collect();
    public_json(&SaleList { sales })
}

/// `GET /v1/sales/{sale}`: one sale.
pub async fn show(
    State(WaitingRoomState { app, .. }): State<WaitingRoomState>,
    SaleRoom { sale, room }: SaleRoom,
    headers: HeaderMap,
) -> HandlerResult {
    let lang = preferred_language(&app, &headers);
    Ok(public_json(&describe(&app, &sale, room.phase(), lang)))
}

fn preferred_language(app: &AppState, headers: &HeaderMap) -> Lang {
    let accept = headers
        .get(header::ACCEPT_LANGUAGE)
        .and_then(|value| value.to_str().ok());
    Lang::choose(accept, app.cookies.read(headers, LANG_COOKIE), None)
}

fn describe<'a>(app: &AppState, sale: &'a SaleInfo, phase: Phase, lang: Lang) -> SaleResponse<'a> {
    let performances: Vec<_> = sale
        .performances
        .iter()
        .map(|performance| describe_performance(app, sale, performance, lang))
        .collect();
    SaleResponse {
        id: &sale.id,
        title: sale.title.in_language(lang.tag()),
        titles: &sale.title,
        artist: &sale.artist,
        phase,
        now: app.clock.now(),
        prequeue_starts_at: sale.prequeue_starts_at,
        on_sale_starts_at: sale.on_sale_starts_at,
        closes_at: sale.closes_at,
        sign_in: sale.sign_in,
        queue_order: sale.queue_order,
        call_notices: app.config.call_notices && sale.sign_in == SignIn::Customer,
        limits: PurchaseLimits {
            seats_per_customer_max: sale.seats_per_customer_max,
            hold_ttl_s: sale.hold_ttl.as_secs(),
        },
        price_zones: merged_price_zones(&performances),
        performances,
        demo_login: sale.demo_login.as_ref(),
    }
}

fn describe_performance<'a>(
    app: &AppState,
    sale: &SaleInfo,
    performance: &'a PerformanceInfo,
    lang: Lang,
) -> PerformanceResponse<'a> {
    let price_zones = performance.prices.iter().map(|(zone, price)| PriceZone {
        zone: zone.clone(),
        price: *price,
    });
    PerformanceResponse {
        id: &performance.id,
        title: performance.title.in_language(lang.tag()),
        venue: &performance.venue,
        starts_at: performance.starts_at,
        doors_open_at: performance.doors_open_at,
        time_zone: performance.time_zone.as_str(),
        seat_count: performance.seat_count,
        plan_url: app.config.public_base.host_path(&format!(
            "/v1/sales/{}/performances/{}/plan?v={}",
            sale.id, performance.id, performance.plan_hash
        )),
        price_zones: price_zones.collect(),
    }
}

/// Each zone once, with the price that it has in the first performance that has it; the highest price first.
fn merged_price_zones(performances: &[PerformanceResponse<'_>]) -> Vec<PriceZone> {
    let mut by_name = BTreeMap::new();
    for zone in performances
        .iter()
        .flat_map(|performance| &performance.price_zones)
    {
        by_name.entry(&zone.zone).or_insert(zone);
    }
    let mut zones: Vec<PriceZone> = by_name.into_values().cloned().collect();
    zones.sort_by_key(|zone| std::cmp::Reverse(zone.price.amount));
    zones
}

/// JSON that is the same for all callers with the same language.
fn public_json<T: Serialize>(body: &T) -> Response {
    let mut response = private_json(StatusCode::OK, body);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(SALES_CACHE));
    headers.insert(header::VARY, HeaderValue::from_static("accept-language, cookie"));
    response
}

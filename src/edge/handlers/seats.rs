//! Seats: the plan, whose they are now, and holds.

use std::{future::Future, pin::Pin, sync::Arc};

use axum::{
    extract::{FromRequestParts, Path, Query, RawPathParams, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header, request::Parts};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::edge::handlers::{
    HandlerResult,
    CachedBody::{PlainAndGzip, GzipOnly},
    private_json, cacheable,
};
use crate::{
    edge::{auth::extractors::{Admitted, IdempotencyKey, Json, OnSale, Owners}, connection::sse::{FrameSource, event_stream}, errors::problem::{Kind, Problem}, state::{AppState, BoxOfficeState}},
    kernel::{HoldId, Money, PerformanceId, Subject, Timestamp},
    seating::{
        ChangeOutcome, ExtendOutcome, Hold, HoldOutcome, HoldState, Performance, Plan, ReleaseOutcome,
        SeatIx, SeatSubscription, SeatingError, HoldSpec,
    },
};

/// The performance that the path names.
pub struct PerformancePath(Arc<Performance>);

impl FromRequestParts<BoxOfficeState> for PerformancePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, office: &BoxOfficeState) -> Result<Self, Problem> {
        let OnSale(sale) = OnSale::from_request_parts(parts, office).await?;
        let nothing = || Problem::new(Kind::NotFound).detail("there is no such performance");
        let params = RawPathParams::from_request_parts(parts, office)
            .await
            .map_err(|_| nothing())?;
        let id = params
            .iter()
            .find(|(key, _)| *key == "performance")
            .and_then(|(_, value)| value.parse::<PerformanceId>().ok());
        id.and_then(|id| office.seating.performance(&sale.id, &id))
            .map(Self)
            .ok_or_else(nothing)
    }
}

/// What somebody would like to hold: named seats, or the best there are.
#[derive(Deserialize, ToSchema)]
pub struct HoldRequest {
    /// Seats by the plan's `seat_guid`.
    seats: Option<Vec<String>>,
    best_available: Option<BestAvailableRequest>,
}

#[derive(Deserialize, ToSchema)]
pub struct BestAvailableRequest {
    quantity: u8,
    zone: Option<String>,
    section: Option<String>,
    /// How many of them must be wheelchair places.
    #[serde(default)]
    accessible: u8,
}

/// A whole new set of seats for a hold.
#[derive(Deserialize, ToSchema)]
pub struct SwapRequest {
    seats: Vec<String>,
}

/// A hold, as its owner sees it.
#[derive(Serialize, ToSchema)]
pub struct HoldResponse<'a> {
    #[schema(value_type = String)]
    id: HoldId,
    sale: &'a str,
    performance: &'a str,
    seats: Vec<&'a str>,
    #[schema(value_type = String)]
    expires_at: Timestamp,
    #[schema(value_type = Object)]
    total: Money,
    extensions_left: u8,
    /// `held` or `paying`.
    state: &'static str,
}

#[derive(Deserialize)]
pub struct PlanQuery {
    v: Option<String>,
}

pub async fn plan(
    PerformancePath(performance): PerformancePath,
    Query(asked): Query<PlanQuery>,
    headers: HeaderMap,
) -> Response {
    let plan = performance.plan();
    let is_this = asked.v.as_deref() == Some(plan.hash());
    let cache = if is_this {
        "public, max-age=31536000, immutable"
    } else {
        "public, max-age=60"
    };
    cacheable(
        &headers,
        "application/json",
        &format!("\"{}\"", plan.hash()),
        cache,
        GzipOnly(plan.json_gzip()),
    )
}

#[derive(Deserialize)]
pub struct SeatsQuery {
    section: Option<String>,
}

const OCTET_STREAM: &str = "application/octet-stream";

pub async fn snapshot(
    _: Admitted,
    PerformancePath(performance): PerformancePath,
    Query(asked): Query<SeatsQuery>,
    headers: HeaderMap,
) -> HandlerResult {
    let wants_packed = headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains(OCTET_STREAM));
    let (encoded, content_type) = if wants_packed {
        (performance.snapshot_packed(), OCTET_STREAM)
    } else {
        let snapshot = performance.snapshot_json(asked.section.as_deref());
        (
            snapshot.ok_or_else(|| Problem::new(Kind::NotFound).detail("the plan has no such section"))?,
            "application/json",
        )
    };
    let mut response = cacheable(
        &headers,
        content_type,
        &encoded.etag,
        "private, no-cache",
        PlainAndGzip(&encoded.body, encoded.gzip.as_ref()),
    );
    response.headers_mut().insert(
        header::VARY,
        http::HeaderValue::from_static("accept, accept-encoding"),
    );
    Ok(response)
}

#[derive(Deserialize)]
pub struct EventsQuery {
    after: Option<u64>,
}

pub async fn events(
    State(BoxOfficeState { app, .. }): State<BoxOfficeState>,
    _: Admitted,
    PerformancePath(performance): PerformancePath,
    Query(asked): Query<EventsQuery>,
    headers: HeaderMap,
) -> HandlerResult {
    // A browser that reconnects by itself says where it was in a header, not in the address.
    let resumed = headers
        .get("last-event-id")
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse().ok());
    let watch = performance.subscribe(resumed.or(asked.after));
    let watch = watch.ok_or_else(|| {
        Problem::new(Kind::Overloaded)
            .detail("poll the snapshot instead")
            .retry_after_s(app.retry_after_jitter_s(5, 20))
    })?;
    Ok(event_stream(
        None,
        SeatFrames(watch),
        app.lifecycle.clone(),
        &app.entropy,
    ))
}

struct SeatFrames(SeatSubscription);

impl FrameSource for SeatFrames {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<Bytes>> + Send + '_>> {
        Box::pin(self.0.next())
    }
}

pub async fn hold(
    State(BoxOfficeState { app, .. }): State<BoxOfficeState>,
    admitted: Admitted,
    PerformancePath(performance): PerformancePath,
    IdempotencyKey(key): IdempotencyKey,
    Json(wish): Json<HoldRequest>,
) -> HandlerResult {
    let wish = match (wish.seats, wish.best_available) {
        (Some(guids), None) => {
            HoldSpec::Seats(resolve_seats(performance.plan(), &guids, admitted.sale.seats_per_customer_max)?)
        }
        (None, Some(best)) if best.quantity == 0 || best.accessible > best.quantity => {
            return Err(invalid(
                "best_available.quantity",
                "at least 1, and not less than `accessible`",
            ));
        }
        (None, Some(best)) => HoldSpec::BestAvailable {
            quantity: best.quantity,
            zone: best.zone,
            section: best.section,
            accessible: best.accessible,
        },
        _ => return Err(invalid("seats", "name either `seats` or `best_available`")),
    };
    match performance
        .hold(&admitted.who, admitted.pass.visit, wish, key.as_deref())
        .await
        .map_err(|e| seating_problem(&app, e))?
    {
        HoldOutcome::Held(hold) => Ok(hold_response(StatusCode::CREATED, &performance, &hold)),
        HoldOutcome::Taken { taken, alternatives } => {
            Err(seats_taken(performance.plan(), &taken, &alternatives))
        }
        HoldOutcome::LimitReached { limit } => Err(limit_reached(limit)),
        HoldOutcome::NoMatchingSeats => Err(Problem::new(Kind::NoMatchingSeats)),
    }
}

pub async fn show(own: OwnedHold) -> Response {
    hold_response(StatusCode::OK, &own.performance, &own.hold)
}

pub async fn swap(
    State(BoxOfficeState { app, .. }): State<BoxOfficeState>,
    own: OwnedHold,
    Json(new): Json<SwapRequest>,
) -> HandlerResult {
    own.not_in_payment()?;
    let limit = own.performance.config().seats_per_customer_max;
    let seats = resolve_seats(own.performance.plan(), &new.seats, limit)?;
    match own
        .performance
        .swap(own.hold.id, &own.who, seats)
        .await
        .map_err(|e| seating_problem(&app, e))?
    {
        ChangeOutcome::Changed(hold) => Ok(hold_response(StatusCode::OK, &own.performance, &hold)),
        ChangeOutcome::Taken { taken, alternatives } => {
            Err(seats_taken(own.performance.plan(), &taken, &alternatives))
        }
        ChangeOutcome::LimitReached { limit } => Err(limit_reached(limit)),
        ChangeOutcome::Gone => Err(no_such_hold()),
    }
}

pub async fn extend(State(BoxOfficeState { app, .. }): State<BoxOfficeState>, own: OwnedHold) -> HandlerResult {
    own.not_in_payment()?;
    match own
        .performance
        .extend(own.hold.id, &own.who)
        .await
        .map_err(|e| seating_problem(&app, e))?
    {
        ExtendOutcome::Extended(hold) => Ok(hold_response(StatusCode::OK, &own.performance, &hold)),
        ExtendOutcome::NoMoreExtensions => Err(Problem::new(Kind::NoMoreExtensions)),
        ExtendOutcome::Gone => Err(no_such_hold()),
    }
}

pub async fn release(
    State(office): State<BoxOfficeState>,
    Owners(names): Owners,
    HoldPath(id): HoldPath,
) -> HandlerResult {
    for who in &names {
        let released = office
            .seating
            .release(id, who)
            .await
            .map_err(|e| seating_problem(&office.app, e))?;
        if released == ReleaseOutcome::Released {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
    // Hardly anybody comes here: only then it is worth asking why.
    OwnedHold::find(&office, id, names).await?.not_in_payment()?;
    Err(no_such_hold())
}

/// The hold that the path names, whoever's it is.
pub struct HoldPath(HoldId);

impl FromRequestParts<BoxOfficeState> for HoldPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, office: &BoxOfficeState) -> Result<Self, Problem> {
        let Path(id) = Path::<String>::from_request_parts(parts, office)
            .await
            .map_err(|_| no_such_hold())?;
        id.parse().map(Self).map_err(|_| no_such_hold())
    }
}

/// A hold that the path names and the caller owns; somebody else's does not exist for her.
pub struct OwnedHold {
    performance: Arc<Performance>,
    hold: Hold,
    who: Subject,
}

impl OwnedHold {
    async fn find(office: &BoxOfficeState, id: HoldId, names: Vec<Subject>) -> Result<Self, Problem> {
        for who in names {
            let found = office
                .seating
                .find_hold(id, &who)
                .await
                .map_err(|e| seating_problem(&office.app, e))?;
            if let Some((performance, hold)) = found {
                return Ok(Self {
                    performance,
                    hold,
                    who,
                });
            }
        }
        Err(no_such_hold())
    }

    /// The seats themselves refuse it as well; this says why.
    fn not_in_payment(&self) -> Result<(), Problem> {
        if self.hold.state == HoldState::Paying {
            Err(Problem::new(Kind::HoldInPayment))
        } else {
            Ok(())
        }
    }
}

impl FromRequestParts<BoxOfficeState> for OwnedHold {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, office: &BoxOfficeState) -> Result<Self, Problem> {
        let Owners(names) = Owners::from_request_parts(parts, office).await?;
        let HoldPath(id) = HoldPath::from_request_parts(parts, office).await?;
        Self::find(office, id, names).await
    }
}

/// Seats by their names, each at most once.
fn resolve_seats(plan: &Plan, guids: &[String], limit: u8) -> Result<Vec<SeatIx>, Problem> {
    if guids.is_empty() {
        return Err(invalid("seats", "at least one seat"));
    }
    if guids.len() > usize::from(limit) {
        return Err(limit_reached(limit));
    }
    let mut seats = Vec::with_capacity(guids.len());
    for (place, guid) in guids.iter().enumerate() {
        let field = || format!("seats[{place}]");
        let seat = plan
            .index_of(guid)
            .ok_or_else(|| Problem::new(Kind::UnknownSeat).with("field", &field()))?;
        if seats.contains(&seat) {
            return Err(invalid(&field(), "named twice"));
        }
        seats.push(seat);
    }
    Ok(seats)
}

fn seat_guids<'a>(plan: &'a Plan, seats: &[SeatIx]) -> Vec<&'a str> {
    seats.iter().map(|&seat| plan.guid(seat)).collect()
}

fn hold_response(status: StatusCode, performance: &Performance, hold: &Hold) -> Response {
    let view = HoldResponse {
        id: hold.id,
        sale: performance.config().sale.as_str(),
        performance: performance.config().performance.as_str(),
        seats: seat_guids(performance.plan(), &hold.seats),
        expires_at: hold.expires_at,
        total: hold.total,
        extensions_left: hold.extensions_left,
        state: match hold.state {
            HoldState::Held => "held",
            HoldState::Paying => "paying",
        },
    };
    private_json(status, &view)
}

fn seats_taken(plan: &Plan, taken: &[SeatIx], alternatives: &[Vec<SeatIx>]) -> Problem {
    let alternatives: Vec<_> = alternatives.iter().map(|seats| seat_guids(plan, seats)).collect();
    Problem::new(Kind::SeatsTaken)
        .with("taken", &seat_guids(plan, taken))
        .with("alternatives", &alternatives)
}

fn limit_reached(limit: u8) -> Problem {
    Problem::new(Kind::LimitReached)
        .with("limit", &limit)
        .detail(format!("at most {limit} seats for one fan"))
}

fn seating_problem(app: &AppState, e: SeatingError) -> Problem {
    match e {
        SeatingError::UnknownZone(_) => invalid("best_available.zone", "the plan has no such price zone"),
        SeatingError::UnknownSection(_) => invalid("best_available.section", "the plan has no such section"),
        SeatingError::TooManyAccessible => invalid("best_available.accessible", "not more than `quantity`"),
        SeatingError::IdempotencyKeyReused => Problem::new(Kind::IdempotencyKeyReused),
        other => app.seating_problem("seats", &other),
    }
}

fn no_such_hold() -> Problem {
    Problem::new(Kind::NotFound).detail("there is no such hold, or it has expired")
}

fn invalid(field: &str, what: &str) -> Problem {
    Problem::new(Kind::InvalidField)
        .with("field", &field)
        .detail(what)
}

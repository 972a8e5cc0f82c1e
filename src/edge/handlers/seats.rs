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
    Answer,
    Form::{Both, Packed},
    private_json, shared,
};
use crate::{
    edge::{
        BoxOffice, House,
        auth::extractors::{Admitted, IdempotencyKey, Json, OnSale, Owners},
        connection::sse::{Frames, stream_of},
        errors::problem::{Kind, Problem},
    },
    kernel::{HoldId, Money, PerformanceId, Subject, Timestamp},
    seating::{
        ChangeOutcome, ExtendOutcome, Hold, HoldOutcome, HoldState, Performance, Plan, ReleaseOutcome,
        SeatIx, SeatWatch, SeatingError, HoldSpec,
    },
};

/// The performance that the path names.
pub struct OnStage(Arc<Performance>);

impl FromRequestParts<BoxOffice> for OnStage {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, office: &BoxOffice) -> Result<Self, Problem> {
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
pub struct HoldWish {
    /// Seats by the plan's `seat_guid`.
    seats: Option<Vec<String>>,
    best_available: Option<BestAvailable>,
}

#[derive(Deserialize, ToSchema)]
pub struct BestAvailable {
    quantity: u8,
    zone: Option<String>,
    section: Option<String>,
    /// How many of them must be wheelchair places.
    #[serde(default)]
    accessible: u8,
}

/// A whole new set of seats for a hold.
#[derive(Deserialize, ToSchema)]
pub struct NewSeats {
    seats: Vec<String>,
}

/// A hold, as its owner sees it.
#[derive(Serialize, ToSchema)]
pub struct HoldView<'a> {
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
pub struct PlanVersion {
    v: Option<String>,
}

#[utoipa::path(get, path = "/v1/sales/{sale}/performances/{performance}/plan", tag = "seats",
    params(("sale" = String, Path), ("performance" = String, Path), ("v" = Option<String>, Query, description = "the plan's hash")),
    responses((status = 200, description = "seating plan (pretix format)"), (status = 304), (status = 404)))]
pub async fn plan(
    OnStage(performance): OnStage,
    Query(asked): Query<PlanVersion>,
    headers: HeaderMap,
) -> Response {
    let plan = performance.plan();
    let is_this = asked.v.as_deref() == Some(plan.hash());
    let cache = if is_this {
        "public, max-age=31536000, immutable"
    } else {
        "public, max-age=60"
    };
    shared(
        &headers,
        "application/json",
        &format!("\"{}\"", plan.hash()),
        cache,
        Packed(plan.json_gzip()),
    )
}

#[derive(Deserialize)]
pub struct Section {
    section: Option<String>,
}

const PACKED: &str = "application/octet-stream";

#[utoipa::path(get, path = "/v1/sales/{sale}/performances/{performance}/seats", tag = "seats",
    params(("sale" = String, Path), ("performance" = String, Path), ("section" = Option<String>, Query)),
    responses((status = 200, description = "{version, seats: {guid: free|held|booked|blocked}}; with Accept: application/octet-stream two bits a seat"), (status = 304), (status = 401), (status = 404)))]
pub async fn snapshot(
    _: Admitted,
    OnStage(performance): OnStage,
    Query(asked): Query<Section>,
    headers: HeaderMap,
) -> Answer {
    let wants_packed = headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains(PACKED));
    let (encoded, content_type) = if wants_packed {
        (performance.snapshot_packed(), PACKED)
    } else {
        let snapshot = performance.snapshot_json(asked.section.as_deref());
        (
            snapshot.ok_or_else(|| Problem::new(Kind::NotFound).detail("the plan has no such section"))?,
            "application/json",
        )
    };
    let mut response = shared(
        &headers,
        content_type,
        &encoded.etag,
        "private, no-cache",
        Both(&encoded.json, encoded.gzip.as_ref()),
    );
    response.headers_mut().insert(
        header::VARY,
        http::HeaderValue::from_static("accept, accept-encoding"),
    );
    Ok(response)
}

#[derive(Deserialize)]
pub struct After {
    after: Option<u64>,
}

#[utoipa::path(get, path = "/v1/sales/{sale}/performances/{performance}/seats/events", tag = "seats",
    params(("sale" = String, Path), ("performance" = String, Path), ("after" = Option<u64>, Query)),
    responses((status = 200, description = "server-sent events `delta` {version, seats} and `reset`"), (status = 401), (status = 503)))]
pub async fn events(
    State(BoxOffice { house, .. }): State<BoxOffice>,
    _: Admitted,
    OnStage(performance): OnStage,
    Query(asked): Query<After>,
    headers: HeaderMap,
) -> Answer {
    // A browser that reconnects by itself says where it was in a header, not in the address.
    let resumed = headers
        .get("last-event-id")
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse().ok());
    let watch = performance.subscribe(resumed.or(asked.after));
    let watch = watch.ok_or_else(|| {
        Problem::new(Kind::Overloaded)
            .detail("poll the snapshot instead")
            .retry_after_s(house.soon_s(5, 20))
    })?;
    Ok(stream_of(
        None,
        SeatFrames(watch),
        house.life.clone(),
        &house.entropy,
    ))
}

struct SeatFrames(SeatWatch);

impl Frames for SeatFrames {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<Bytes>> + Send + '_>> {
        Box::pin(self.0.next())
    }
}

#[utoipa::path(post, path = "/v1/sales/{sale}/performances/{performance}/holds", tag = "seats", request_body = HoldWish,
    params(("sale" = String, Path), ("performance" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = HoldView), (status = 401), (status = 409, description = "seats-taken {taken, alternatives}, limit-reached, nothing-left"), (status = 422)))]
pub async fn hold(
    State(BoxOffice { house, .. }): State<BoxOffice>,
    admitted: Admitted,
    OnStage(performance): OnStage,
    IdempotencyKey(key): IdempotencyKey,
    Json(wish): Json<HoldWish>,
) -> Answer {
    let wish = match (wish.seats, wish.best_available) {
        (Some(guids), None) => {
            HoldSpec::Seats(seats_of(performance.plan(), &guids, admitted.sale.seats_per_fan)?)
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
        .map_err(|e| refused(&house, e))?
    {
        HoldOutcome::Held(hold) => Ok(held(StatusCode::CREATED, &performance, &hold)),
        HoldOutcome::Taken { taken, alternatives } => {
            Err(seats_taken(performance.plan(), &taken, &alternatives))
        }
        HoldOutcome::LimitReached { limit } => Err(limit_reached(limit)),
        HoldOutcome::NothingLeft => Err(Problem::new(Kind::NothingLeft)),
    }
}

#[utoipa::path(get, path = "/v1/holds/{hold}", tag = "seats", params(("hold" = String, Path)), responses((status = 200, body = HoldView), (status = 404)))]
pub async fn show(own: OwnHold) -> Response {
    held(StatusCode::OK, &own.performance, &own.hold)
}

#[utoipa::path(patch, path = "/v1/holds/{hold}", tag = "seats", params(("hold" = String, Path)), request_body = NewSeats,
    responses((status = 200, body = HoldView), (status = 404), (status = 409), (status = 422)))]
pub async fn swap(
    State(BoxOffice { house, .. }): State<BoxOffice>,
    own: OwnHold,
    Json(new): Json<NewSeats>,
) -> Answer {
    own.not_in_payment()?;
    let limit = own.performance.config().seats_per_fan;
    let seats = seats_of(own.performance.plan(), &new.seats, limit)?;
    match own
        .performance
        .swap(own.hold.id, &own.who, seats)
        .await
        .map_err(|e| refused(&house, e))?
    {
        ChangeOutcome::Changed(hold) => Ok(held(StatusCode::OK, &own.performance, &hold)),
        ChangeOutcome::Taken { taken, alternatives } => {
            Err(seats_taken(own.performance.plan(), &taken, &alternatives))
        }
        ChangeOutcome::LimitReached { limit } => Err(limit_reached(limit)),
        ChangeOutcome::Gone => Err(no_such_hold()),
    }
}

#[utoipa::path(post, path = "/v1/holds/{hold}/extend", tag = "seats", params(("hold" = String, Path)),
    responses((status = 200, body = HoldView), (status = 404), (status = 409, description = "no-more-extensions")))]
pub async fn extend(State(BoxOffice { house, .. }): State<BoxOffice>, own: OwnHold) -> Answer {
    own.not_in_payment()?;
    match own
        .performance
        .extend(own.hold.id, &own.who)
        .await
        .map_err(|e| refused(&house, e))?
    {
        ExtendOutcome::Extended(hold) => Ok(held(StatusCode::OK, &own.performance, &hold)),
        ExtendOutcome::NoMoreExtensions => Err(Problem::new(Kind::NoMoreExtensions)),
        ExtendOutcome::Gone => Err(no_such_hold()),
    }
}

#[utoipa::path(delete, path = "/v1/holds/{hold}", tag = "seats", params(("hold" = String, Path)), responses((status = 204), (status = 404), (status = 409)))]
pub async fn release(
    State(office): State<BoxOffice>,
    Owners(names): Owners,
    NamedHold(id): NamedHold,
) -> Answer {
    for who in &names {
        let released = office
            .seating
            .release(id, who)
            .await
            .map_err(|e| refused(&office.house, e))?;
        if released == ReleaseOutcome::Released {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
    // Hardly anybody comes here: only then it is worth asking why.
    OwnHold::find(&office, id, names).await?.not_in_payment()?;
    Err(no_such_hold())
}

/// The hold that the path names, whoever's it is.
pub struct NamedHold(HoldId);

impl FromRequestParts<BoxOffice> for NamedHold {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, office: &BoxOffice) -> Result<Self, Problem> {
        let Path(id) = Path::<String>::from_request_parts(parts, office)
            .await
            .map_err(|_| no_such_hold())?;
        id.parse().map(Self).map_err(|_| no_such_hold())
    }
}

/// A hold that the path names and the caller owns; somebody else's does not exist for her.
pub struct OwnHold {
    performance: Arc<Performance>,
    hold: Hold,
    who: Subject,
}

impl OwnHold {
    async fn find(office: &BoxOffice, id: HoldId, names: Vec<Subject>) -> Result<Self, Problem> {
        for who in names {
            let found = office
                .seating
                .find_hold(id, &who)
                .await
                .map_err(|e| refused(&office.house, e))?;
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

impl FromRequestParts<BoxOffice> for OwnHold {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, office: &BoxOffice) -> Result<Self, Problem> {
        let Owners(names) = Owners::from_request_parts(parts, office).await?;
        let NamedHold(id) = NamedHold::from_request_parts(parts, office).await?;
        Self::find(office, id, names).await
    }
}

/// Seats by their names, each at most once.
fn seats_of(plan: &Plan, guids: &[String], limit: u8) -> Result<Vec<SeatIx>, Problem> {
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

fn names<'a>(plan: &'a Plan, seats: &[SeatIx]) -> Vec<&'a str> {
    seats.iter().map(|&seat| plan.guid(seat)).collect()
}

fn held(status: StatusCode, performance: &Performance, hold: &Hold) -> Response {
    let view = HoldView {
        id: hold.id,
        sale: performance.config().sale.as_str(),
        performance: performance.config().performance.as_str(),
        seats: names(performance.plan(), &hold.seats),
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
    let alternatives: Vec<_> = alternatives.iter().map(|seats| names(plan, seats)).collect();
    Problem::new(Kind::SeatsTaken)
        .with("taken", &names(plan, taken))
        .with("alternatives", &alternatives)
}

fn limit_reached(limit: u8) -> Problem {
    Problem::new(Kind::LimitReached)
        .with("limit", &limit)
        .detail(format!("at most {limit} seats for one fan"))
}

fn refused(house: &House, e: SeatingError) -> Problem {
    match e {
        SeatingError::UnknownZone(_) => invalid("best_available.zone", "the plan has no such price zone"),
        SeatingError::UnknownSection(_) => invalid("best_available.section", "the plan has no such section"),
        SeatingError::TooManyAccessible => invalid("best_available.accessible", "not more than `quantity`"),
        SeatingError::OperationReused => Problem::new(Kind::KeyReused),
        other => house.no_seats("seats", &other),
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

//! Operations of holds: hold seats, swap them, extend or release the hold.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};
use serde::Serialize;
use utoipa::ToSchema;

use crate::edge::handlers::{
    HandlerResult,
    hold_request::{HoldRequest, SwapRequest, hold_spec, limit_reached, resolve_seats, seat_guids},
    params::{PathParams, Query, SaleFilter},
    private_json,
    seats::PerformancePath,
};
use crate::{
    edge::{
        auth::extractors::{Admitted, Owners},
        errors::problem::{Problem, ProblemType},
        handlers::{
            hold_limits,
            orders::doors_open,
            request::{ClientAddress, IdempotencyKey, Json, NoFields},
        },
        state::{AppState, BoxOfficeState},
    },
    kernel::{HoldId, Money, PerformanceId, SaleId, Subject, Timestamp},
    seating::{
        ChangeOutcome, ExtendOutcome, Hold, HoldOutcome, HoldState, Performance, Plan, ReleaseOutcome,
        SeatIx, SeatingError,
    },
};

/// A hold, as its owner sees it.
#[derive(Serialize, ToSchema)]
pub struct HoldResponse<'a> {
    /// The hold's id.
    pub(crate) id: HoldId,
    /// The sale of its performance.
    #[schema(value_type = SaleId)]
    pub(crate) sale: &'a SaleId,
    /// The performance whose seats it holds.
    #[schema(value_type = PerformanceId)]
    pub(crate) performance: &'a PerformanceId,
    /// The seats by the plan's `seat_guid`.
    pub(crate) seats: Vec<&'a str>,
    /// When the seats are released unless the hold is extended or paid for.
    pub(crate) expires_at: Timestamp,
    /// What the seats cost together.
    pub(crate) total: Money,
    /// How often the hold may still be extended.
    pub(crate) extensions_left: u8,
    /// Whether the hold is being paid for.
    pub(crate) state: HoldStateView,
}

/// Holds of the caller.
#[derive(Serialize, ToSchema)]
pub struct HoldList<'a> {
    /// The holds, by performance, the one that ends first in front.
    pub(crate) holds: Vec<HoldResponse<'a>>,
}

/// Whether a hold is being paid for.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = HoldState)]
pub enum HoldStateView {
    /// The owner may change it.
    Held,
    /// An order is in progress; the hold cannot be changed.
    Paying,
}

/// `POST /v1/sales/{sale}/performances/{performance}/holds`: holds seats, all or none.
pub async fn create(
    State(BoxOfficeState { app, .. }): State<BoxOfficeState>,
    admitted: Admitted,
    PerformancePath(performance): PerformancePath,
    ClientAddress(address): ClientAddress,
    IdempotencyKey(key): IdempotencyKey,
    Json(request): Json<HoldRequest>,
) -> HandlerResult {
    let (who, visit) = (&admitted.subject, admitted.pass.visit);
    hold_limits::take_request(&app, visit)?;
    let spec = hold_spec(request, &performance, admitted.sale.seats_per_customer_max)?;
    let hold_ttl = performance.config().hold_ttl;
    let reserved = hold_limits::reserve(&app, who, address, spec.seat_count(), hold_ttl)?;
    let outcome = performance.hold(who, visit, spec, key.as_deref()).await;
    reserved.settle(match &outcome {
        Ok(HoldOutcome::Held(hold)) => Some(hold),
        _ => None,
    });
    match outcome.map_err(|e| seating_problem(&app, e))? {
        HoldOutcome::Held(hold) => Ok(hold_response(StatusCode::CREATED, &performance, &hold)),
        HoldOutcome::Taken { taken, alternatives } => {
            Err(seats_taken(performance.plan(), &taken, &alternatives))
        }
        HoldOutcome::LimitReached { limit } => Err(limit_reached(limit)),
        HoldOutcome::NoMatchingSeats => Err(Problem::new(ProblemType::NoMatchingSeats)),
        HoldOutcome::Gone => Err(Problem::new(ProblemType::HoldGone).with("alternatives", &[(); 0])),
    }
}

/// `GET /v1/holds`: the caller's own holds, also those made in another window or at another device.
pub async fn list(
    State(state): State<BoxOfficeState>,
    Owners(subjects): Owners,
    Query(SaleFilter { sale }): Query<SaleFilter>,
) -> HandlerResult {
    let mut found = Vec::new();
    for who in &subjects {
        let holds = state.seating.holds_of(who, sale.as_deref()).await;
        found.extend(holds.map_err(|e| seating_problem(&state.app, e))?);
    }
    let holds = found
        .iter()
        .map(|(performance, hold)| hold_view(performance, hold));
    Ok(private_json(
        StatusCode::OK,
        &HoldList {
            holds: holds.collect(),
        },
    ))
}

/// `GET /v1/holds/{hold}`: one hold.
pub async fn show(owned: OwnedHold) -> Response {
    hold_response(StatusCode::OK, &owned.performance, &owned.hold)
}

/// `PATCH /v1/holds/{hold}`: swaps the hold's seats for others, all or none.
pub async fn swap(
    State(BoxOfficeState { app, .. }): State<BoxOfficeState>,
    owned: OwnedHold,
    ClientAddress(address): ClientAddress,
    Json(request): Json<SwapRequest>,
) -> HandlerResult {
    hold_limits::take_request(&app, owned.hold.visit)?;
    owned.not_in_payment()?;
    let limit = owned.performance.config().seats_per_customer_max;
    let seats = resolve_seats(&owned.performance, &request.seats, request.accessible, limit)?;
    let hold_ttl = owned.performance.config().hold_ttl;
    let reserved = hold_limits::reserve_swap(&app, &owned.hold, address, seats.len(), hold_ttl)?;
    let outcome = owned.performance.swap(owned.hold.id, &owned.who, seats).await;
    reserved.settle(match &outcome {
        Ok(ChangeOutcome::Changed(hold)) => Some(hold),
        _ => None,
    });
    match outcome.map_err(|e| seating_problem(&app, e))? {
        ChangeOutcome::Changed(hold) => Ok(hold_response(StatusCode::OK, &owned.performance, &hold)),
        ChangeOutcome::Taken { taken, alternatives } => {
            Err(seats_taken(owned.performance.plan(), &taken, &alternatives))
        }
        ChangeOutcome::LimitReached { limit } => Err(limit_reached(limit)),
        ChangeOutcome::Gone => Err(no_such_hold()),
    }
}

/// `POST /v1/holds/{hold}/extend`: lets the hold last longer.
pub async fn extend(
    State(BoxOfficeState { app, .. }): State<BoxOfficeState>,
    owned: OwnedHold,
    ClientAddress(address): ClientAddress,
    _: NoFields,
) -> HandlerResult {
    owned.not_in_payment()?;
    let outcome = owned.performance.extend(owned.hold.id, &owned.who).await;
    match outcome.map_err(|e| seating_problem(&app, e))? {
        ExtendOutcome::Extended(hold) => {
            hold_limits::record(&app, address, &hold);
            Ok(hold_response(StatusCode::OK, &owned.performance, &hold))
        }
        ExtendOutcome::NoMoreExtensions => Err(Problem::new(ProblemType::NoMoreExtensions)),
        ExtendOutcome::Gone => Err(no_such_hold()),
    }
}

/// `DELETE /v1/holds/{hold}`: releases the seats.
pub async fn release(
    State(state): State<BoxOfficeState>,
    Owners(subjects): Owners,
    HoldPath(id): HoldPath,
    _: NoFields,
) -> HandlerResult {
    for who in &subjects {
        let released = state
            .seating
            .release(id, who)
            .await
            .map_err(|e| seating_problem(&state.app, e))?;
        if released == ReleaseOutcome::Released {
            hold_limits::release(&state.app, who, id);
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
    // Nothing was released, which is rare: only now a second call finds out why.
    OwnedHold::find(&state, id, subjects).await?.not_in_payment()?;
    Err(no_such_hold())
}

/// The id of the hold that the path names; its owner is not checked.
pub struct HoldPath(HoldId);

impl FromRequestParts<BoxOfficeState> for HoldPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &BoxOfficeState) -> Result<Self, Problem> {
        let id = PathParams::<HoldId>::from_request_parts(parts, state).await;
        id.map(|PathParams(id)| Self(id)).map_err(|_| no_such_hold())
    }
}

/// The hold that the path names, if the caller owns it. A hold of another customer does not exist for the
/// caller.
pub struct OwnedHold {
    performance: Arc<Performance>,
    hold: Hold,
    who: Subject,
}

impl OwnedHold {
    async fn find(state: &BoxOfficeState, id: HoldId, subjects: Vec<Subject>) -> Result<Self, Problem> {
        for who in subjects {
            let found = state.seating.find_hold(id, &who).await;
            if let Some((performance, hold)) = found.map_err(|e| seating_problem(&state.app, e))? {
                return Ok(Self {
                    performance,
                    hold,
                    who,
                });
            }
        }
        Err(no_such_hold())
    }

    /// The store rejects changes of such a hold as well, but cannot say why.
    fn not_in_payment(&self) -> Result<(), Problem> {
        if self.hold.state == HoldState::Paying {
            Err(Problem::new(ProblemType::HoldInPayment))
        } else {
            Ok(())
        }
    }
}

impl FromRequestParts<BoxOfficeState> for OwnedHold {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &BoxOfficeState) -> Result<Self, Problem> {
        let Owners(subjects) = Owners::from_request_parts(parts, state).await?;
        let HoldPath(id) = HoldPath::from_request_parts(parts, state).await?;
        Self::find(state, id, subjects).await
    }
}

fn hold_response(status: StatusCode, performance: &Performance, hold: &Hold) -> Response {
    private_json(status, &hold_view(performance, hold))
}

fn hold_view<'a>(performance: &'a Performance, hold: &Hold) -> HoldResponse<'a> {
    HoldResponse {
        id: hold.id,
        sale: &performance.config().sale,
        performance: &performance.config().performance,
        seats: seat_guids(performance.plan(), &hold.seats),
        expires_at: hold.expires_at,
        total: hold.total,
        extensions_left: hold.extensions_left,
        state: match hold.state {
            HoldState::Held => HoldStateView::Held,
            HoldState::Paying => HoldStateView::Paying,
        },
    }
}

fn seats_taken(plan: &Plan, taken: &[SeatIx], alternatives: &[Vec<SeatIx>]) -> Problem {
    let alternatives: Vec<_> = alternatives.iter().map(|seats| seat_guids(plan, seats)).collect();
    Problem::new(ProblemType::SeatsTaken)
        .with("taken", &seat_guids(plan, taken))
        .with("alternatives", &alternatives)
}

fn seating_problem(app: &AppState, e: SeatingError) -> Problem {
    match e {
        SeatingError::UnknownZone(_) => {
            Problem::invalid_field("best_available.zone", "the plan has no such price zone")
        }
        SeatingError::UnknownSection(_) => {
            Problem::invalid_field("best_available.section", "the plan has no such section")
        }
        SeatingError::DoorsOpen => doors_open(),
        SeatingError::TooManyAccessible => {
            Problem::invalid_field("best_available.accessible", "not more than `quantity`")
        }
        SeatingError::IdempotencyKeyReused => Problem::new(ProblemType::IdempotencyKeyReused),
        other => app.seating_problem("seats", &other),
    }
}

fn no_such_hold() -> Problem {
    Problem::new(ProblemType::NotFound).detail("there is no such hold, or it has expired")
}

//! Operations of holds: hold seats, swap them, extend or release the hold.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::edge::handlers::{HandlerResult, params::PathParams, private_json, seats::PerformancePath};
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
        ChangeOutcome, ExtendOutcome, Hold, HoldOutcome, HoldSpec, HoldState, Performance, Plan,
        ReleaseOutcome, SeatIx, SeatingError,
    },
};

/// Which seats to hold: either `seats` or `best_available`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// These seats, each by the plan's `seat_guid`. All are held or none.
    seats: Option<Vec<String>>,
    /// The best free seats next to each other.
    best_available: Option<BestAvailableRequest>,
}

/// What the best available seats must fulfil.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BestAvailableRequest {
    /// How many seats.
    #[schema(minimum = 1)]
    quantity: u8,
    /// Only seats of this price zone.
    zone: Option<String>,
    /// Only seats of this section.
    section: Option<String>,
    /// How many of them must be wheelchair spaces.
    #[serde(default)]
    accessible: u8,
}

/// The seats that replace those of a hold.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SwapRequest {
    /// The seats by the plan's `seat_guid`. All are swapped or none.
    seats: Vec<String>,
}

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
    let spec = hold_spec(request, performance.plan(), admitted.sale.seats_per_customer_max)?;
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
    }
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
    let seats = resolve_seats(owned.performance.plan(), &request.seats, limit)?;
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

fn hold_spec(request: HoldRequest, plan: &Plan, limit: u8) -> Result<HoldSpec, Problem> {
    match (request.seats, request.best_available) {
        (Some(guids), None) => Ok(HoldSpec::Seats(resolve_seats(plan, &guids, limit)?)),
        (None, Some(best)) if best.quantity == 0 || best.accessible > best.quantity => Err(invalid(
            "best_available.quantity",
            "at least 1, and not less than `accessible`",
        )),
        (None, Some(best)) => Ok(HoldSpec::BestAvailable {
            quantity: best.quantity,
            zone: best.zone,
            section: best.section,
            accessible: best.accessible,
        }),
        _ => Err(invalid("seats", "either `seats` or `best_available` is required")),
    }
}

/// The plan's seats with these guids, each at most once and at most `limit` of them.
fn resolve_seats(plan: &Plan, guids: &[String], limit: u8) -> Result<Vec<SeatIx>, Problem> {
    if guids.is_empty() {
        return Err(invalid("seats", "at least one seat"));
    }
    if guids.len() > usize::from(limit) {
        return Err(limit_reached(limit));
    }
    let mut seats = Vec::with_capacity(guids.len());
    for (index, guid) in guids.iter().enumerate() {
        let field = || format!("seats[{index}]");
        let seat = plan
            .index_of(guid)
            .ok_or_else(|| Problem::new(ProblemType::UnknownSeat).with("field", &field()))?;
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
    };
    private_json(status, &view)
}

fn seats_taken(plan: &Plan, taken: &[SeatIx], alternatives: &[Vec<SeatIx>]) -> Problem {
    let alternatives: Vec<_> = alternatives.iter().map(|seats| seat_guids(plan, seats)).collect();
    Problem::new(ProblemType::SeatsTaken)
        .with("taken", &seat_guids(plan, taken))
        .with("alternatives", &alternatives)
}

fn limit_reached(limit: u8) -> Problem {
    Problem::new(ProblemType::LimitReached)
        .with("limit", &limit)
        .detail(format!("at most {limit} seats for one customer"))
}

fn seating_problem(app: &AppState, e: SeatingError) -> Problem {
    match e {
        SeatingError::UnknownZone(_) => invalid("best_available.zone", "the plan has no such price zone"),
        SeatingError::UnknownSection(_) => invalid("best_available.section", "the plan has no such section"),
        SeatingError::DoorsOpen => doors_open(),
        SeatingError::TooManyAccessible => invalid("best_available.accessible", "not more than `quantity`"),
        SeatingError::IdempotencyKeyReused => Problem::new(ProblemType::IdempotencyKeyReused),
        other => app.seating_problem("seats", &other),
    }
}

fn no_such_hold() -> Problem {
    Problem::new(ProblemType::NotFound).detail("there is no such hold, or it has expired")
}

fn invalid(field: &str, what: &str) -> Problem {
    Problem::new(ProblemType::InvalidField)
        .with("field", &field)
        .detail(what)
}

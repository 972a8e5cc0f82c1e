//! Requests for seats: named ones, or the best available.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    edge::errors::problem::{Problem, ProblemType},
    seating::{HoldSpec, Performance, Plan, SeatIx},
};

/// Which seats to hold: either `seats` or `best_available`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// These seats, each by the plan's `seat_guid`. All are held or none.
    seats: Option<Vec<String>>,
    /// With `seats`: how many of the customers use a wheelchair. Each may have a wheelchair space, and
    /// companion seats beside.
    #[serde(default)]
    accessible: u8,
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
    pub(super) seats: Vec<String>,
    /// How many of the customers use a wheelchair, as when seats are held.
    #[serde(default)]
    pub(super) accessible: u8,
}

/// What a request asks of the performance.
pub(super) fn hold_spec(
    request: HoldRequest,
    performance: &Performance,
    limit: u8,
) -> Result<HoldSpec, Problem> {
    match (request.seats, request.best_available) {
        (Some(guids), None) => {
            let seats = resolve_seats(performance, &guids, request.accessible, limit)?;
            Ok(HoldSpec::Seats(seats))
        }
        (None, Some(_)) if request.accessible > 0 => Err(Problem::invalid_field(
            "accessible",
            "belongs into `best_available`",
        )),
        (None, Some(best)) if best.quantity == 0 || best.accessible > best.quantity => {
            Err(Problem::invalid_field(
                "best_available.quantity",
                "at least 1, and not less than `accessible`",
            ))
        }
        (None, Some(best)) => Ok(HoldSpec::BestAvailable {
            quantity: best.quantity,
            zone: best.zone,
            section: best.section,
            accessible: best.accessible,
        }),
        _ => Err(Problem::invalid_field(
            "seats",
            "either `seats` or `best_available` is required",
        )),
    }
}

/// The plan's seats with these guids, each at most once and at most `limit` of them; none is reserved for
/// other customers than the `accessible` who use a wheelchair.
pub(super) fn resolve_seats(
    performance: &Performance,
    guids: &[String],
    accessible: u8,
    limit: u8,
) -> Result<Vec<SeatIx>, Problem> {
    let plan = performance.plan();
    if guids.is_empty() {
        return Err(Problem::invalid_field("seats", "at least one seat"));
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
            return Err(Problem::invalid_field(&field(), "named twice"));
        }
        seats.push(seat);
    }
    let kept = performance.kept_for_wheelchairs(&seats, accessible);
    if kept.is_empty() {
        Ok(seats)
    } else {
        Err(Problem::new(ProblemType::WheelchairSpaces).with("reserved", &seat_guids(plan, &kept)))
    }
}

pub(super) fn seat_guids<'a>(plan: &'a Plan, seats: &[SeatIx]) -> Vec<&'a str> {
    seats.iter().map(|&seat| plan.guid(seat)).collect()
}

pub(super) fn limit_reached(limit: u8) -> Problem {
    Problem::new(ProblemType::LimitReached)
        .with("limit", &limit)
        .detail(format!("at most {limit} seats for one customer"))
}

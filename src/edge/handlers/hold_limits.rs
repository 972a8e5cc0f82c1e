//! Limits of holds beyond the seats of one visitor: how often a visit may ask for seats, and how many seats
//! the anonymous visitors of one address hold at once.

use std::{net::IpAddr, time::Duration};

use crate::{
    edge::{
        auth::credentials::is_anonymous,
        errors::problem::{Problem, ProblemType},
        handlers::join_limits::SIGN_IN_PATH,
        state::AppState,
    },
    kernel::{HoldId, Subject, VisitId},
    seating::Hold,
};

/// Takes one request for seats from the visit's allowance.
pub(super) fn take_request(app: &AppState, visit: VisitId) -> Result<(), Problem> {
    app.limits.hold_requests.take(visit).map_err(|wait| {
        Problem::new(ProblemType::TooManyRequests)
            .detail("this visit has asked for seats too often; retry later")
            .with("reason", &"holds_of_this_visit")
            .retry_after_s(wait.as_secs() + 1)
    })
}

/// Seats that count for the address of an anonymous visitor while their request runs. It is settled when the
/// outcome is known: a request that is dropped before may have taken seats, so those count until a hold would
/// end.
pub(super) struct ReservedSeats<'a> {
    app: &'a AppState,
    /// `None` where nothing is counted.
    counted: Option<(IpAddr, HoldId)>,
}

/// Reserves the seats of a new hold. Customers are not limited by address: each has an account, and in a sale
/// without sign-in too it counts that they were signed in when they joined.
pub(super) fn reserve<'a>(
    app: &'a AppState,
    who: &Subject,
    address: IpAddr,
    seats: usize,
    hold_ttl: Duration,
) -> Result<ReservedSeats<'a>, Problem> {
    if !is_counted(app, who) {
        return Ok(ReservedSeats { app, counted: None });
    }
    let id = HoldId::random(&*app.entropy);
    let now = app.clock.now();
    app.limits
        .anonymous_seats
        .reserve(address, id, seats, now, now.plus(hold_ttl))
        .map_err(|wait| too_many_seats(app, wait.as_secs() + 1))?;
    Ok(ReservedSeats {
        app,
        counted: Some((address, id)),
    })
}

/// Reserves what a hold will have more than now.
pub(super) fn reserve_swap<'a>(
    app: &'a AppState,
    hold: &Hold,
    address: IpAddr,
    seats: usize,
    hold_ttl: Duration,
) -> Result<ReservedSeats<'a>, Problem> {
    if !is_counted(app, &hold.subject) {
        return Ok(ReservedSeats { app, counted: None });
    }
    let client = app.limits.anonymous_seats.client_of(hold.id);
    if client.is_none() {
        // Another node made it, or this one before a restart.
        record(app, address, hold);
    }
    let more = seats.saturating_sub(hold.seats.len());
    reserve(app, &hold.subject, client.unwrap_or(address), more, hold_ttl)
}

/// Counts a hold as it is now.
pub(super) fn record(app: &AppState, address: IpAddr, hold: &Hold) {
    if is_counted(app, &hold.subject) {
        let seats = &app.limits.anonymous_seats;
        seats.record(address, hold.id, hold.seats.len(), hold.expires_at);
    }
}

/// Stops counting a hold.
pub(super) fn release(app: &AppState, who: &Subject, hold: HoldId) {
    if is_counted(app, who) {
        app.limits.anonymous_seats.release(hold);
    }
}

impl ReservedSeats<'_> {
    /// The request is answered: with this hold, or without a change.
    pub(super) fn settle(self, hold: Option<&Hold>) {
        let Some((address, id)) = self.counted else {
            return;
        };
        if let Some(hold) = hold {
            record(self.app, address, hold);
        }
        self.app.limits.anonymous_seats.release(id);
    }
}

/// Whether the seats of this subject count for an address.
fn is_counted(app: &AppState, who: &Subject) -> bool {
    app.limits.anonymous_seats.is_enabled() && is_anonymous(who)
}

fn too_many_seats(app: &AppState, retry_after_s: u64) -> Problem {
    Problem::new(ProblemType::TooManyRequests)
        .detail(
            "visitors from this address hold as many seats as one address may; retry when some are released, \
            or join signed in, which has no such limit",
        )
        .with("reason", &"seats_from_this_address")
        .with("sign_in", &app.config.public_base.host_path(SIGN_IN_PATH))
        .retry_after_s(retry_after_s)
}

//! The waiting room's calls: a place, the board, the door.

use std::{future::Future, net::IpAddr, pin::Pin};

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::edge::handlers::{
    Answer, Form,
    anonymous::{self, JoinAsk, Stranger},
    broken, private_json, shared,
};
use crate::{
    edge::{
        Door, House, SaleOnOffer, SignIn,
        auth::extractors::{self, Admitted, AtDoor, PlaceOwner, Placed, SignedIn},
        connection::sse::{Frames, stream_of},
        errors::problem::{Kind, Problem},
    },
    kernel::{Subject, Timestamp},
    waiting_room::{
        BoardWatch, EnterOutcome, Inside, JoinOutcome, Joined, Phase, PlaceState, RenewOutcome, WaitingRoom,
    },
};

/// A place in the queue.
#[derive(Serialize, ToSchema)]
pub struct PlaceGranted<'a> {
    token: &'a str,
    #[schema(value_type = String)]
    state: PlaceState,
    number: Option<u64>,
    #[schema(value_type = String)]
    joined_at: Timestamp,
    /// Whoever has `sample & mask == 0` by the board's `presence` is asked to say now and then that she is there.
    sample: u16,
}

/// Whether somebody is asked to say that she is there.
#[derive(Serialize, ToSchema)]
pub struct Presence {
    /// Milliseconds until she is to say so again; `null` when she is not asked, and nothing was taken down.
    again_in_ms: Option<u64>,
}

/// An admission pass.
#[derive(Serialize, ToSchema)]
pub struct PassGranted<'a> {
    pass: &'a str,
    #[schema(value_type = String)]
    expires_at: Timestamp,
}

#[utoipa::path(post, path = "/v1/sales/{sale}/queue", tag = "waiting room", params(("sale" = String, Path)), request_body = Option<JoinAsk>,
    responses((status = 201, body = PlaceGranted), (status = 200, body = PlaceGranted, description = "already in"), (status = 401),
        (status = 403, description = "proof-required, with a `challenge` for this join"), (status = 409), (status = 429)))]
pub async fn join(State(door): State<Door>, AtDoor { sale, room }: AtDoor, request: Request) -> Answer {
    let address = extractors::address(request.extensions(), request.headers(), &door.house);
    take_place(&door, &sale, &room, address, request).await
}

/// All of it is lent: so many joins at once would fight for the counts of what they share.
pub(crate) async fn take_place(
    door: &Door,
    sale: &SaleOnOffer,
    room: &WaitingRoom,
    address: Option<IpAddr>,
    request: Request,
) -> Answer {
    use axum::extract::FromRequestParts;
    let house = &door.house;
    let (mut parts, body) = request.into_parts();
    let who = match sale.sign_in {
        SignIn::Customer => {
            if let Some(address) = address
                && let Err(wait) = house.limits.joins.take(address)
            {
                return Err(Problem::new(Kind::TooManyRequests).retry_after_s(wait.as_secs() + 1));
            }
            Comes::Customer(SignedIn::from_request_parts(&mut parts, door).await?.0.subject)
        }
        SignIn::None => {
            // Whoever shows a live place has it already; of the others, a customer is known and everybody else is new.
            if let Some((token, raw)) = extractors::place_shown(&parts, house, sale)? {
                let place = room.place(&token);
                if place.state != PlaceState::Left {
                    let (state, number, sample) = (place.state, place.number, place.sample);
                    let joined = Joined {
                        token: raw,
                        state,
                        number,
                        joined_at: token.joined_at,
                        sample,
                    };
                    return Ok(place_granted(house, sale, &joined, Granted::Before));
                }
            }
            if let Some(session) = extractors::session_shown(&parts, house)? {
                Comes::Customer(session.subject)
            } else {
                // Nobody works for a place that is not given.
                shut(room).map_or(Ok(()), Err)?;
                Comes::Stranger(anonymous::welcome(house, sale, address, parts, body).await?)
            }
        }
    };
    // No task of its own: nothing is half done when she hangs up (see `WaitingRoom::join`), and joins are many.
    let outcome = match who {
        Comes::Customer(subject) => room.join(&subject).await,
        Comes::Stranger(stranger) => {
            let outcome = room.join_stranger().await;
            if !matches!(outcome, Ok(JoinOutcome::Joined(_))) {
                stranger.give_back(house);
            }
            outcome
        }
    };
    match outcome.map_err(|e| house.no_door("join", &e))? {
        JoinOutcome::Joined(joined) => Ok(place_granted(house, sale, &joined, Granted::Now)),
        JoinOutcome::Already(joined) => Ok(place_granted(house, sale, &joined, Granted::Before)),
        JoinOutcome::NotOpenYet { opens } => Err(Problem::new(Kind::NotOpenYet).with("opens_at", &opens)),
        JoinOutcome::Closed => Err(Problem::new(Kind::Closed)),
        JoinOutcome::Full => Err(Problem::new(Kind::QueueFull).retry_after_s(house.soon_s(20, 60))),
    }
}

/// Who wants a place.
enum Comes {
    Customer(Subject),
    Stranger(Stranger),
}

/// Why nobody gets a place now, whoever she is.
fn shut(room: &WaitingRoom) -> Option<Problem> {
    match room.phase() {
        Phase::Scheduled => Some(Problem::new(Kind::NotOpenYet).with("opens_at", &room.config().prequeue_at)),
        Phase::Closed => Some(Problem::new(Kind::Closed)),
        _ => None,
    }
}

#[utoipa::path(get, path = "/v1/sales/{sale}/queue/place", tag = "waiting room", params(("sale" = String, Path)),
    responses((status = 200, description = "state, number, position, ahead, about, wait {p10_s, p50_s, p90_s, around}, poll_after_ms, call_ends_at, sample"), (status = 401)))]
pub async fn place(placed: Placed) -> Response {
    place_of(&placed)
}

pub(crate) fn place_of(placed: &Placed) -> Response {
    private_json(StatusCode::OK, &placed.room.place(&placed.token))
}

#[utoipa::path(delete, path = "/v1/sales/{sale}/queue/place", tag = "waiting room", params(("sale" = String, Path)), responses((status = 204), (status = 401)))]
pub async fn leave(State(Door { house, .. }): State<Door>, PlaceOwner(placed): PlaceOwner) -> Answer {
    let Placed {
        sale, room, token, ..
    } = placed;
    let left = house
        .life
        .run_to_end(async move { room.leave(&token).await })
        .await
        .map_err(broken)?;
    left.map_err(|e| house.no_door("leaving the queue", &e))?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    for name in [&sale.cookies.queue, &sale.cookies.pass] {
        response
            .headers_mut()
            .append(header::SET_COOKIE, house.cookies.revoke(name));
    }
    Ok(response)
}

#[utoipa::path(put, path = "/v1/sales/{sale}/queue/presence", tag = "waiting room", params(("sale" = String, Path)),
    responses((status = 200, body = Presence), (status = 401)))]
pub async fn present(placed: Placed) -> Response {
    let again_in_ms = placed
        .room
        .present(&placed.token)
        .map(|again_in| u64::try_from(again_in.as_millis()).unwrap_or(u64::MAX));
    private_json(StatusCode::OK, &Presence { again_in_ms })
}

const BOARD_CACHE: &str = "public, max-age=1";

#[utoipa::path(get, path = "/v1/sales/{sale}/board", tag = "waiting room", params(("sale" = String, Path)),
    responses((status = 200, description = "the public board"), (status = 304)))]
pub async fn board(at_door: AtDoor, headers: HeaderMap) -> Response {
    board_of(&at_door, &headers)
}

pub(crate) fn board_of(at_door: &AtDoor, headers: &HeaderMap) -> Response {
    let board = at_door.room.board();
    shared(
        headers,
        "application/json",
        &board.etag,
        BOARD_CACHE,
        Form::Both(&board.json, None),
    )
}

#[utoipa::path(get, path = "/v1/sales/{sale}/board/events", tag = "waiting room", params(("sale" = String, Path)),
    responses((status = 200, description = "server-sent events `board`"), (status = 503, description = "as many watchers as this node serves; poll the board")))]
pub async fn board_events(State(Door { house, .. }): State<Door>, AtDoor { room, .. }: AtDoor) -> Answer {
    let watch = room.watch_board().ok_or_else(|| {
        Problem::new(Kind::Overloaded)
            .detail("poll the board instead")
            .retry_after_s(house.soon_s(10, 60))
    })?;
    let now = room.board().sse.clone();
    Ok(stream_of(
        Some(now),
        BoardFrames(watch),
        house.life.clone(),
        &house.entropy,
    ))
}

struct BoardFrames(BoardWatch);

impl Frames for BoardFrames {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<Bytes>> + Send + '_>> {
        Box::pin(async { Some(self.0.changed().await?.sse.clone()) })
    }
}

#[utoipa::path(post, path = "/v1/sales/{sale}/admission", tag = "waiting room", params(("sale" = String, Path)),
    responses((status = 200, body = PassGranted), (status = 401), (status = 409, description = "not-called-yet, full-for-a-moment (each with `place`), visit-ended, closed")))]
pub async fn enter(State(Door { house, .. }): State<Door>, PlaceOwner(placed): PlaceOwner) -> Answer {
    let Placed {
        sale, room, token, ..
    } = placed;
    let inside = if house.valve.are_inside_late() {
        Inside::Late
    } else {
        Inside::Served
    };
    let outcome = house
        .life
        .run_to_end(async move { room.enter(&token, inside).await })
        .await
        .map_err(broken)?;
    match outcome.map_err(|e| house.no_door("admission", &e))? {
        EnterOutcome::Entered { pass, expires_at } => Ok(pass_granted(&house, &sale, &pass, expires_at)),
        EnterOutcome::NotCalledYet(place) => Err(Problem::new(Kind::NotCalledYet).with("place", &place)),
        EnterOutcome::FullForAMoment(place) => Err(Problem::new(Kind::FullForAMoment).with("place", &place)),
        EnterOutcome::Ended(place) => Err(Problem::new(Kind::VisitEnded).with("place", &place)),
        EnterOutcome::Closed => Err(Problem::new(Kind::Closed)),
    }
}

#[utoipa::path(put, path = "/v1/sales/{sale}/admission", tag = "waiting room", params(("sale" = String, Path)),
    responses((status = 200, body = PassGranted), (status = 401), (status = 409, description = "visit-ended")))]
pub async fn renew(
    State(Door { house, .. }): State<Door>,
    AtDoor { sale, room }: AtDoor,
    admitted: Admitted,
) -> Answer {
    let pass = admitted.pass;
    let outcome = house
        .life
        .run_to_end(async move { room.renew(&pass).await })
        .await
        .map_err(broken)?;
    match outcome.map_err(|e| house.no_door("renewing a pass", &e))? {
        RenewOutcome::Renewed { pass, expires_at } => Ok(pass_granted(&house, &sale, &pass, expires_at)),
        RenewOutcome::Ended => Err(Problem::new(Kind::VisitEnded)),
    }
}

#[utoipa::path(delete, path = "/v1/sales/{sale}/admission", tag = "waiting room", params(("sale" = String, Path)), responses((status = 204), (status = 401)))]
pub async fn end_visit(
    State(Door { house, .. }): State<Door>,
    AtDoor { sale, room }: AtDoor,
    admitted: Admitted,
) -> Answer {
    let pass = admitted.pass;
    let ended = house
        .life
        .run_to_end(async move { room.end_visit(&pass).await })
        .await
        .map_err(broken)?;
    ended.map_err(|e| house.no_door("ending a visit", &e))?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response
        .headers_mut()
        .append(header::SET_COOKIE, house.cookies.revoke(&sale.cookies.pass));
    Ok(response)
}

#[derive(Clone, Copy)]
enum Granted {
    Now,
    Before,
}

fn place_granted(house: &House, sale: &SaleOnOffer, joined: &Joined, granted: Granted) -> Response {
    // The clock has been read for her, if she came just now.
    let (status, now) = match granted {
        Granted::Now => (StatusCode::CREATED, joined.joined_at),
        Granted::Before => (StatusCode::OK, house.clock.now()),
    };
    let body = PlaceGranted {
        token: &joined.token,
        state: joined.state,
        number: joined.number,
        joined_at: joined.joined_at,
        sample: joined.sample,
    };
    let mut response = private_json(status, &body);
    let cookie = house.cookies.grant(
        &sale.cookies.queue,
        &joined.token,
        extractors::cookie_life(sale, now),
    );
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

fn pass_granted(house: &House, sale: &SaleOnOffer, pass: &str, expires_at: Timestamp) -> Response {
    let mut response = private_json(StatusCode::OK, &PassGranted { pass, expires_at });
    // The cookie outlives the pass: an expired pass still says who was let in, which is enough to pay for what she holds.
    let cookie: HeaderValue = house.cookies.grant(
        &sale.cookies.pass,
        pass,
        extractors::cookie_life(sale, house.clock.now()),
    );
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

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
    HandlerResult, CachedBody,
    anonymous::{self, JoinRequest, AnonymousVisitor},
    task_failed, private_json, cacheable,
};
use crate::{
    edge::{auth::extractors::{self, Admitted, SaleRoom, VerifiedQueueHolder, QueueHolder, SignedIn}, connection::sse::{FrameSource, event_stream}, errors::problem::{Kind, Problem}, state::{AppState, SaleInfo, SignIn, WaitingRoomState}},
    kernel::{Subject, Timestamp},
    waiting_room::{
        BoardWatch, EnterOutcome, Inside, JoinOutcome, Joined, Phase, PlaceState, RenewOutcome, WaitingRoom,
    },
};

/// A place in the queue.
#[derive(Serialize, ToSchema)]
pub struct JoinResponse<'a> {
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
pub struct HeartbeatResponse {
    /// Milliseconds until she is to say so again; `null` when she is not asked, and nothing was taken down.
    again_in_ms: Option<u64>,
}

/// An admission pass.
#[derive(Serialize, ToSchema)]
pub struct PassResponse<'a> {
    pass: &'a str,
    #[schema(value_type = String)]
    expires_at: Timestamp,
}

pub async fn join(State(door): State<WaitingRoomState>, SaleRoom { sale, room }: SaleRoom, request: Request) -> HandlerResult {
    let address = extractors::address(request.extensions(), request.headers(), &door.app);
    join_queue(&door, &sale, &room, address, request).await
}

/// All of it is lent: so many joins at once would fight for the counts of what they share.
pub(crate) async fn join_queue(
    door: &WaitingRoomState,
    sale: &SaleInfo,
    room: &WaitingRoom,
    address: Option<IpAddr>,
    request: Request,
) -> HandlerResult {
    use axum::extract::FromRequestParts;
    let app = &door.app;
    let (mut parts, body) = request.into_parts();
    let who = match sale.sign_in {
        SignIn::Customer => {
            if let Some(address) = address
                && let Err(wait) = app.limits.joins.take(address)
            {
                return Err(Problem::new(Kind::TooManyRequests).retry_after_s(wait.as_secs() + 1));
            }
            Joiner::Customer(SignedIn::from_request_parts(&mut parts, door).await?.0.subject)
        }
        SignIn::None => {
            // Whoever shows a live place has it already; of the others, a customer is known and everybody else is new.
            if let Some((token, raw)) = extractors::presented_queue_token(&parts, app, sale)? {
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
                    return Ok(join_response(app, sale, &joined, JoinKind::Existing));
                }
            }
            if let Some(session) = extractors::valid_session(&parts, app)? {
                Joiner::Customer(session.subject)
            } else {
                // Nobody works for a place that is not given.
                closed_problem(room).map_or(Ok(()), Err)?;
                Joiner::Anonymous(anonymous::admit_anonymous(app, sale, address, parts, body).await?)
            }
        }
    };
    // No task of its own: nothing is half done when she hangs up (see `WaitingRoom::join`), and joins are many.
    let outcome = match who {
        Joiner::Customer(subject) => room.join(&subject).await,
        Joiner::Anonymous(stranger) => {
            let outcome = room.join_stranger().await;
            if !matches!(outcome, Ok(JoinOutcome::Joined(_))) {
                stranger.release_proof(app);
            }
            outcome
        }
    };
    match outcome.map_err(|e| app.waiting_room_problem("join", &e))? {
        JoinOutcome::Joined(joined) => Ok(join_response(app, sale, &joined, JoinKind::New)),
        JoinOutcome::Already(joined) => Ok(join_response(app, sale, &joined, JoinKind::Existing)),
        JoinOutcome::NotOpenYet { opens } => Err(Problem::new(Kind::NotOpenYet).with("opens_at", &opens)),
        JoinOutcome::Closed => Err(Problem::new(Kind::Closed)),
        JoinOutcome::Full => Err(Problem::new(Kind::QueueFull).retry_after_s(app.retry_after_jitter_s(20, 60))),
    }
}

/// Who wants a place.
enum Joiner {
    Customer(Subject),
    Anonymous(AnonymousVisitor),
}

/// Why nobody gets a place now, whoever she is.
fn closed_problem(room: &WaitingRoom) -> Option<Problem> {
    match room.phase() {
        Phase::Scheduled => Some(Problem::new(Kind::NotOpenYet).with("opens_at", &room.config().prequeue_at)),
        Phase::Closed => Some(Problem::new(Kind::Closed)),
        _ => None,
    }
}

pub async fn position(placed: QueueHolder) -> Response {
    position_response(&placed)
}

pub(crate) fn position_response(placed: &QueueHolder) -> Response {
    private_json(StatusCode::OK, &placed.room.place(&placed.token))
}

pub async fn leave(State(WaitingRoomState { app, .. }): State<WaitingRoomState>, VerifiedQueueHolder(placed): VerifiedQueueHolder) -> HandlerResult {
    let QueueHolder {
        sale, room, token, ..
    } = placed;
    let left = app
        .lifecycle
        .spawn_uncancellable(async move { room.leave(&token).await })
        .await
        .map_err(task_failed)?;
    left.map_err(|e| app.waiting_room_problem("leaving the queue", &e))?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    for name in [&sale.cookies.queue, &sale.cookies.pass] {
        response
            .headers_mut()
            .append(header::SET_COOKIE, app.cookies.remove(name));
    }
    Ok(response)
}

pub async fn heartbeat(placed: QueueHolder) -> Response {
    let again_in_ms = placed
        .room
        .present(&placed.token)
        .map(|again_in| u64::try_from(again_in.as_millis()).unwrap_or(u64::MAX));
    private_json(StatusCode::OK, &HeartbeatResponse { again_in_ms })
}

const STATUS_CACHE: &str = "public, max-age=1";

pub async fn status(at_door: SaleRoom, headers: HeaderMap) -> Response {
    status_response(&at_door, &headers)
}

pub(crate) fn status_response(at_door: &SaleRoom, headers: &HeaderMap) -> Response {
    let board = at_door.room.board();
    cacheable(
        headers,
        "application/json",
        &status.etag,
        STATUS_CACHE,
        CachedBody::PlainAndGzip(&status.json, None),
    )
}

pub async fn status_events(State(WaitingRoomState { app, .. }): State<WaitingRoomState>, SaleRoom { room, .. }: SaleRoom) -> HandlerResult {
    let watch = room.watch_board().ok_or_else(|| {
        Problem::new(Kind::Overloaded)
            .detail("poll the board instead")
            .retry_after_s(app.retry_after_jitter_s(10, 60))
    })?;
    let now = room.board().sse.clone();
    Ok(event_stream(
        Some(now),
        StatusFrames(watch),
        app.lifecycle.clone(),
        &app.entropy,
    ))
}

struct StatusFrames(BoardWatch);

impl FrameSource for StatusFrames {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<Bytes>> + Send + '_>> {
        Box::pin(async { Some(self.0.changed().await?.sse.clone()) })
    }
}

pub async fn enter(State(WaitingRoomState { app, .. }): State<WaitingRoomState>, VerifiedQueueHolder(placed): VerifiedQueueHolder) -> HandlerResult {
    let QueueHolder {
        sale, room, token, ..
    } = placed;
    let inside = if app.load_shedder.is_box_office_overloaded() {
        Inside::Late
    } else {
        Inside::Served
    };
    let outcome = app
        .lifecycle
        .spawn_uncancellable(async move { room.enter(&token, inside).await })
        .await
        .map_err(task_failed)?;
    match outcome.map_err(|e| app.waiting_room_problem("admission", &e))? {
        EnterOutcome::Entered { pass, expires_at } => Ok(pass_response(&app, &sale, &pass, expires_at)),
        EnterOutcome::NotCalledYet(place) => Err(Problem::new(Kind::NotCalledYet).with("position", &place)),
        EnterOutcome::FullForAMoment(place) => Err(Problem::new(Kind::AtCapacity).with("position", &place)),
        EnterOutcome::Ended(place) => Err(Problem::new(Kind::VisitEnded).with("position", &place)),
        EnterOutcome::Closed => Err(Problem::new(Kind::Closed)),
    }
}

pub async fn renew(
    State(WaitingRoomState { app, .. }): State<WaitingRoomState>,
    SaleRoom { sale, room }: SaleRoom,
    admitted: Admitted,
) -> HandlerResult {
    let pass = admitted.pass;
    let outcome = app
        .lifecycle
        .spawn_uncancellable(async move { room.renew(&pass).await })
        .await
        .map_err(task_failed)?;
    match outcome.map_err(|e| app.waiting_room_problem("renewing a pass", &e))? {
        RenewOutcome::Renewed { pass, expires_at } => Ok(pass_response(&app, &sale, &pass, expires_at)),
        RenewOutcome::Ended => Err(Problem::new(Kind::VisitEnded)),
    }
}

pub async fn end_visit(
    State(WaitingRoomState { app, .. }): State<WaitingRoomState>,
    SaleRoom { sale, room }: SaleRoom,
    admitted: Admitted,
) -> HandlerResult {
    let pass = admitted.pass;
    let ended = app
        .lifecycle
        .spawn_uncancellable(async move { room.end_visit(&pass).await })
        .await
        .map_err(task_failed)?;
    ended.map_err(|e| app.waiting_room_problem("ending a visit", &e))?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response
        .headers_mut()
        .append(header::SET_COOKIE, app.cookies.remove(&sale.cookies.pass));
    Ok(response)
}

#[derive(Clone, Copy)]
enum JoinKind {
    New,
    Existing,
}

fn join_response(app: &AppState, sale: &SaleInfo, joined: &Joined, granted: JoinKind) -> Response {
    // The clock has been read for her, if she came just now.
    let (status, now) = match granted {
        JoinKind::New => (StatusCode::CREATED, joined.joined_at),
        JoinKind::Existing => (StatusCode::OK, app.clock.now()),
    };
    let body = JoinResponse {
        token: &joined.token,
        state: joined.state,
        number: joined.number,
        joined_at: joined.joined_at,
        sample: joined.sample,
    };
    let mut response = private_json(status, &body);
    let cookie = app.cookies.set(
        &sale.cookies.queue,
        &joined.token,
        extractors::queue_cookie_ttl(sale, now),
    );
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

fn pass_response(app: &AppState, sale: &SaleInfo, pass: &str, expires_at: Timestamp) -> Response {
    let mut response = private_json(StatusCode::OK, &PassResponse { pass, expires_at });
    // The cookie outlives the pass: an expired pass still says who was let in, which is enough to pay for what she holds.
    let cookie: HeaderValue = app.cookies.set(
        &sale.cookies.pass,
        pass,
        extractors::queue_cookie_ttl(sale, app.clock.now()),
    );
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

//! Operations of the waiting room: join the queue, read its status, enter the sale.

use std::{future::Future, net::IpAddr, pin::Pin};

use axum::{
    extract::{FromRequestParts, Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use serde::Serialize;
use utoipa::ToSchema;

use crate::edge::handlers::{
    CachedBody, HandlerResult, cacheable,
    join_limits::{self, AnonymousVisitor, JoinRequest},
    private_json, task_failed,
};
use crate::{
    edge::{
        auth::credentials,
        auth::extractors::{Admitted, QueueHolder, SaleRoom, SignedIn, VerifiedQueueHolder},
        connection::sse::{FrameSource, event_stream},
        errors::problem::{Problem, ProblemType},
        handlers::request,
        overload::proof_of_work::Solution,
        state::{AppState, SaleInfo, SignIn, WaitingRoomState},
    },
    kernel::{Subject, Timestamp},
    waiting_room::{
        BoxOfficeLoad, EnterOutcome, EntryState, JoinOutcome, Joined, Phase, RenewOutcome,
        StatusSubscription, WaitingRoom,
    },
};

/// How long browsers and caches keep the status: it is encoded once a second.
pub(crate) const STATUS_CACHE: &str = "public, max-age=1";

/// A queue entry, and the token that proves it.
#[derive(Serialize, ToSchema)]
pub struct JoinResponse<'a> {
    /// The queue token. Also set as a cookie.
    pub(crate) token: &'a str,
    /// Where the entry stands.
    pub(crate) state: EntryState,
    /// The queue number; `null` until the draw has assigned it.
    pub(crate) number: Option<u64>,
    /// When the entry was made.
    pub(crate) joined_at: Timestamp,
    /// Decides whether the page sends heartbeats: it does where `heartbeat_sample & mask == 0`, with the mask
    /// that the queue status gives for the entry's distance.
    pub(crate) heartbeat_sample: u16,
}

/// Whether the page keeps sending heartbeats.
#[derive(Serialize, ToSchema)]
pub struct HeartbeatResponse {
    /// Milliseconds until the next heartbeat; `null` when this visitor is not in the sample and nothing was
    /// recorded.
    pub(crate) next_after_ms: Option<u64>,
}

/// An admission pass.
#[derive(Serialize, ToSchema)]
pub struct PassResponse<'a> {
    /// The pass, a JWT. Also set as a cookie.
    pub(crate) pass: &'a str,
    /// When it expires unless it is renewed.
    pub(crate) expires_at: Timestamp,
}

/// `POST /v1/sales/{sale}/queue`, where the dispatcher did not take its shortcut.
pub async fn join(
    State(state): State<WaitingRoomState>,
    SaleRoom { sale, room }: SaleRoom,
    request: Request,
) -> HandlerResult {
    let address = request::address(request.extensions(), request.headers(), &state.app);
    join_queue(&state, &sale, &room, address, request).await
}

/// Joins the queue of `sale`.
///
/// Everything shared is borrowed: with this many joins at once, cloning an `Arc` would make the cores compete
/// for its reference count.
pub(crate) async fn join_queue(
    state: &WaitingRoomState,
    sale: &SaleInfo,
    room: &WaitingRoom,
    address: Option<IpAddr>,
    request: Request,
) -> HandlerResult {
    let app = &state.app;
    let (parts, body) = request.into_parts();
    // Also where no proof is needed: a field that is not known must not pass unnoticed.
    let JoinRequest { proof } = request::optional_json(&parts.headers, body, app).await?;
    let joiner = match sale.sign_in {
        SignIn::Customer => signed_in_joiner(state, parts).await?,
        SignIn::None => match existing_entry(app, sale, room, &parts)? {
            Some(joined) => return Ok(join_response(app, sale, &joined, JoinKind::Existing)),
            None => joiner_without_sign_in(app, sale, room, address, &parts, proof.as_ref())?,
        },
    };
    // Runs in the connection's own task: a client that disconnects leaves nothing half done (see
    // `WaitingRoom::join`), and a task for each join would cost more than the join.
    let outcome = match joiner {
        Joiner::Customer(subject) => room.join(&subject).await,
        Joiner::Anonymous(visitor) => {
            let outcome = room.join_anonymous().await;
            if !matches!(outcome, Ok(JoinOutcome::Joined(_))) {
                visitor.release_proof(app);
            }
            outcome
        }
    };
    match outcome.map_err(|e| app.waiting_room_problem("join", &e))? {
        JoinOutcome::Joined(joined) => Ok(join_response(app, sale, &joined, JoinKind::New)),
        JoinOutcome::Existing(joined) => Ok(join_response(app, sale, &joined, JoinKind::Existing)),
        JoinOutcome::NotOpenYet {
            prequeue_starts_at: opens,
        } => Err(Problem::new(ProblemType::NotOpenYet).with("prequeue_starts_at", &opens)),
        JoinOutcome::Closed => Err(Problem::new(ProblemType::Closed)),
        JoinOutcome::Full => {
            Err(Problem::new(ProblemType::QueueFull).retry_after_s(app.retry_after_jitter_s(20, 60)))
        }
    }
}

/// Who joins the queue.
enum Joiner {
    Customer(Subject),
    Anonymous(AnonymousVisitor),
}

async fn signed_in_joiner(state: &WaitingRoomState, mut parts: Parts) -> Result<Joiner, Problem> {
    let SignedIn(session) = SignedIn::from_request_parts(&mut parts, state).await?;
    Ok(Joiner::Customer(session.subject))
}

/// The entry whose token the request shows, unless it was left.
fn existing_entry(
    app: &AppState,
    sale: &SaleInfo,
    room: &WaitingRoom,
    parts: &Parts,
) -> Result<Option<Joined>, Problem> {
    let Some((token, raw)) = credentials::presented_queue_token(parts, app, sale)? else {
        return Ok(None);
    };
    let position = room.position(&token);
    Ok((position.state != EntryState::Left).then_some(Joined {
        token: raw,
        state: position.state,
        number: position.number,
        joined_at: token.joined_at,
        heartbeat_sample: position.heartbeat_sample,
    }))
}

/// In a sale without sign-in a customer is known by the session, and any other visitor is new and pays with a
/// proof of work.
fn joiner_without_sign_in(
    app: &AppState,
    sale: &SaleInfo,
    room: &WaitingRoom,
    address: Option<IpAddr>,
    parts: &Parts,
    proof: Option<&Solution>,
) -> Result<Joiner, Problem> {
    if let Some(session) = credentials::valid_session(parts, app)? {
        return Ok(Joiner::Customer(session.subject));
    }
    // Before the proof is asked for: a proof must not be computed for an entry that is not available.
    if let Some(problem) = closed_problem(room) {
        return Err(problem);
    }
    join_limits::admit_anonymous(app, sale, address, proof).map(Joiner::Anonymous)
}

/// Why the queue takes no entry now; `None` when it does.
fn closed_problem(room: &WaitingRoom) -> Option<Problem> {
    match room.phase() {
        Phase::Scheduled => Some(
            Problem::new(ProblemType::NotOpenYet)
                .with("prequeue_starts_at", &room.config().prequeue_starts_at),
        ),
        Phase::Closed => Some(Problem::new(ProblemType::Closed)),
        _ => None,
    }
}

/// `GET /v1/sales/{sale}/queue/position`, where the dispatcher did not take its shortcut.
pub async fn position(holder: QueueHolder) -> Response {
    private_json(StatusCode::OK, &holder.room.position_now(&holder.token).await)
}

/// The response with the caller's own position, where it needs no look at the journal.
pub(crate) fn position_at_once(holder: &QueueHolder) -> Option<Response> {
    let position = holder.room.position(&holder.token);
    holder
        .room
        .is_certain(&position)
        .then(|| private_json(StatusCode::OK, &position))
}

/// `DELETE /v1/sales/{sale}/queue`: gives the entry up.
pub async fn leave(
    State(WaitingRoomState { app, .. }): State<WaitingRoomState>,
    VerifiedQueueHolder(holder): VerifiedQueueHolder,
) -> HandlerResult {
    let QueueHolder {
        sale, room, token, ..
    } = holder;
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

/// `PUT /v1/sales/{sale}/queue/heartbeat`: the page is still open.
pub async fn heartbeat(holder: QueueHolder) -> Response {
    let next_after_ms = holder
        .room
        .heartbeat(&holder.token)
        .map(|next_after| u64::try_from(next_after.as_millis()).unwrap_or(u64::MAX));
    private_json(StatusCode::OK, &HeartbeatResponse { next_after_ms })
}

/// `GET /v1/sales/{sale}/status`, where the dispatcher did not take its shortcut.
pub async fn status(sale_room: SaleRoom, headers: HeaderMap) -> Response {
    status_response(&sale_room, &headers)
}

/// The response with the queue's public status: bytes that were encoded once for all.
pub(crate) fn status_response(sale_room: &SaleRoom, headers: &HeaderMap) -> Response {
    let status = sale_room.room.status();
    let body = CachedBody {
        plain: &status.json,
        gzip: None,
    };
    cacheable(headers, "application/json", &status.etag, STATUS_CACHE, body)
}

/// `GET /v1/sales/{sale}/status/events`: the public status as server-sent events.
pub async fn status_events(
    State(WaitingRoomState { app, .. }): State<WaitingRoomState>,
    SaleRoom { room, .. }: SaleRoom,
) -> HandlerResult {
    let watch = room.subscribe_status().ok_or_else(|| {
        Problem::new(ProblemType::Overloaded)
            .detail("too many status streams are open; poll the status instead")
            .retry_after_s(app.retry_after_jitter_s(10, 60))
    })?;
    let current = room.status().sse.clone();
    Ok(event_stream(
        Some(current),
        StatusFrames(watch),
        app.lifecycle.clone(),
        &app.entropy,
    ))
}

struct StatusFrames(StatusSubscription);

impl FrameSource for StatusFrames {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Option<Bytes>> + Send + '_>> {
        Box::pin(async { Some(self.0.changed().await?.sse.clone()) })
    }
}

/// `POST /v1/sales/{sale}/admission`: exchanges a called entry for an admission pass.
pub async fn enter(
    State(WaitingRoomState { app, .. }): State<WaitingRoomState>,
    VerifiedQueueHolder(holder): VerifiedQueueHolder,
) -> HandlerResult {
    let QueueHolder {
        sale, room, token, ..
    } = holder;
    // An overloaded box office takes no further visitors, even those that were called.
    let inside = if app.load_shedder.is_box_office_overloaded() {
        BoxOfficeLoad::Overloaded
    } else {
        BoxOfficeLoad::Normal
    };
    let outcome = app
        .lifecycle
        .spawn_uncancellable(async move { room.enter(&token, inside).await })
        .await
        .map_err(task_failed)?;
    match outcome.map_err(|e| app.waiting_room_problem("admission", &e))? {
        EnterOutcome::Admitted { pass, expires_at } => Ok(pass_response(&app, &sale, &pass, expires_at)),
        EnterOutcome::NotCalledYet(position) => {
            Err(Problem::new(ProblemType::NotCalledYet).with("position", &position))
        }
        EnterOutcome::AtCapacity(position) => {
            Err(Problem::new(ProblemType::AtCapacity).with("position", &position))
        }
        EnterOutcome::Ended(position) => {
            Err(Problem::new(ProblemType::VisitEnded).with("position", &position))
        }
        EnterOutcome::Closed => Err(Problem::new(ProblemType::Closed)),
    }
}

/// `PUT /v1/sales/{sale}/admission`: renews the admission pass.
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
        RenewOutcome::Ended => Err(Problem::new(ProblemType::VisitEnded)),
    }
}

/// `DELETE /v1/sales/{sale}/admission`: ends the visit, which frees its slot.
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

/// Whether a join made an entry or found one.
#[derive(Clone, Copy)]
enum JoinKind {
    New,
    Existing,
}

fn join_response(app: &AppState, sale: &SaleInfo, joined: &Joined, kind: JoinKind) -> Response {
    // A new entry's time was read a moment ago: joins are too many to read the clock twice for each.
    let (status, now) = match kind {
        JoinKind::New => (StatusCode::CREATED, joined.joined_at),
        JoinKind::Existing => (StatusCode::OK, app.clock.now()),
    };
    let body = JoinResponse {
        token: &joined.token,
        state: joined.state,
        number: joined.number,
        joined_at: joined.joined_at,
        heartbeat_sample: joined.heartbeat_sample,
    };
    let mut response = private_json(status, &body);
    let ttl = credentials::queue_cookie_ttl(sale, now);
    let cookie = app.cookies.set(&sale.cookies.queue, &joined.token, ttl);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

fn pass_response(app: &AppState, sale: &SaleInfo, pass: &str, expires_at: Timestamp) -> Response {
    let mut response = private_json(StatusCode::OK, &PassResponse { pass, expires_at });
    let cookie = pass_cookie(app, sale, pass);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

/// The cookie of a pass. It outlives the pass: an expired one still identifies the visitor, who may pay for
/// the seats on hold.
pub(super) fn pass_cookie(app: &AppState, sale: &SaleInfo, pass: &str) -> HeaderValue {
    let ttl = credentials::queue_cookie_ttl(sale, app.clock.now());
    app.cookies.set(&sale.cookies.pass, pass, ttl)
}

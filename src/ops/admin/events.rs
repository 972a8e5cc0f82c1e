//! Events for the shop: the feed for shops that cannot be called, dead letters, and replays.

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequestParts, rejection::BytesRejection},
};
use http::{StatusCode, request::Parts};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    checkout::{CloudEvent, DeadLetter, EventId, ReplayRange},
    edge::{
        errors::problem::{Problem, ProblemType},
        handlers::{Query, parse_object, task_failed},
    },
    kernel::{OrderId, SaleId, Timestamp},
    ops::admin::{
        operator_call::{FeedReader, OperatorCall},
        operators::{OperatorApi, path_param, unreadable},
    },
};

/// Entries of a page, unless the caller asks for fewer or more.
const PAGE: u32 = 100;
/// Entries of a page at most.
const PAGE_MAX: u32 = 500;

/// Which page of the feed.
#[derive(Deserialize)]
pub(super) struct FeedQuery {
    after: Option<u64>,
    limit: Option<u32>,
}

/// Which page of the dead letters.
#[derive(Deserialize)]
pub(super) struct DeadLetterQuery {
    after: Option<String>,
    limit: Option<u32>,
}

fn page_limit(limit: Option<u32>) -> u32 {
    limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
}

/// One page of the feed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventPage {
    /// The events; empty when there are none behind `after` yet.
    pub(super) events: Vec<CloudEvent>,
    /// `after` of the next page.
    pub(super) next: u64,
}

/// `GET /v1/admin/events`: the events behind a cursor.
pub(super) async fn feed(
    FeedReader(call): FeedReader,
    Query(query): Query<FeedQuery>,
) -> Result<Json<EventPage>, Problem> {
    let box_office = call.box_office()?;
    let after = i64::try_from(query.after.unwrap_or(0)).unwrap_or(i64::MAX);
    let page = box_office
        .checkout
        .events()
        .page(after, page_limit(query.limit))
        .await;
    let page = page.map_err(|e| box_office.app.checkout_problem("events", &e))?;
    Ok(Json(EventPage {
        events: page.events,
        next: page.next.cast_unsigned(),
    }))
}

/// One page of the dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetterPage {
    /// The dead letters.
    pub(super) dead_letters: Vec<DeadLetterView>,
    /// `after` of the next page; `null` when this is the last one.
    pub(super) next: Option<String>,
}

/// An event that is not sent any more, and keeps the later ones of its order from being sent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetterView {
    /// Id of the event.
    pub(super) id: String,
    /// Type of the event.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// The sale.
    pub(super) sale: SaleId,
    /// The order; `null` for an event of the sale.
    pub(super) order: Option<OrderId>,
    /// When it happened.
    pub(super) time: Timestamp,
    /// When it became a dead letter.
    pub(super) dead_at: Timestamp,
    /// Failed attempts.
    pub(super) attempts: u32,
    /// Why the last attempt failed.
    pub(super) last_error: String,
    /// Later events of the order, which wait for it.
    pub(super) waiting: u64,
}

impl From<DeadLetter> for DeadLetterView {
    fn from(letter: DeadLetter) -> Self {
        Self {
            id: letter.event.id.to_string(),
            order: letter.event.order(),
            kind: letter.event.kind,
            sale: letter.event.sale,
            time: letter.event.at,
            dead_at: letter.dead_at,
            attempts: letter.attempts,
            last_error: letter.last_error,
            waiting: letter.waiting,
        }
    }
}

/// `GET /v1/admin/dead-letters`: what waits for an operator.
pub(super) async fn dead_letters(
    call: OperatorCall,
    Query(query): Query<DeadLetterQuery>,
) -> Result<Json<DeadLetterPage>, Problem> {
    let box_office = call.box_office()?;
    let (after, limit) = (query.after.unwrap_or_default(), page_limit(query.limit));
    let letters = box_office.checkout.events().dead_letters(&after, limit).await;
    let letters = letters.map_err(|e| box_office.app.checkout_problem("dead letters", &e))?;
    let is_full = letters.len() == limit as usize;
    let next = letters
        .last()
        .filter(|_| is_full)
        .map(|last| last.event.id.stream.clone());
    Ok(Json(DeadLetterPage {
        dead_letters: letters.into_iter().map(DeadLetterView::from).collect(),
        next,
    }))
}

/// The event that the path names.
pub(super) struct EventInPath(EventId);

impl FromRequestParts<OperatorApi> for EventInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &OperatorApi) -> Result<Self, Problem> {
        path_param(parts, "event")
            .await
            .map(Self)
            .ok_or_else(no_such_dead_letter)
    }
}

/// `POST /v1/admin/dead-letters/{event}/resend`: sends it again, with three more days.
pub(super) async fn resend(
    call: OperatorCall,
    EventInPath(event): EventInPath,
) -> Result<StatusCode, Problem> {
    decide(call, event, false).await
}

/// `POST /v1/admin/dead-letters/{event}/skip`: gives it up, so that the later events of its order are sent.
pub(super) async fn skip(call: OperatorCall, EventInPath(event): EventInPath) -> Result<StatusCode, Problem> {
    decide(call, event, true).await
}

/// Which dead letters to send again.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResendRequest {
    /// Only those of this sale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) sale: Option<SaleId>,
}

/// `POST /v1/admin/dead-letters/resend`: sends all of them again, with three more days.
pub(super) async fn resend_all(
    call: OperatorCall,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<EventsSentAgain>, Problem> {
    let box_office = call.box_office()?;
    let request: ResendRequest = parse_object(&body.map_err(|e| unreadable(&e))?)?;
    let app = &box_office.app;
    let resent = {
        let (checkout, sale) = (box_office.checkout.clone(), request.sale.clone());
        async move { checkout.events().resend_all(sale.as_ref()).await }
    };
    let resent = app.lifecycle.spawn_uncancellable(resent).await;
    let events = resent
        .map_err(task_failed)?
        .map_err(|e| app.checkout_problem("dead letters", &e))?;
    let sale = request.sale.as_ref().map(SaleId::as_str);
    tracing::info!(
        operator = call.operator,
        sale,
        events,
        "operator sends dead letters again"
    );
    Ok(Json(EventsSentAgain { events }))
}

async fn decide(call: OperatorCall, event: EventId, is_skipped: bool) -> Result<StatusCode, Problem> {
    let box_office = call.box_office()?;
    let app = &box_office.app;
    let decided = {
        let (checkout, event, operator) = (box_office.checkout.clone(), event.clone(), call.operator.clone());
        async move {
            if is_skipped {
                checkout.events().skip(&event, &operator).await
            } else {
                checkout.events().resend(&event).await
            }
        }
    };
    let decided = app.lifecycle.spawn_uncancellable(decided).await;
    let is_decided = decided
        .map_err(task_failed)?
        .map_err(|e| app.checkout_problem("dead letter", &e))?;
    if !is_decided {
        return Err(no_such_dead_letter());
    }
    tracing::info!(%event, operator = call.operator, is_skipped, "operator's decision about a dead letter");
    Ok(StatusCode::NO_CONTENT)
}

/// Which events to send again.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayRequest {
    /// Only events of this sale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) sale: Option<SaleId>,
    /// Only events that happened at this time or later.
    pub(super) from: Timestamp,
    /// Only events that happened before this time.
    pub(super) until: Timestamp,
}

/// What is sent again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventsSentAgain {
    /// Events that are sent again.
    pub(super) events: u64,
}

/// `POST /v1/admin/events/replay`: sends the events of a time range again.
pub(super) async fn replay(
    call: OperatorCall,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<EventsSentAgain>, Problem> {
    let box_office = call.box_office()?;
    let request: ReplayRequest = parse_object(&body.map_err(|e| unreadable(&e))?)?;
    if request.from >= request.until {
        return Err(Problem::invalid_field(
            "until",
            "must be later than `from`".to_owned(),
        ));
    }
    let range = ReplayRange {
        sale: request.sale,
        from: request.from,
        until: request.until,
    };
    let app = &box_office.app;
    let replayed = {
        let (checkout, range) = (box_office.checkout.clone(), range.clone());
        async move { checkout.events().replay(&range).await }
    };
    let replayed = app.lifecycle.spawn_uncancellable(replayed).await;
    let events = replayed
        .map_err(task_failed)?
        .map_err(|e| app.checkout_problem("replay", &e))?;
    let sale = range.sale.as_ref().map(SaleId::as_str);
    tracing::info!(
        operator = call.operator,
        sale,
        from = %range.from,
        until = %range.until,
        events,
        "operator's replay of events"
    );
    Ok(Json(EventsSentAgain { events }))
}

fn no_such_dead_letter() -> Problem {
    Problem::new(ProblemType::NotFound).detail("there is no such dead letter")
}

//! Operations of seats: the plan, and which seats are free.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use axum::{
    extract::{FromRequestParts, RawPathParams, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header, request::Parts};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::edge::handlers::{CachedBody, HandlerResult, cacheable, params::Query, task_failed};
use crate::{
    edge::{
        auth::extractors::{Admitted, SalePath},
        connection::sse::{FrameSource, event_stream},
        errors::problem::{Problem, ProblemType},
        state::BoxOfficeState,
    },
    kernel::PerformanceId,
    seating::{Performance, SeatSubscription},
};

/// `Cache-Control` of a plan whose hash is in the address.
pub(crate) const HASHED_PLAN_CACHE: &str = "public, max-age=31536000, immutable";
/// `Cache-Control` of a plan whose address may mean another plan later.
const PLAN_CACHE: &str = "public, max-age=60";
/// `Cache-Control` of the snapshot: it changes with every hold.
pub(crate) const SNAPSHOT_CACHE: &str = "private, no-cache";
/// The content type of the packed snapshot.
pub(crate) const OCTET_STREAM: &str = "application/octet-stream";

/// States of seats at a version, or those that changed since the version before.
#[derive(Serialize, ToSchema)]
pub struct SeatStatesResponse {
    /// Grows with every change.
    pub(crate) version: u64,
    /// The state of each seat by the plan's `seat_guid`.
    pub(crate) seats: BTreeMap<String, SeatStateView>,
}

/// The state of a seat.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SeatState)]
pub enum SeatStateView {
    /// It can be held.
    Free,
    /// A visitor holds it.
    Held,
    /// It is sold.
    Booked,
    /// It is not for sale.
    Blocked,
}

/// The data of the event `reset`: the client was away for too long and must fetch the snapshot.
#[derive(Serialize, ToSchema)]
pub struct SeatReset {
    /// The version that the stream goes on from.
    pub(crate) version: u64,
}

/// The performance that the path names.
pub struct PerformancePath(pub(super) Arc<Performance>);

impl FromRequestParts<BoxOfficeState> for PerformancePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &BoxOfficeState) -> Result<Self, Problem> {
        let SalePath(sale) = SalePath::from_request_parts(parts, state).await?;
        let not_found = || Problem::new(ProblemType::NotFound).detail("there is no such performance");
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| not_found())?;
        let id = params
            .iter()
            .find(|(key, _)| *key == "performance")
            .and_then(|(_, value)| value.parse::<PerformanceId>().ok());
        id.and_then(|id| state.seating.performance(&sale.id, &id))
            .map(Self)
            .ok_or_else(not_found)
    }
}

/// Which version of the plan the caller expects.
#[derive(Deserialize)]
pub struct PlanQuery {
    v: Option<String>,
}

/// `GET /v1/sales/{sale}/performances/{performance}/plan`: the seating plan.
pub async fn plan(
    PerformancePath(performance): PerformancePath,
    Query(query): Query<PlanQuery>,
    headers: HeaderMap,
) -> Response {
    let plan = performance.plan();
    let is_expected = query.v.as_deref() == Some(plan.hash());
    let cache_control = if is_expected {
        HASHED_PLAN_CACHE
    } else {
        PLAN_CACHE
    };
    let etag = format!("\"{}\"", plan.hash());
    cacheable(
        &headers,
        "application/json",
        &etag,
        cache_control,
        CachedBody {
            plain: plan.json(),
            gzip: Some(plan.json_gzip()),
        },
    )
}

/// Which seats to list.
#[derive(Deserialize)]
pub struct SeatsQuery {
    section: Option<String>,
}

/// `GET /v1/sales/{sale}/performances/{performance}/seats`: the state of every seat, as JSON or as two bits a
/// seat.
pub async fn snapshot(
    _: Admitted,
    PerformancePath(performance): PerformancePath,
    Query(query): Query<SeatsQuery>,
    headers: HeaderMap,
) -> HandlerResult {
    let wants_packed = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains(OCTET_STREAM));
    let (encoded, content_type) = if wants_packed {
        (performance.snapshot_packed(), OCTET_STREAM)
    } else {
        let snapshot = performance
            .snapshot_json(query.section.as_deref())
            .await
            .map_err(task_failed)?
            .ok_or_else(|| Problem::new(ProblemType::NotFound).detail("the plan has no such section"))?;
        (snapshot, "application/json")
    };
    let body = CachedBody {
        plain: &encoded.body,
        gzip: encoded.gzip.as_ref(),
    };
    let mut response = cacheable(&headers, content_type, &encoded.etag, SNAPSHOT_CACHE, body);
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    Ok(response)
}

/// From which version on changes are sent.
#[derive(Deserialize)]
pub struct EventsQuery {
    after: Option<u64>,
}

/// `GET /v1/sales/{sale}/performances/{performance}/seats/events`: changes of seats as server-sent events.
pub async fn events(
    State(BoxOfficeState { app, .. }): State<BoxOfficeState>,
    _: Admitted,
    PerformancePath(performance): PerformancePath,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> HandlerResult {
    // On reconnect, EventSource requests its original URL and sends the last received id in this header.
    let last_event_id = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok());
    let changes = performance
        .subscribe(last_event_id.or(query.after))
        .ok_or_else(|| {
            Problem::new(ProblemType::Overloaded)
                .detail("too many seat streams are open; poll the snapshot instead")
                .retry_after_s(app.retry_after_jitter_s(5, 20))
        })?;
    Ok(event_stream(
        None,
        SeatFrames(changes),
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

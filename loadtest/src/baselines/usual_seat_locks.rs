//! The usual seat locks: one `SET NX EX` per seat, with a roll back when one of them is taken.
//!
//! All `SET`s of a hold share one pipeline, so a successful hold is one round trip. What the usual locks
//! leave out: no limit per customer, no seat map, no change feed, and two overlapping holds may roll each
//! other back.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{delete, post},
};
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use uuid::Uuid;

use super::minimal_hold::{HoldBody, hold_response};

/// Makes a hold.
pub const HOLDS: &str = "/usual/holds";
/// The prefix of one hold.
pub const HOLD: &str = "/usual/holds/";
/// As long as the holds of the service beside it.
const HOLD_TTL_S: u32 = 900;

/// `POST` [`HOLDS`] and `DELETE` [`HOLD`]`{id}`.
pub fn routes(connection: MultiplexedConnection) -> Router {
    Router::new()
        .route(HOLDS, post(hold))
        .route("/usual/holds/{id}", delete(release))
        .with_state(connection)
}

fn key(seat: &str) -> String {
    format!("usual:seat:{seat}")
}

async fn hold(
    State(mut redis): State<MultiplexedConnection>,
    Json(body): Json<HoldBody>,
) -> (StatusCode, Json<Value>) {
    let holder = Uuid::new_v4().to_string();
    let mut pipeline = redis::pipe();
    for seat in &body.seats {
        pipeline
            .cmd("SET")
            .arg(key(seat))
            .arg(&holder)
            .arg("NX")
            .arg("EX")
            .arg(HOLD_TTL_S);
    }
    let acquired: Vec<Option<String>> = pipeline.query_async(&mut redis).await.unwrap_or_default();
    let is_held = acquired.len() == body.seats.len() && acquired.iter().all(Option::is_some);
    if !is_held {
        let own = body.seats.iter().zip(&acquired).filter(|(_, set)| set.is_some());
        delete_keys(&mut redis, own.map(|(seat, _)| seat.as_str())).await;
    }
    hold_response(&body.seats, is_held)
}

async fn release(State(mut redis): State<MultiplexedConnection>, Path(id): Path<String>) -> StatusCode {
    if delete_keys(&mut redis, id.split('+')).await {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

async fn delete_keys<'a>(redis: &mut MultiplexedConnection, seats: impl Iterator<Item = &'a str>) -> bool {
    let mut command = redis::cmd("DEL");
    let mut is_empty = true;
    for seat in seats {
        command.arg(key(seat));
        is_empty = false;
    }
    is_empty || command.query_async::<i64>(redis).await.is_ok()
}

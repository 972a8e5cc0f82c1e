//! The least that holds all of several seats or none: one Redis script, or a lock around a set.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{delete, post},
};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use serde::Deserialize;
use serde_json::{Value, json};

/// KEYS[1]: a hash of seat to hold. ARGV: the hold, then the seats. Returns 1 if all seats were free and are
/// held now, else 0.
static HOLD: LazyLock<redis::Script> = LazyLock::new(|| {
    redis::Script::new(
        "local s = redis.call('HMGET', KEYS[1], unpack(ARGV, 2)) \
         for _, v in ipairs(s) do if v then return 0 end end \
         for i = 2, #ARGV do redis.call('HSET', KEYS[1], ARGV[i], ARGV[1]) end \
         return 1",
    )
});
const KEY: &str = "baseline";

/// The body of `POST /holds`.
#[derive(Deserialize)]
pub(super) struct HoldBody {
    /// Seats by GUID.
    pub(super) seats: Vec<String>,
}

/// The response to a hold, in the form of the service's own response. The hold's id lists its seats, so that
/// a release needs no look-up.
pub(super) fn hold_response(seats: &[String], is_held: bool) -> (StatusCode, Json<Value>) {
    let status = if is_held {
        StatusCode::CREATED
    } else {
        StatusCode::CONFLICT
    };
    let total = json!({ "amount": 4, "currency": "KRW" });
    let body = json!({
        "id": seats.join("+"), "seats": seats, "expires_at": "2026-01-01T00:00:00.000Z", "total": total
    });
    (status, Json(body))
}

/// `POST /holds` and `DELETE /holds/{id}` on Redis.
pub fn redis_routes(connection: MultiplexedConnection) -> Router {
    Router::new()
        .route("/holds", post(hold_in_redis))
        .route("/holds/{id}", delete(release_in_redis))
        .with_state(connection)
}

/// `POST /holds` and `DELETE /holds/{id}` in memory.
pub fn in_memory_routes() -> Router {
    Router::new()
        .route("/holds", post(hold_in_memory))
        .route("/holds/{id}", delete(release_in_memory))
        .with_state(HeldSeats::default())
}

async fn hold_in_redis(
    State(mut redis): State<MultiplexedConnection>,
    Json(body): Json<HoldBody>,
) -> (StatusCode, Json<Value>) {
    let mut invocation = HOLD.key(KEY);
    invocation.arg(body.seats.join("+"));
    for seat in &body.seats {
        invocation.arg(seat);
    }
    let held: i64 = invocation.invoke_async(&mut redis).await.unwrap_or(0);
    hold_response(&body.seats, held == 1)
}

async fn release_in_redis(
    State(mut redis): State<MultiplexedConnection>,
    Path(id): Path<String>,
) -> StatusCode {
    let mut command = redis::cmd("HDEL");
    command.arg(KEY);
    for seat in id.split('+') {
        command.arg(seat);
    }
    let released: Result<i64, _> = command.query_async(&mut redis).await;
    if released.is_ok() {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

type HeldSeats = Arc<Mutex<HashSet<String>>>;

async fn hold_in_memory(
    State(held): State<HeldSeats>,
    Json(body): Json<HoldBody>,
) -> (StatusCode, Json<Value>) {
    let is_held = {
        let mut held = held.lock();
        let is_free = !body.seats.iter().any(|seat| held.contains(seat));
        if is_free {
            held.extend(body.seats.iter().cloned());
        }
        is_free
    };
    hold_response(&body.seats, is_held)
}

async fn release_in_memory(State(held): State<HeldSeats>, Path(id): Path<String>) -> StatusCode {
    let mut held = held.lock();
    for seat in id.split('+') {
        held.remove(seat);
    }
    StatusCode::NO_CONTENT
}

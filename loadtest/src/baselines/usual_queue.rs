//! The usual waiting queue: a Redis sorted set behind a plain handler.
//!
//! It is built as a careful team would build it: each call is one round trip, several commands share one
//! pipeline, and the connection is multiplexed. What it leaves out is what the usual queue leaves out: no
//! journal, so a crash of Redis loses the last second; a token is a random id, so a position needs a look-up;
//! no load shedding.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `usual:queue` | sorted set | token, scored by the time of joining in microseconds |
//! | `usual:now_serving` | string | how many visitors have been called |

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use stagedoor::{
    demo::client::paths,
    kernel::{Clock, SystemClock},
};
use uuid::Uuid;

/// Joins.
pub const QUEUE: &str = "/usual/queue";
/// The position of a token.
pub const POSITION: &str = "/usual/queue/position";
/// The length of the queue.
pub const STATUS: &str = "/usual/status";

const QUEUE_KEY: &str = "usual:queue";
const NOW_SERVING_KEY: &str = "usual:now_serving";

type Response = (StatusCode, Json<Value>);

/// `POST` [`QUEUE`], `GET` [`POSITION`] and `GET` [`STATUS`].
pub fn routes(connection: MultiplexedConnection) -> Router {
    Router::new()
        .route(QUEUE, post(join))
        .route(POSITION, get(position))
        .route(STATUS, get(status))
        .with_state(connection)
}

fn unavailable() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": "redis" })))
}

async fn join(State(mut redis): State<MultiplexedConnection>) -> Response {
    let token = Uuid::new_v4().to_string();
    let joined_at_us = SystemClock::new().now().as_millis() * 1_000;
    let mut pipeline = redis::pipe();
    pipeline
        .cmd("ZADD")
        .arg(QUEUE_KEY)
        .arg("NX")
        .arg(joined_at_us)
        .arg(&token)
        .ignore();
    pipeline.cmd("ZRANK").arg(QUEUE_KEY).arg(&token);
    match pipeline.query_async::<(u64,)>(&mut redis).await {
        Ok((rank,)) => (
            StatusCode::CREATED,
            Json(json!({ "token": token, "state": "waiting", "position": rank + 1 })),
        ),
        Err(_) => unavailable(),
    }
}

async fn position(State(mut redis): State<MultiplexedConnection>, headers: HeaderMap) -> Response {
    let token = headers
        .get(paths::QUEUE_TOKEN)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let mut pipeline = redis::pipe();
    pipeline.cmd("ZRANK").arg(QUEUE_KEY).arg(token);
    pipeline.cmd("GET").arg(NOW_SERVING_KEY);
    match pipeline
        .query_async::<(Option<u64>, Option<u64>)>(&mut redis)
        .await
    {
        Ok((Some(rank), now_serving)) => {
            let now_serving = now_serving.unwrap_or(0);
            let state = if rank < now_serving { "called" } else { "waiting" };
            let body = json!({ "state": state, "position": rank + 1, "now_serving": now_serving });
            (StatusCode::OK, Json(body))
        }
        Ok((None, _)) => (StatusCode::NOT_FOUND, Json(json!({ "error": "unknown token" }))),
        Err(_) => unavailable(),
    }
}

async fn status(State(mut redis): State<MultiplexedConnection>) -> Response {
    let mut pipeline = redis::pipe();
    pipeline.cmd("ZCARD").arg(QUEUE_KEY);
    pipeline.cmd("GET").arg(NOW_SERVING_KEY);
    match pipeline.query_async::<(u64, Option<u64>)>(&mut redis).await {
        Ok((length, now_serving)) => {
            let now_serving = now_serving.unwrap_or(0);
            let body = json!({ "waiting": length.saturating_sub(now_serving), "now_serving": now_serving });
            (StatusCode::OK, Json(body))
        }
        Err(_) => unavailable(),
    }
}

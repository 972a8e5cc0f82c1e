//! What figures stand on: an axum route with nothing around it, and a minimal all-or-none hold around a script or a bitmap.

use std::{collections::HashSet, sync::Arc};

use anyhow::Context;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, header},
    routing::{delete, get, post},
};
use bytes::Bytes;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use serde::Deserialize;
use serde_json::{Value, json};

/// All seats are free, and then they are a hold's: nothing but what all-or-none asks for.
const HOLD: &str = "local s=redis.call('HMGET',KEYS[1],unpack(ARGV,2)) for _,v in ipairs(s) do if v then return 0 end end \
                    for i=2,#ARGV do redis.call('HSET',KEYS[1],ARGV[i],ARGV[1]) end return 1";

const SENT_MAX: usize = 1 << 16;

#[derive(Deserialize)]
struct Wish {
    seats: Vec<String>,
}

/// Serves the floors; with a Redis, `/holds` is a script there, without one a lock around a set.
pub async fn serve(port: u16, redis: Option<&str>) -> anyhow::Result<()> {
    let bare = |Path(bytes): Path<usize>| async move {
        Json(json!({ "token": "x".repeat(bytes.saturating_sub(12)) }))
    };
    let created = |Path(bytes): Path<usize>| async move {
        (
            StatusCode::CREATED,
            Json(json!({ "token": "x".repeat(bytes.saturating_sub(12)) })),
        )
    };
    // What was encoded once for everybody, and is sent as it is.
    let sent = Bytes::from(vec![b'x'; SENT_MAX]);
    let bytes = move |Path(bytes): Path<usize>| {
        let sent = sent.clone();
        async move {
            (
                [(header::CONTENT_TYPE, "application/json")],
                sent.slice(..bytes.min(SENT_MAX)),
            )
        }
    };
    let app = Router::new()
        .route("/bare/{bytes}", get(bare).post(created))
        .route("/bytes/{bytes}", get(bytes));
    let app = match redis {
        Some(url) => {
            let connection = redis::Client::open(url)?
                .get_multiplexed_async_connection()
                .await
                .context("the floor's Redis")?;
            app.merge(
                Router::new()
                    .route("/holds", post(hold_there))
                    .route("/holds/{id}", delete(release_there))
                    .with_state(connection),
            )
        }
        None => app.merge(
            Router::new()
                .route("/holds", post(hold_here))
                .route("/holds/{id}", delete(release_here))
                .with_state(Taken::default()),
        ),
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, app).await.context("the floor ended")
}

fn held(seats: &[String], is_held: bool) -> (StatusCode, Json<Value>) {
    let status = if is_held {
        StatusCode::CREATED
    } else {
        StatusCode::CONFLICT
    };
    let total = json!({ "amount": 4, "currency": "KRW" });
    (
        status,
        Json(
            json!({ "id": seats.join("+"), "seats": seats, "expires_at": "2026-01-01T00:00:00.000Z", "total": total }),
        ),
    )
}

async fn hold_there(
    State(mut redis): State<MultiplexedConnection>,
    Json(wish): Json<Wish>,
) -> (StatusCode, Json<Value>) {
    static SCRIPT: std::sync::LazyLock<redis::Script> = std::sync::LazyLock::new(|| redis::Script::new(HOLD));
    let mut call = SCRIPT.key("floor");
    call.arg(wish.seats.join("+"));
    for seat in &wish.seats {
        call.arg(seat);
    }
    let is_held: i64 = call.invoke_async(&mut redis).await.unwrap_or(0);
    held(&wish.seats, is_held == 1)
}

async fn release_there(State(mut redis): State<MultiplexedConnection>, Path(id): Path<String>) -> StatusCode {
    let mut command = redis::cmd("HDEL");
    command.arg("floor");
    for seat in id.split('+') {
        command.arg(seat);
    }
    let freed: Result<i64, _> = command.query_async(&mut redis).await;
    if freed.is_ok() {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

type Taken = Arc<Mutex<HashSet<String>>>;

async fn hold_here(State(taken): State<Taken>, Json(wish): Json<Wish>) -> (StatusCode, Json<Value>) {
    let is_held = {
        let mut taken = taken.lock();
        let free = !wish.seats.iter().any(|seat| taken.contains(seat));
        if free {
            taken.extend(wish.seats.iter().cloned());
        }
        free
    };
    held(&wish.seats, is_held)
}

async fn release_here(State(taken): State<Taken>, Path(id): Path<String>) -> StatusCode {
    let mut taken = taken.lock();
    for seat in id.split('+') {
        taken.remove(seat);
    }
    StatusCode::NO_CONTENT
}

//! A house of one node and the floors beside it, each a process of its own.

use std::{
    env, fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{delete, post},
};
use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use stagedoor::platform::http_client::HttpClient;

use super::FLOOR;

/// Four seats are free, and then they are a hold's: nothing but what all-or-none asks for.
pub(super) const MINIMAL: &str = "local s=redis.call('HMGET',KEYS[1],unpack(ARGV,2)) for _,v in ipairs(s) do if v then return 0 end end \
                       for i=2,#ARGV do redis.call('HSET',KEYS[1],ARGV[i],ARGV[1]) end return 1";

/// A house of one node, or a floor: a child that is stopped with its owner.
pub(super) struct Server {
    child: Child,
    pub(super) base: String,
    ops: String,
}

impl Server {
    /// Seconds of a core that the process has used so far.
    pub(super) fn cpu_s(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the process runs");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a name in brackets").split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<f64>().expect("ticks");
        // utime and stime, in the hundredths of a second that Linux counts for programs (proc(5)).
        (ticks(11) + ticks(12)) / 100.0
    }
}

impl Server {
    /// Requests that have come to it, as it says itself; it says so twice a second.
    pub(super) async fn asked(&self, client: &HttpClient) -> u64 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let answer = client.call(Method::GET, format!("{}/metrics", self.ops).parse().expect("a URL"), &[], Bytes::new()).await;
        let said = String::from_utf8_lossy(&answer.expect("an answer").body).into_owned();
        let line = said.lines().find_map(|line| line.strip_prefix("edge_requests_total "));
        line.and_then(|count| count.parse().ok()).expect("the house counts its requests")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) struct Folder(pub(super) PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port()
}

pub(super) async fn start_house(folder: &Folder, config: &str, client: &HttpClient) -> Server {
    let (port, ops) = (free_port(), free_port());
    let child = Command::new(env!("CARGO_BIN_EXE_stagedoor"))
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--ops-listen", &format!("127.0.0.1:{ops}"), "--config"])
        .arg(folder.0.join(config))
        .stdin(Stdio::null())
        .spawn()
        .expect("the house starts");
    let mut server = Server { child, base: format!("http://127.0.0.1:{port}"), ops: format!("http://127.0.0.1:{ops}") };
    until_ready(&mut server, &format!("http://127.0.0.1:{ops}/health/ready"), client).await;
    server
}

pub(super) async fn start_floor(redis: &str, client: &HttpClient) -> Server {
    let port = free_port();
    let child = Command::new(env::current_exe().expect("a bench has a file"))
        .env(FLOOR, format!("{port} {redis}"))
        .stdin(Stdio::null())
        .spawn()
        .expect("the floor starts");
    let mut server = Server { child, base: format!("http://127.0.0.1:{port}"), ops: String::new() };
    until_ready(&mut server, &format!("http://127.0.0.1:{port}/bare/9"), client).await;
    server
}

pub(super) async fn until_ready(server: &mut Server, url: &str, client: &HttpClient) {
    let uri: Uri = url.parse().expect("a URL");
    for _ in 0..1_200 {
        if let Ok(answer) = client.call(Method::GET, uri.clone(), &[], Bytes::new()).await
            && answer.status != StatusCode::SERVICE_UNAVAILABLE
        {
            return;
        }
        assert!(matches!(server.child.try_wait(), Ok(None)), "{url}: the process ended");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{url} does not become ready");
}

/// Two routes of an axum server with nothing around them.
pub(super) async fn floor(args: &str) {
    let (port, redis) = args.split_once(' ').expect("a port and a URL");
    let client = redis::Client::open(redis).expect("a URL");
    let connection = client.get_multiplexed_async_connection().await.expect("Redis answers");
    let bare =
        |Path(bytes): Path<usize>| async move { (StatusCode::CREATED, Json(json!({ "token": "x".repeat(bytes.saturating_sub(12)) }))) };
    let app = Router::new()
        .route("/bare/{bytes}", post(bare).get(bare))
        .route("/holds", post(floor_hold))
        .route("/holds/{id}", delete(floor_release))
        .with_state(connection);
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("the port is free");
    axum::serve(listener, app).await.expect("it serves");
}

pub(super) async fn floor_hold(State(mut redis): State<MultiplexedConnection>, Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
    static SCRIPT: std::sync::LazyLock<redis::Script> = std::sync::LazyLock::new(|| redis::Script::new(MINIMAL));
    let seats: Vec<&str> = body["seats"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut call = SCRIPT.key("floor");
    call.arg(seats.join("+"));
    for seat in &seats {
        call.arg(*seat);
    }
    let held: i64 = call.invoke_async(&mut redis).await.unwrap_or(0);
    let status = if held == 1 { StatusCode::CREATED } else { StatusCode::CONFLICT };
    (
        status,
        Json(
            json!({ "id": seats.join("+"), "seats": seats, "expires_at": "2026-01-01T00:00:00.000Z", "total": { "amount": 4, "currency": "KRW" } }),
        ),
    )
}

pub(super) async fn floor_release(State(mut redis): State<MultiplexedConnection>, Path(id): Path<String>) -> StatusCode {
    let mut cmd = redis::cmd("HDEL");
    cmd.arg("floor");
    for seat in id.split('+') {
        cmd.arg(seat);
    }
    let freed: Result<i64, _> = cmd.query_async(&mut redis).await;
    if freed.is_ok() { StatusCode::NO_CONTENT } else { StatusCode::SERVICE_UNAVAILABLE }
}

pub(super) async fn join(client: &HttpClient, base: &str, sale: &str) -> Bytes {
    let uri: Uri = format!("{base}/v1/sales/{sale}/queue").parse().expect("a URL");
    let answer = client.call(Method::POST, uri, &[], Bytes::new()).await.expect("the house answers");
    assert_eq!(answer.status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&answer.body));
    answer.body
}
